"""The ops of one block as a graph: order, what each reads (also inside regions), who uses it."""

from collections.abc import Iterable, Sequence
from functools import cached_property

from diagc.algebra.dataflow import inputs, is_parameter
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["Graph"]

_CONSTANTS = ("arith.constant", "diag.constant", "diag.index", "diag.map")

Reads = dict[ir.Value, list[ir.Value]]


class Graph:
    """A snapshot of the ops of `block`; to be made anew after a rewrite.

    Ask everything before the first op is changed: the hash of an op changes with its operands and
    attributes, and no set or dictionary finds it then. Values keep theirs.

    Args:
        block: the block.
        known: what ops read, by their first result, where that is known already.
    """

    def __init__(self, block: ir.Block, known: Reads | None = None) -> None:
        self.block = block
        self.ops = [view.operation for view in block.operations]
        self.position = {op: number for number, op in enumerate(self.ops)}
        self.reads = {op: _reads(op, known or {}) for op in self.ops}
        self._users: dict[ir.Value, list[ir.Operation]] = {}
        self._after: dict[tuple[int, ...], set[ir.Operation]] = {}
        self._labels: dict[ir.Value, tuple[str, ...]] = {}
        self.answers: dict[object, frozenset[ir.Operation]] = {}
        """What analyses have found about this snapshot, by their question."""
        for op, values in self.reads.items():
            for value in values:
                self._users.setdefault(value, []).append(op)

    def users(self, value: ir.Value) -> list[ir.Operation]:
        """Ops of the block that use `value`, in order."""
        return self._users.get(value, [])

    def labels(self, value: ir.Value) -> tuple[str, ...]:
        """Axes of a wire; none of a scalar."""
        if value not in self._labels:
            self._labels[value] = diag.labels(value) if diag.is_wire(value.type) else ()
        return self._labels[value]

    def carries(self, value: ir.Value, axis: str) -> bool:
        """Whether `value` is a wire with axis `axis`."""
        return axis in self.labels(value)

    def from_parameters(self, value: ir.Value) -> bool:
        """Whether `value` is computed from parameters of the model alone, and from at least one."""
        return value in self.parameters

    @cached_property
    def parameters(self) -> set[ir.Value]:
        """The values that are computed from parameters of the model alone."""
        found = {value for value in self.block.arguments if is_parameter(value)}
        constants: set[ir.Value] = set()
        for op in self.ops:
            reads = [value for value in self.reads[op] if value not in constants]
            if not reads and op.name in _CONSTANTS:
                constants.update(op.results)
            elif reads and all(value in found for value in reads):
                found.update(op.results)
        return found

    def after(self, sources: Iterable[ir.Operation]) -> set[ir.Operation]:
        """All ops that depend on results of `sources`, which are not counted for themselves."""
        stack = list(sources)
        key = tuple(self.position[op] for op in stack)
        if key in self._after:
            return self._after[key]
        found = self._after[key] = set()
        while stack:
            for result in stack.pop().results:
                for user in self.users(result):
                    if user not in found:
                        found.add(user)
                        stack.append(user)
        return found

    def in_order(self, ops: Iterable[ir.Operation]) -> list[ir.Operation]:
        """`ops` in the order of the block."""
        return sorted(ops, key=self.position.__getitem__)

    def unchanged(self, gone: Iterable[ir.Operation], replaced: Sequence[ir.Value]) -> Reads:
        """What ops read that stay when `gone` are erased and the values `replaced` get new uses.

        To be asked before the rewrite and given to the graph after it.
        """
        changed = {*gone, *(user for value in replaced for user in self.users(value))}
        return {
            op.results[0]: values
            for op, values in self.reads.items()
            if op not in changed and len(op.results)
        }


def _reads(op: ir.Operation, known: Reads) -> list[ir.Value]:
    found = known.get(op.results[0]) if len(op.results) else None
    return inputs(op) if found is None else found
