"""How a kernel is laid out over blocks and threads: chosen by rule from its axes and wires."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.kernels.kernel_axes import KernelAxes, analyze_kernel
from diagc.runtime.factors import Factor
from diagc.targets.nvptx.threads.code import ACCESS_BYTES, WARP, memory_bytes
from diagc.targets.nvptx.threads.parts import Part
from diagc.targets.nvptx.threads.splits import shared_stream

__all__ = ["SimtSchedule", "choose_schedule"]

THREADS = 128
"""Threads of a block, at least."""

MOST_THREADS = 1024
RESIDENT, PRODUCT_RESIDENT = 512, 256
"""Threads on a multiprocessor, without and with contractions: 128 and 255 registers for each. With
64 bytes in flight for each of 512 threads memory is kept busy."""

MOST_HELD = 32
"""Positions of a domain that one thread holds, so that they stay in registers."""

VECTORS = 2
"""Vectors that one thread loads of each array of a kernel of maps: enough are then in flight."""

CHUNK = 64
"""Positions of a streamed axis at a time, where contractions read them one by one."""

ROW_THREADS = 256
"""Threads that walk along one row of a stream without contractions."""

ENOUGH_THREADS, MOST_PARTS = 1 << 16, 128
"""With fewer threads than this a stream is shared, by no more than so many blocks."""

FEW_TILES = 8
"""What a tiled axis of open size counts for."""

LONG = ("math.sin", "math.cos", "math.tan", "math.powf", "math.fpowi", "math.atan2", "arith.remf")
"""Functions of hundreds of instructions: side by side for 16 positions LLVM takes 10 s for them."""

LARGEST_UNROLLED = 8
WIDEST = 8


@dataclass(frozen=True)
class SimtSchedule:
    """A block is `rows` groups of `group` threads.

    Args:
        group: threads that share one position of every grid axis; a power of two.
        rows: groups of a block; each has a position of its own of the axis `row`.
        row: that axis, a common one; None where a block has one group.
        grid: the other common axes, each with one position for each block.
        tile: a common axis that a group works on `tile_extent` positions of, or None.
        tile_extent: positions of the tile.
        chunks: positions of each streamed axis at a time.
        unrolled: short local axes that every thread holds whole.
        vector: widest vector, in elements, along `inner`; 1 for none.
        inner: the axis that vectors run along.
        blocks_per_sm: blocks that share a multiprocessor; a thread's registers are limited so.
        parts: blocks that share a stream, where there are few others.
    """

    group: int
    rows: int
    row: str | None
    grid: tuple[str, ...]
    tile: str | None
    tile_extent: int
    chunks: tuple[tuple[str, int], ...]
    unrolled: frozenset[str]
    vector: int
    inner: str | None
    blocks_per_sm: int
    parts: int = 1

    @property
    def blocks(self) -> tuple[Factor, ...]:
        """Blocks of one part, as a product; the last factor goes fastest."""
        factors: list[Factor] = list(self.grid)
        if self.row is not None:
            factors.append((self.row, self.rows))
        if self.tile is not None:
            factors.append((self.tile, self.tile_extent))
        return tuple(factors)

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.group * self.rows


def choose_schedule(kernel: ir.Operation, part: Part) -> SimtSchedule:
    """Choose by rule.

    - The axis that most bytes are contiguous along is dealt out to threads: where it is common it
      is cut into tiles, where it is local each group works on all of it.
    - A group has as many threads as its largest domain has vectors, up to a warp, and more only
      where a thread would hold too much.
    - Blocks get groups until they have enough threads, along the common axis with the most room.
    """
    found = analyze_kernel(kernel)
    local = tuple(label for label in found.local if label not in part.common)
    axes = replace(found, common=part.common, local=local)
    wires = [value for value in _wires(kernel) if value in part.needed]
    inner = _inner_axis(wires)
    vector = 1 if axes.contractions or inner is None else _vector(wires, inner)
    is_long = any(op.name in LONG for op in diag.walk_ops(kernel.regions[0]))
    vector = min(vector, 2) if is_long else vector
    tile = inner if inner in axes.common else None
    unrolled = _unrolled(axes, wires)
    row_stream = bool(axes.streamed) and not axes.contractions and inner in axes.streamed
    group = _group(kernel, part, axes, unrolled, vector, inner, tile, row_stream=row_stream)
    free = tuple(label for label in axes.common if label != tile)
    row = _row_axis(axes, free) if group < THREADS else None
    if row is None:
        group = max(group, ROW_THREADS if tile is None else WARP)
    chunks = tuple(
        (axis, group * vector * VECTORS if row_stream and axis == inner else CHUNK)
        for axis in axes.streamed
    )
    rows = THREADS // group if row is not None else 1
    resident = PRODUCT_RESIDENT if axes.contractions else RESIDENT
    depth = 1 if axes.reduced or axes.streamed or axes.contractions else VECTORS
    if is_long or (tile is not None and 0 < axes.size(tile) <= group * vector):
        depth = 1  # no positions that do not exist, nor long code again and again
    schedule = SimtSchedule(
        group=group,
        rows=rows,
        row=row,
        grid=tuple(label for label in free if label != row),
        tile=tile,
        tile_extent=0 if tile is None else group * vector * depth,
        chunks=chunks,
        unrolled=unrolled,
        vector=vector,
        inner=inner,
        blocks_per_sm=max(1, resident // (group * rows)),
    )
    if shared_stream(kernel, part) is None:
        return schedule
    return replace(schedule, parts=_parts(schedule, dict(axes.sizes)))


def _parts(schedule: SimtSchedule, sizes: Mapping[str, int]) -> int:
    """Blocks that share a stream: none where an axis of open size gives enough blocks already."""
    others = (*schedule.grid, *filter(None, [schedule.row]))
    if any(sizes[label] == diag.DYNAMIC for label in others):
        return 1
    blocks = max(1, prod(sizes[label] for label in others) // schedule.rows)
    if schedule.tile is not None:
        size = sizes[schedule.tile]
        blocks *= FEW_TILES if size == diag.DYNAMIC else -(-size // schedule.tile_extent)
    return max(1, min(MOST_PARTS, ENOUGH_THREADS // (schedule.threads * blocks)))


def _wires(kernel: ir.Operation) -> list[ir.Value]:
    block = diag.function_body(kernel)
    return [*block.arguments, *list(block.operations)[-1].operands]


def _inner_axis(wires: Sequence[ir.Value]) -> str | None:
    """The axis that most bytes are contiguous along, judged by the ranks of arrays."""
    votes: dict[str, int] = {}
    for value in wires:
        labels = diag.labels(value)
        if labels:
            votes[labels[-1]] = votes.get(labels[-1], 0) + len(labels)
    return max(votes, key=lambda label: votes[label]) if votes else None


def _vector(wires: Sequence[ir.Value], inner: str) -> int:
    """Elements of the widest access that the narrowest array along the axis takes."""
    found = [memory_bytes(diag.element_type(v)) for v in wires if diag.labels(v)[-1:] == (inner,)]
    return min(WIDEST, ACCESS_BYTES // min(found))


def _unrolled(axes: KernelAxes, wires: Sequence[ir.Value]) -> frozenset[str]:
    """Short axes inside a block along which nothing is contiguous or reduced."""
    last = {diag.labels(value)[-1] for value in wires if diag.labels(value)}
    found: list[str] = []
    sizes = dict(axes.sizes)
    for label in axes.local:
        fits = 0 < sizes[label] * prod(sizes[x] for x in found) <= LARGEST_UNROLLED
        if label not in (*last, *axes.reduced, *axes.streamed) and fits:
            found.append(label)
    return frozenset(found)


def _group(
    kernel: ir.Operation,
    part: Part,
    axes: KernelAxes,
    unrolled: frozenset[str],
    vector: int,
    inner: str | None,
    tile: str | None,
    *,
    row_stream: bool,
) -> int:
    if row_stream:
        return ROW_THREADS
    domains = _domains(kernel, part, axes, unrolled)
    largest = max(domains, default=1)
    group = WARP
    if tile is None and not axes.contractions and not axes.streamed:
        width = vector if inner is not None and axes.size(inner) % vector == 0 else 1
        group = min(WARP, _power_of_two(largest // width))
    if tile is not None and axes.size(tile) != diag.DYNAMIC and not axes.contractions:
        vectors = -(-axes.size(tile) // vector)
        group = min(WARP, 1 << (vectors - 1).bit_length()) if vectors > 0 else WARP
    held = prod(dict(axes.sizes)[label] for label in unrolled)
    most = MOST_HELD // 2 if axes.contractions else MOST_HELD
    while group < MOST_THREADS and largest * held > group * most:
        group *= 2
    return group


def _domains(
    kernel: ir.Operation, part: Part, axes: KernelAxes, unrolled: frozenset[str]
) -> list[int]:
    """Positions of the domains that are dealt out: what folds make and fold, and the results."""
    sizes = dict(axes.sizes)
    outside = {*axes.common, *unrolled}
    found: list[int] = []
    for value in _held_values(kernel, outside):
        if value not in part.needed:
            continue
        local = [label for label in diag.labels(value) if label not in outside]
        extents = [CHUNK if x in axes.streamed else sizes.get(x, 1) for x in local]
        found.append(prod(max(extent, 1) for extent in extents))
    return found


def _held_values(kernel: ir.Operation, outside: set[str]) -> list[ir.Value]:
    found = list(list(diag.function_body(kernel).operations)[-1].operands)
    for op in diag.walk_ops(kernel.regions[0]):
        if op.name in ("diag.reduce", "diag.contract"):
            found += op.results
            if set(diag.labels(op.results[0])) <= outside:
                found += op.operands
    return found


def _power_of_two(number: int) -> int:
    """The largest power of two up to a number, at least 1."""
    return 1 << max(number, 1).bit_length() - 1


def _row_axis(axes: KernelAxes, free: Iterable[str]) -> str | None:
    """The common axis with the most positions, open ones before others, the last of equals."""

    def room(label: str) -> tuple[bool, int]:
        size = axes.size(label)
        return size == diag.DYNAMIC, size

    found = [label for label in free if axes.size(label) != 1]
    return max(reversed(found), key=room) if found else None
