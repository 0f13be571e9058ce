"""What a schedule is: the decoration `diag.schedule` of a kernel, and the rules that choose it.

A task works on one position of every `grid` axis; in mode `lanes` on `lane_tile` positions of the
axis `lanes` as well, one for each vector lane. In mode `features` vectors run along each op's own
contiguous axis, and `lanes`, if there is one, is only cut into tiles. `rows` are small axes of
every result that stay inside the task, because what a stream reads is shared by them. Streamed
axes are worked on `chunk` positions at a time. In mode `tiles` a task makes `lane_tile` rows (the
axis `lanes`) by so many columns as `tiles` says of a product of matrices.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Any

from diagc.cost import Decoration, Device, element_bytes, value_bytes
from diagc.cost.registers import register_block
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.kernels.chunk_fit import fitting_chunks
from diagc.passes.kernels.kernel_axes import KernelAxes, analyze_kernel
from diagc.passes.kernels.tiled_products import (
    COLUMNS,
    DEPTH,
    ROWS,
    STRIP,
    TASKS,
    product_axes,
    streamed_axes,
    tiled_op,
    tiled_stream,
)

__all__ = [
    "SCHEDULE",
    "TILES",
    "Schedule",
    "alternatives",
    "choose_schedule",
    "decoration_of",
    "invariant_schedule",
    "is_uniform",
    "read_schedule",
    "schedule_from",
    "vector_of",
]

SCHEDULE = "diag.schedule"
"""Attribute of a kernel that holds its schedule."""

MODES = ("lanes", "features", "tiles")


@dataclass(frozen=True)
class Schedule:
    """How a kernel is cut into tasks; see the module."""

    mode: str
    grid: tuple[str, ...]
    lanes: str | None = None
    lane_tile: int = 0
    rows: tuple[str, ...] = ()
    chunk: tuple[tuple[str, int], ...] = ()
    tiles: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no target could read."""
        if self.mode not in MODES:
            raise ValueError(f"unknown mode '{self.mode}', expected one of {', '.join(MODES)}")
        if (self.lanes is not None) != (self.lane_tile > 0):
            raise ValueError("a grouped axis and its tile go together")
        if self.mode == "lanes" and self.lanes is None:
            raise ValueError("mode lanes needs a grouped axis")
        if self.lanes in self.grid or set(self.rows) & {*self.grid, self.lanes}:
            raise ValueError("grid, lanes and rows must be different axes")

    @property
    def axes(self) -> tuple[str, ...]:
        """Every axis that is named."""
        lanes = () if self.lanes is None else (self.lanes,)
        cut = (axis for axis, _ in (*self.tiles, *self.chunk))
        return (*self.grid, *lanes, *self.rows, *cut)

    def to_attr(self) -> ir.DictAttr:
        """The dictionary attribute; needs an ambient context."""
        i64 = ir.IntegerType.get_signless(64)
        entries: dict[str, ir.Attribute] = {"mode": ir.StringAttr.get(self.mode)}
        entries["grid"] = diag.string_array(self.grid)
        if self.lanes is not None:
            entries["lanes"] = ir.StringAttr.get(self.lanes)
            entries["lane_tile"] = ir.IntegerAttr.get(i64, self.lane_tile)
        if self.rows:
            entries["rows"] = diag.string_array(self.rows)
        for name, cut in (("chunk", self.chunk), ("tiles", self.tiles)):
            if cut:
                sizes = {label: ir.IntegerAttr.get(i64, size) for label, size in cut}
                entries[name] = ir.DictAttr.get(sizes)
        return ir.DictAttr.get(entries)

    def renamed(self, names: dict[str, str]) -> "Schedule":
        """The schedule under other labels, all of which `names` knows."""
        return Schedule(
            self.mode,
            tuple(names[label] for label in self.grid),
            None if self.lanes is None else names[self.lanes],
            self.lane_tile,
            tuple(names[label] for label in self.rows),
            tuple((names[label], size) for label, size in self.chunk),
            tuple((names[label], size) for label, size in self.tiles),
        )


