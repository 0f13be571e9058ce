"""What the ops of a kernel region compute, seen as loop nests: domains, reductions, vector axes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import ir

__all__ = ["ALIASES", "LoopNode", "VectorChoice", "has_loops", "make_node", "yielded"]

# ops that only rename or slice: no code, another way to address their operand
ALIASES = ("diag.relabel", "diag.reindex", "diag.chunk", "diag.index", "diag.constant")


@dataclass(frozen=True)
class LoopNode:
    """One op that needs loops.

    Args:
        op: the diag op.
        inputs: wires it reads.
        domain: every label its loops run over outside an inner contraction loop.
        over: labels that a reduction or a fused dot product sums away; they are in `domain`.
        inner: labels that a contraction sums inside its register block; not in `domain`.
    """

    op: ir.Operation
    inputs: tuple[ir.Value, ...]
    domain: tuple[str, ...]
    over: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()

    @property
    def result(self) -> ir.Value:
        """The wire it computes."""
        return self.op.results[0]

    @property
    def is_contraction(self) -> bool:
        """Whether it owns a register-blocked inner loop."""
        return bool(self.inner)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label it touches."""
        return tuple(dict.fromkeys((*self.domain, *self.inner)))


def _map_node(op: ir.Operation) -> LoopNode:
    elements = [e for e in diag.walk_ops(op.regions[0]) if e.name == "diag.element"]
    inputs = tuple(dict.fromkeys(e.operands[0] for e in elements))
    return LoopNode(op, inputs, diag.labels(op.results[0]))


def _reduce_node(op: ir.Operation) -> LoopNode:
    source = op.operands[0]
    return LoopNode(
        op, (source,), diag.labels(source), over=tuple(diag.strings(op.attributes["over"]))
    )


def _contract_node(op: ir.Operation) -> LoopNode:
    """A contraction whose operands have the same axes is a product and a sum: a fused reduction."""
    lhs, rhs = op.operands[0], op.operands[1]
    over = tuple(diag.strings(op.attributes["over"]))
    if not over or set(diag.labels(lhs)) == set(diag.labels(rhs)):
        joined = tuple(diag.join_dims((diag.dims(lhs), diag.dims(rhs))))
        return LoopNode(op, (lhs, rhs), joined, over=over)
    return LoopNode(op, (lhs, rhs), diag.labels(op.results[0]), inner=over)


_RULES: dict[str, Callable[[ir.Operation], LoopNode]] = {
    "diag.map": _map_node,
    "diag.reduce": _reduce_node,
    "diag.contract": _contract_node,
}


def make_node(op: ir.Operation) -> LoopNode:
    """The loop node of an op.

    Raises:
        UnsupportedError: the op has no loops of its own.
    """
    rule = _RULES.get(op.name)
    if rule is None:
        reason = "the cpu target has no code for it in a kernel"
        raise UnsupportedError(op.name, reason=reason, location=op.location)
    return rule(op)


def has_loops(op: ir.Operation) -> bool:
    """Whether an op of a kernel needs loops of its own, unlike views, literals and yields."""
    return op.name in _RULES


def yielded(block: ir.Block) -> list[ir.Value]:
    """What a region gives, in order."""
    ops = [op.operation for op in block.operations]
    return [op.operands[0] for op in ops if op.name == "diag.yield"]


@dataclass(frozen=True)
class VectorChoice:
    """Chooses the axis that vectors run along.

    Args:
        lanes: the grouped axis of a lanes schedule, or None.
        unit: the contiguous axis of an input wire, or None.
        extent: static extent of a label.
        outside: labels that are fixed in a task (grid axes).
    """

    lanes: str | None
    unit: Callable[[ir.Value], str | None]
    extent: Callable[[str], int]
    outside: frozenset[str]

    def __call__(self, node: LoopNode) -> str | None:
        """The vector axis of a node; None for purely scalar nodes."""
        labels = [label for label in node.labels if label not in self.outside]
        if self.lanes is not None and self.lanes in labels and self.lanes not in node.inner:
            return self.lanes
        if not labels:
            return None
        return self._contraction(node) if node.is_contraction else self._pointwise(node, labels)

    def _pointwise(self, node: LoopNode, labels: Sequence[str]) -> str:
        """The axis that most input elements are contiguous along: all others must be turned."""
        votes: dict[str, int] = {}
        for value in node.inputs:
            unit = self.unit(value)
            if unit is not None and unit in labels:
                local = [label for label in diag.labels(value) if label not in self.outside]
                votes[unit] = votes.get(unit, 0) + prod(map(self.extent, local))
        return max(votes, key=lambda u: (votes[u], self.extent(u)), default=labels[-1])

    def _widest(self, labels: Iterable[str | None]) -> str:
        return max((label for label in labels if label is not None), key=self.extent)

    def _contraction(self, node: LoopNode) -> str:
        """A free contiguous axis if there is one, else the summed axis that both walk along."""
        local = [label for label in node.labels if label not in self.outside]
        units = [u for u in map(self.unit, node.inputs) if u in local]
        # of equally long ones the last of the result: states are laid out along that one too
        free = [label for label in reversed(node.domain) if label in units]
        if free:
            return self._widest(free)
        if len(units) == 2 and units[0] == units[1]:
            return self._widest(units)
        return self._widest([label for label in local if label not in node.inner] or local)
