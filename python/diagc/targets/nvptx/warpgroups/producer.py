"""The warp that copies: boxes by tensor maps, as soon as the consumers have released a stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import product

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.targets.nvptx.tiles.bounds import Bounds, chunk_bounds, narrowed
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.memory import Memory
from diagc.targets.nvptx.tiles.plan import Plan, Staged, trace
from diagc.targets.nvptx.tiles.reductions import combine, over_lanes
from diagc.targets.nvptx.tiles.splitting import part_bounds
from diagc.targets.nvptx.warpgroups.arena import BulkArena, PanelTile, packed_boxes
from diagc.targets.nvptx.warpgroups.instructions import WarpgroupCode
from diagc.targets.nvptx.warpgroups.staging import mbarrier_at, next_stage, walk_pieces

__all__ = ["Producer", "init_mbarriers"]

_LANES = (1, 2, 4, 8, 16)


def init_mbarriers(
    code: WarpgroupCode, arena: BulkArena, smem: ir.Value, warps: int, *, stays: bool
) -> None:
    """By one thread: copies arrive once, every warp of the consumers releases a stage."""
    code.init_mbarrier(mbarrier_at(code, smem, arena.fixed_mbarrier, 0), 1)
    if stays:
        code.init_mbarrier(mbarrier_at(code, smem, arena.fixed_empty, 0), warps)
    for staged in arena.streamed:
        for stage in range(arena.stages):
            code.init_mbarrier(mbarrier_at(code, smem, arena.full(staged), stage), 1)
            code.init_mbarrier(mbarrier_at(code, smem, arena.empty(staged), stage), warps)
    code.fence_mbarriers()


@dataclass(frozen=True)
class Producer:
    """Writes what one thread does.

    Args:
        frame: where the block is.
        plan: of the kernel.
        arena: its shared memory.
        tensor_maps: of every staged argument.
        memories: of all wires.
        part: number of the part of the stream that the block visits; None for all of it.
    """

    frame: Frame
    plan: Plan
    arena: BulkArena
    tensor_maps: Mapping[Staged, ir.Value]
    memories: Sequence[Memory]
    part: Index | None = None

    @property
    def code(self) -> WarpgroupCode:
        """Emitter."""
        assert isinstance(self.frame.code, WarpgroupCode)
        return self.frame.code

    def bounds(self) -> Bounds:
        """The chunks that the block visits; where rows read them, by all lanes of the warp."""
        (op,), (axis,) = self.plan.streams(), self.plan.streamed
        bounds = chunk_bounds(self.frame, op, axis)
        bounds = narrowed(self.plan, self.frame, op, bounds, self._fold)
        return bounds if self.part is None else part_bounds(self.frame, bounds, self.part)

    def _fold(self, wire: ir.Value, kind: str) -> Index:
        """Of every 32nd row of the block a lane, then of the lanes."""
        found = trace(wire)
        assert found is not None, "only arguments are read"
        argument, names = found
        number = list(diag.function_body(self.plan.kernel).arguments).index(argument)
        memory = self.memories[number].renamed({y: x for x, y in names.items()})
        if not memory.local_labels:
            return memory.read(memory.base)
        steps = range(0, self.frame.schedule.rows, 32)
        read = (self._row(memory, self.code.add(self.frame.lane, step)) for step in steps)
        return over_lanes(self.frame, kind, reduce(partial(combine, kind), read), _LANES)

    def _row(self, memory: Memory, number: Index) -> ir.Value:
        """What a row of the block reads; the last one of the axis for those behind it."""
        code, frame, pointer = self.code, self.frame, memory.base
        for label in memory.local_labels:
            last = code.sub(frame.sizes[label], 1)
            position = code.min(frame.row_position(label, number), last)
            pointer = code.address(pointer, memory.offset(label, position))
        return memory.read(pointer)

    def run(self, bounds: Bounds, stage: Index, phase: Index, turn: Index) -> list[ir.Value]:
        """Copy the tiles that stay, then chunk by chunk; gives the next stage and its phase.

        Where blocks stay, the first tile of the first chunk comes before those that stay: its stage
        is free while the rows of the tile before are still read.

        Args:
            bounds: chunks.
            stage: that is filled first.
            phase: parity of the phase in which it was read last.
            turn: parity of the number of tiles that the block has had.
        """
        code, stays = self.code, self.frame.schedule.stays
        early = self.arena.streamed[0]
        if stays:
            some = code.less(bounds.first, bounds.last)
            code.when(some, lambda: self._chunk(early, bounds.first, stage, phase))
        self._fixed(turn)

        def step(number: Index, carried: list[ir.Value]) -> Sequence[ir.Value]:
            if self.plan.walked is not None:
                return self._pieces(number, carried)
            stage, phase = carried
            for staged in self.arena.streamed:
                copy = partial(self._chunk, staged, number, stage, phase)
                if stays and staged == early:
                    code.when(code.less(bounds.first, number), copy)
                else:
                    copy()
            return next_stage(code, stage, phase, self.arena.stages)

        carried = [code.index(x) for x in (stage, phase)]
        return code.loop(bounds.first, bounds.last, 1, carried, step)

    def _fixed(self, turn: Index) -> None:
        code, fixed = self.code, self.arena.fixed
        if not fixed:
            return
        if self.frame.schedule.stays:
            empty = mbarrier_at(code, self.frame.smem, self.arena.fixed_empty, 0)
            code.wait_mbarrier(empty, code.bit_xor(turn, 1))
        full = mbarrier_at(code, self.frame.smem, self.arena.fixed_mbarrier, 0)
        code.expect(full, sum(self._tile(staged).size for staged in fixed))
        for staged in fixed:
            self._boxes(staged, 0, 0, 0, full)

    def _pieces(self, number: Index, carried: list[ir.Value]) -> list[ir.Value]:
        """A stage for each piece of the axis that the product walks."""
        code, depth = self.code, self.frame.schedule.depth
        assert self.plan.walked is not None

        def piece(which: Index, ring: list[ir.Value]) -> Sequence[ir.Value]:
            stage, phase = ring
            for staged in self.arena.streamed:
                self._chunk(staged, number, stage, phase, code.mul(which, depth))
            return next_stage(code, stage, phase, self.arena.stages)

        return code.loop(0, walk_pieces(code, self.frame, self.plan.walked), 1, carried, piece)

    def _chunk(
        self, staged: Staged, number: Index, stage: Index, phase: Index, piece: Index = 0
    ) -> None:
        code, smem = self.code, self.frame.smem
        position = code.mul(number, self.frame.schedule.chunk)
        code.wait_mbarrier(mbarrier_at(code, smem, self.arena.empty(staged), stage), phase)
        full = mbarrier_at(code, smem, self.arena.full(staged), stage)
        code.expect(full, self._tile(staged).size)
        self._boxes(staged, position, piece, stage, full)

    def _boxes(
        self, staged: Staged, position: Index, piece: Index, stage: Index, full: ir.Value
    ) -> None:
        """One for each panel, of rows one for each packed position."""
        code, tile = self.code, self._tile(staged)
        place = code.address(self.frame.smem, code.mul(stage, tile.stage_bytes))
        for panel, packed in product(range(tile.panels), range(packed_boxes(self.plan, staged))):
            inner = panel * tile.pitch // tile.element_bytes
            at = [
                self._coordinate(staged, label, (position, piece), inner, packed)
                for label in self._labels(staged)
            ]
            line = packed * self.frame.schedule.row_extent
            target = code.address(place, tile.offset + panel * tile.panel + line * tile.pitch)
            code.copy_box(target, self.tensor_maps[staged], at, full)

    def _labels(self, staged: Staged) -> Sequence[str]:
        """Of the array, the innermost one first."""
        return tuple(reversed(self.plan.signature.args[staged.argument].labels))

    def _coordinate(
        self, staged: Staged, label: str, at: tuple[Index, Index], inner: int, packed: int
    ) -> Index:
        first: Index = inner if label == staged.inner else 0
        position, piece = at
        if label == self.plan.walked:
            return self.code.add(piece, first)
        if label == staged.streamed:
            return self.code.add(position, first)
        if label == self.plan.row:
            return self.frame.row_base
        if label == self.plan.tiled:
            return self.code.add(self.frame.spans[label].base, first)
        return packed if label == self.plan.packed else self.frame.grid.get(label, first)

    def _tile(self, staged: Staged) -> PanelTile:
        tile = self.arena.tiles[staged]
        assert isinstance(tile, PanelTile)
        return tile
