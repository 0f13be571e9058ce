"""Tiles in shared memory as the consumers see them: waits for copies, releases, descriptors."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial

from diagc.mlir import arith, ir, llvm
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame, Span
from diagc.targets.nvptx.tiles.instructions import Code
from diagc.targets.nvptx.tiles.layouts import Tile
from diagc.targets.nvptx.tiles.memory import Memory
from diagc.targets.nvptx.tiles.plan import Staged, trace
from diagc.targets.nvptx.tiles.reads import find_reads
from diagc.targets.nvptx.tiles.shared_memory import SharedView
from diagc.targets.nvptx.tiles.staging import Staging
from diagc.targets.nvptx.warpgroups.arena import BulkArena, PanelTile
from diagc.targets.nvptx.warpgroups.fit import column_tile, streamed_rows
from diagc.targets.nvptx.warpgroups.instructions import WARPGROUP, WarpgroupCode
from diagc.targets.nvptx.warpgroups.turning import Turning
from diagc.targets.nvptx.warpgroups.turns import ProductTurns

__all__ = ["BulkStaging", "mbarrier_at", "next_stage", "walk_pieces"]

_GROUP_ROWS = 64


def mbarrier_at(code: WarpgroupCode, smem: ir.Value, first: int, stage: Index) -> ir.Value:
    """The mbarrier of a stage."""
    return code.address(code.address(smem, code.mul(stage, 8)), first)


def next_stage(code: Code, stage: Index, phase: Index, stages: int) -> tuple[ir.Value, ir.Value]:
    """Number of the next stage, and its parity, which changes with every round."""
    further = code.index(code.add(stage, 1))
    wraps = arith.cmpi(arith.CmpIPredicate.eq, further, code.index(stages))
    turned = code.index(code.bit_xor(phase, 1))
    return (
        arith.select(wraps, code.index(0), further),
        arith.select(wraps, turned, code.index(phase)),
    )


def walk_pieces(code: Code, frame: Frame, walked: str) -> Index:
    """How many pieces of an axis a product walks."""
    return code.ceil_div(frame.sizes[walked], frame.schedule.depth)


@dataclass(eq=False)
class BulkStaging(Staging):
    """Tiles that another warp fills; `stage` is the number of a stage, `phase` its parity."""

    phase: Index = 0
    ring: tuple[Index, Index] = (0, 0)
    """Stage and parity of the chunk that is read first; behind a stream, of the next one."""
    turns: ProductTurns | None = None
    """Of the groups, where they issue products in turns."""
    parity: Index = 0
    """Parity of the number of tiles that the block has had."""
    given: dict[ir.Value, list[ir.Value]] = field(default_factory=dict)
    """Sums of products of this chunk that were made in the one before it."""
    lagging: dict[ir.Value, list[ir.Value]] = field(default_factory=dict)
    """Products of this chunk that are made in the next one, and the words of their rows."""
    _ahead: list[tuple[Staged, Index, list[ir.Value]]] = field(default_factory=list)
    _viewed: set[Staged] = field(default_factory=set)
    _waited: set[Staged] = field(default_factory=set)
    _landed: set[Staged] = field(default_factory=set)
    _turned: set[Staged] = field(default_factory=set)
    _used: dict[Staged, int] = field(default_factory=dict)
    _bases: dict[tuple[PanelTile, bool], ir.Value] = field(default_factory=dict)

    @property
    def code(self) -> WarpgroupCode:
        """Emitter."""
        assert isinstance(self.frame.code, WarpgroupCode)
        return self.frame.code

    @property
    def places(self) -> BulkArena:
        """Where everything is."""
        assert isinstance(self.arena, BulkArena)
        return self.arena

    def panels(self, staged: Staged) -> PanelTile:
        """A tile."""
        tile = self.arena.tiles[staged]
        assert isinstance(tile, PanelTile)
        return tile

    def wait_fixed(self) -> None:
        """Before anything reads them: the tiles that stay are there."""
        if self._ready or not self.places.fixed:
            return
        self._ready = True
        with self.code.within(self.frame.scope):
            self.code.wait_mbarrier(self._mbarrier(self.places.fixed_mbarrier, 0), self.parity)

    @cached_property
    def releases_early(self) -> bool:
        """Whether tiles that stay are read by nothing behind the stream, nor become results."""
        return not self.places.is_shared and not find_reads(self.plan, (3,)).staged

    def release_fixed(self) -> None:
        """Nothing reads the tiles that stay any more: those of the next tile may come."""
        if self.places.fixed:
            self.wait_fixed()
            if self._viewed.intersection(self.places.fixed):
                self.code.fence_proxy()
            self.code.sync_warp()
            self._arrive_at(self.places.fixed_empty, 0)

    def view(self, staged: Staged) -> SharedView:
        """A tile of rows, ready to be read by the threads.

        Copies write there again, by another proxy: only a fence of it, no release, orders reads of
        threads before (PTX ISA, "proxy-preserved base causality order").
        """
        self._viewed.add(staged)
        if staged.streamed is None:
            return super().view(staged)
        self.wait_chunk(staged)
        tile = self.panels(staged)
        return SharedView(self.frame, tile, self.code.mul(self.stage, tile.stage_bytes))

    # -- chunks ----------------------------------------------------------------------------------
    def begin_chunk(self, stage: Index, phase: Index, there: Iterable[Staged] = ()) -> None:
        """Another chunk is read from now on; some of its tiles have been waited for."""
        self.stage, self.phase = stage, phase
        self._waited = set(there)
        self._used.clear()
        self._turned.clear()

    @contextmanager
    def elsewhere(self, stage: Index, phase: Index) -> Iterator[None]:
        """Another chunk for a while."""
        kept = self.stage, self.phase, self._waited
        self.stage, self.phase, self._waited = stage, phase, set()
        yield
        self.stage, self.phase, self._waited = kept

    def wait_chunk(self, staged: Staged) -> None:
        """Wait for a tile of the chunk, once."""
        if staged not in self._waited:
            self._waited.add(staged)
            self.code.wait_mbarrier(
                self._mbarrier(self.places.full(staged), self.stage), self.phase
            )

    def turn(self, staged: Staged) -> None:
        """Turn a tile of the chunk, once, where products want it so; see `turning`."""
        target = self.places.turned.get(staged)
        if target is None or staged in self._turned:
            return
        self._turned.add(staged)
        self.wait_chunk(staged)
        Turning(self.frame, self.panels(staged), target).run(self.stage)
        self.code.fence_proxy()
        self.code.barrier()

    # -- products that run ahead -----------------------------------------------------------------
    def add_ahead(self, staged: Staged, sums: list[ir.Value]) -> None:
        """A product of the next chunk is under way."""
        self._ahead.append((staged, self.stage, sums))

    def wait_products(self, sums: list[ir.Value]) -> list[ir.Value]:
        """Wait for all products; gives `sums`, and keeps those that run ahead for `take_ahead`."""
        flat = [value for *_, values in self._ahead for value in values]
        found = self.code.wait_products(0, [*sums, *flat])
        for number, (staged, stage, values) in enumerate(self._ahead):
            first = len(sums) + sum(len(x) for *_, x in self._ahead[:number])
            values[:] = found[first : first + len(values)]
            if staged not in self._landed:
                self._arrive(staged, stage)
                self._landed.add(staged)
        return found[: len(sums)]

    def take_ahead(self) -> list[ir.Value]:
        """The sums of the products that run ahead; waits if nothing has waited for them."""
        if any(staged not in self._landed for staged, *_ in self._ahead):
            self.wait_products([])
        found = [value for *_, values in self._ahead for value in values]
        self._ahead.clear()
        self._landed.clear()
        return found

    # -- stages ----------------------------------------------------------------------------------
    def release(self, staged: Staged) -> None:
        """A product has read a tile; after the last one it may be filled again."""
        self._used[staged] = self._used.get(staged, 0) + 1
        if self._used[staged] == self._wanted(staged):
            self.free(staged)

    def free(self, staged: Staged) -> None:
        """A tile of the chunk may be filled again."""
        self._arrive(staged, self.stage)

    def end_chunk(self) -> None:
        """Release what threads read, and what has not been read as often as it might have been."""
        rows = streamed_rows(self.plan)
        if self.plan.walked is not None:
            return  # the product has released its stages
        if rows:
            self.code.fence_proxy()
            self.code.sync_warp()
        for staged in self.places.streamed:
            if staged in rows or self._used.get(staged, 0) < self._wanted(staged):
                self.wait_chunk(staged)
                self.free(staged)
        self.given.clear()

    def release_all(self) -> None:
        """A product has read all tiles of a stage, and nothing else reads them."""
        for staged in self.places.streamed:
            self._arrive(staged, self.stage)

    def _wanted(self, staged: Staged) -> int:
        """How many products of a chunk's body read a tile of columns."""
        products = self.plan.products.items()
        return sum(
            column_tile(self.plan, product) == staged
            and value not in self.given
            and value not in self.lagging
            for value, product in products
        )

    def _arrive(self, staged: Staged, stage: Index) -> None:
        """By one lane of every warp: each knows that its own products are over."""
        self._arrive_at(self.places.empty(staged), stage)

    def _arrive_at(self, first: int, stage: Index) -> None:
        place = self._mbarrier(first, stage)
        first = arith.cmpi(
            arith.CmpIPredicate.eq, self.code.index(self.frame.lane), self.code.index(0)
        )
        self.code.when(first, partial(self.code.arrive, place))

    def _mbarrier(self, first: int, stage: Index) -> ir.Value:
        return mbarrier_at(self.code, self.frame.smem, first, stage)

    # -- operands of products --------------------------------------------------------------------
    def descriptor(self, staged: Staged, *, along: bool) -> ir.Value:
        """Of a tile of columns in the stage that is read; `along`: lines go along k."""
        return self._staged_descriptor(self.panels(staged), along=along)

    def turned_descriptor(self, staged: Staged) -> ir.Value:
        """Of a turned tile, whose lines go along k."""
        return self._staged_descriptor(self.places.turned[staged], along=True)

    def _staged_descriptor(self, tile: PanelTile, *, along: bool) -> ir.Value:
        if (tile, along) not in self._bases:
            with self.code.within(self.frame.scope):
                leading = tile.pitch if along else tile.panel
                base = self.code.descriptor(self._address(tile.offset), leading, tile.pitch)
                self._bases[tile, along] = base
        return self.code.moved(
            self._bases[tile, along], self.code.mul(self.stage, tile.stage_bytes)
        )

    def rows_descriptor(self, staged: Staged) -> ir.Value:
        """Of the warpgroup's 64 lines of a tile of rows, in the stage that is read."""
        code, tile = self.code, self.panels(staged)
        key = tile, True
        if key not in self._bases:
            with code.within(self.frame.scope):
                group = code.div(code.uniform(self.frame.warp), WARPGROUP // 32)
                first = code.add(code.mul(group, _GROUP_ROWS * tile.pitch), tile.offset)
                self._bases[key] = code.descriptor(self._address(first), tile.pitch, tile.pitch)
        if staged.streamed is None:
            return self._bases[key]
        return code.moved(self._bases[key], code.mul(self.stage, tile.stage_bytes))

    def _address(self, offset: Index) -> ir.Value:
        base = llvm.PtrToIntOp(self.code.i32, self.frame.smem).result
        return self.code.index(self.code.add(base, offset))

    def inner_label(self, staged: Staged, value: ir.Value) -> str:
        """The label of a value that goes along the lines of its tile."""
        found = trace(value)
        assert found is not None, "what is staged is an argument"
        return next(label for label, old in found[1].items() if old == staged.inner)

    # -- rows that are mapped --------------------------------------------------------------------
    def rewrite(
        self,
        staged: Staged,
        memory: Memory,
        column: str,
        mapped: Callable[[Tile], Tile],
        *,
        in_parts: bool,
    ) -> SharedView:
        """As on tiles, panel by panel; then all warps' products may read what was written."""
        view = super().view(staged)  # what is read here is fenced here
        if staged in self._rewritten:
            return view
        self._rewritten.add(staged)
        code, frame, tile = self.code, self.frame, self.panels(staged)
        span, extent = frame.spans[column], tile.pitch // tile.element_bytes

        def panel(number: Index, _carried: list[ir.Value]) -> list[ir.Value]:
            frame.spans[column] = Span(code.mul(number, extent), extent, span.size, True)
            here = SharedView(frame, tile, code.mul(number, tile.panel))
            self._replace(
                here, mapped(self._elements(here, code.scope, memory, column)), memory.dtype
            )
            return []

        with code.within(frame.scope):
            code.loop(0, tile.panels, 1, [], panel)
            code.fence_proxy()
            code.barrier()
        frame.spans[column] = span
        return view
