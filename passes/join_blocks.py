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

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import ClassVar

from diagc import options
from diagc.algebra.dataflow import elements
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.base import Pass
from diagc.passes.cloning import array_ops
from diagc.passes.remarks import done

__all__ = ["JoinBlocksPass"]

LEAST_LACKING = 16
"""Positions of the axes that scales lack: so their copy is at most a fourth of the f8 numbers."""

_JOINED_OPS = ("diag.contract", "diag.map", "diag.normalize", "diag.normalize_with", "diag.reduce")


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
            while any(_Join(op, outer, inner).run() for outer, inner in _pairs(op)):
                pass


def _pairs(function: ir.Operation) -> Iterator[tuple[str, str]]:
    """Neighbours of an argument of f8."""
    for argument in diag.function_body(function).arguments:
        if diag.is_wire(argument.type) and diag.is_stored_float(diag.element_type(argument)):
            names = diag.labels(argument)
            yield from pairwise(names)


class _Join:
    """Joins two axes of a function, if nothing treats them apart."""

    def __init__(self, function: ir.Operation, outer: str, inner: str) -> None:
        self.function, self.outer, self.inner = function, outer, inner
        self.block = diag.function_body(function)
        self.ops = [view.operation for view in self.block.operations]
        self.wires = [v for v in self._values() if diag.is_wire(v.type)]
        sizes = [diag.dims(v) for v in self.wires]
        self.length = next(s[inner] for s in sizes if inner in s)
        blocks = next(s[outer] for s in sizes if outer in s)
        self.total = diag.DYNAMIC if blocks == diag.DYNAMIC else blocks * self.length
        taken = {label for s in sizes for label in s}
        self.joined = outer + inner
        while self.joined in taken:
            self.joined += "_"

    def _values(self) -> list[ir.Value]:
        made = [value for op in self.ops for value in op.results]
        return [*self.block.arguments, *made]

    def run(self) -> bool:
        """Whether the axes were joined."""
        if self.length == diag.DYNAMIC or not self._fits():
            return False
        whole = [argument for argument in self.block.arguments if self._count(argument) == 2]
        scales = [value for value in self.wires if self._is_scale(value)]
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
        return True

    # -- what is refused -------------------------------------------------------------------------
    def _fits(self) -> bool:
        if len(array_ops(self.function)) - 1 > len(self.ops):
            return False  # streams, whose bodies have wires of their own
        apart = [v for v in self.wires if self._count(v) == 1 and not self._is_index(v)]
        return (
            any(self._is_scale(value) for value in apart)
            and all(self._is_scale(value) for value in apart)
            and all(self._op_fits(op) for op in self.ops)
            and all(self._are_neighbours(value) for value in self._outside())
            and all(self._is_position(op) for op in self.ops if self._reads_positions(op))
        )

    def _count(self, value: ir.Value) -> int:
        return len({self.outer, self.inner} & set(diag.labels(value)))

    def _outside(self) -> list[ir.Value]:
        """Arguments and results with both axes."""
        given = [*self.block.arguments, *self.ops[-1].operands]
        return [value for value in given if diag.is_wire(value.type) and self._count(value) == 2]

    def _are_neighbours(self, value: ir.Value) -> bool:
        names = diag.labels(value)
        return names.index(self.inner) == names.index(self.outer) + 1

    def _op_fits(self, op: ir.Operation) -> bool:
        """Whether an op with both axes treats them as one."""
        wires = [v for v in (*op.operands, *op.results) if diag.is_wire(v.type)]
        if op.name in _JOINED_OPS:
            named = {x for a in ("over", "along") if a in op.attributes for x in self._names(op, a)}
            return len(named & {self.outer, self.inner}) != 1
        if op.name in ("diag.index", "func.return", "arith.constant"):
            return True
        return not any(self._count(value) for value in wires)

    @staticmethod
    def _names(op: ir.Operation, attribute: str) -> list[str]:
        return diag.strings(op.attributes[attribute])

    def _is_scale(self, value: ir.Value) -> bool:
        """Whether a wire has a number a block, and only maps of much larger wires read it."""
        names = set(diag.labels(value))
        if self._is_index(value) or {self.outer, self.inner} & names != {self.outer}:
            return False
        users = [use.owner.operation for use in value.uses]
        maps = [op.parent.operation for op in users if op.name == "diag.element"]
        return (
            bool(maps)
            and len(maps) == len(users)
            and all(
                self._count(op.results[0]) == 2
                and _is_large(
                    n for x, n in diag.dims(op.results[0]).items() if x not in {*names, self.inner}
                )
                for op in maps
            )
        )

    # -- positions -------------------------------------------------------------------------------
    def _is_index(self, value: ir.Value) -> bool:
        owner = value.owner
        return not isinstance(owner, ir.Block) and owner.operation.name == "diag.index"

    def _positions(self, op: ir.Operation, axis: str) -> list[ir.Operation]:
        """The elements of positions along an axis that a map reads."""
        read = elements(op) if op.name == "diag.map" else []
        return [
            e
            for e in read
            if self._is_index(e.operands[0]) and diag.labels(e.operands[0]) == (axis,)
        ]

    def _reads_positions(self, op: ir.Operation) -> bool:
        return bool(self._positions(op, self.outer) or self._positions(op, self.inner))

    def _is_position(self, op: ir.Operation) -> bool:
        """Whether a map reads positions as `outer * length + inner` only."""
        outer, inner = self._positions(op, self.outer), self._positions(op, self.inner)
        sums = [self._sum(e, inner) for e in outer]
        used = {value for found in sums if found for value in found.operands}
        return all(x is not None for x in sums) and all(e.results[0] in used for e in inner)

    def _sum(self, outer: ir.Operation, inner: list[ir.Operation]) -> ir.Operation | None:
        """The sum that an element of the blocks' numbers is in."""
        product = _only_user(outer, "arith.muli")
        if product is None or not any(_is_number(x, self.length) for x in product.operands):
            return None
        total = _only_user(product, "arith.addi")
        places = {e.results[0] for e in inner if len(list(e.results[0].uses)) == 1}
        return total if total is not None and places & set(total.operands) else None

    def _join_positions(self) -> None:
        """Sums become positions along the joined axis."""
        index = None
        for op in self.ops:
            inner = self._positions(op, self.inner)
            for element in self._positions(op, self.outer):
                total = self._sum(element, inner)
                assert total is not None, "checked before"
                if index is None:
                    with ir.InsertionPoint(self.ops[0]), op.location:
                        index = diag.index(self.joined, self.total)
                element.operands[0] = index
                total.results[0].replace_all_uses_with(element.results[0])
            _erase_unread(op)

    # -- rewriting -------------------------------------------------------------------------------
    def _rename(self, op: ir.Operation) -> None:
        for value in op.results:
            if diag.is_wire(value.type) and self._count(value) == 2:
                value.set_type(diag.wire(self._joined_dims(value), diag.element_type(value)))
        for name in ("over", "along"):
            if name in op.attributes and self.inner in self._names(op, name):
                names = [x for x in self._names(op, name) if x != self.outer]
                names[names.index(self.inner)] = self.joined
                op.attributes[name] = diag.string_array(names)

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
        promised = ir.FunctionType(ir.TypeAttr(self.function.attributes["function_type"]).value)
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


def _is_large(sizes: Iterable[int]) -> bool:
    """Whether there are positions enough; those of an open axis are."""
    known = list(sizes)
    return diag.DYNAMIC in known or prod(known) >= LEAST_LACKING


def _only_user(op: ir.Operation, name: str) -> ir.Operation | None:
    users = [use.owner.operation for use in op.results[0].uses]
    return users[0] if len(users) == 1 and users[0].name == name else None


def _is_number(value: ir.Value, number: int) -> bool:
    op = value.owner.operation
    return op.name == "arith.constant" and ir.IntegerAttr(op.attributes["value"]).value == number


def _erase_unread(op: ir.Operation) -> None:
    """Erase scalar ops of a map that nobody reads, readers first."""
    if op.name != "diag.map":
        return
    for view in reversed(list(op.regions[0].blocks[0].operations)):
        inner = view.operation
        if len(inner.results) and not list(inner.results[0].uses):
            inner.erase()
