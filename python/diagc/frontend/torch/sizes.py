"""Arithmetic of axis sizes: plain ints, and sympy expressions where a size is symbolic.

sympy costs 0.3 s to import, so it is imported only once a symbolic size has been seen.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import torch

from diagc.errors import UnsupportedError

__all__ = [
    "Size",
    "divide",
    "equal",
    "fix",
    "free_symbols",
    "is_one",
    "product",
    "size_of",
    "symbol",
]

Size: TypeAlias = Any
"""An int, or a sympy expression (which has no type that a checker could see)."""


def symbol(name: str) -> Size:
    """The positive integer symbol `name`; sympy makes equal symbols of equal names."""
    import sympy

    return sympy.Symbol(name, integer=True, positive=True)


def size_of(value: Any) -> Size:
    """An int for an int, and for a SymInt its expression over symbols made by `symbol`.

    Raises:
        UnsupportedError: a SymFloat.
    """
    if isinstance(value, int):
        return value
    if isinstance(value, torch.SymFloat):
        raise UnsupportedError("arithmetic of open sizes that gives fractions")
    expression = value.node.expr if isinstance(value, torch.SymInt) else value
    if expression.is_Integer:
        return int(expression)
    renamed: Size = expression.xreplace({s: symbol(s.name) for s in expression.free_symbols})
    return renamed


def is_one(size: Size) -> bool:
    """Whether the size is 1 for certain: such a dim carries no axis."""
    return isinstance(size, int) and size == 1


def equal(left: Size, right: Size) -> bool:
    """Whether two sizes are provably equal."""
    if isinstance(left, int) and isinstance(right, int):
        return left == right
    if left == right:
        return True
    import sympy

    return bool(sympy.simplify(left - right) == 0)


def divide(whole: Size, part: Size) -> Size | None:
    """`whole / part` when that is provably an integer, else None."""
    if isinstance(whole, int) and isinstance(part, int):
        return whole // part if part and whole % part == 0 else None
    import sympy

    quotient = sympy.simplify(sympy.sympify(whole) / part)
    if quotient.is_Integer:
        return int(quotient)
    return quotient if sympy.fraction(quotient)[1] == 1 else None


def fix(value: Any, sizes: Mapping[str, Size]) -> Any:
    """A size with other sizes for some symbols; what is no symbolic size stays as it is."""
    if not hasattr(value, "free_symbols"):
        return value
    found: Size = value.subs({symbol(name): number for name, number in sizes.items()})
    return int(found) if found.is_Integer else found


def product(sizes: Iterable[Size]) -> Size:
    """The product; 1 for no sizes."""
    return math.prod(sizes)


def free_symbols(size: Size) -> frozenset[str]:
    """Names of the symbols in a size."""
    if isinstance(size, int):
        return frozenset()
    return frozenset(s.name for s in size.free_symbols)