def schedule_from(fields: Mapping[str, Any]) -> Schedule:
    """The schedule that was stored as a dictionary of its fields.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    return Schedule(
        str(fields["mode"]),
        tuple(map(str, fields["grid"])),
        fields["lanes"],
        int(fields["lane_tile"]),
        tuple(map(str, fields["rows"])),
        tuple((str(axis), int(size)) for axis, size in fields["chunk"]),
        tuple((str(axis), int(size)) for axis, size in fields.get("tiles", ())),
    )


def read_schedule(kernel: ir.Operation) -> Schedule | None:
    """The schedule that a kernel carries, or None."""
    if SCHEDULE not in kernel.attributes:
        return None
    entries = ir.DictAttr(kernel.attributes[SCHEDULE])
    return Schedule(
        ir.StringAttr(entries["mode"]).value,
        tuple(diag.strings(entries["grid"])),
        ir.StringAttr(entries["lanes"]).value if "lanes" in entries else None,
        ir.IntegerAttr(entries["lane_tile"]).value if "lane_tile" in entries else 0,
        tuple(diag.strings(entries["rows"])) if "rows" in entries else (),
        _cut_axes(entries, "chunk"),
        _cut_axes(entries, "tiles"),
    )


def _cut_axes(entries: ir.DictAttr, name: str) -> tuple[tuple[str, int], ...]:
    """Axes with the positions that are worked on at a time."""
    cut = ir.DictAttr(entries[name]) if name in entries else ()
    return tuple((named.name, ir.IntegerAttr(named.attr).value) for named in cut)


def decoration_of(schedule: Schedule, vector: int, registers: int) -> Decoration:
    """What the tasks of a schedule work on, for the cost model: lanes are computed in whole blocks.

    Tasks are numbered with tiles innermost, then the grid from its last axis on.

    Args:
        schedule: of the kernel.
        vector: elements of a vector.
        registers: for vectors.
    """
    groups = {**dict.fromkeys(schedule.grid, 1), **dict(schedule.tiles)}
    padded: dict[str, int] = {}
    vectors = ceil(schedule.lane_tile / vector) if schedule.mode == "lanes" else 0
    if schedule.lanes is not None:
        groups[schedule.lanes] = schedule.lane_tile
    if schedule.lanes is not None and vectors:
        padded[schedule.lanes] = register_block(vectors, registers)[0] * vector
    return Decoration(groups, dict(schedule.chunk), padded=padded, tile_vectors=vectors)


# ---- the first table ---------------------------------------------------------------------------

TILES = {32: (4, 3, 2, 1), 16: (12, 6, 3, 4, 2, 1)}
"""Vectors of the grouped axis a task works on, by the number of registers; the first by default.

