"""Analysis: which ops of a function form kernels; says so in a `KernelPlan` and changes nothing.

Every op starts alone. In program order, each op's cluster is merged with those of its producers
where the kernel stays a kernel: no path leaves the cluster and comes back (convex), and the axes
of the merged cluster fit a task (see `_ClusterAxes.joined`). Cheap maps with several consumers are
recomputed in each of them when that leaves nobody else to write them for.
"""

from dataclasses import dataclass, field
from math import prod

from diagc.cost import body_weight, elements, value_bytes
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.cloning import used_values
from diagc.passes.kernel_axes import (
    LARGEST_LOCAL,
    LARGEST_STATE,
    VIEWS,
    contraction_axes,
    is_index_map,
    op_axes,
)

__all__ = ["ClusterOptions", "KernelPlan", "plan_kernels"]

KERNEL_OPS = ("diag.map", "diag.reduce", "diag.stream")

CHEAP_WEIGHT = 4
"""A map body of up to this many additions is computed again rather than stored and loaded."""


@dataclass(frozen=True)
class ClusterOptions:
    """What may be fused: `library` "none" makes kernels of lone contractions too."""

    library: str = "auto"
    single: bool = False


@dataclass(frozen=True)
class KernelPlan:
    """Kernels as places in `ops`, in program order; an op that is recomputed stands in several.

    `ops` are all ops of the block but its terminator; those in no kernel stay in the function.
    Places and not ops, because the hash of an op changes with its operands.
    """

    ops: tuple[ir.Operation, ...]
    kernels: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        """Give one line a kernel: the names of its ops."""
        return "\n".join(" ".join(self.ops[n].name for n in kernel) for kernel in self.kernels)


@dataclass(frozen=True)
class _ClusterAxes:
    """What decides whether clusters may merge; `common` None when any split fits."""

    common: frozenset[str] | None
    produced: tuple[ir.Value, ...]
    reduced: frozenset[str]
    streamed: frozenset[str]

    @property
    def labels(self) -> dict[str, int]:
        return diag.join_dims(diag.dims(value) for value in self.produced)

    @property
    def local(self) -> frozenset[str]:
        return frozenset(self.labels) - (self.common or frozenset())

    def joined(self, other: "_ClusterAxes", inner: frozenset[str]) -> "_ClusterAxes | None":
        """The axes of both together, or None when they do not fit one task.

        `inner` are axes that broadcasting along the connecting wires adds at the inner end.
        """
        both = _ClusterAxes(
            _meet(self.common, other.common),
            self.produced + other.produced,
            self.reduced | other.reduced,
            self.streamed | other.streamed,
        )
        lost = ((self.common or frozenset()) | (other.common or frozenset())) - (
            both.common or frozenset()
        )
        allowed = both.reduced | self.local | other.local | inner
        if lost - allowed or (not both.common and self.common and other.common):
            return None
        return both if both.fits() else None

    def fits(self) -> bool:
        """Whether what stays inside a task is static, small, and not streamed."""
        labels, local = self.labels, self.local
        if local & self.streamed or any(labels[label] == diag.DYNAMIC for label in local):
            return False
        kept = (
            {k: v for k, v in diag.dims(value).items() if k in local} for value in self.produced
        )
        return all(prod(sizes.values()) <= LARGEST_STATE for sizes in kept)


def _meet(first: frozenset[str] | None, second: frozenset[str] | None) -> frozenset[str] | None:
    if first is None or second is None:
        return second if first is None else first
    return first & second


def _axes_of(op: ir.Operation) -> _ClusterAxes:
    found = op_axes(op)
    common = None if is_index_map(op) else frozenset(found.woven)
    produced = tuple(op.results)
    return _ClusterAxes(common, produced, frozenset(found.reduced), frozenset(found.streamed))


@dataclass
class _Cluster:
    """Ops that become one kernel; `depends` has a bit for every cluster it needs, near or far."""

    ops: list[int]
    axes: _ClusterAxes | None
    depends: int = 0


