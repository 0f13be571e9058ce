"""Analysis: which ops of a function form kernels; says so in a `KernelPlan` and changes nothing.

Every op starts alone. In program order, each op's cluster is merged with those of its producers
where the kernel stays a kernel: no path leaves the cluster and comes back (convex), and the axes
of the merged cluster fit a task (see `ClusterAxes.joined`). Cheap maps with several consumers are
recomputed in each of them when that leaves nobody else to write them for.
"""

from dataclasses import dataclass, field
from itertools import pairwise

from diagc.algebra.elementwise import library_operations
from diagc.cost import value_bytes
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.cloning import array_ops, used_values
from diagc.passes.kernels.fusion_rules import (
    ClusterAxes,
    cluster_axes,
    inner_axes,
    is_cheap,
    is_small,
    is_stored_matrix,
    is_wide,
)
from diagc.passes.kernels.library_products import WALKED, is_library, is_widening
from diagc.passes.kernels.tiled_products import TILED, product_axes

__all__ = ["ClusterOptions", "KernelPlan", "plan_kernels"]

KERNEL_OPS = ("diag.map", "diag.reduce", "diag.stream")


@dataclass(frozen=True)
class ClusterOptions:
    """What may be fused.

    `library` "none" makes kernels of lone contractions too, "tiled" of those that tiles serve well.
    """

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


@dataclass
class _Cluster:
    """Ops that become one kernel; `depends` has a bit for every cluster it needs, near or far."""

    ops: list[int]
    axes: ClusterAxes | None
    depends: int = 0


