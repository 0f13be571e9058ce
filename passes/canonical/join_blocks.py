"""Join the two axes into which an axis of f8 numbers was split for the sake of their scales.

Before:

    func @main(%k: tensor<bxnx16xdxf8E4M3FN, ["b", "f", "m", "d"]>, %s: tensor<bxnxf32, ["b", "f"]>)
      %x = "diag.map"() ({ extf %k * %s })                  // over b f m d

After:

    %j = "diag.reindex"(%k) {map = (b, fm, d) -> (b, fm floordiv 16, fm mod 16, d)}   // a view
    %r = "diag.reindex"(%s) {map = (b, fm) -> (b, fm floordiv 16)}   // a number for each fm
    %x = "diag.map"() ({ extf %j * %r })                    // over b fm d

Who quantises by blocks says so by a split: f is the block, m the place in it. All else computes
with the axis as a whole; with its parts neither a stream's chunks nor the tiles of a GPU could be
of another size than the blocks. The scales are repeated for every position, in a copy, which is
small: an axis that they lack (d) has at least as many positions as `LEAST_LACKING`.

Requires: nothing; run on functions, in front of everything else.

Declines: functions whose gradients are asked for; axes that any op treats apart: views, sums over
one of them, wires with one of them that are more than such scales.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from diagc import options
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.base import Pass
from diagc.passes.canonical.split_axes import SplitAxes
from diagc.passes.remarks import done

__all__ = ["JoinBlocksPass"]


@dataclass(frozen=True)
class JoinBlocksPass(Pass):
    """join axes that were split into blocks for the scales of f8 numbers."""

    name: ClassVar[str] = "join-blocks"

    def run(self, op: ir.Operation) -> None:
        """Join pair after pair of axes, as long as there is one."""
        chosen = options.current()
        if chosen.wrt or chosen.saves:
            return
        with op.context, op.location:
            while (axes := _split_axes(op)) is not None:
                _Join(axes).run()


def _split_axes(function: ir.Operation) -> SplitAxes | None:
    """The first neighbours of an argument of f8 that are one axis."""
    for argument in diag.function_body(function).arguments:
        if diag.is_wire(argument.type) and diag.is_stored_float(diag.element_type(argument)):
            for outer, inner in pairwise(diag.labels(argument)):
                axes = SplitAxes(function, outer, inner)
                if axes.are_one():
                    return axes
    return None


def _fresh(label: str, wires: Iterable[ir.Value]) -> str:
    """A label that no wire has."""
    taken = {each for wire in wires for each in diag.labels(wire)}
    while label in taken:
        label += "_"
    return label


class _Join:
    """Joins two axes that nothing treats apart."""

    def __init__(self, axes: SplitAxes) -> None:
        self.axes, self.ops = axes, axes.ops
        self.outer, self.inner, self.length = axes.outer, axes.inner, axes.length
        self.total = diag.DYNAMIC if axes.blocks == diag.DYNAMIC else axes.blocks * axes.length
        self.joined = _fresh(axes.outer + axes.inner, axes.wires)

    def run(self) -> None:
        """Results keep their axes; scales are repeated for each place of a block."""
        whole = [value for value in self.axes.block.arguments if self.axes.count(value) == 2]
        scales = [value for value in self.axes.wires if self.axes.is_scale(value)]
        first = self.ops[0]
        self._join_positions()
        for op in self.ops:
            self._rename(op)
        self._split_results()
        for value in whole:
            self._view(value, first)
        for value in scales:
            self._repeat(value, first)
        done(first, f'axes "{self.outer}" and "{self.inner}" are one: its blocks have scales')

    def _join_positions(self) -> None:
        """Sums become positions along the joined axis."""
        index = None
        for op in self.ops:
            inner = self.axes.positions(op, self.inner)
            for element in self.axes.positions(op, self.outer):
                total = self.axes.sum_of(element, inner)
                assert total is not None, "checked before"
                if index is None:
                    with ir.InsertionPoint(self.ops[0]), op.location:
                        index = diag.index(self.joined, self.total)
                element.operands[0] = index
                total.results[0].replace_all_uses_with(element.results[0])
            _erase_unread(op)

    def _rename(self, op: ir.Operation) -> None:
        for value in op.results:
            if diag.is_wire(value.type) and self.axes.count(value) == 2:
                value.set_type(diag.wire(self._joined_dims(value), diag.element_type(value)))
        for name in ("over", "along"):
            named = diag.strings(op.attributes[name]) if name in op.attributes else []
            if self.inner in named:
                joined = [self.joined if x == self.inner else x for x in named if x != self.outer]
                op.attributes[name] = diag.string_array(joined)

    def _joined_dims(self, value: ir.Value) -> dict[str, int]:
        return {
            self.joined if label == self.inner else label: (
                self.total if label == self.inner else size
            )
            for label, size in diag.dims(value).items()
            if label != self.outer
        }

    def _view(self, value: ir.Value, first: ir.Operation) -> None:
        """An argument with the joined axis, for all that computes with it."""
        end = self.ops[-1]
        users = [
            (use.owner.operation, use.operand_number)
            for use in value.uses
            if use.owner.operation != end  # what is given back as it came keeps its axes
        ]
        sizes = self._joined_dims(value)
        with ir.InsertionPoint(first), value.location:
            joined = diag.reindex(value, sizes, self._map(value, sizes))
        self._replace(users, joined)

    def _repeat(self, value: ir.Value, first: ir.Operation) -> None:
        """A scale for every position of the joined axis."""
        users = [(use.owner.operation, use.operand_number) for use in value.uses]
        sizes = {
            self.joined if label == self.outer else label: (
                self.total if label == self.outer else size
            )
            for label, size in diag.dims(value).items()
        }
        owner = value.owner
        after = first if isinstance(owner, ir.Block) else self._next(owner.operation)
        with ir.InsertionPoint(after), value.location:
            repeated = diag.reindex(value, sizes, self._map(value, sizes))
        self._replace(users, repeated)

    def _next(self, op: ir.Operation) -> ir.Operation:
        return self.ops[self.ops.index(op) + 1]

    def _map(self, source: ir.Value, sizes: dict[str, int]) -> ir.AffineMap:
        """Positions of the split axes from those of the joined one."""
        names = list(sizes)
        whole = ir.AffineExpr.get_dim(names.index(self.joined))
        digits = {
            self.outer: ir.AffineExpr.get_floor_div(whole, self.length),
            self.inner: ir.AffineExpr.get_mod(whole, self.length),
        }
        places = [
            digits[x] if x in digits else ir.AffineExpr.get_dim(names.index(x))
            for x in diag.labels(source)
        ]
        return ir.AffineMap.get(len(names), 0, places)

    @staticmethod
    def _replace(users: list[tuple[ir.Operation, int]], value: ir.Value) -> None:
        for op, number in users:
            op.operands[number] = value

    def _split_results(self) -> None:
        """Results have the axes that the function promises."""
        final = self.ops[-1]
        promised = ir.FunctionType(
            ir.TypeAttr(self.axes.function.attributes["function_type"]).value
        )
        for number, type_ in enumerate(promised.results):
            value = final.operands[number]
            if value.type == type_ or isinstance(value.owner, ir.Block):
                continue
            sizes, names = diag.dims(type_), list(diag.dims(type_))
            outer, inner = (ir.AffineExpr.get_dim(names.index(x)) for x in (self.outer, self.inner))
            places = [
                outer * self.length + inner
                if x == self.joined
                else ir.AffineExpr.get_dim(names.index(x))
                for x in diag.labels(value)
            ]
            with ir.InsertionPoint(final), value.location:
                map_ = ir.AffineMap.get(len(names), 0, places)
                final.operands[number] = diag.reindex(value, sizes, map_)


def _erase_unread(op: ir.Operation) -> None:
    """Erase scalar ops of a map that nobody reads, readers first."""
    if op.name != "diag.map":
        return
    for view in reversed(list(op.regions[0].blocks[0].operations)):
        inner = view.operation
        if len(inner.results) and not list(inner.results[0].uses):
            inner.erase()
