"""Linear forms of positions: terms that cancel, and comparisons that hold everywhere or nowhere.

Positions and counts are never negative, and a position is below the size of its axes. So
`(i + 1) - 1` is i, `i - 8 < i` is true, and `i < 1` says that i is 0.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from diagc.frontend.torch.axes import leaves
from diagc.frontend.torch.scalar import INDEX, Apply, Const, Expr, Position
from diagc.frontend.torch.sizes import product

__all__ = ["Pin", "decided", "merged_sum", "pinned"]


@dataclass(frozen=True)
class _Linear:
    """The sum of factor times atom, plus a constant; an atom is a position, or anything else."""

    terms: Mapping[object, tuple[Expr, int]]
    constant: int

    def plus(self, other: "_Linear", sign: int) -> "_Linear":
        terms = dict(self.terms)
        for key, (atom, factor) in other.terms.items():
            total = terms.get(key, (atom, 0))[1] + sign * factor
            terms[key] = atom, total
        kept = {key: term for key, term in terms.items() if term[1]}
        return _Linear(kept, self.constant + sign * other.constant)

    def __len__(self) -> int:
        return len(self.terms) + bool(self.constant)

    def bounds(self) -> tuple[float, float]:
        """The least and the largest value."""
        low = high = float(self.constant)
        for atom, factor in self.terms.values():
            ends = [factor * end if end else 0.0 for end in _range(atom)]
            low, high = low + min(ends), high + max(ends)
        return low, high


def _linear(expr: Expr) -> _Linear:
    if isinstance(expr, Const):
        return _Linear({}, int(expr.value))
    if isinstance(expr, Apply) and expr.name in ("add", "sub"):
        left, right = map(_linear, expr.args)
        return left.plus(right, 1 if expr.name == "add" else -1)
    if isinstance(expr, Apply) and expr.name == "mul":
        for one, other in (expr.args, expr.args[::-1]):
            if isinstance(other, Const):
                factor = int(other.value)
                return _Linear({}, 0).plus(_linear(one), factor)
    return _Linear({_key(expr): (expr, 1)}, 0)


def _key(expr: Expr) -> object:
    """Equal for equal positions."""
    if isinstance(expr, Position):
        return tuple(id(axis) for axis in leaves(expr.axes))
    return id(expr)


def _range(atom: Expr) -> tuple[float, float]:
    """The least and the largest value of an atom."""
    if not isinstance(atom, Position):
        return -math.inf, math.inf
    size = product(axis.size for axis in leaves(atom.axes))
    return 0.0, float(max(size - 1, 0)) if isinstance(size, int) else math.inf


def merged_sum(name: str, left: Expr, right: Expr) -> Expr | None:
    """`left` plus or minus `right` where terms meet; None when the sum stays as it is written."""
    first, second = _linear(left), _linear(right)
    total = first.plus(second, 1 if name == "add" else -1)
    if len(total) == len(first) + len(second):
        return None
    return _written(total)


def _written(total: _Linear) -> Expr:
    """Terms that are added first, then those that are subtracted, then the constant."""
    plus = [_times(atom, factor) for atom, factor in total.terms.values() if factor > 0]
    minus = [_times(atom, -factor) for atom, factor in total.terms.values() if factor < 0]
    constant = total.constant
    if not plus:
        plus, constant = [Const(INDEX, constant)], 0
    if constant:
        (plus if constant > 0 else minus).append(Const(INDEX, abs(constant)))
    result = plus[0]
    for part in plus[1:]:
        result = Apply(INDEX, "add", (result, part))
    for part in minus:
        result = Apply(INDEX, "sub", (result, part))
    return result


def _times(atom: Expr, factor: int) -> Expr:
    return atom if factor == 1 else Apply(INDEX, "mul", (atom, Const(INDEX, factor)))


def decided(name: str, left: Expr, right: Expr) -> bool | None:
    """What a comparison gives at every position; None when positions decide."""
    low, high = _linear(left).plus(_linear(right), -1).bounds()
    never, always = {
        "eq": (low > 0 or high < 0, low == high == 0),
        "ne": (low == high == 0, low > 0 or high < 0),
        "lt": (low >= 0, high < 0),
        "le": (low > 0, high <= 0),
        "gt": (high <= 0, low > 0),
        "ge": (high < 0, low >= 0),
    }[name]
    return True if always else False if never else None


@dataclass(frozen=True)
class Pin:
    """A condition that holds at one value of a position only, or fails there only."""

    position: Position
    value: int
    holds: bool


def pinned(condition: Expr) -> Pin | None:
    """The one value of a position at which a comparison of indices holds (or fails)."""
    if not isinstance(condition, Apply) or condition.dtype != torch.bool:
        return None
    if len(condition.args) != 2 or condition.args[0].dtype != INDEX:
        return None
    difference = _linear(condition.args[0]).plus(_linear(condition.args[1]), -1)
    if len(difference.terms) != 1:
        return None
    ((atom, factor),) = difference.terms.values()
    if not isinstance(atom, Position) or abs(factor) != 1:
        return None
    value = -difference.constant * factor
    name = condition.name if factor == 1 else _MIRRORED.get(condition.name, condition.name)
    if name in ("eq", "ne"):
        return Pin(atom, value, name == "eq") if value >= 0 else None
    first = {"lt": value == 1, "ge": value == 1, "le": value == 0, "gt": value == 0}.get(name)
    return Pin(atom, 0, name in ("lt", "le")) if first else None


_MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}
