"""The axis graph: diagram ops over atomic axes, before they have labels.

Every op owns its local axes. It reads a value through a `Use`, which pairs the value's axes with
the op's own; the pairs are linked, not merged, so that labels can differ (axes.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from diagc.errors import SourceLocation
from diagc.frontend.torch.aten import Input
from diagc.frontend.torch.axes import Axis, leaves
from diagc.frontend.torch.scalar import Apply, Count, Expr, Position

__all__ = [
    "AffinePosition",
    "ConcatOp",
    "ContractOp",
    "ExternOp",
    "GraphOp",
    "InputOp",
    "MapOp",
    "NormalizeOp",
    "PadOp",
    "ReduceOp",
    "ReindexOp",
    "Use",
    "Value",
    "View",
    "counts",
    "positions",
    "reachable",
]


@dataclass(eq=False)
class Value:
    """A result of an op: its axes, in memory order, and its dtype."""

    op: "GraphOp"
    axes: tuple[Axis, ...]
    dtype: torch.dtype

    def leaves(self) -> list[Axis]:
        """The unsplit axes, in memory order."""
        return leaves(self.axes)


@dataclass(frozen=True, eq=False)
class View:
    """How a torch tensor sees a value: each dim is a list of axes, outermost first.

    Axes of the value all occur in `dims`; further axes in `dims` are broadcast.
    """

    value: Value
    dims: tuple[tuple[Axis, ...], ...]

    @property
    def dtype(self) -> torch.dtype:
        """The element type."""
        return self.value.dtype

    def leaves(self, dim: int) -> list[Axis]:
        """The unsplit axes of one dim; a scalar counts as having one dim of size 1, as in torch."""
        return leaves(self.dims[dim]) if self.dims else []

    def with_dims(self, dims: Sequence[Sequence[Axis]]) -> "View":
        """The same value under other dims."""
        return View(self.value, tuple(tuple(d) for d in dims))


@dataclass(frozen=True, eq=False)
class Use:
    """One reading of a value: pairs of an axis of the value and the axis of the reading op."""

    value: Value
    pairs: tuple[tuple[Axis, Axis], ...]

    def leaf_pairs(self) -> list[tuple[Axis, Axis]]:
        """The pairs down to unsplit axes."""
        return [
            (outer, local)
            for pair in self.pairs
            for outer, local in zip(leaves(pair[:1]), leaves(pair[1:]), strict=True)
        ]


@dataclass(eq=False)
class GraphOp:
    """Base of the ops.

    Args:
        uses: what the op reads, in operand order.
        name: of the value, for readers.
        location: the user's line.
    """

    uses: list[Use] = field(default_factory=list)
    name: str = ""
    location: SourceLocation | None = None
    results: list[Value] = field(default_factory=list)

    def local_axes(self) -> list[Axis]:
        """All axes of the op."""
        found = [local for use in self.uses for _, local in use.pairs]
        found += [axis for value in self.results for axis in value.axes]
        return list({id(a): a for a in leaves(found)}.values())

    def scopes(self) -> list[list[Axis]]:
        """Sets of axes of which no two may carry one label."""
        return [self.local_axes()]


@dataclass(eq=False)
class InputOp(GraphOp):
    """An argument of the function, whose user shape is `dims`."""

    source: Input | None = None
    dims: tuple[tuple[Axis, ...], ...] = ()


@dataclass(eq=False)
class ContractOp(GraphOp):
    """Multiply two operands and sum over `over`."""

    over: tuple[Axis, ...] = ()


@dataclass(eq=False)
class MapOp(GraphOp):
    """A scalar expression at each position."""

    expr: Expr | None = None

    def local_axes(self) -> list[Axis]:
        """Positions are axes too."""
        assert self.expr is not None
        found = [*super().local_axes(), *leaves(positions(self.expr))]
        return list({id(a): a for a in found}.values())


@dataclass(eq=False)
class ReduceOp(GraphOp):
    """Reduce `over` with a monoid."""

    over: tuple[Axis, ...] = ()
    kind: str = "add"


@dataclass(eq=False)
class NormalizeOp(GraphOp):
    """Normalise the first operand; if `masked`, the second says what to keep; then parameters."""

    along: tuple[Axis, ...] = ()
    kind: str = "softmax"
    eps: float | None = None
    place: str = "inside"
    masked: bool = False


@dataclass(eq=False)
class ReindexOp(GraphOp):
    """An affine gather.

    Args:
        source: for groups of axes of the operand, as the op names them, the position that is read
            along the dim that they make up.
    """

    source: tuple[tuple[tuple[Axis, ...], "AffinePosition"], ...] = ()


@dataclass(frozen=True, eq=False)
class AffinePosition:
    """`offset` plus, where `axis` is given, `step` times the position along that result axis.

    An axis that stays as it is stands for itself, with offset 0 and step 1.
    """

    offset: int = 0
    axis: Axis | None = None
    step: int = 1


@dataclass(eq=False)
class ConcatOp(GraphOp):
    """Join two operands, along a dim of each, into a new axis."""

    along: tuple[tuple[Axis, ...], tuple[Axis, ...]] = ((), ())
    joined: Axis | None = None


@dataclass(eq=False)
class PadOp(GraphOp):
    """Extend the dim that `axes` make up with a constant."""

    axes: tuple[Axis, ...] = ()
    padded: Axis | None = None
    low: int = 0
    high: int = 0
    fill: float = 0.0


@dataclass(eq=False)
class ExternOp(GraphOp):
    """A torch op that the host runs; operands and results have user shapes.

    Args:
        target: overload name.
        call: takes the operands in user shape and returns the tuple of results.
        operand_dims: for each operand, its dims in the axes of the operand's value.
        result_dims: likewise for each result.
        why: the reason that it was not raised.
    """

    target: str = ""
    call: Callable[..., Any] | None = None
    operand_dims: list[tuple[tuple[Axis, ...], ...]] = field(default_factory=list)
    result_dims: list[tuple[tuple[Axis, ...], ...]] = field(default_factory=list)
    why: str = ""

    def scopes(self) -> list[list[Axis]]:
        """Each operand and each result for itself."""
        operands = [leaves(local for _, local in use.pairs) for use in self.uses]
        return operands + [value.leaves() for value in self.results]


def positions(expr: Expr) -> list[Axis]:
    """Axes whose positions an expression reads."""
    if isinstance(expr, Position):
        return list(expr.axes)
    if isinstance(expr, Apply):
        return [axis for arg in expr.args for axis in positions(arg)]
    return []


def counts(expr: Expr) -> list[Axis]:
    """Axes whose sizes an expression reads."""
    if isinstance(expr, Count):
        return list(expr.axes)
    if isinstance(expr, Apply):
        return [axis for arg in expr.args for axis in counts(arg)]
    return []


def reachable(ops: Sequence[GraphOp], outputs: Sequence[Value]) -> Iterator[GraphOp]:
    """The ops that the outputs need, in order; inputs are always kept."""
    needed = {id(value.op) for value in outputs}
    for op in reversed(ops):
        if id(op) in needed:
            needed.update(id(use.value.op) for use in op.uses)
    return (op for op in ops if id(op) in needed or isinstance(op, InputOp))