The cost model chooses among them: by the block of registers that a tile makes and by the lanes of
the last block that stay empty (197 queries on AVX-512: tiles of 32). Measured: on AVX-512 14 shapes
were within 8 % of each other (tiles of 32 to 64, chunks of 32 to 256); with 16 registers three
vectors go with four accumulators each (2048 positions, d = 64, AVX2: 178 ms, with four or eight
vectors 221 ms), and four such blocks share what a chunk brings into the caches (1024 positions, 12
heads that lie beside each other in each row, AVX2: 40.5 ms with 12 vectors, 41.5 with 6, 43.7 with
3; as dense heads 39.2, 39.6 and 39.5)."""

CHUNK = 64

ROW_TILES = ((4, 1.0), (3, 1.02), (2, 1.05), (1, 1.25))
"""Blocks of rows of a tile, with the time per row relative to the best."""

ROW_BLOCK = 16
"""Tiles of rows are one to four of these: 64 rows of 64 features and a matrix fill a first-level
cache (applying Gram states on AVX2: 7.5 ms with 64 rows, 7.8 with 48, 8.7 with 96)."""

OFTEN = 32
"""Uses of each streamed element from which on a chunk is worked on long after it was read."""

NEAR_VECTORS = {32: 4, 16: 6}
"""Vectors of a chunk whose elements are used less often, by the number of registers: the rows of a
register block (4, or 3) lie a block's share of the chunk apart, which are pages, and a chunk of all
operands stays in the second-level cache (decoding 32 heads on 8 key heads, d = 128, on AVX2, as C:
0.89 ms with chunks of 24, 0.86 with 48, 0.83 with 96; shorter rows are slower with 96)."""

ROW_CHUNK = 1024
"""Of streams that only walk along rows: lanes are combined once a chunk (exp-sums of rows of 1000:
0.115 ms with chunks of 64, 0.080 with 256, 0.074 with 1024)."""

INVARIANT_TILE = 64
"""Columns of a product that a task works on where nothing is chosen by size."""

LEAST_TASKS = 8
"""With fewer tasks than this, what one task works on is cut further."""

MOST_ROWS = 32
"""Positions of row axes that one task keeps, all with their own state."""

LONGEST_ROW = 4096
"""Elements of a contiguous axis that one task works through; longer ones are cut."""

ROW_VECTORS = 16
"""Vectors of a long contiguous axis a task works on: 1 KiB in f32 on AVX-512."""


def choose_schedule(kernel: ir.Operation, device: Device) -> Schedule:
    """Choose by rule, with tiles of the usual size.

    Lanes over a broadcast axis, else over a contiguous one, else features:

    - With contractions, `lanes` is a common axis of more positions than a vector has that some
      operand lacks, so that this operand is broadcast from where it lies. (Decoding 32 heads of
      2048 keys, d = 128, with 8, 16, 32 heads a key head: lanes 0.67, 0.49, 0.38 ms; features with
      these heads as rows 0.44, 0.41, 0.41 ms.)
      Without a stream this axis is only cut into tiles and vectors run along features: nothing is
      transposed then (applying Gram states, d = 64, AVX-512: 5.3 ms against 8.0 ms).
    - Without, a common axis that is contiguous in memory is cut into tiles of lanes when it is
      open or long, and stays inside the task otherwise. It is also cut in a kernel of maps over one
      set of axes: where memory is dense, a target runs all axes as one.
    - Else rows are reduced along their own contiguous axis.
    """
    product, stream = tiled_op(kernel), tiled_stream(kernel)
    if product is not None:
        return _in_tiles(product, device)
    if stream is not None:
        found = streamed_axes(stream)
        schedule = Schedule("tiles", found.others, found.rows, ROWS)
        sums, columns = (found.summed, CHUNK), (found.columns, COLUMNS)
        return replace(schedule, chunk=(sums,), tiles=(columns,))
    axes = analyze_kernel(kernel)
    chunk = tuple((axis, CHUNK) for axis in axes.streamed)
    vector = vector_of(kernel, device)
    grouped = _broadcast_axis(axes, vector)
    if grouped is not None:
        tile = TILES[device.registers][0] * vector
        schedule = _with_lanes(axes, grouped, tile, chunk)
        if _streams(kernel):
            tasks = {**dict.fromkeys(schedule.grid, 1), grouped: tile}
            return replace(schedule, chunk=fitting_chunks(kernel, tasks, chunk, device))
        rows = _row_tile(axes.size(grouped))
        return replace(schedule, mode="features", lane_tile=rows)
    if axes.contractions:
        near = _reuse(axes) < OFTEN
        size = NEAR_VECTORS[device.registers] * vector if near else CHUNK
        return _features(axes, tuple((axis, size) for axis in axes.streamed))
    inner = _contiguous_axis(kernel, axes)
    if inner is None:
        return _features(axes, tuple((axis, _row_chunk(axes)) for axis in axes.streamed))
    if _is_cut(axes, inner, vector) or is_uniform(kernel):
        tile = TILES[device.registers][0] * vector
        size = ROW_VECTORS * vector if _is_pointwise(axes) else tile
        return _with_lanes(axes, inner, size, chunk)
    return Schedule("features", tuple(a for a in axes.common if a != inner), chunk=chunk)


def invariant_schedule(kernel: ir.Operation, device: Device) -> Schedule:
    """The schedule by which every row is summed in the same order, however many rows there are.

    Lanes along rows would add up other parts than vectors along features do, which a single row
    needs. So all sums have vectors along features, and chunks of one size; and the contiguous axis
    of a product is never shared out position by position, for then vectors would run along the sum.
    """
    axes = analyze_kernel(kernel)
    if not (axes.contractions or axes.reduced or axes.streamed):
        return choose_schedule(kernel, device)
    schedule = _features(axes, tuple((axis, CHUNK) for axis in axes.streamed))
    columns = axes.results[0][-1] if axes.results[0] else None
    if columns in axes.common and axes.contractions:
        grid, rows = (tuple(x for x in s if x != columns) for s in (schedule.grid, schedule.rows))
        schedule = replace(schedule, grid=grid, rows=rows)
        if not axes.streamed:
            schedule = replace(schedule, lanes=columns, lane_tile=INVARIANT_TILE)
    return schedule


def _in_tiles(product: ir.Operation, device: Device) -> Schedule:
    """Tiles of the result of a marked contraction, whose summed axis is walked in pieces."""
    axes = product_axes(product)
    assert axes is not None
    dims = diag.dims(product.results[0])
    parts = {**dict.fromkeys(axes.others, 1), axes.rows: ROWS, axes.columns: COLUMNS}
    tasks = prod(ceil(dims[label] / size) for label, size in parts.items())
    few = diag.DYNAMIC not in dims.values() and tasks < TASKS * device.units
    chunk, tiles = ((axes.summed, DEPTH),), ((axes.columns, COLUMNS),)
    rows = STRIP if few else ROWS
    return Schedule("tiles", axes.others, axes.rows, rows, chunk=chunk, tiles=tiles)


def _reuse(axes: KernelAxes) -> int:
    """How often a contraction uses each element of an operand that a stream reads, at least."""
    streamed = set(axes.streamed)
    uses = [
        prod(CHUNK if axes.size(x) == diag.DYNAMIC else axes.size(x) for x in lacks)
        for contraction in axes.contractions
        for lacks in (contraction.lhs_lacks, contraction.rhs_lacks)
        if streamed & {*contraction.over, *contraction.result} and not streamed & set(lacks)
    ]
    return min(uses, default=CHUNK)


def _row_chunk(axes: KernelAxes) -> int:
    """The longer chunk, where a task has no other axis that would multiply it."""
    others = set(dict(axes.sizes)) - {*axes.common, *axes.streamed}
    return CHUNK if others else ROW_CHUNK


def _streams(kernel: ir.Operation) -> bool:
    """Whether a stream always runs: one with a condition is a fall-back that hardly ever does."""
    ops = diag.walk_ops(kernel.regions[0])
    return any(op.name == "diag.stream" and not len(op.operands) for op in ops)


def vector_of(kernel: ir.Operation, device: Device) -> int:
    """Elements of a vector of the widest type that a kernel computes in."""
    return device.lanes(_widest_element(kernel))


def alternatives(kernel: ir.Operation, device: Device) -> Iterator[Schedule]:
    """Schedules of other modes that the kernel may have too, with tiles and chunks as usual."""
    axes = analyze_kernel(kernel)
    chunk = tuple((axis, CHUNK) for axis in axes.streamed)
    yield _features(axes, chunk)
    grouped = _broadcast_axis(axes, vector_of(kernel, device))
    if grouped is not None:
        tile = TILES[device.registers][0] * vector_of(kernel, device)
        yield _with_lanes(axes, grouped, tile, chunk)


def _row_tile(size: int) -> int:
    """Rows per task: the tile that wastes least of an axis of this size."""
    if size == diag.DYNAMIC:
        return ROW_TILES[0][0] * ROW_BLOCK

    def time(tile: tuple[int, float]) -> float:
        return ceil(size / (tile[0] * ROW_BLOCK)) * tile[0] * tile[1]

    return min(ROW_TILES, key=time)[0] * ROW_BLOCK


def _with_lanes(
    axes: KernelAxes, lanes: str, tile: int, chunk: tuple[tuple[str, int], ...]
) -> Schedule:
    grid = tuple(label for label in axes.common if label != lanes)
    return Schedule("lanes", grid, lanes, tile, chunk=chunk)


def _features(axes: KernelAxes, chunk: tuple[tuple[str, int], ...]) -> Schedule:
    """Vectors along features; small axes that share what is streamed stay inside the task."""
    shared = [label for label in axes.common if _is_broadcast(axes, label) and axes.size(label) > 1]
    rows: list[str] = []
    for label in reversed(shared):
        sizes = [axes.size(row) for row in (*rows, label)]
        if diag.DYNAMIC not in sizes and prod(sizes) <= MOST_ROWS:
            rows.insert(0, label)
    grid = tuple(label for label in axes.common if label not in rows)
    return Schedule("features", grid, rows=tuple(rows), chunk=chunk)


def _is_broadcast(axes: KernelAxes, label: str) -> bool:
    return any(label in contraction.broadcast for contraction in axes.contractions)


def _broadcast_axis(axes: KernelAxes, vector: int) -> str | None:
    """The axis for lanes: common, not short, lacked by an operand; open axes before long ones."""
    found = [
        label
        for label in axes.common
        if _is_broadcast(axes, label)
        and (axes.size(label) == diag.DYNAMIC or axes.size(label) > vector)
    ]
    if not found:
        return None
    return max(reversed(found), key=lambda label: (axes.size(label) < 0, axes.size(label)))


def is_uniform(kernel: ir.Operation) -> bool:
    """Whether a kernel is maps only, and every wire has the same axes in the same order."""
    block = diag.function_body(kernel)
    ops = [op.operation for op in block.operations]
    wires = {diag.labels(value) for value in (*block.arguments, *ops[-1].operands)}
    plain = all(op.name in ("diag.map", "arith.constant", "diag.constant") for op in ops[:-1])
    return plain and len(wires) == 1 and bool(*wires)


def _contiguous_axis(kernel: ir.Operation, axes: KernelAxes) -> str | None:
    """The common axis that most bytes are contiguous along, or None when that axis is local."""
    block = diag.function_body(kernel)
    votes: dict[str, int] = {}
    for value in (*block.arguments, *list(block.operations)[-1].operands):
        labels = diag.labels(value)
        if labels:
            votes[labels[-1]] = votes.get(labels[-1], 0) + value_bytes(value)
    if not votes:
        return None
    inner = max(votes, key=lambda label: votes[label])
    return inner if inner in axes.common else None


def _is_pointwise(axes: KernelAxes) -> bool:
    return not axes.reduced and not axes.streamed


def _is_cut(axes: KernelAxes, inner: str, vector: int) -> bool:
    """Whether a contiguous axis is cut into tiles: open, long, or all that can be shared out."""
    size = axes.size(inner)
    if size == diag.DYNAMIC or not _is_pointwise(axes):
        return size == diag.DYNAMIC or size > vector
    others = [axes.size(label) for label in axes.common if label != inner]
    alone = diag.DYNAMIC not in others and prod(others) < LEAST_TASKS
    return size > (LONGEST_ROW // LEAST_TASKS if alone else LONGEST_ROW)


def _widest_element(kernel: ir.Operation) -> int:
    """Bytes of the type that vectors are computed in: 8 when anything is f64, else 4."""
    types = [diag.element_type(v) for v in diag.function_body(kernel).arguments]
    widths = [element_bytes(type_) for type_ in types if diag.is_float(type_)]
    return max([4, *widths])
