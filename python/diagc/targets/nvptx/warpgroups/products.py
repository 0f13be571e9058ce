"""A contraction of rows and columns as products of a warpgroup, with the waits that they need."""

from collections.abc import Callable
from dataclasses import dataclass, field

from diagc.mlir import arith, ir
from diagc.runtime.signature import DTYPES
from diagc.targets.nvptx.tiles.contraction import Contraction
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.layouts import Slot, Tile
from diagc.targets.nvptx.tiles.memory import Memory
from diagc.targets.nvptx.tiles.operands import RegisterRows, Words
from diagc.targets.nvptx.tiles.plan import Product, Staged, read_wires, stage_of
from diagc.targets.nvptx.tiles.regions import Region
from diagc.targets.nvptx.warpgroups.arena import PanelTile
from diagc.targets.nvptx.warpgroups.fit import column_tile, is_turned
from diagc.targets.nvptx.warpgroups.float8 import Float8Rows
from diagc.targets.nvptx.warpgroups.instructions import STEP_BYTES, WarpgroupCode
from diagc.targets.nvptx.warpgroups.staging import BulkStaging, next_stage, walk_pieces

__all__ = ["WarpgroupProduct", "lagging_product", "warpgroup_product"]


@dataclass(frozen=True)
class _SharedRows:
    """Rows in shared memory: all of a warpgroup's 64, lines go along k."""

    code: WarpgroupCode
    tile: PanelTile
    base: ir.Value

    def operand(self, step: int) -> Words:
        """The descriptor of a step."""
        return [self.code.moved(self.base, _place(self.tile, step, along=True))]


