"""H and M of every memory level, for a kernel that is cut into groups and streamed in chunks.

H_l is what crosses between a level and the faster ones, M_l the most that a level holds at once
(Abbott and Zardini, "FlashAttention on a Napkin", arXiv 2412.03317): a grouped axis multiplies the
transfers of what lacks it by the number of groups, a streamed axis is held chunk by chunk.

A level that fills by itself, a cache, also serves what one task has brought to the next ones, when
all that is touched in between fits: of the nested loops over groups and chunks those count for an
array that lacks their axis whose body touches more than the cache holds. A level that several tasks
share sees them as one task with larger groups.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, prod

from diagc.cost.accesses import Access, Accesses, stream_axis
from diagc.cost.device import Device, Level
from diagc.cost.ops import Sizes, value_bytes
from diagc.cost.traffic import Traffic
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["Decoration", "LevelUse", "level_uses", "transfers"]


@dataclass(frozen=True)
class Decoration:
    """How a diagram is cut.

    Args:
        groups: positions in one task of every axis that is shared out to tasks, the outer loops
            first.
        chunks: positions at a time of every streamed axis.
        concurrent: tasks that run at the same time on one unit.
        padded: positions, by axis, that are computed together, also beyond the end of the axis.
        tile_vectors: vectors of a CPU along the tile of its lanes, 0 without such a tile.
        tensor: whether products run on tensor cores, where there are some.
        parts: into how many tasks each one's stream is split.
        states: bytes that a part leaves for another launch, which joins them.
        summed: whether a launch of all units adds them before, so that one part is left.
        warps: of a task of a GPU, 0 where nothing is known of them.
        warpgroups: whether four warps multiply together.
        ahead: chunks that are on their way while one is worked on, 0 where nothing is known.
        counted: whether the number of tasks is known, and with it how well they fill the units.
        in_registers: positions, by grouped axis, that share what the fastest level gives to
            registers, such as the rows of a warp; empty where nothing is known.
        kept: bytes of an array that stay in the registers of such positions while a stream runs;
            larger ones are read again for every chunk.
    """

    groups: Mapping[str, int]
    chunks: Mapping[str, int]
    concurrent: int = 1
    padded: Mapping[str, int] = field(default_factory=dict)
    tile_vectors: int = 0
    tensor: bool = True
    parts: int = 1
    states: int = 0
    summed: bool = False
    warps: int = 0
    warpgroups: bool = False
    ahead: int = 0
    counted: bool = True
    in_registers: Mapping[str, int] = field(default_factory=dict)
    kept: int = 0


@dataclass(frozen=True)
class LevelUse:
    """What a kernel does to one level: H, bytes both ways, and M; None where sizes are open."""

    level: str
    traffic: Traffic
    held: int | None
    capacity: int

    @property
    def fits(self) -> bool:
        """Whether all that should be held at once has room."""
        return self.held is not None and self.held <= self.capacity


def level_uses(accesses: Accesses, decoration: Decoration, device: Device) -> tuple[LevelUse, ...]:
    """H and M of all levels.

    H of a level is what the level before it, with its size, does not hold; of the fastest level it
    is what registers do not hold, where the decoration says that.
    """
    moves = _Moves(accesses, decoration)
    units = device.units * decoration.concurrent
    found: list[LevelUse] = []
    inner: Level | None = None
    for level in device.levels:
        traffic = _to_registers(moves) if inner is None else _served(moves, inner, device, units)
        shared = _fused(moves, units) if level.shared_by == "device" else moves
        held = moves.all_arrays if level.name == "memory" else shared.held
        if held is not None and level.shared_by == "unit":
            held *= decoration.concurrent
        found.append(LevelUse(level.name, traffic, held, level.size))
        inner = level
    return tuple(found)


def transfers(
    kernel: ir.Operation,
    decoration: Decoration,
    sizes: Sizes | None = None,
    cache: int | None = None,
) -> Traffic:
    """H of the level behind one that holds a task.

    Args:
        kernel: the function.
        decoration: groups and chunks; every task begins with nothing.
        sizes: of open axes.
        cache: bytes of the level, if it keeps what tasks have brought.
    """
    return _Moves(Accesses(kernel, sizes or {}), decoration).traffic(cache)


def _to_registers(moves: "_Moves") -> Traffic:
    """What the fastest level gives to registers."""
    cut = moves.decoration
    if not cut.in_registers:
        return Traffic()
    groups = {**cut.groups, **cut.in_registers}
    once = _Moves(moves.accesses, replace(cut, groups=groups))
    steps = moves.accesses.steps(cut.groups, cut.chunks)
    return once.traffic(None) + once.read_again(max(steps - cut.parts, 0.0))


def _served(moves: "_Moves", inner: Level, device: Device, units: int) -> Traffic:
    """What goes past the level `inner`: a cache, or what each block of a GPU fills for itself."""
    if inner.shared_by == "device":
        fused = _fused(moves, units)
        return fused.traffic(inner.size)
    return moves.traffic(None if device.kind == "gpu" else inner.size)


def _fused(moves: "_Moves", tasks: int) -> "_Moves":
    """Tasks that run at the same time, seen as one: the inner loops' groups grow first."""
    groups = dict(moves.decoration.groups)
    left = tasks
    for axis in reversed(list(groups)):
        extent = max(1, moves.accesses.extents.get(axis, 1))  # an empty axis still has a task
        together = min(left, ceil(extent / groups[axis]))
        groups[axis] *= together
        left //= together
    fused = Decoration(groups, moves.decoration.chunks)
    return _Moves(moves.accesses, fused)


