"""Emits a sum-product network as pairwise contractions in a given order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from diagc.algebra.expressions import Expr, select, symbol
from diagc.algebra.maps import cast, map_expr, statistic_type
from diagc.algebra.networks import Leaf, Network, Order
from diagc.cost import elements as element_count
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["NetworkBuilder", "can_place_conditions", "is_placed"]


def can_place_conditions(net: Network) -> bool:
    """Whether every condition can be a zeroed operand."""
    return all(is_placed(net, condition) for condition in net.conditions)


def is_placed(net: Network, condition: Leaf) -> bool:
    """Whether some leaf has all axes of a condition, so that it can be zeroed there."""
    return any(set(condition.axes) <= set(leaf.axes) for leaf in net.leaves)


@dataclass(frozen=True)
class Reader:
    """The contraction that reads a part: axes that both operands have, and those it sums."""

    shared: frozenset[str]
    summed: frozenset[str]

    @classmethod
    def of(cls, left: Iterable[str], right: Iterable[str], kept: Iterable[str]) -> "Reader":
        """From the axes of both operands and of the result."""
        shared = frozenset(left) & frozenset(right)
        return cls(shared, shared - frozenset(kept))

    def layout(self, axes: Sequence[str]) -> list[str]:
        """Batch axes, then summed ones, then free ones: vectors run along what is not summed."""
        return sorted(axes, key=lambda axis: (axis not in self.shared) + (axis in self.summed) / 2)


class NetworkBuilder:
    """Values of parts of a network, each emitted once, at the ambient insertion point.

    Sums of parts are in the type of statistics (f32, f64 for f64), whatever the leaves hold: a
    Gram matrix in bf16 would lose what the shorter order gains.

    Args:
        net: the network.
        type_: a wider type of sums, which leaves are converted to.
    """

    def __init__(self, net: Network, type_: ir.Type | None = None) -> None:
        self._net = net
        self._values: dict[frozenset[int], ir.Value] = {}
        self._wide = type_
        types = [statistic_type(diag.element_type(leaf.wire)) for leaf in net.leaves]
        wide = any(isinstance(type_, ir.F64Type) for type_ in types)
        self.type = type_ or (ir.F64Type.get() if wide else ir.F32Type.get())

    def whole(self, order: Order, dtype: ir.Type) -> ir.Value:
        """The network with its number, in element type `dtype`, axes as in its result."""
        value = self.part(order)
        number = self._net.number
        expr: Expr = symbol("o") if number == 1.0 else symbol("o") * number
        sizes = diag.dims(value)
        result = {axis: sizes[axis] for axis in self._net.result}
        return map_expr(expr, {"o": value}, self.type, dtype=dtype, result=result)

    def part(self, order: Order, reader: "Reader | None" = None) -> ir.Value:
        """The product of some leaves, summed over the axes that nobody else needs.

        `reader` is the contraction that reads it; the layout suits the first one that asks.
        """
        if order.part not in self._values:
            self._values[order.part] = self._emit(order, reader)
        return self._values[order.part]

    def _emit(self, order: Order, reader: "Reader | None") -> ir.Value:
        kept = self._net.kept(order.part)
        if order.parts is None:
            (number,) = order.part
            return self._summed(self._leaf(self._net.leaves[number]), kept)
        axes = [self._net.kept(part.part) for part in order.parts]
        own = Reader.of(axes[0], axes[1], kept)
        left, right = (self.part(part, own) for part in order.parts)
        if element_count(right) > element_count(left):  # its axes come first, as rows
            left, right = right, left
        shared = [axis for axis in diag.labels(left) if axis in diag.labels(right)]
        over = [axis for axis in shared if axis not in kept]
        is_last = len(order.part) == len(self._net.leaves)
        free = [*diag.labels(left), *(x for x in diag.labels(right) if x not in shared)]
        natural = [axis for axis in free if axis not in over]
        wanted = self._net.result if is_last or reader is None else reader.layout(natural)
        return diag.contract(left, right, over, dtype=self.type, order=wanted)

    def _leaf(self, leaf: Leaf) -> ir.Value:
        """The wire under the network's labels, 0 where a condition that fits it does not hold."""
        wire = leaf.wire if self._wide is None else cast(leaf.wire, self._wide)
        if leaf.renaming():
            wire = diag.relabel(wire, leaf.renaming())
        for condition in self._net.conditions:
            if not set(condition.axes) <= set(leaf.axes):
                continue
            keep = condition.wire
            if condition.renaming():
                keep = diag.relabel(keep, condition.renaming())
            wire = map_expr(
                select(symbol("k"), symbol("x"), 0.0),
                {"k": keep, "x": wire},
                diag.element_type(wire),
                result=diag.dims(wire),
            )
        return wire

    def _summed(self, wire: ir.Value, kept: tuple[str, ...]) -> ir.Value:
        """The leaf summed over axes that it alone has."""
        alone = [axis for axis in diag.labels(wire) if axis not in kept]
        if not alone:
            return wire
        wide = map_expr(symbol("x"), {"x": wire}, self.type)
        return diag.reduce(wide, alone, "add")