@dataclass
class _Planner:
    """Merges clusters over the ops of one block; ops are known by their place in `ops`."""

    ops: list[ir.Operation]
    options: ClusterOptions
    producers: list[list[tuple[int, ir.Value]]] = field(default_factory=list)
    users: list[set[int]] = field(default_factory=list)
    clusters: dict[int, _Cluster] = field(default_factory=dict)
    home: list[int] = field(default_factory=list)
    copies: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._connect()
        for number, op in enumerate(self.ops):
            axes = _axes_of(op) if self._fusable(op) else None
            depends = 0
            for producer, _ in self.producers[number]:
                depends |= 1 << producer | self.clusters[producer].depends
            self.clusters[number] = _Cluster([number], axes, depends)
            self.home.append(number)

    def _connect(self) -> None:
        results = [(r, n) for n, op in enumerate(self.ops) for r in op.results]
        place = {r: n for r, n in results if diag.is_wire(r.type)}  # literals are copied
        for number, op in enumerate(self.ops):
            wires = [(place[value], value) for value in used_values(op) if value in place]
            self.producers.append(wires)
            self.users.append(set())
            for producer, _ in wires:
                self.users[producer].add(number)

    def _fusable(self, op: ir.Operation) -> bool:
        if op.name != "diag.contract":
            return op.name in KERNEL_OPS
        return self.options.library == "none" or _is_small(op)

    # ---- merging -------------------------------------------------------------------------------

    def merge_all(self) -> None:
        """Merge every op with its producers, those with the most bytes first."""
        for number in range(len(self.ops)):
            wires = sorted(self.producers[number], key=lambda wire: -value_bytes(wire[1]))
            for producer, _ in wires:
                self._try_merge(producer, number)

    def _try_merge(self, producer: int, consumer: int) -> None:
        first, second = self.home[producer], self.home[consumer]
        if first == second or not self._wanted(producer, consumer):
            return
        one, two = self.clusters[first], self.clusters[second]
        if one.axes is None or two.axes is None or self._returns(first, second):
            return
        joined = one.axes.joined(two.axes, self._inner(first, second))
        if joined is not None:
            self._merge(first, second, joined)

    def _wanted(self, producer: int, consumer: int) -> bool:
        """A contraction of the library's size is only a kernel on its own."""
        return all(
            self.ops[n].name != "diag.contract" or _is_small(self.ops[n])
            for n in (producer, consumer)
        )

    def _returns(self, first: int, second: int) -> bool:
        """Whether a path from `first` to `second` goes through a third cluster."""
        needed = self.clusters[second].depends & ~(1 << first)
        return any(
            needed >> name & 1 and cluster.depends >> first & 1
            for name, cluster in self.clusters.items()
            if name not in (first, second)
        )

    def _inner(self, first: int, second: int) -> frozenset[str]:
        inner: set[str] = set()
        for consumer in self.clusters[second].ops:
            for producer, value in self.producers[consumer]:
                if self.home[producer] == first:
                    inner |= _inner_axes(value, self.ops[consumer])
        return frozenset(inner)

    def _merge(self, first: int, second: int, axes: _ClusterAxes) -> None:
        one, two = self.clusters[first], self.clusters.pop(second)
        bits = 1 << first | 1 << second
        one.ops, one.axes = sorted(one.ops + two.ops), axes
        one.depends = (one.depends | two.depends) & ~bits
        for number in two.ops:
            self.home[number] = first
        for cluster in self.clusters.values():
            if cluster is not one and cluster.depends & bits:
                cluster.depends = (cluster.depends & ~bits) | 1 << first | one.depends

    # ---- recomputation -------------------------------------------------------------------------

    def recompute_cheap(self) -> None:
        """Copy cheap maps into every cluster that reads them, when nothing else does."""
        for number in reversed(range(len(self.ops))):
            if _is_cheap(self.ops[number]) and len(self.users[number]) > 1:
                self._try_copy(number)

    def _try_copy(self, number: int) -> None:
        """Give every cluster that reads op `number` its own copy, if all of them can have one."""
        own, axes = self.home[number], _axes_of(self.ops[number])
        readers = {self.home[user] for user in self.users[number]}
        if own in readers or len(self.clusters[own].ops) > 1:
            return
        merged: dict[int, _ClusterAxes] = {}
        for reader in readers:
            target = self.clusters[reader].axes
            joined = None if target is None else target.joined(axes, frozenset())
            if joined is None:
                return
            merged[reader] = joined
        for reader, joined in merged.items():
            self.clusters[reader].axes = joined
            self.copies.setdefault(reader, []).append(number)
            self.clusters[reader].depends |= self.clusters[own].depends
        del self.clusters[own]

    # ---- the answer ----------------------------------------------------------------------------

    def plan(self) -> KernelPlan:
        kernels = []
        for name, cluster in sorted(self.clusters.items(), key=lambda item: item[1].ops[0]):
            numbers = sorted(cluster.ops + self.copies.get(name, []))
            if cluster.axes is not None and self._is_kernel(numbers):
                kernels.append(tuple(numbers))
        return KernelPlan(tuple(self.ops), tuple(kernels))

    def _is_kernel(self, numbers: list[int]) -> bool:
        lone = len(numbers) == 1 and self.ops[numbers[0]].name == "diag.contract"
        return not lone or self.options.library == "none"


