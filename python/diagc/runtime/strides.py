"""Arithmetic of strides: which groups of axes are one axis, which affine maps are views.

No torch here: shapes and strides are tuples of ints, strides count elements.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from diagc.runtime.steps import Affine

__all__ = [
    "Linear",
    "bounds",
    "collapse",
    "linear_form",
    "nests",
    "permuted_strides",
    "view_strides",
]

# A sum of atoms with coefficients; None is the constant 1, ("dim", i) a position, and
# ("//", form, c) a quotient, with its form as a sorted tuple of items.
Linear = dict[object, int]


def nests(sizes: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether axes, slowest first, are one axis that has the last stride."""
    axes = [(size, stride) for size, stride in zip(sizes, strides, strict=True) if size != 1]
    return all(outer == stride * size for (_, outer), (size, stride) in pairwise(axes))


def collapse(sizes: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """Size and stride of axes that nest, as one axis; (1, 0) for none."""
    total = 1
    for size in sizes:
        total *= size
    inner = [stride for size, stride in zip(sizes, strides, strict=True) if size != 1]
    return total, inner[-1] if inner else 0


def permuted_strides(sizes: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """Strides of a dense array whose axes lie in memory in `order`, slowest first."""
    strides, step = [0] * len(sizes), 1
    for axis in reversed(order):
        strides[axis] = step
        step *= max(sizes[axis], 1)
    return tuple(strides)


def bounds(expr: Affine, sizes: Sequence[int]) -> tuple[int, int]:
    """A range that holds every value of an affine expression at the positions of an array.

    It is exact where each axis occurs once. Divisors are positive.
    """
    if isinstance(expr, int):
        return expr, expr
    if expr[0] == "dim":
        return 0, sizes[expr[1]] - 1
    (low, high), (a, b) = (bounds(part, sizes) for part in expr[1:])
    match expr[0]:
        case "+":
            return low + a, high + b
        case "*":
            ends = (low * a, low * b, high * a, high * b)
            return min(ends), max(ends)
        case "//":
            return low // a, high // a
        case _:
            return (low, high) if low >= 0 and high < a else (0, a - 1)


def view_strides(
    map_: Sequence[Affine], sizes: Sequence[int], strides: Sequence[int]
) -> tuple[int, tuple[int, ...]] | None:
    """Offset and strides of the view `result[p] = source[map(p)]`, or None when it is no view.

    Args:
        map_: one expression per axis of the source.
        sizes: of the result.
        strides: of the source.
    """
    total: Linear = {}
    for expr, stride in zip(map_, strides, strict=True):
        _add(total, linear_form(expr, sizes), stride)
    offset = total.pop(None, 0)
    found = [0] * len(sizes)
    for atom, factor in total.items():
        if not _is_dim(atom) or factor < 0:
            return None
        found[atom[1]] = factor  # type: ignore[index]
    return offset, tuple(found)


def linear_form(expr: Affine, sizes: Sequence[int]) -> Linear:
    """The canonical sum of an affine expression over positions below `sizes`."""
    if isinstance(expr, int):
        return {None: expr} if expr else {}
    if expr[0] == "dim":
        return {expr: 1} if sizes[expr[1]] > 1 else {}
    kind, (left, right) = expr[0], (linear_form(part, sizes) for part in expr[1:])
    if kind == "+":
        return _add(dict(left), right, 1)
    if kind == "*":
        factor, form = (_constant(left), right) if _is_constant(left) else (_constant(right), left)
        return _add({}, form, factor)
    divisor = _constant(right)
    quotient = _floordiv(left, divisor, sizes)
    return quotient if kind == "//" else _add(dict(left), quotient, -divisor)


def _floordiv(form: Linear, divisor: int, sizes: Sequence[int]) -> Linear:
    """Divide: multiples leave; the rest vanishes when it stays in 0..divisor-1."""
    whole = {atom: f // divisor for atom, f in form.items() if f // divisor}
    rest = {atom: f % divisor for atom, f in form.items() if f % divisor}
    low, high = _bounds(rest, sizes)
    if low // divisor == high // divisor:
        return _add(whole, {None: low // divisor}, 1)
    return _add(whole, _quotient(rest, divisor), 1)


def _quotient(rest: Linear, divisor: int) -> Linear:
    if len(rest) == 1:
        ((atom, factor),) = rest.items()
        if factor == 1 and isinstance(atom, tuple) and atom[0] == "//":
            return {("//", atom[1], atom[2] * divisor): 1}  # (x // a) // b = x // (a * b)
    items = tuple(sorted(rest.items(), key=str))
    return {("//", items, divisor): 1}


def _bounds(form: Mapping[object, int], sizes: Sequence[int]) -> tuple[int, int]:
    low = high = 0
    for atom, factor in form.items():
        ends = [factor * end for end in _atom_bounds(atom, sizes)]
        low, high = low + min(ends), high + max(ends)
    return low, high


def _atom_bounds(atom: object, sizes: Sequence[int]) -> tuple[int, int]:
    if not isinstance(atom, tuple):
        return 1, 1
    if atom[0] == "dim":
        return 0, max(sizes[atom[1]] - 1, 0)
    low, high = _bounds(dict(atom[1]), sizes)
    return low // atom[2], high // atom[2]


def _add(total: Linear, form: Linear, factor: int) -> Linear:
    for atom, coefficient in form.items():
        total[atom] = total.get(atom, 0) + factor * coefficient
        if total[atom] == 0:
            del total[atom]
    return total


def _is_dim(atom: object) -> bool:
    return isinstance(atom, tuple) and atom[0] == "dim"


def _is_constant(form: Linear) -> bool:
    return not form or set(form) == {None}


def _constant(form: Linear) -> int:
    return form.get(None, 0)