@dataclass
class _Planner:
    """Merges clusters over the ops of one block; ops are known by their place in `ops`.

    `small` are the contractions that may share a kernel with other ops, `returned` are the ops
    whose results the terminator reads, `tiled` contractions that only share one with maps of their
    result.
    """

    ops: list[ir.Operation]
    options: ClusterOptions
    small: frozenset[int]
    returned: frozenset[int]
    tiled: frozenset[int] = frozenset()
    producers: list[list[tuple[int, ir.Value]]] = field(default_factory=list)
    users: list[set[int]] = field(default_factory=list)
    clusters: dict[int, _Cluster] = field(default_factory=dict)
    home: list[int] = field(default_factory=list)
    copies: dict[int, set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._connect()
        for number, op in enumerate(self.ops):
            axes = cluster_axes(op) if self._fusable(number) else None
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

    def _fusable(self, number: int) -> bool:
        op = self.ops[number]
        if op.name != "diag.contract":
            return op.name in KERNEL_OPS
        return self.options.library == "none" or number in self.small | self.tiled

    # ---- merging -------------------------------------------------------------------------------

    def merge_all(self, skipped: set[int] | None = None) -> None:
        """Merge every op with its producers but `skipped`, those with the most bytes first."""
        for number in range(len(self.ops)):
            wires = sorted(self.producers[number], key=lambda wire: -value_bytes(wire[1]))
            for producer, _ in wires:
                if producer not in (skipped or ()):
                    self._try_merge(producer, number)

    def _try_merge(self, producer: int, consumer: int) -> None:
        first, second = self.home[producer], self.home[consumer]
        if first == second or {producer, consumer} & set(self.copies):
            return
        if not self._wanted(producer, consumer) or self._halves_vectors(first, second):
            return
        one, two = self.clusters[first], self.clusters[second]
        if one.axes is None or two.axes is None or self._returns(first, second):
            return
        joined = one.axes.joined(two.axes, self._inner(first, second))
        if joined is not None:
            self._merge(first, second, joined)

    def _wanted(self, producer: int, consumer: int) -> bool:
        """A contraction of the library's size is only a kernel on its own."""
        if self._is_walked(producer, consumer) or self._is_stored(producer):
            return False
        if self._has_tiles(self.home[producer]) or self._has_tiles(self.home[consumer]):
            return self._follows(producer, consumer)
        both = (producer, consumer)
        return all(self.ops[n].name != "diag.contract" or n in self.small for n in both)

    def _is_walked(self, producer: int, consumer: int) -> bool:
        """Whether an op makes rows that a product walks, piece by piece for every chunk."""
        op, result = self.ops[consumer], self.ops[producer].results[0]
        if WALKED not in op.attributes:
            return False
        products = [x for x in array_ops(op) if x.name == "diag.contract"]
        return any(result in list(product.operands) for product in products)

    def _is_stored(self, number: int) -> bool:
        """Whether some contraction reads an op as a matrix that had better be stored."""
        return any(is_stored_matrix(self.ops[number], self.ops[n]) for n in self.users[number])

    def _halves_vectors(self, first: int, second: int) -> bool:
        """Whether only one cluster is in f64, whose vectors the streams of the other would get."""
        one, two = (self.clusters[name].ops for name in (first, second))
        wide = [any(is_wide(self.ops[n]) for n in ops) for ops in (one, two)]
        streams = any(self.ops[n].name == "diag.stream" for n in (*one, *two))
        return streams and wide[0] != wide[1]

    def _has_tiles(self, name: int) -> bool:
        """Whether a cluster has a contraction in tiles."""
        return any(n in self.tiled for n in self.clusters[name].ops)

    def _follows(self, producer: int, consumer: int) -> bool:
        """Whether the consumer's cluster is maps, elements by elements, of what tiles make."""
        followers = self.clusters[self.home[consumer]].ops
        axes = set(diag.labels(self.ops[producer].results[0]))
        return self._has_tiles(self.home[producer]) and all(
            self.ops[n].name == "diag.map" and set(diag.labels(self.ops[n].results[0])) == axes
            for n in followers
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
        """Axes that broadcasting along all wires from `first` to `second` adds at the inner end."""
        inner: set[str] = set()
        for consumer in self._members(second):
            for producer, value in self.producers[consumer]:
                if first in self._homes(producer):
                    inner |= inner_axes(value, self.ops[consumer])
        return frozenset(inner)

    def _homes(self, number: int) -> set[int]:
        """The clusters that compute an op."""
        return self.copies.get(number, {self.home[number]})

    def _members(self, name: int) -> list[int]:
        """The ops of a cluster, with its own copies of cheap ones, in program order."""
        copies = [number for number, homes in self.copies.items() if name in homes]
        return sorted(self.clusters[name].ops + copies)

    def _merge(self, first: int, second: int, axes: ClusterAxes) -> None:
        one, two = self.clusters[first], self.clusters.pop(second)
        bits = 1 << first | 1 << second
        one.ops, one.axes = sorted(one.ops + two.ops), axes
        one.depends = (one.depends | two.depends) & ~bits
        for number in two.ops:
            self.home[number] = first
        for homes in self.copies.values():
            if second in homes:
                homes -= {second}
                homes |= {first}
        for cluster in self.clusters.values():
            if cluster is not one and cluster.depends & bits:
                cluster.depends = (cluster.depends & ~bits) | 1 << first | one.depends

    def merge_siblings(self) -> None:
        """Merge kernels that read one wire along the same axes, so that it is read once."""
        readers: dict[ir.Value, list[int]] = {}
        for number, op in enumerate(self.ops):
            for value in used_values(op):
                readers.setdefault(value, []).append(number)
        for value, numbers in readers.items():
            for one, two in pairwise(numbers):
                self._try_merge_siblings(value, one, two)

    def _try_merge_siblings(self, value: ir.Value, one: int, two: int) -> None:
        first, second = self.home[one], self.home[two]
        axes = self.clusters[first].axes, self.clusters[second].axes
        if first == second or axes[0] is None or axes[1] is None:
            return
        if self._has_tiles(first) or self._has_tiles(second):
            return
        if not axes[0].shares(axes[1], value) or self._depend(first, second):
            return
        joined = axes[0].joined(axes[1], frozenset())
        if joined is not None:
            self._merge(first, second, joined)

    def _depend(self, first: int, second: int) -> bool:
        one, two = self.clusters[first].depends, self.clusters[second].depends
        return bool(one >> second & 1 or two >> first & 1)

    # ---- recomputation -------------------------------------------------------------------------

    def shared_cheap(self) -> set[int]:
        """Cheap maps with several readers, and those that only such maps read."""
        found: set[int] = set()
        for number in reversed(range(len(self.ops))):
            users = self.users[number]
            if is_cheap(self.ops[number]) and (len(users) > 1 or users & found):
                found.add(number)
        return found

    def recompute(self, cheap: set[int]) -> None:
        """Copy cheap maps into every cluster that reads them, when nothing else does."""
        for number in sorted(cheap, reverse=True):
            self._try_copy(number)

    def _try_copy(self, number: int) -> None:
        """Give every cluster that reads op `number` its own copy, if all of them can have one."""
        own = self.home[number]
        readers = {home for user in self.users[number] for home in self._homes(user)}
        if number in self.returned or own in readers or len(self._members(own)) > 1:
            return
        if any(map(self._has_tiles, readers)) or self._is_stored(number):
            return
        merged: dict[int, ClusterAxes] = {}
        for reader in readers:
            target = self.clusters[reader].axes
            inner = self._inner(own, reader)
            joined = target and target.joined(cluster_axes(self.ops[number]), inner)
            if joined is None:
                return
            merged[reader] = joined
        for reader, joined in merged.items():
            self.clusters[reader].axes = joined
            self.clusters[reader].depends |= self.clusters[own].depends
        self.copies[number] = readers
        del self.clusters[own]

    # ---- the answer ----------------------------------------------------------------------------

    def plan(self) -> KernelPlan:
        kernels = []
        for name, cluster in sorted(self.clusters.items(), key=lambda item: item[1].ops[0]):
            numbers = self._members(name)
            if cluster.axes is not None and self._is_kernel(numbers):
                kernels.append(tuple(numbers))
        return KernelPlan(tuple(self.ops), tuple(kernels))

    def _is_kernel(self, numbers: list[int]) -> bool:
        """Whether a cluster is more than one call of the library."""
        if self.options.library == "none" or len(numbers) > 1:
            return True
        op = self.ops[numbers[0]]
        if op.name == "diag.contract":
            return numbers[0] in self.tiled
        return library_operations(op) is None

    def products(self) -> set[int]:
        """Contractions whose cluster only adds maps to them: fusing saves less than it costs.

        Those that widen are spared: the library would copy what they read.
        """
        found: set[int] = set()
        for cluster in self.clusters.values():
            others = [n for n in cluster.ops if self.ops[n].name != "diag.map"]
            ops = [self.ops[n] for n in others if n not in self.tiled]
            if [op.name for op in ops] == ["diag.contract"] and not is_widening(ops[0]):
                found.update(others)
        return found


def plan_kernels(block: ir.Block, options: ClusterOptions | None = None) -> KernelPlan:
    """Say which ops of `block` form kernels."""
    ops = [op.operation for op in block.operations][:-1]
    options = options or ClusterOptions()
    contractions = [
        n for n, op in enumerate(ops) if op.name == "diag.contract" and not is_library(op)
    ]
    small = frozenset(n for n in contractions if is_small(ops[n]))
    tiled = frozenset(n for n in contractions if options.library == "tiled" and n not in small)
    tiled = frozenset(n for n in tiled if product_axes(ops[n]) is not None)
    streams = frozenset(n for n, op in enumerate(ops) if TILED in op.attributes)
    results = set(list(block.operations)[-1].operands)
    returned = frozenset(n for n, op in enumerate(ops) if results & set(op.results))
    planner = _planned(_Planner(ops, options, small, returned, tiled | streams))
    while options.library != "none" and (products := planner.products() & small):
        small -= products
        planner = _planned(_Planner(ops, options, small, returned, tiled | streams))
    for number in tiled:
        ops[number].attributes[TILED] = ir.UnitAttr.get()
    return planner.plan()


def _planned(planner: _Planner) -> _Planner:
    if not planner.options.single:
        cheap = planner.shared_cheap()
        planner.merge_all(cheap)
        planner.merge_siblings()
        planner.recompute(cheap)
        planner.merge_all()
    return planner
