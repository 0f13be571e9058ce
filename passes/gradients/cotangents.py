"""Cotangents of the wires of a block, and what is added to them.

The cotangent of a wire has the wire's element type and some of its axes, in its order. Along the
axes that it lacks it is constant: nothing is broadcast before somebody needs it.
"""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import TypeAlias

from diagc.algebra.expressions import symbol
from diagc.algebra.maps import cast, map_expr, statistic_type
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = [
    "Cotangents",
    "Parts",
    "Values",
    "axes_like",
    "broadcast",
    "in_order",
    "summed",
    "with_axes",
]

Values: TypeAlias = AbstractSet[ir.Value]
Parts: TypeAlias = Iterator[tuple[ir.Value, ir.Value]]
"""What a rule gives: an operand, and a part of its cotangent."""


class Cotangents:
    """The parts of the cotangent of every wire."""

    def __init__(self) -> None:
        self._parts: dict[ir.Value, list[ir.Value]] = {}

    def has(self, wire: ir.Value) -> bool:
        """Whether anything was added."""
        return wire in self._parts

    def add(self, wire: ir.Value, part: ir.Value) -> None:
        """Add a part: of the wire's element type, with some of its axes."""
        self._parts.setdefault(wire, []).append(part)

    def total(self, wire: ir.Value) -> ir.Value:
        """The sum of the parts, emitted at the ambient insertion point."""
        parts = self._parts[wire]
        if len(parts) > 1:
            self._parts[wire] = parts = [_sum(parts, wire)]
        return parts[0]


def _sum(parts: list[ir.Value], wire: ir.Value) -> ir.Value:
    wires = {f"d{number}": part for number, part in enumerate(parts)}
    total, *rest = map(symbol, wires)
    for part in rest:
        total = total + part
    axes = [label for part in parts for label in diag.labels(part)]
    dtype = diag.element_type(wire)
    result = axes_like(wire, axes)
    return map_expr(total, wires, statistic_type(dtype), dtype=dtype, result=result)


def axes_like(wire: ir.Value, axes: Iterable[str]) -> dict[str, int]:
    """The labelled sizes of `axes`, in the order of `wire`."""
    wanted = set(axes)
    return {label: size for label, size in diag.dims(wire).items() if label in wanted}


def with_axes(cotangent: ir.Value, wire: ir.Value, axes: Iterable[str]) -> ir.Value:
    """The cotangent of `wire`, with the axes `axes` too."""
    result = axes_like(wire, [*diag.labels(cotangent), *axes])
    dtype = diag.element_type(cotangent)
    return map_expr(symbol("d"), {"d": cotangent}, dtype, result=result)


def broadcast(cotangent: ir.Value, wire: ir.Value) -> ir.Value:
    """The cotangent of `wire` with all its axes."""
    return with_axes(cotangent, wire, diag.labels(wire))


def summed(wire: ir.Value, axes: Iterable[str]) -> ir.Value:
    """The sum over axes, in the type that sums are kept in; the wire itself for none."""
    over = list(axes)
    if not over:
        return wire
    return diag.reduce(cast(wire, statistic_type(diag.element_type(wire))), over, "add")


def in_order(cotangent: ir.Value, wire: ir.Value) -> ir.Value:
    """The cotangent of `wire` with its axes in the order of the wire."""
    return with_axes(cotangent, wire, ())
