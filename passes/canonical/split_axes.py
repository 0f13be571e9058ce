"""Two axes that are one axis in blocks: who computes with them, and whether anything needs both."""

from collections.abc import Iterable
from math import prod

from diagc.algebra.dataflow import elements
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.cloning import array_ops

__all__ = ["SplitAxes"]

LEAST_LACKING = 16
"""Positions of the axes that scales lack: so their copy is at most a fourth of the f8 numbers."""

_JOINED_OPS = ("diag.contract", "diag.map", "diag.normalize", "diag.normalize_with", "diag.reduce")


class SplitAxes:
    """Two neighbouring axes of a function: `outer` numbers blocks, `inner` the places in one."""

    def __init__(self, function: ir.Operation, outer: str, inner: str) -> None:
        self.function, self.outer, self.inner = function, outer, inner
        self.block = diag.function_body(function)
        self.ops = [view.operation for view in self.block.operations]
        self.wires = [v for v in self._values() if diag.is_wire(v.type)]
        sizes = [diag.dims(v) for v in self.wires]
        self.length = next(s[inner] for s in sizes if inner in s)
        self.blocks = next(s[outer] for s in sizes if outer in s)

    def _values(self) -> list[ir.Value]:
        made = [value for op in self.ops for value in op.results]
        return [*self.block.arguments, *made]

    def are_one(self) -> bool:
        """Whether scales alone have one of them, and positions are of both."""
        if self.length == diag.DYNAMIC:
            return False
        if len(array_ops(self.function)) - 1 > len(self.ops):
            return False  # streams, whose bodies have wires of their own
        apart = [v for v in self.wires if self.count(v) == 1 and not self._is_index(v)]
        return (
            any(self.is_scale(value) for value in apart)
            and all(self.is_scale(value) for value in apart)
            and all(self._op_fits(op) for op in self.ops)
            and all(self._are_neighbours(value) for value in self._outside())
            and all(self._is_position(op) for op in self.ops if self._reads_positions(op))
        )

    def count(self, value: ir.Value) -> int:
        """How many of the two axes a wire has."""
        return len({self.outer, self.inner} & set(diag.labels(value)))

    def _outside(self) -> list[ir.Value]:
        """Arguments and results with both axes."""
        given = [*self.block.arguments, *self.ops[-1].operands]
        return [value for value in given if diag.is_wire(value.type) and self.count(value) == 2]

    def _are_neighbours(self, value: ir.Value) -> bool:
        names = diag.labels(value)
        return names.index(self.inner) == names.index(self.outer) + 1

    def _op_fits(self, op: ir.Operation) -> bool:
        """Whether an op with both axes treats them as one."""
        wires = [v for v in (*op.operands, *op.results) if diag.is_wire(v.type)]
        if op.name in _JOINED_OPS:
            lists = [op.attributes[a] for a in ("over", "along") if a in op.attributes]
            named = {label for each in lists for label in diag.strings(each)}
            return len(named & {self.outer, self.inner}) != 1
        if op.name in ("diag.index", "func.return", "arith.constant"):
            return True
        return not any(self.count(value) for value in wires)

    def is_scale(self, value: ir.Value) -> bool:
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
                self.count(op.results[0]) == 2
                and _is_large(
                    n for x, n in diag.dims(op.results[0]).items() if x not in {*names, self.inner}
                )
                for op in maps
            )
        )

    def _is_index(self, value: ir.Value) -> bool:
        owner = value.owner
        return not isinstance(owner, ir.Block) and owner.operation.name == "diag.index"

    def positions(self, op: ir.Operation, axis: str) -> list[ir.Operation]:
        """The elements of positions along an axis that a map reads."""
        read = elements(op) if op.name == "diag.map" else []
        return [
            e
            for e in read
            if self._is_index(e.operands[0]) and diag.labels(e.operands[0]) == (axis,)
        ]

    def _reads_positions(self, op: ir.Operation) -> bool:
        return bool(self.positions(op, self.outer) or self.positions(op, self.inner))

    def _is_position(self, op: ir.Operation) -> bool:
        """Whether a map reads positions as `outer * length + inner` only."""
        outer, inner = self.positions(op, self.outer), self.positions(op, self.inner)
        sums = [self.sum_of(e, inner) for e in outer]
        used = {value for found in sums if found for value in found.operands}
        return all(x is not None for x in sums) and all(e.results[0] in used for e in inner)

    def sum_of(self, outer: ir.Operation, inner: list[ir.Operation]) -> ir.Operation | None:
        """The sum that an element of the blocks' numbers is in."""
        product = _only_user(outer, "arith.muli")
        if product is None or not any(_is_number(x, self.length) for x in product.operands):
            return None
        total = _only_user(product, "arith.addi")
        places = {e.results[0] for e in inner if len(list(e.results[0].uses)) == 1}
        return total if total is not None and places & set(total.operands) else None


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
