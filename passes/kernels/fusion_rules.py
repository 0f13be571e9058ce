"""What decides whether ops may share a kernel: axes that fit a task, costs of recomputing."""

from dataclasses import dataclass
from math import prod

from diagc.cost import deciding_device, recompute_pays, value_bytes
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.cloning import array_ops, used_values
from diagc.passes.kernels.kernel_axes import (
    LARGEST_LOCAL,
    LARGEST_STATE,
    VIEWS,
    contraction_axes,
    is_index_map,
    op_axes,
    row_operand,
)

__all__ = [
    "ClusterAxes",
    "cluster_axes",
    "inner_axes",
    "is_cheap",
    "is_small",
    "is_stored_matrix",
    "is_wide",
]

LARGEST_LANE_STATE = 1024
"""Elements that one lane may keep of a wire: 256 KiB for 64 lanes in f32."""

LARGEST_ROW = 64 * 1024
"""Elements of a row that maps and reductions walk over: 256 KiB in f32, half of a second level."""

LARGEST_TASK = 8
"""All wires of a task together, in units of the largest single one: its scratch is on the stack."""


@dataclass(frozen=True)
class ClusterAxes:
    """What decides whether clusters may merge.

    `common` is None when any split fits; `produced` are the labelled sizes of all results,
    `broadcast` the result axes that operands of contractions lack.
    """

    common: frozenset[str] | None
    produced: tuple[diag.Dims, ...]
    reduced: frozenset[str]
    streamed: frozenset[str]
    broadcast: frozenset[str]

    @property
    def labels(self) -> diag.Dims:
        """Sizes of all axes of results."""
        return diag.join_dims(self.produced)

    @property
    def local(self) -> frozenset[str]:
        """Axes of results that stay inside a task."""
        return frozenset(self.labels) - (self.common or frozenset())

    def joined(self, other: "ClusterAxes", inner: frozenset[str]) -> "ClusterAxes | None":
        """The axes of both together, or None when they do not fit one task.

        An axis may cease to be common only if it is reduced, stayed inside the task already, or is
        among `inner`, the axes that broadcasting along the connecting wires adds at the inner end,
        and not one whose positions share an operand of a product.
        """
        both = ClusterAxes(
            _meet(self.common, other.common),
            self.produced + other.produced,
            self.reduced | other.reduced,
            self.streamed | other.streamed,
            self.broadcast | other.broadcast,
        )
        common = both.common or frozenset()
        lost = ((self.common or frozenset()) | (other.common or frozenset())) - common
        allowed = both.reduced | self.local | other.local | (inner - both.broadcast)
        if lost - allowed:
            return None
        if not common and self.common and other.common:
            return None
        if not common and both.streamed and (self.common or other.common):
            return None  # a stream would be one task: nothing of it could be shared out
        return both if both.fits() else None

    def fits(self) -> bool:
        """Whether what stays inside a task is static, small, and not streamed."""
        labels, local = self.labels, self.local
        if local & self.streamed or any(labels[label] == diag.DYNAMIC for label in local):
            return False
        lanes = bool(self.broadcast & (self.common or frozenset()))
        products = self.broadcast or self.streamed
        limit = LARGEST_LANE_STATE if lanes else LARGEST_STATE if products else LARGEST_ROW
        kept = [prod(v for k, v in dims.items() if k in local) for dims in self.produced]
        return max(kept) <= limit and sum(kept) <= LARGEST_TASK * limit

    def shares(self, other: "ClusterAxes", value: ir.Value) -> bool:
        """Whether both walk over the wire `value` in the same way, without streams or products."""
        if self.common != other.common or not self.common or self.local != other.local:
            return False
        plain = not (self.streamed | other.streamed | self.broadcast | other.broadcast)
        return plain and self.common <= set(diag.labels(value))


def _meet(first: frozenset[str] | None, second: frozenset[str] | None) -> frozenset[str] | None:
    if first is None or second is None:
        return second if first is None else first
    return first & second


def cluster_axes(op: ir.Operation) -> ClusterAxes:
    """The axes of a cluster of one op."""
    found = op_axes(op)
    contractions = [n for n in array_ops(op) if n.name == "diag.contract"]
    return ClusterAxes(
        common=None if is_index_map(op) else frozenset(found.woven),
        produced=tuple(diag.dims(value) for value in op.results),
        reduced=frozenset(found.reduced),
        streamed=frozenset(found.streamed),
        broadcast=frozenset(
            label for inner in contractions for label in contraction_axes(inner).broadcast
        ),
    )


def inner_axes(value: ir.Value, consumer: ir.Operation) -> set[str]:
    """Axes at the inner end of the result of a map that the wire `value` lacks.

    A map that spreads a value of the row over the row may keep the row inside the task.
    """
    if consumer.name != "diag.map":
        return set()
    labels = diag.labels(consumer.results[0])
    missing = {label for label in labels if label not in diag.labels(value)}
    suffix = set(labels[len(labels) - len(missing) :])
    return missing if missing == suffix else set()


def is_wide(op: ir.Operation) -> bool:
    """Whether an op reads, computes or gives numbers of 64 bits: then so does all of its kernel."""
    ops = array_ops(op)
    values = [value for nested in ops for value in (*used_values(nested), *nested.results)]
    types = (diag.element_type(value) for value in values if diag.is_wire(value.type))
    return any(isinstance(type_, ir.F64Type) for type_ in types)


def is_small(op: ir.Operation) -> bool:
    """Whether a contraction belongs into a kernel: what its rows share stays in the fast levels.

    The shared operand has a static, small part for each batch position. Without batch axes it must
    come from a stream: products with matrices of weights are the library's.
    """
    axes = contraction_axes(op)
    shared = op.operands[1 - row_operand(op)]
    batch = {label for label in axes.result if label not in axes.broadcast}
    local = {label: size for label, size in diag.dims(shared).items() if label not in batch}
    if diag.DYNAMIC in local.values() or max(local.values(), default=1) > LARGEST_LOCAL:
        return False
    return prod(local.values()) <= LARGEST_STATE and (bool(batch) or _is_streamed(shared))


def _is_streamed(value: ir.Value) -> bool:
    """Whether a wire is a view of what a stream gives."""
    while not isinstance(value.owner, ir.Block):
        op = value.owner.operation
        if op.name not in VIEWS:
            return bool(op.name == "diag.stream")
        value = op.operands[0]
    return False


def is_stored_matrix(op: ir.Operation, reader: ir.Operation) -> bool:
    """Whether a map of positions is an operand of a contraction that a GPU had better store.

    Its kernels on tensor cores bring the operands of products from memory.
    """
    products = reader.name == "diag.contract" and any(r in reader.operands for r in op.results)
    return products and is_index_map(op) and deciding_device().kind == "gpu"


def is_cheap(op: ir.Operation) -> bool:
    """Whether computing a map again costs less than storing and loading its result."""
    if op.name != "diag.map":
        return False
    if is_index_map(op):
        return True
    sources = [value for value in used_values(op) if diag.is_wire(value.type)]
    moved = sum(value_bytes(value) for value in sources)
    return moved <= value_bytes(op.results[0]) and recompute_pays(op)