def _place(tile: PanelTile, step: int, *, along: bool) -> int:
    """Bytes from the beginning of a tile to a step of k, along the lines or across them."""
    if not along:
        return step * (STEP_BYTES // tile.element_bytes) * tile.pitch
    per_panel = tile.pitch // STEP_BYTES
    return step // per_panel * tile.panel + step % per_panel * STEP_BYTES


@dataclass(eq=False)
class WarpgroupProduct(Contraction):
    """A product; emitted once, when asked for, with the wait for its columns and for itself."""

    # rows, columns, steps and kind of the base class are those of mma, and not used
    product: Product = field(kw_only=True)
    staging: BulkStaging = field(kw_only=True)
    shared_rows: _SharedRows | None = field(kw_only=True)
    register_rows: RegisterRows | Float8Rows | None = field(kw_only=True)

    def run(self, start: Callable[[Slot], ir.Value]) -> None:
        """Emit all products, added to `start`; one that lags is emitted a chunk later.

        Those of scaled rows begin at 0, and are added when they are there.
        """
        if isinstance(self.register_rows, Float8Rows):
            self._run([])
            self.keep(
                [
                    arith.addf(start(slot), self.element(slot), fastmath=self.frame.code.contract)
                    for slot in self._slots()
                ]
            )
            return
        sums = [start(slot) for slot in self._slots()]
        if self.product.op.results[0] in self.staging.lagging:
            self.staging.lagging[self.product.op.results[0]] = self.words()
            self.keep(sums)
        else:
            self._run(sums)

    def element(self, slot: Slot) -> ir.Value:
        """The sum of a slot."""
        if not self._sums:
            self._run([])
        return super().element(slot)

    def issue_ahead(self) -> None:
        """Start it for the next chunk, without a wait."""
        staged = column_tile(self.staging.plan, self.product)
        self.staging.add_ahead(staged, self._start([]))

    def issue(self, sums: Words, words: Words) -> Words:
        """Start it with rows that were packed before; gives its sums, not there yet."""
        code, staged = self.staging.code, column_tile(self.staging.plan, self.product)
        self.staging.wait_chunk(staged)
        if is_turned(self.staging.plan, self.product):
            self.staging.turn(staged)
        sums, words = code.fence_products(sums, words)
        sums = self._issue(staged, sums, words)
        code.commit_products()
        return sums

    def _slots(self) -> list[Slot]:
        """In the order of the sums in registers."""
        groups = self.frame.columns(self.column)
        return [
            Slot(0, half, group, pair)
            for group in range(groups)
            for half in (0, 1)
            for pair in (0, 1)
        ]

    def _run(self, sums: Words) -> None:
        if self.staging.plan.walked is not None:
            self.keep(self._walk(sums))
            return
        staged = column_tile(self.staging.plan, self.product)
        sums = self.staging.wait_products(self._start(sums))
        self.staging.release(staged)
        rows = self.register_rows
        if isinstance(rows, Float8Rows):
            slots = self._slots()
            sums = [rows.unscaled(x, slot.half) for x, slot in zip(sums, slots, strict=True)]
        self.keep(sums)

    def keep(self, sums: Words) -> None:
        """These are the sums."""
        for number in range(0, len(sums), 4):
            self._sums[0, number // 4] = sums[number : number + 4]

    def _walk(self, sums: Words) -> Words:
        """All pieces of the summed axis, each in a stage of the rings of rows and columns."""
        staging, code = self.staging, self.staging.code
        rows = stage_of(staging.plan, self.product.rows)
        assert rows is not None, "rows that are walked are an argument"

        def piece(_number: Index, carried: list[ir.Value]) -> list[ir.Value]:
            *sums, stage, phase = carried
            staging.begin_chunk(stage, phase)
            staging.wait_chunk(rows)
            tile, base = staging.panels(rows), staging.rows_descriptor(rows)
            self.shared_rows = _SharedRows(code, tile, base)
            sums = staging.wait_products(self._start(sums))
            staging.release_all()
            return [*sums, *next_stage(code, stage, phase, staging.places.stages)]

        start = sums or [code.scalar(code.f32, 0.0)] * len(self._slots())
        carried = [*start, code.index(staging.stage), code.index(staging.phase)]
        pieces = walk_pieces(code, self.frame, self.product.inner)
        *found, staging.stage, staging.phase = code.loop(0, pieces, 1, carried, piece)
        return found

    def _start(self, sums: Words) -> Words:
        """Issue all steps, as a group."""
        return self.issue(sums, self.words())

    def words(self) -> Words:
        """Rows in registers, of all steps; packed before the fence."""
        if self.register_rows is None:
            return []
        steps = (self.register_rows.words(step, 0)[0] for step in range(self.steps))
        return [word for step in steps for word in step]

    def _issue(self, staged: Staged, sums: Words, words: Words) -> Words:
        code, tile = self.staging.code, self.staging.panels(staged)
        along = self.staging.inner_label(staged, self.product.columns) == self.product.inner
        if is_turned(self.staging.plan, self.product):
            tile, along = self.staging.places.turned[staged], True
            base = self.staging.turned_descriptor(staged)
        else:
            base = self.staging.descriptor(staged, along=along)
        columns = 8 * self.frame.columns(self.column)
        for step in range(self.steps):
            here = code.moved(base, _place(tile, step, along=along))
            rows = words[4 * step : 4 * step + 4]
            if self.shared_rows is not None:
                rows = self.shared_rows.operand(step)
            sums = code.multiply_async(self.kind, columns, sums, rows, here, by_k=not along)
        return sums


def warpgroup_product(region: Region, product: Product) -> Contraction:
    """The product, not emitted yet: rows from shared memory where they stand there."""
    staging, frame = region.staging, region.frame
    assert isinstance(staging, BulkStaging)
    dtype = staging.memories[column_tile(region.plan, product).argument].dtype
    walks = region.plan.walked is not None
    shared = None if walks else _shared_rows(region, staging, product, dtype)
    registers: RegisterRows | Float8Rows | None = None
    if shared is None and not walks:
        tile = _masked(frame, region.tile(product.rows), product.inner)
        registers = (
            Float8Rows(frame, tile, is_turned(region.plan, product))
            if dtype == "f8E4M3FN"
            else RegisterRows(frame, tile, dtype)
        )
    made = _product(region, product, shared, registers)
    given = staging.given.get(product.op.results[0])
    if given is not None:
        made.keep(given)
    return made


def lagging_product(region: Region, product: Product) -> WarpgroupProduct:
    """A product whose rows were packed in the chunk before."""
    return _product(region, product, None, None)


def _product(
    region: Region,
    product: Product,
    shared_rows: _SharedRows | None,
    register_rows: RegisterRows | Float8Rows | None,
) -> WarpgroupProduct:
    staging, frame = region.staging, region.frame
    assert isinstance(staging, BulkStaging)
    dtype = staging.memories[column_tile(region.plan, product).argument].dtype
    return WarpgroupProduct(
        *(frame, None, None),  # type: ignore[arg-type]
        column=product.column,
        steps=(frame.schedule.depth or frame.spans[product.inner].extent)
        * DTYPES[dtype]
        // STEP_BYTES,
        kind=dtype,
        product=product,
        staging=staging,
        shared_rows=shared_rows,
        register_rows=register_rows,
    )


def _shared_rows(
    region: Region, staging: BulkStaging, product: Product, dtype: str
) -> _SharedRows | None:
    """Rows that are an argument, or a map of one that takes its place."""
    rows = product.rows
    place = region.places[rows]
    if isinstance(place, Memory):
        staged = stage_of(region.plan, rows)
    else:
        staged = region.plan.rewritten.get(rows)
    if staged is None or staged.lines != region.plan.row:
        return None
    if staging.memories[staged.argument].dtype != dtype:
        return None
    if not isinstance(place, Memory):
        _rewrite(region, staging, product, staged)
    elif staged.streamed is None:
        staging.wait_fixed()
    else:
        staging.wait_chunk(staged)
    return _SharedRows(staging.code, staging.panels(staged), staging.rows_descriptor(staged))


def _rewrite(region: Region, staging: BulkStaging, product: Product, staged: Staged) -> None:
    """Map the rows in shared memory."""
    op = product.rows.owner.operation
    source = next(wire for wire in read_wires(op) if stage_of(region.plan, wire) == staged)
    memory = region.places[source]
    assert isinstance(memory, Memory), "what is staged is an argument"

    def mapped(tile: Tile) -> Tile:
        inner = region.nested()
        inner.places[source] = tile
        return _masked(region.frame, inner.map(op), product.inner)

    staging.rewrite(staged, memory, product.inner, mapped, in_parts=True)


def _masked(frame: Frame, tile: Tile, inner: str) -> Tile:
    """Rows that are 0 where positions of the summed axis do not exist; see `tiles.products`."""
    if frame.spans[inner].whole or tile.words is not None:
        return tile

    def make(slot: Slot) -> ir.Value:
        exists, value = frame.exists(inner, slot), tile.at(slot)
        if exists is None:
            return value
        return arith.select(exists, value, frame.code.scalar(value.type, 0.0))

    return Tile(frame.code, tile.rows, tile.column, tile.element, make)
