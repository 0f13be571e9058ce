"""The warp that copies: boxes by tensor maps, as soon as the consumers have released a stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from diagc.mlir import ir
from diagc.targets.nvptx.tiles.bounds import chunk_bounds
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.plan import Plan, Staged
from diagc.targets.nvptx.tiles.splitting import part_bounds
from diagc.targets.nvptx.warpgroups.arena import BulkArena, PanelTile, packed_boxes
from diagc.targets.nvptx.warpgroups.instructions import WarpgroupCode
from diagc.targets.nvptx.warpgroups.staging import mbarrier_at, next_stage, walk_pieces

__all__ = ["Producer", "init_mbarriers"]


def init_mbarriers(code: WarpgroupCode, arena: BulkArena, smem: ir.Value, warps: int) -> None:
    """By one thread: copies arrive once, every warp of the consumers releases a stage."""
    code.init_mbarrier(mbarrier_at(code, smem, arena.fixed_mbarrier, 0), 1)
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
        part: number of the part of the stream that the block visits; None for all of it.
    """

    frame: Frame
    plan: Plan
    arena: BulkArena
    tensor_maps: Mapping[Staged, ir.Value]
    part: Index | None = None

    @property
    def code(self) -> WarpgroupCode:
        """Emitter."""
        assert isinstance(self.frame.code, WarpgroupCode)
        return self.frame.code

    def run(self) -> None:
        """Copy the tiles that stay, then chunk by chunk."""
        self._fixed()
        (op,) = self.plan.streams()
        (axis,) = self.plan.streamed
        bounds = chunk_bounds(self.frame, op, axis)
        if self.part is not None:
            bounds = part_bounds(self.frame, bounds, self.part)
        code = self.code

        def step(number: Index, carried: list[ir.Value]) -> Sequence[ir.Value]:
            position = code.mul(number, self.frame.schedule.chunk)
            if self.plan.walked is None:
                return self._copies(position, 0, carried)
            pieces = walk_pieces(code, self.frame, self.plan.walked)
            depth = self.frame.schedule.depth
            return code.loop(
                0, pieces, 1, carried, lambda x, y: self._copies(position, code.mul(x, depth), y)
            )

        # a fresh mbarrier passes for the phase before its first: all stages are free
        code.loop(bounds.first, bounds.last, 1, [code.index(0), code.index(1)], step)

    def _fixed(self) -> None:
        code, fixed = self.code, self.arena.fixed
        if not fixed:
            return
        full = mbarrier_at(code, self.frame.smem, self.arena.fixed_mbarrier, 0)
        code.expect(full, sum(self._tile(staged).size for staged in fixed))
        for staged in fixed:
            self._boxes(staged, 0, 0, 0, full)

    def _copies(self, position: Index, piece: Index, carried: list[ir.Value]) -> list[ir.Value]:
        """Fill a stage: the chunk that begins at `position`, of a walked axis from `piece` on."""
        stage, phase = carried
        for staged in self.arena.streamed:
            self._chunk(staged, position, piece, stage, phase)
        return list(next_stage(self.code, stage, phase, self.arena.stages))

    def _chunk(
        self, staged: Staged, position: Index, piece: Index, stage: Index, phase: Index
    ) -> None:
        code, smem = self.code, self.frame.smem
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
