"""Scalar expressions: what a `diag.map` computes at one position.

Maps are kept as expression trees until the module is written, so that maps of positions (masks made
of arange, tril, comparisons) can be inlined and simplified into comparisons of indices, and so that
a mask with -inf can be told from other arithmetic.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

import torch

from diagc.frontend.torch.axes import Axis

__all__ = [
    "INDEX",
    "NEGATIVE_INFINITY",
    "Apply",
    "Const",
    "Count",
    "Expr",
    "Operand",
    "Position",
    "ScalarType",
    "is_const",
    "is_float",
    "operands",
    "parts",
]

ScalarType: TypeAlias = torch.dtype | str
INDEX: Final = "index"
"""Element type of positions and counts; arithmetic on it has 64 bits and a sign."""
NEGATIVE_INFINITY: Final = -math.inf


@dataclass(frozen=True, eq=False)
class Expr:
    """Base of scalar expressions."""

    dtype: ScalarType


@dataclass(frozen=True, eq=False)
class Const(Expr):
    """A literal."""

    value: float | int | bool


@dataclass(frozen=True, eq=False)
class Operand(Expr):
    """The element of the map's operand number `number`."""

    number: int


@dataclass(frozen=True, eq=False)
class Position(Expr):
    """The position along a dim that consists of `axes`, outermost first."""

    axes: tuple[Axis, ...]


@dataclass(frozen=True, eq=False)
class Count(Expr):
    """The number of positions along `axes` together."""

    axes: tuple[Axis, ...]


@dataclass(frozen=True, eq=False)
class Apply(Expr):
    """A scalar operation of the table in `emit_scalar`."""

    name: str
    args: tuple[Expr, ...]


def is_float(dtype: ScalarType) -> bool:
    """Whether values of this type are floating point."""
    return isinstance(dtype, torch.dtype) and dtype.is_floating_point


def is_const(expr: Expr, *values: float) -> bool:
    """Whether `expr` is a literal, and one of `values` if any are given."""
    return isinstance(expr, Const) and (not values or expr.value in values)


ExprT = TypeVar("ExprT", bound=Expr)


def parts(expr: Expr, kind: type[ExprT]) -> Iterator[ExprT]:
    """The literals, operands or positions of one kind in an expression, with repetitions."""
    if isinstance(expr, kind):
        yield expr
    elif isinstance(expr, Apply):
        for arg in expr.args:
            yield from parts(arg, kind)


def operands(expr: Expr) -> Iterator[Operand]:
    """The operands that an expression reads, with repetitions."""
    return parts(expr, Operand)
