"""Analysis: which arguments a launch reads, found from what it must produce.

Elements are loaded when something wants them, so what no result needs is not read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.targets.nvptx.threads.parts import yielded
from diagc.targets.nvptx.tiles.plan import (
    Plan,
    Staged,
    is_one_row,
    read_wires,
    stage_of,
    trace,
)

__all__ = ["Reads", "Where", "find_reads"]

Where: TypeAlias = tuple[int, int] | None
"""Number of a stream and of its region; None outside of streams."""


@dataclass(frozen=True)
class Reads:
    """What a launch reads.

    Args:
        direct: arguments (or views of them) that threads read from global memory, and where.
        staged: those that stay in shared memory and are read there.
    """

    direct: tuple[tuple[ir.Value, Where], ...]
    staged: tuple[Staged, ...]


def find_reads(plan: Plan, regions: Sequence[int]) -> Reads:
    """What a launch reads that writes `regions` of every stream.

    Without the stream's tail (3) what follows the stream is not part of the launch.
    """
    finder = _Finder(plan, tuple(regions), plan.streams())
    (*_, end) = diag.function_body(plan.kernel).operations
    if 3 in regions:
        for value in end.operands:
            finder.want(value, None)
    else:
        for op in finder.streams:
            finder.visit(op)
    return Reads(tuple(finder.direct), tuple(finder.staged))


@dataclass
class _Finder:
    plan: Plan
    regions: tuple[int, ...]
    streams: list[ir.Operation]
    direct: dict[tuple[ir.Value, Where], None] = field(default_factory=dict)
    staged: dict[Staged, None] = field(default_factory=dict)
    _visited: set[ir.Value] = field(default_factory=set)

    def want(self, value: ir.Value, at: Where) -> None:
        """The elements of a value are read at a place."""
        if trace(value) is not None:
            self._read(value, at)
        elif not isinstance(value.owner, ir.Block):
            self.visit(value.owner.operation)

    def _read(self, value: ir.Value, at: Where) -> None:
        staged = stage_of(self.plan, value)
        if staged not in self.plan.staged or self.plan.row not in diag.labels(value):
            narrow = not set(self.plan.local(value)) - {self.plan.row}
            self.direct[value, None if narrow else at] = None
        elif staged.streamed is None:
            self.staged[staged] = None

    def visit(self, op: ir.Operation) -> None:
        """An op is emitted."""
        if op.results[0] in self._visited:
            return
        self._visited.add(op.results[0])
        if op.name == "diag.stream":
            self._visit_stream(op)
        elif op.name == "diag.chunk":
            self.want(op.operands[0], self._where(op))
        elif op.results[0] in self.plan.products:
            self._visit_product(op)
        else:
            for wire in read_wires(op):
                self.want(wire, self._where(op))

    def _visit_stream(self, op: ir.Operation) -> None:
        number = self.streams.index(op)
        for condition in op.operands:
            self.want(condition, None)
        for region in self.regions:
            for block in op.regions[region].blocks:
                for value in yielded(block):
                    self.want(value, (number, region))

    def _visit_product(self, op: ir.Operation) -> None:
        product = self.plan.products[op.results[0]]
        columns = stage_of(self.plan, product.columns)
        if columns is not None and columns.streamed is None:
            self.staged[columns] = None
        fixed = is_one_row(self.plan, product.rows)
        self.want(product.rows, None if fixed else self._where(op))

    def _where(self, op: ir.Operation) -> Where:
        parent = op.parent.operation
        if parent.name != "diag.stream":
            return None
        held = [any(block == op.block for block in region.blocks) for region in parent.regions]
        return self.streams.index(parent), held.index(True)