def _inner_axes(value: ir.Value, consumer: ir.Operation) -> set[str]:
    """Axes at the inner end of the consumer's result that the wire `value` lacks.

    A map over rows may keep the row inside the task; so may a contraction its free axes, for the
    operand that brings the rows.
    """
    if consumer.name not in ("diag.map", "diag.contract"):
        return set()
    if consumer.name == "diag.contract" and value != consumer.operands[_row_operand(consumer)]:
        return set()
    labels = diag.dims(consumer.results[0])
    missing = {label for label in labels if label not in diag.labels(value)}
    suffix = set(list(labels)[len(labels) - len(missing) :])
    return missing if missing == suffix else set()


def _row_operand(op: ir.Operation) -> int:
    """Which operand brings the axis that tells tasks apart: the one with more free positions."""
    axes = contraction_axes(op)
    free = (axes.rhs_lacks, axes.lhs_lacks)
    sizes = diag.dims(op.results[0])
    count = [
        elements(diag.wire({k: sizes[k] for k in labels}, diag.element_type(op.results[0])))
        for labels in free
    ]
    return 0 if count[0] >= count[1] else 1


def _is_small(op: ir.Operation) -> bool:
    """Whether a contraction belongs into a kernel: what its rows share stays in the fast levels.

    The shared operand has a static, small part for each batch position, and it is not a matrix of
    weights (no batch axis, an argument): those products are the library's.
    """
    axes = contraction_axes(op)
    shared = op.operands[1 - _row_operand(op)]
    batch = {label for label in axes.result if label not in axes.broadcast}
    local = {label: size for label, size in diag.dims(shared).items() if label not in batch}
    if diag.DYNAMIC in local.values() or max(local.values(), default=1) > LARGEST_LOCAL:
        return False
    return prod(local.values()) <= LARGEST_STATE and (bool(batch) or _is_computed(shared))


def _is_computed(value: ir.Value) -> bool:
    """Whether a wire is more than a view of an argument."""
    while not isinstance(value.owner, ir.Block):
        op = value.owner.operation
        if op.name not in VIEWS:
            return True
        value = op.operands[0]
    return False


def _is_cheap(op: ir.Operation) -> bool:
    """Whether computing a map again costs less than storing and loading its result."""
    if op.name != "diag.map":
        return False
    if is_index_map(op):
        return True
    sources = [value for value in used_values(op) if diag.is_wire(value.type)]
    moved = sum(value_bytes(value) for value in sources)
    return body_weight(op) <= CHEAP_WEIGHT and moved <= value_bytes(op.results[0])


def plan_kernels(block: ir.Block, options: ClusterOptions | None = None) -> KernelPlan:
    """Say which ops of `block` form kernels."""
    ops = [op.operation for op in block.operations][:-1]
    planner = _Planner(ops, options or ClusterOptions())
    if not planner.options.single:
        planner.merge_all()
        planner.recompute_cheap()
    return planner.plan()
