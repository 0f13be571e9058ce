"""What a kernel moves: its arguments as they are read, its results, and what streams skip."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from math import ceil, prod
from typing import TypeAlias

from diagc.algebra.bound_values import bound_value
from diagc.cost.ops import Sizes, element_bytes, open_size
from diagc.cost.residency import Lifetimes, lifetimes, root_of
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["Access", "Accesses", "stream_axis", "visited_fraction"]

MOST_TILES = 4096
"""Tiles whose bounds are looked at one by one; of more, evenly spaced ones."""


Read: TypeAlias = tuple[ir.Value, tuple[str, ...], tuple[ir.Operation, ...], bool]
"""An argument, its labels at the reader, streams that bring it, whether a stream's body reads."""


@dataclass(frozen=True)
class Access:
    """An array between main memory and the kernel.

    Args:
        dims: labels and sizes as the op that reads it names them.
        element: bytes.
        streams: those that bring it chunk by chunk, the outermost first; empty for an array that
            is held whole.
        written: a result.
        again: whether a stream reads it for each of its chunks, besides those that bring it.
    """

    dims: Mapping[str, int]
    element: int
    streams: tuple[ir.Operation, ...] = ()
    written: bool = False
    again: bool = False

    @property
    def total(self) -> int:
        """Bytes of the whole array."""
        return prod(self.dims.values()) * self.element


@dataclass(frozen=True)
class Accesses:
    """All accesses of a kernel, at sizes that are known or taken for known."""

    kernel: ir.Operation
    sizes: Sizes
    _visited: dict[tuple[object, ...], float] = field(default_factory=dict, compare=False)

    @cached_property
    def items(self) -> tuple[Access, ...]:
        """Every argument once for each stream that brings it, results once.

        Streams with a condition (results that are worked out again where precision was lost) run
        rarely; they are left out. An array that is read under two names of an axis that no result
        has is there for both readers.
        """
        block = diag.function_body(self.kernel)
        reads = list(self._reads(block, ()))
        (*_, end) = block.operations
        outer = {label for value in end.operands for label in diag.labels(value)}
        names: dict[tuple[object, ...], tuple[str, ...]] = {}
        found: dict[tuple[ir.Value, tuple[str, ...], tuple[ir.Operation, ...]], None] = {}
        for value, labels, streams, _ in reads:
            alike = (value, *(x if x in outer else "" for x in labels))
            first = labels if streams else names.setdefault(alike, labels)
            found[value, first, streams] = None
        fixed = {value for value, _, streams in found if not streams}
        again = {value for value, _, streams, inside in reads if inside and not streams}
        kept = [
            self._access(value, labels, streams, again=value in again)
            for value, labels, streams in found
            if not streams or value not in fixed
        ]
        written = [self._access(value, diag.labels(value), (), True) for value in end.operands]
        return (*kept, *written)

    @cached_property
    def extents(self) -> dict[str, int]:
        """Size of every axis of any access."""
        found: dict[str, int] = {}
        for access in self.items:
            found |= access.dims
        return found

    @cached_property
    def lifetimes(self) -> Lifetimes:
        """When each array is held."""
        return lifetimes(self.kernel)

    @cached_property
    def all_sizes(self) -> dict[str, int]:
        """Of every axis: of what is accessed, or only counted (positions of a mask) or known."""
        block = diag.function_body(self.kernel)
        dims = diag.join_dims(map(diag.dims, block.arguments))
        counted = {label: open_size(label, size, self.sizes) for label, size in dims.items()}
        return {**counted, **self.extents, **self.sizes}

    def visited(self, stream: ir.Operation, groups: Mapping[str, int], chunk: int) -> float:
        """`visited_fraction` of one of the kernel's streams, remembered."""
        if "diag.bound_axes" not in stream.attributes:
            return 1.0
        axes = diag.strings(stream.attributes["diag.bound_axes"])
        key = stream, chunk, *(groups.get(axis) for axis in axes)
        if key not in self._visited:
            self._visited[key] = visited_fraction(stream, groups, chunk, self.all_sizes)
        return self._visited[key]

    def steps(self, groups: Mapping[str, int], chunks: Mapping[str, int]) -> float:
        """Chunks that a task works through: of all streams, what their bounds leave on average."""
        streams = {stream for access in self.items for stream in access.streams}
        found = 0.0
        for stream in streams:
            axis = stream_axis(stream)
            size = self.all_sizes.get(axis, 1)
            chunk = chunks.get(axis, size)
            found += ceil(size / max(chunk, 1)) * self.visited(stream, groups, chunk)
        return found

    def _access(
        self,
        value: ir.Value,
        labels: Sequence[str],
        streams: tuple[ir.Operation, ...],
        written: bool = False,
        *,
        again: bool = False,
    ) -> Access:
        own = diag.dims(value)
        known = [open_size(label, size, self.sizes) for label, size in own.items()]
        both = zip(labels, own.values(), known, strict=True)
        dims = {
            label: self.sizes.get(label, size) if declared == diag.DYNAMIC else size
            for label, declared, size in both
        }
        return Access(dims, element_bytes(diag.element_type(value)), streams, written, again)

    def _reads(self, block: ir.Block, around: tuple[ir.Operation, ...]) -> Iterator[Read]:
        """The reads of arguments in a block inside of the streams `around`."""
        for view in block.operations:
            op = view.operation
            if op.name == "diag.stream":
                if not len(op.operands):
                    yield from self._stream_reads(op, around)
                continue
            inner = [child for region in op.regions for child in diag.walk_ops(region)]
            streams = around if op.name == "diag.chunk" else ()
            for value in (value for reader in (op, *inner) for value in reader.operands):
                if diag.is_wire(value.type) and self._is_argument(root_of(value)):
                    yield *self._named(value), streams, bool(around)
                elif diag.is_wire(value.type) and around:
                    yield from self._mapped(root_of(value))

    def _mapped(self, value: ir.Value) -> Iterator[Read]:
        """Arguments of a map before all streams that makes what a stream reads: a scale."""
        owner = value.owner
        if isinstance(owner, ir.Block) or owner.parent.operation != self.kernel.operation:
            return
        if owner.name == "diag.map":
            for child in diag.walk_ops(owner.regions[0]):
                for read in child.operands:
                    if diag.is_wire(read.type) and self._is_argument(root_of(read)):
                        yield *self._named(read), (), True

    def _stream_reads(self, op: ir.Operation, around: tuple[ir.Operation, ...]) -> Iterator[Read]:
        init, body, _, tail = op.regions
        yield from self._reads(init.blocks[0], around)
        yield from self._reads(body.blocks[0], (*around, op))
        yield from self._reads(tail.blocks[0], around)

    def _named(self, value: ir.Value) -> tuple[ir.Value, tuple[str, ...]]:
        """An argument with the labels of the reader; a window onto one keeps its own."""
        root = root_of(value)
        renamed = list(diag.dims(value).values()) == list(diag.dims(root).values())
        return root, diag.labels(value if renamed else root)

    def _is_argument(self, value: ir.Value) -> bool:
        owner = value.owner
        return isinstance(owner, ir.Block) and owner == diag.function_body(self.kernel)


