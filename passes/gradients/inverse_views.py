"""Inverses of affine gathers: which positions of the result a position of the source went to.

Known are, in any combination: axes that are permuted, flipped (`n - 1 - i`) or cut (`i + c`), axes
that are split (`n = h * 4 + d`) or merged (`n floordiv 4`, `n mod 4`), axes of the source that are
read at one position, and axes of the result that repeat everything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["Inverse", "NoInverseError", "invert"]


class NoInverseError(Exception):
    """A position of the source is read more than once, or with gaps; the message says where."""


@dataclass
class Inverse:
    """What undoes a gather.

    Args:
        repeated: axes of the result that repeat the source.
        gathered: labelled sizes of the gather of the result without those.
        map: its affine map.
        pads: axis, the padded axis, positions before and behind, for what was cut.
        single: axes of the source that are read at one position only, and that position.
    """

    repeated: list[str]
    gathered: dict[str, int]
    map: ir.AffineMap
    pads: list[tuple[str, str, int, int]] = field(default_factory=list)
    single: dict[str, int] = field(default_factory=dict)


def invert(op: ir.Operation) -> Inverse:
    """The inverse of a `diag.reindex`.

    Raises:
        NoInverseError: it has none that the dialect can express.
    """
    return _Inverter(op).inverse()


@dataclass(frozen=True)
class _Digit:
    """`(dim floordiv divisor) mod modulus`; a modulus of 0 is none."""

    dim: int
    divisor: int = 1
    modulus: int = 0


class _Inverter:
    def __init__(self, op: ir.Operation) -> None:
        self._exprs = list(ir.AffineMapAttr(op.attributes["map"]).value.results)
        self._source, self._out = diag.dims(op.operands[0]), diag.dims(op.results[0])
        self._sizes, self._names = list(self._out.values()), list(self._out)
        self._positions: dict[int, ir.AffineExpr] = {}  # of the result, by its dimension
        self._found = Inverse([], {}, ir.AffineMap.get_empty())

    def inverse(self) -> Inverse:
        """Axis by axis of the source; digits of one merged axis come together."""
        digits: dict[int, list[tuple[str, _Digit]]] = {}
        for expr, (axis, size) in zip(self._exprs, self._source.items(), strict=True):
            digit = _digit(expr)
            if digit is not None and digit != _Digit(digit.dim):
                digits.setdefault(digit.dim, []).append((axis, digit))
            else:
                self._linear(expr, axis, size)
        for dim, parts in digits.items():
            self._merged(dim, parts)
        return self._finished()

    def _finished(self) -> Inverse:
        found = self._found
        found.repeated = [n for i, n in enumerate(self._names) if i not in self._positions]
        results = [self._positions[i] for i in sorted(self._positions)]
        found.map = ir.AffineMap.get(len(found.gathered), 0, results)
        return found

    def _axis(self, label: str, size: int) -> ir.AffineExpr:
        """A new axis of the gather."""
        if label in self._found.gathered:
            raise NoInverseError(f'the axis "{label}" stands for two things')
        self._found.gathered[label] = size
        return ir.AffineExpr.get_dim(len(self._found.gathered) - 1)

    def _place(self, dim: int, expr: ir.AffineExpr) -> None:
        if dim in self._positions:
            raise NoInverseError(f'axis "{self._names[dim]}" gives several positions (a diagonal)')
        self._positions[dim] = expr

    # ---- one axis of the source ---------------------------------------------------------------

    def _linear(self, expr: ir.AffineExpr, axis: str, size: int) -> None:
        terms, offset = _terms(expr)
        if not terms:
            self._found.single[axis] = offset
        elif len(terms) > 1:
            self._split(terms, offset, axis, size)
        else:
            self._single(*next(iter(terms.items())), offset, axis, size)

    def _single(self, dim: int, step: int, offset: int, axis: str, size: int) -> None:
        """An axis that is kept, flipped or cut."""
        taken, label = self._sizes[dim], self._names[dim]
        static = diag.DYNAMIC not in (taken, size)
        if step == 1 and not offset and (taken == size if static else label == axis):
            self._place(dim, self._axis(axis, size))
        elif step == -1 and static and taken == size and offset == size - 1:
            self._place(dim, self._axis(axis, size) * -1 + (size - 1))
        elif step == 1 and static:
            self._place(dim, self._axis(label, taken))
            self._found.pads.append((label, axis, offset, size - offset - taken))
        elif step == 1:
            raise NoInverseError(f'axis "{axis}" is cut at a size that is not known')
        else:
            raise NoInverseError(f'axis "{axis}" is read in steps of {step}')

    def _split(self, terms: Mapping[int, int], offset: int, axis: str, size: int) -> None:
        """An axis that is the digits of several: `n = h * 4 + d`."""
        order = sorted(terms, key=lambda dim: -terms[dim])
        step = 1
        for dim in reversed(order):
            if terms[dim] != step or (self._sizes[dim] == diag.DYNAMIC and dim != order[0]):
                raise NoInverseError(f'axis "{axis}" is no plain split (a window, or with gaps)')
            step *= self._sizes[dim]
        if offset or not _same_size(self._sizes[order[0]], step, size):
            raise NoInverseError(f'only a part of axis "{axis}" is split')
        position = self._axis(axis, size)
        for dim in order:
            digit = ir.AffineExpr.get_floor_div(position, terms[dim])
            inner = dim != order[0]
            self._place(dim, ir.AffineExpr.get_mod(digit, self._sizes[dim]) if inner else digit)

    # ---- several axes of the source -----------------------------------------------------------

    def _merged(self, dim: int, parts: Sequence[tuple[str, _Digit]]) -> None:
        """Axes that are the digits of one: `n floordiv 4`, `n mod 4`."""
        label, total = self._names[dim], self._sizes[dim]
        step, position = 1, ir.AffineExpr.get_constant(0)
        ordered = sorted(parts, key=lambda part: part[1].divisor)
        for number, (axis, digit) in enumerate(ordered):
            size, last = self._source[axis], number == len(ordered) - 1
            fits = digit.modulus == size or (last and not digit.modulus)
            if digit.divisor != step or not fits or (size == diag.DYNAMIC and not last):
                raise NoInverseError(f'axis "{label}" is no plain merge')
            position = position + self._axis(axis, size) * step
            step *= size
        if not _same_size(self._source[ordered[-1][0]], step, total):
            raise NoInverseError(f'axis "{label}" repeats or leaves out positions')
        self._place(dim, position)


def _same_size(outermost: int, product: int, whole: int) -> bool:
    """Whether digits make up a whole axis; a whole that is open has an outermost one that is."""
    if diag.DYNAMIC in (outermost, whole):
        return outermost == whole
    return product == whole


def _terms(expr: ir.AffineExpr) -> tuple[dict[int, int], int]:
    """A linear expression as factors by dimension, and a constant.

    Raises:
        NoInverseError: it is not linear.
    """
    if isinstance(expr, ir.AffineConstantExpr):
        return {}, expr.value
    if isinstance(expr, ir.AffineDimExpr):
        return {expr.position: 1}, 0
    if isinstance(expr, ir.AffineAddExpr):
        (left, first), (right, second) = _terms(expr.lhs), _terms(expr.rhs)
        both = {d: left.get(d, 0) + right.get(d, 0) for d in (*left, *right)}
        return both, first + second
    if isinstance(expr, ir.AffineMulExpr) and isinstance(expr.rhs, ir.AffineConstantExpr):
        terms, offset = _terms(expr.lhs)
        return {d: k * expr.rhs.value for d, k in terms.items()}, offset * expr.rhs.value
    raise NoInverseError(f"the position {expr}")


def _digit(expr: ir.AffineExpr) -> _Digit | None:
    """A digit of one dimension, if the expression is one."""
    if isinstance(expr, ir.AffineDimExpr):
        return _Digit(expr.position)
    if not isinstance(expr, (ir.AffineFloorDivExpr, ir.AffineModExpr)):
        return None
    inner, number = _digit(expr.lhs), expr.rhs
    if inner is None or not isinstance(number, ir.AffineConstantExpr):
        return None
    if isinstance(expr, ir.AffineModExpr):
        return _Digit(inner.dim, inner.divisor, number.value) if not inner.modulus else None
    if inner.modulus % number.value:
        return None
    return _Digit(inner.dim, inner.divisor * number.value, inner.modulus // number.value)
