"""The ops of one block as a graph: order, what each reads (also inside regions), who uses it."""

from collections.abc import Iterable

from diagc.algebra.dataflow import inputs
from diagc.mlir import ir

__all__ = ["Graph"]


class Graph:
    """A snapshot of the ops of `block`; to be made anew after a rewrite.

    Ask everything before the first op is changed: the hash of an op changes with its operands and
    attributes, and no set or dictionary finds it then.
    """

    def __init__(self, block: ir.Block) -> None:
        self.block = block
        self.ops = [view.operation for view in block.operations]
        self.position = {op: number for number, op in enumerate(self.ops)}
        self.reads = {op: inputs(op) for op in self.ops}
        self._users: dict[ir.Value, list[ir.Operation]] = {}
        self._after: dict[frozenset[ir.Operation], set[ir.Operation]] = {}
        for op, values in self.reads.items():
            for value in values:
                self._users.setdefault(value, []).append(op)

    def users(self, value: ir.Value) -> list[ir.Operation]:
        """Ops of the block that use `value`, in order."""
        return self._users.get(value, [])

    def after(self, sources: Iterable[ir.Operation]) -> set[ir.Operation]:
        """All ops that depend on results of `sources`, which are not counted for themselves."""
        key = frozenset(sources)
        if key in self._after:
            return self._after[key]
        found = self._after[key] = set()
        stack = list(key)
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
