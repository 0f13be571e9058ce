"""Which operands a matrix product takes from where: shared memory, or registers."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.targets.nvptx.tiles.contraction import Contraction
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Span
from diagc.targets.nvptx.tiles.layouts import Slot, Tile, slots
from diagc.targets.nvptx.tiles.memory import Memory
from diagc.targets.nvptx.tiles.operands import (
    RegisterRows,
    RowOperand,
    SharedColumns,
    SharedRows,
    WidenedColumns,
)
from diagc.targets.nvptx.tiles.plan import Product, Staged, is_one_row, read_wires, stage_of, trace
from diagc.targets.nvptx.tiles.ranges import is_widened
from diagc.targets.nvptx.tiles.shared_memory import SharedView
from diagc.targets.nvptx.tiles.shared_tile import staged_dtype

if TYPE_CHECKING:
    from diagc.targets.nvptx.tiles.regions import Region

__all__ = ["matrix_product"]


def matrix_product(region: "Region", product: Product) -> Contraction:
    """The product, not emitted yet."""
    if region.plan.walked is not None:
        return _WalkedProduct(region, product)
    return _Operands(region, product).contraction()


class _WalkedProduct(Contraction):
    """A product that walks the axis it sums over: a piece is copied while another is multiplied."""

    def __init__(self, region: "Region", product: Product) -> None:
        self.region, self.product = region, product
        self.frame, self.column = region.frame, product.column
        self._sums = {}

    def run(self, start: Callable[[Slot], ir.Value]) -> None:
        """Emit the loop over pieces."""
        frame, code, staging = self.frame, self.frame.code, self.region.staging
        places = list(slots(True, True, frame.blocks, frame.columns(self.column)))
        size, depth = frame.sizes[self.product.inner], frame.schedule.depth
        pieces, other = code.ceil_div(size, depth), staging.arena.stage

        def begin(number: Index, stage: Index) -> None:
            code.when(
                code.less(number, pieces),
                lambda: staging.start_piece(Span(code.mul(number, depth), depth, size), stage),
            )
            code.commit_copies()

        def piece(number: Index, carried: list[ir.Value]) -> list[ir.Value]:
            *sums, stage = carried
            code.wait_copies(0)
            code.barrier()
            following = code.sub(other, stage)
            begin(code.add(number, 1), following)
            staging.stage = stage
            frame.spans[self.product.inner] = Span(code.mul(number, depth), depth, size)
            found = _Operands(self.region, self.product).contraction()
            found.run(dict(zip(places, sums, strict=True)).__getitem__)
            return [*map(found.element, places), code.index(following)]

        code.barrier()  # the last chunk's pieces have been read
        begin(0, 0)
        carried = [*map(start, places), code.index(0)]
        *sums, _stage = code.loop(0, pieces, 1, carried, piece)
        for slot, value in zip(places, sums, strict=True):
            self._sums.setdefault((slot.block, slot.column), []).append(value)


class _Operands:
    """Chooses the operands of one product."""

    def __init__(self, region: "Region", product: Product) -> None:
        self.region, self.product = region, product
        self.frame, self.plan, self.staging = region.frame, region.plan, region.staging
        columns = region.places[product.columns]
        assert isinstance(columns, Memory), "the plan refuses computed columns"
        self.columns = columns
        self.dtype = staged_dtype(columns.dtype)
        self.kind = "tf32" if self.dtype == "f32" else self.dtype
        self.depth = self.frame.spans[product.inner].extent

    def contraction(self) -> Contraction:
        """With operands of f32, k is paired unless both stand in shared memory along k."""
        staged = stage_of(self.plan, self.product.columns)
        assert staged is not None, "the plan stages all columns"
        by_columns = self._inner_label(staged, self.product.columns) == self.product.inner
        paired = not (by_columns and self._rows_along_inner())
        parts = self._parts(self.dtype)
        columns = SharedColumns(
            self.frame, self.staging.view(staged), by_columns, parts, paired=paired
        )
        if is_widened(self.product):
            return self._widened(columns)
        steps = self.depth // (8 if self.kind == "tf32" else 16)
        rows = self._rows(paired=paired)
        return Contraction(self.frame, rows, columns, self.product.column, steps, self.kind)

    def _widened(self, columns: SharedColumns) -> Contraction:
        """In tf32, of which both operands have the digits and f32's range."""
        tile = self._masked(self.region.tile(self.product.rows))
        rows = RegisterRows(self.frame, tile, "tf32")
        wide = WidenedColumns(columns, self.dtype)
        return Contraction(self.frame, rows, wide, self.product.column, self.depth // 8, "tf32")

    # -- rows ------------------------------------------------------------------------------------
    def _rows(self, *, paired: bool) -> RowOperand:
        rows = self.product.rows
        place = self.region.places[rows]
        staged = stage_of(self.plan, rows)
        if self._fits(place) and staged is not None:
            assert isinstance(place, Memory)
            by_rows = self._inner_label(staged, rows) == self.product.inner
            parts = self._parts(staged_dtype(place.dtype))
            return SharedRows(self.frame, self.staging.view(staged), by_rows, parts, paired)
        staged = self._rewritten()
        if staged is not None:
            view = self._rewrite(staged)
            return SharedRows(self.frame, view, True, self._parts(self._dtype), paired)
        tile = self._masked(self._row_tile(rows))
        exact = isinstance(place, Memory) and place.dtype != "f32"
        parts = 1 if exact else self._parts("f32")
        return RegisterRows(self.frame, tile, self.kind, parts, exact)

    def _row_tile(self, rows: ir.Value) -> Tile:
        """Rows in registers; an argument that is one row is read in front of the stream."""
        place = self.region.places[rows]
        if isinstance(place, Memory) and is_one_row(self.plan, rows):
            return place.fixed_tile()
        if isinstance(place, Memory) and self.product.op.parent.operation.name != "diag.stream":
            return self.region.nested().tile(rows)  # read anew, rather than kept between products
        return self.region.tile(rows)

    def _rewrite(self, staged: Staged) -> SharedView:
        """Map the rows in shared memory; in parts where all that has columns is what is mapped."""
        rows, inner = self.product.rows, self.product.inner
        op = rows.owner.operation
        source = next(wire for wire in read_wires(op) if stage_of(self.plan, wire) == staged)
        memory = self.region.places[source]
        assert isinstance(memory, Memory), "what is staged is an argument"
        others = [wire for wire in read_wires(op) if wire != source]
        alone = not any(inner in diag.labels(wire) for wire in others)

        def mapped(tile: Tile) -> Tile:
            region = self.region.nested()
            region.places[source] = tile
            return self._masked(region.map(op))

        return self.staging.rewrite(staged, memory, inner, mapped, in_parts=alone)

    @property
    def _dtype(self) -> str:
        return "f32" if self.kind == "tf32" else self.kind

    def _fits(self, place: object) -> bool:
        """Whether rows are an argument whose elements the product can take as they are."""
        return isinstance(place, Memory) and staged_dtype(place.dtype) == self._dtype

    def _rows_along_inner(self) -> bool:
        """Whether rows are read from shared memory where they stand along k."""
        rows = self.product.rows
        if rows in self.plan.rewritten:
            return self._rewritten() is not None
        staged = stage_of(self.plan, rows)
        if staged is None or not self._fits(self.region.places[rows]):
            return False
        return self._inner_label(staged, rows) == self.product.inner

    def _rewritten(self) -> Staged | None:
        """Where rows that stay while a stream runs, and are too many for registers, are put.

        It is the place of what they are made of, in shared memory.
        """
        staged = self.plan.rewritten.get(self.product.rows)
        words = self.depth // 16 * 4 * self.frame.blocks
        if staged is None or (self.kind != "tf32" and words <= self.frame.schedule.resident):
            return None
        dtype = self.staging.memories[staged.argument].dtype
        along = staged.lines == self.frame.row
        return staged if dtype == self._dtype and along else None

    def _masked(self, tile: Tile) -> Tile:
        """Rows that are 0 where positions of the summed axis do not exist.

        The columns are 0 there, too, but 0 times infinity is not.
        """
        frame, inner = self.frame, self.product.inner
        if frame.spans[inner].whole or tile.words is not None:
            return tile

        def make(slot: Slot) -> ir.Value:
            exists = frame.exists(inner, slot)
            value = tile.at(slot)
            if exists is None:
                return value
            return arith.select(exists, value, frame.code.scalar(value.type, 0.0))

        return Tile(frame.code, tile.rows, tile.column, tile.element, make)

    # -- both ------------------------------------------------------------------------------------
    def _parts(self, dtype: str) -> int:
        """Numbers of 16 bits are numbers of tf32; products of f32 by f32 may be rounded to it."""
        operands = (self.product.rows, self.product.columns)
        both = all(str(diag.element_type(operand)) == "f32" for operand in operands)
        rounds = both and self.frame.schedule.tf32
        return 2 if dtype == "f32" and not rounds else 1

    def _inner_label(self, staged: Staged, value: ir.Value) -> str:
        """The label of a value that goes along the lines of its tile."""
        found = trace(value)
        assert found is not None, "what is staged is an argument"
        return next(label for label, old in found[1].items() if old == staged.inner)
