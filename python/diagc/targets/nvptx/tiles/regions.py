"""The ops of a region, one by one, as tiles; what a tile holds is emitted when it is asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import arith, ir
from diagc.targets.elementwise.scalars import compute_type
from diagc.targets.nvptx.tiles.contraction import Contraction
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.layouts import Slot, Tile
from diagc.targets.nvptx.tiles.maps import MapBody
from diagc.targets.nvptx.tiles.memory import Memory
from diagc.targets.nvptx.tiles.operands import (
    ColumnOperand,
    RegisterRows,
    RowOperand,
    SharedColumns,
    SharedRows,
)
from diagc.targets.nvptx.tiles.plan import Plan, Product, Staged, stage_of
from diagc.targets.nvptx.tiles.reductions import reduce_columns, reduce_rows
from diagc.targets.nvptx.tiles.scalars import Scalar, as_value
from diagc.targets.nvptx.tiles.staging import Staging

__all__ = ["Place", "Position", "Region"]


@dataclass(frozen=True)
class Position:
    """Positions along an axis."""

    label: str


Place: TypeAlias = Tile | Memory | Position

StreamLowering: TypeAlias = Callable[["Region", ir.Operation], list[Tile]]


@dataclass(eq=False)
class Region:
    """Lowers ops to tiles.

    Args:
        frame: of the block.
        plan: of the kernel.
        staging: its shared memory.
        lower_stream: gives the results of a stream.
        places: what values are.
    """

    frame: Frame
    plan: Plan
    staging: Staging
    lower_stream: StreamLowering
    places: dict[ir.Value, Place] = field(default_factory=dict)
    _contractions: dict[ir.Value, Contraction] = field(default_factory=dict)

    def nested(self) -> "Region":
        """A region inside this one: it sees all values, and makes its own."""
        copy = Region(self.frame, self.plan, self.staging, self.lower_stream, dict(self.places))
        copy._contractions = dict(self._contractions)
        return copy

    def run(self, block: ir.Block) -> list[ir.Value]:
        """Lower a block; gives what its yields or its return hand on."""
        handed: list[ir.Value] = []
        for view in block.operations:
            op = view.operation
            if op.name in ("diag.yield", "func.return"):
                handed += op.operands
            elif op.name == "diag.stream":
                tiles = self.lower_stream(self, op)
                self.places.update(zip(op.results, tiles, strict=True))
            elif op.name != "arith.constant":
                self.places[op.results[0]] = _RULES[op.name](self, op)
        return handed

    def tile(self, value: ir.Value) -> Tile:
        """A value as elements in registers."""
        place = self.places[value]
        if isinstance(place, Position):
            raise UnsupportedError("diag.index", reason="tiles: positions leave the kernel")
        if isinstance(place, Tile):
            return place
        found = self._from_memory(value, place)
        self.places[value] = found
        return found

    def _from_memory(self, value: ir.Value, memory: Memory) -> Tile:
        staged = stage_of(self.plan, value)
        if staged in self.plan.staged and staged.streamed is None and self._is_rows(memory):
            column = next(x for x in memory.local_labels if x != self.frame.row)
            return self.staging.rows_tile(staged, memory, column)
        return memory.tile()

    def _is_rows(self, memory: Memory) -> bool:
        return self.frame.row in memory.labels and len(memory.local_labels) == 2

    # -- maps ------------------------------------------------------------------------------------
    def map(self, op: ir.Operation) -> Tile:
        """An elementwise map, added to a product's sums where that is all it does."""
        result = op.results[0]
        element = compute_type(diag.element_type(result))
        labels = self.plan.local(result)
        columns = [label for label in labels if label != self.frame.row]
        rows, column = len(columns) < len(labels), columns[0] if columns else None
        body, code = MapBody(self.frame.code, op), self.frame.code
        if self.frame.keeps_all and "diag.keep" in op.attributes:
            return Tile(code, rows, column, element, lambda _: code.scalar(code.i1, 1), True)
        make = self._accumulated(body, result) if element == code.f32 else None

        def compute(slot: Slot) -> ir.Value:
            return as_value(code, element, body.emit(lambda wire: self.read(wire, slot)))

        return Tile(code, rows, column, element, make or compute)

    def read(self, wire: ir.Value, slot: Slot) -> Scalar:
        """The element of a wire at a slot."""
        place = self.places[wire]
        if isinstance(place, Position):
            return self.frame.position(place.label, slot)
        tile = self.tile(wire)
        return tile.at(slot) if tile.literal is None else tile.literal

    def _accumulated(self, body: MapBody, result: ir.Value) -> Callable[[Slot], ir.Value] | None:
        """For x + product: sums that begin with x. None where the body is something else."""
        terms = body.addends or ()
        for product, other in (terms, terms[::-1]) if terms else ():
            contraction = self._own_product(product, result)
            if contraction is not None:
                return lambda slot, c=contraction, o=other: self._sum(body, c, o, slot)
        return None

    def _own_product(self, term: ir.Value, result: ir.Value) -> Contraction | None:
        """The product that a term is an element of, if nothing else reads it."""
        owner = term.owner
        if isinstance(owner, ir.Block) or owner.operation.name != "diag.element":
            return None
        wire = owner.operation.operands[0]
        contraction = self._contractions.get(wire)
        alone = len(list(wire.uses)) == 1 and len(list(term.uses)) == 1
        same = set(diag.labels(wire)) == set(diag.labels(result))
        return contraction if alone and same else None

    def _sum(
        self, body: MapBody, contraction: Contraction, other: ir.Value, slot: Slot
    ) -> ir.Value:
        def start(at: Slot) -> ir.Value:
            scalar = body.evaluate(other, lambda wire: self.read(wire, at), {})
            return as_value(self.frame.code, self.frame.code.f32, scalar)

        if not contraction.is_emitted:
            contraction.run(start)
        return contraction.element(slot)

    # -- sums ------------------------------------------------------------------------------------
    def reduce(self, op: ir.Operation) -> Tile:
        """A reduction over columns, rows, or both."""
        kind = ir.StringAttr(op.attributes["kind"]).value
        over = diag.strings(op.attributes["over"])
        element = diag.element_type(op.operands[0])
        return self._reduced(kind, self.tile(op.operands[0]), over, element)

    def _reduced(self, kind: str, tile: Tile, over: list[str], element: ir.Type) -> Tile:
        if tile.column in over:
            tile = reduce_columns(self.frame, kind, tile, compute_type(element))
        if self.frame.row in over:
            tile = reduce_rows(self.frame, kind, tile, compute_type(element))
        return tile

    def contract(self, op: ir.Operation) -> Tile:
        """A matrix product, or a product of elements and a sum."""
        product = self.plan.products.get(op.results[0])
        if product is not None:
            contraction = self._matrix_product(product)
            self._contractions[op.results[0]] = contraction
            return contraction.tile()
        lhs, rhs = self.tile(op.operands[0]), self.tile(op.operands[1])
        code = self.frame.code
        column = lhs.column or rhs.column
        tile = Tile(
            code,
            lhs.rows or rhs.rows,
            column,
            code.f32,
            lambda slot: arith.mulf(lhs.at(slot), rhs.at(slot)),
        )
        return self._reduced("add", tile, diag.strings(op.attributes["over"]), code.f32)

    # -- products --------------------------------------------------------------------------------
    def _matrix_product(self, product: Product) -> Contraction:
        columns = self.places[product.columns]
        assert isinstance(columns, Memory), "the plan refuses computed columns"
        staged = stage_of(self.plan, product.columns)
        assert staged is not None
        kind = "tf32" if columns.dtype == "f32" else columns.dtype
        by_columns = self._inner_label(staged, product.columns) == product.inner
        natural = kind == "tf32" and by_columns and self._is_shared_rows(product, by_rows=True)
        parts = self._parts(columns.dtype)
        operand = SharedColumns(
            self.frame, self.staging.view(staged), by_columns, parts, paired=not natural
        )
        rows = self._row_operand(product, kind, paired=not natural)
        depth = self._extent(product.inner)
        return Contraction(
            self.frame,
            rows,
            operand,
            product.column,
            depth // (8 if kind == "tf32" else 16),
            kind,
        )

    def _row_operand(self, product: Product, kind: str, *, paired: bool) -> RowOperand:
        place = self.places[product.rows]
        if isinstance(place, Memory) and self._is_shared(product, kind):
            staged = stage_of(self.plan, product.rows)
            assert staged is not None
            by_rows = self._inner_label(staged, product.rows) == product.inner
            parts = self._parts(place.dtype)
            return SharedRows(self.frame, self.staging.view(staged), by_rows, parts, paired)
        rewritten = self._rewritten(product, kind, paired=paired)
        if rewritten is not None:
            return rewritten
        tile = self._masked(self.tile(product.rows), product.inner)
        return RegisterRows(self.frame, tile, kind, self._parts(str(tile.element)))

    def _rewritten(self, product: Product, kind: str, *, paired: bool) -> RowOperand | None:
        """Rows that stay while a stream runs and are too many for registers: in shared memory, in
        the place of what they are made of."""
        staged = self.plan.rewritten.get(product.rows)
        words = self._extent(product.inner) // 16 * 4 * self.frame.blocks
        if staged is None or (kind != "tf32" and words <= self.frame.schedule.resident):
            return None
        place = self.tile(product.rows)
        memory = self.staging.memories[staged.argument]
        if memory.dtype != ("f32" if kind == "tf32" else kind):
            return None
        by_rows = staged.lines == self.frame.row
        if not by_rows:
            return None
        view = self.staging.rewrite(staged, place, memory.dtype)
        return SharedRows(self.frame, view, by_rows, self._parts(memory.dtype), paired)

    def _parts(self, dtype: str) -> int:
        """Numbers of 16 bits are numbers of tf32."""
        return 2 if dtype == "f32" and not self.frame.schedule.tf32 else 1

    def _is_shared(self, product: Product, kind: str) -> bool:
        """Whether rows are read from shared memory as they are."""
        place = self.places[product.rows]
        return isinstance(place, Memory) and place.dtype == ("f32" if kind == "tf32" else kind)

    def _is_shared_rows(self, product: Product, *, by_rows: bool) -> bool:
        staged = stage_of(self.plan, product.rows)
        if product.rows in self.plan.rewritten:
            return self.plan.rewritten[product.rows].lines == self.frame.row
        if staged is None or not self._is_shared(product, "tf32"):
            return False
        return (self._inner_label(staged, product.rows) == product.inner) == by_rows

    def _inner_label(self, staged: Staged, value: ir.Value) -> str:
        """The label of a value that goes along the lines of its tile."""
        names = _names(value)
        return next(label for label, old in names.items() if old == staged.inner)

    def _extent(self, label: str) -> int:
        return self.frame.spans[label].extent

    def _masked(self, tile: Tile, inner: str) -> Tile:
        """Where positions of the summed axis do not exist, rows are 0: the columns are, too, but
        0 times infinity is not."""
        frame = self.frame
        span = frame.spans[inner]
        if span.whole or tile.words is not None:
            return tile

        def make(slot: Slot) -> ir.Value:
            exists = frame.exists(inner, slot)
            value = tile.at(slot)
            if exists is None:
                return value
            return arith.select(exists, value, frame.code.scalar(value.type, 0.0))

        return Tile(frame.code, tile.rows, tile.column, tile.element, make)

    # -- views and literals ----------------------------------------------------------------------
    def relabel(self, op: ir.Operation) -> Place:
        """The same array under other labels."""
        place = self.places[op.operands[0]]
        if not isinstance(place, Memory):
            raise UnsupportedError(op.name, reason="tiles: a computed value is renamed")
        return place.renamed(op.opview.names)

    def chunk(self, op: ir.Operation) -> Place:
        """Positions along a streamed axis are those of the loop: arrays are what they were."""
        place = self.places[op.operands[0]]
        if not isinstance(place, Tile):
            return place
        return self.map(op.operands[0].owner.operation)

    def index(self, op: ir.Operation) -> Position:
        """Positions along an axis."""
        return Position(ir.StringAttr(op.attributes["axis"]).value)

    def literal(self, op: ir.Operation) -> Tile:
        """A constant everywhere."""
        attr = ir.DenseElementsAttr(op.attributes["value"]).get_splat_value()
        element = compute_type(diag.element_type(op.results[0]))
        number = bool(attr.value) if element == self.frame.code.i1 else attr.value
        code = self.frame.code
        return Tile(code, False, None, element, lambda _: code.scalar(element, number), number)


def _names(value: ir.Value) -> Mapping[str, str]:
    from diagc.targets.nvptx.tiles.plan import trace

    found = trace(value)
    assert found is not None, "a staged value is an argument"
    return found[1]


_RULES: Mapping[str, Callable[[Region, ir.Operation], Place]] = {
    "diag.map": Region.map,
    "diag.reduce": Region.reduce,
    "diag.contract": Region.contract,
    "diag.relabel": Region.relabel,
    "diag.chunk": Region.chunk,
    "diag.index": Region.index,
    "diag.constant": Region.literal,
}