def stream_axis(stream: ir.Operation) -> str:
    """The axis of a `diag.stream`."""
    return str(ir.StringAttr(stream.attributes["axis"]).value)


class _Numbers:
    """Arithmetic of plain numbers, for bounds."""

    def add(self, a: int, b: int) -> int:
        return a + b

    def mul(self, a: int, b: int) -> int:
        return a * b


def visited_fraction(
    stream: ir.Operation, groups: Mapping[str, int], chunk: int, sizes: Mapping[str, int]
) -> float:
    """The share of a stream's positions that tasks visit, for its `diag.upper` and `diag.lower`.

    Args:
        stream: the op.
        groups: positions of one task, by axis; those of other axes are all in one task.
        chunk: positions at a time: whole chunks are visited.
        sizes: of all axes.
    """
    if "diag.bound_axes" not in stream.attributes:
        return 1.0
    size = sizes[stream_axis(stream)]
    axes = diag.strings(stream.attributes["diag.bound_axes"])
    steps = [min(groups.get(axis, sizes[axis]), sizes[axis]) for axis in axes]
    counts = [ceil(sizes[axis] / step) for axis, step in zip(axes, steps, strict=True)]
    stride = max(1, prod(counts) // MOST_TILES)
    visited = tiles = 0
    for number, at in enumerate(product(*map(range, counts))):
        if number % stride:
            continue
        first = [index * step for index, step in zip(at, steps, strict=True)]
        last = [
            min(base + step, sizes[axis]) - 1
            for base, step, axis in zip(first, steps, axes, strict=True)
        ]
        visited += _visited(stream, first, last, chunk, size, sizes)
        tiles += 1
    return visited / (tiles * size)


def _visited(
    stream: ir.Operation,
    first: Sequence[int],
    last: Sequence[int],
    chunk: int,
    size: int,
    sizes: Mapping[str, int],
) -> int:
    """Positions that one task visits; both bounds grow with every position."""
    high = min(size, max(0, _bound(stream, "diag.upper", last, sizes, size)))
    low = min(high, max(0, _bound(stream, "diag.lower", first, sizes, 0)))
    return min(size, ceil(high / chunk) * chunk) - low // chunk * chunk


def _bound(
    stream: ir.Operation, name: str, at: Sequence[int], sizes: Mapping[str, int], fallback: int
) -> int:
    if name not in stream.attributes:
        return fallback
    symbols: list[int] = []
    if "diag.bound_sizes" in stream.attributes:
        symbols = [sizes[label] for label in diag.strings(stream.attributes["diag.bound_sizes"])]
    expr = ir.AffineMapAttr(stream.attributes[name]).value.results[0]
    found = bound_value(_Numbers(), expr, at, symbols)
    assert isinstance(found, int), "a form of numbers is a number"
    return found