@dataclass(frozen=True)
class _Moves:
    """The accesses of a kernel under a decoration."""

    accesses: Accesses
    decoration: Decoration

    @cached_property
    def all_arrays(self) -> int:
        """Bytes of all arguments and results."""
        sizes = self.accesses.sizes
        block = diag.function_body(self.accesses.kernel)
        results = [access.total for access in self.accesses.items if access.written]
        return sum(results) + sum(value_bytes(value, sizes) for value in block.arguments)

    @cached_property
    def held(self) -> int | None:
        """M of one task."""
        return self._resident(arguments=True)

    @cached_property
    def between(self) -> int:
        """M of what is neither argument nor result."""
        return self._resident(arguments=False) or 0

    def _resident(self, *, arguments: bool) -> int | None:
        groups, chunks = self.decoration.groups, self.decoration.chunks
        sizes, lives = self.accesses.all_sizes, self.accesses.lifetimes
        return lives.held(groups, chunks, sizes, arguments=arguments)

    def traffic(self, cache: int | None) -> Traffic:
        """H behind a level that holds a task, and as a cache of this size more than that."""
        read = written = 0.0
        for access in self.accesses.items:
            moved = access.total * self._repeats(access, cache) * self._visited(access, cache)
            if cache is None and not access.streams and not access.written:
                moved *= self.decoration.parts
            if access.written:
                written += moved
            else:
                read += moved
        return Traffic(round(read), round(written))

    def read_again(self, times: float) -> Traffic:
        """What streams read so often besides: arrays that stay, but are too large for registers."""
        groups = self.decoration.groups
        found = 0.0
        for access in self.accesses.items:
            tile = prod(min(groups.get(x, n), n) for x, n in access.dims.items()) * access.element
            if access.again and not access.streams and tile > self.decoration.kept:
                found += access.total * self._repeats(access, None) * times
        return Traffic(round(found))

    # -- loops -----------------------------------------------------------------------------------
    def _group_loops(self) -> list[str]:
        """Axes of loops over tasks, the outermost first."""
        extents = self.accesses.extents
        return [
            axis for axis, step in self.decoration.groups.items() if extents.get(axis, 1) > step
        ]

    def _trips(self, axis: str, step: int) -> int:
        return ceil(self.accesses.extents[axis] / step)

    def _repeats(self, access: Access, cache: int | None) -> int:
        """How often an array is brought, for the loops whose axis it lacks."""
        loops, cut = self._group_loops(), set[str]()
        times = 1
        for axis in loops:
            cut.add(axis)
            if axis not in access.dims and not self._keeps(cache, cut, ()):
                times *= self._trips(axis, self.decoration.groups[axis])
        for number, stream in enumerate(access.streams):
            axis = stream_axis(stream)
            inside = access.streams[: number + 1]
            if axis not in access.dims and not self._keeps(cache, cut, inside):
                times *= self._trips(axis, self.decoration.chunks.get(axis, 1))
        return times

    def _keeps(self, cache: int | None, cut: set[str], streams: tuple[ir.Operation, ...]) -> bool:
        """Whether a cache holds all that the body of a loop touches."""
        return cache is not None and self._touched(frozenset(cut), streams) <= cache

    def _touched(self, cut: frozenset[str], streams: tuple[ir.Operation, ...]) -> int:
        """Bytes that are touched while the axes in `cut` stand still, within a chunk of streams."""
        steps = {axis: self.decoration.groups[axis] for axis in cut}
        for stream in streams:
            axis = stream_axis(stream)
            steps[axis] = self.decoration.chunks.get(axis, self.accesses.extents[axis])
        total = 0
        for access in self.accesses.items:
            sizes = (min(steps.get(label, size), size) for label, size in access.dims.items())
            total += prod(sizes) * access.element
        return total + self.between

    def _visited(self, access: Access, cache: int | None) -> float:
        """The share of a streamed array that tasks visit, where none of them finds it kept."""
        share = 1.0
        loops = set(self._group_loops())
        for stream in access.streams:
            if "diag.bound_axes" not in stream.attributes:
                continue
            axes = set(diag.strings(stream.attributes["diag.bound_axes"]))
            if cache is not None and not (axes & loops) - set(access.dims):
                continue
            if self._keeps(cache, loops, ()) and cache is not None:
                continue
            chunk = self.decoration.chunks.get(stream_axis(stream), 1)
            share *= self.accesses.visited(stream, self.decoration.groups, chunk)
        return share
