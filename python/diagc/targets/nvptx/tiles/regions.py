"""The ops of a region, one by one, as tiles; what a tile holds is emitted when it is asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import arith, ir
from diagc.targets.elementwise.scalars import compute_type
from diagc.targets.nvptx.tiles.contraction import Contraction
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.layouts import Slot, Tile, literal_tile
from diagc.targets.nvptx.tiles.maps import MapBody
from diagc.targets.nvptx.tiles.memory import Memory
from diagc.targets.nvptx.tiles.plan import Plan, Product, stage_of
from diagc.targets.nvptx.tiles.products import matrix_product
from diagc.targets.nvptx.tiles.reductions import reduce_columns, reduce_rows
from diagc.targets.nvptx.tiles.scalars import Scalar, as_value
from diagc.targets.nvptx.tiles.staging import Staging

__all__ = ["Place", "Position", "Region", "StreamLowering"]


@dataclass(frozen=True)
class Position:
    """Positions along an axis."""

    label: str


Place: TypeAlias = Tile | Memory | Position

ProductLowering: TypeAlias = Callable[["Region", Product], Contraction]

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
        multiply: gives a matrix product that is not emitted yet.
    """

    frame: Frame
    plan: Plan
    staging: Staging
    lower_stream: StreamLowering
    places: dict[ir.Value, Place] = field(default_factory=dict)
    multiply: ProductLowering = matrix_product
    _contractions: dict[ir.Value, Contraction] = field(default_factory=dict)

    def nested(self) -> "Region":
        """A region inside this one: it sees all values, and makes its own."""
        return replace(self, places=dict(self.places), _contractions=dict(self._contractions))

    def run(self, block: ir.Block) -> list[ir.Value]:
        """Lower a block; gives what its yields or its return hand on."""
        return self.run_until(block, None)

    def run_until(self, block: ir.Block, end: ir.Operation | None) -> list[ir.Value]:
        """Lower the ops of a block that stand before one of them."""
        handed: list[ir.Value] = []
        for view in block.operations:
            op = view.operation
            if end is not None and op == end:
                break
            if op.name in ("diag.yield", "func.return"):
                handed += op.operands
            elif op.name != "arith.constant":
                with op.location:
                    self._lower(op)
        return handed

    def _lower(self, op: ir.Operation) -> None:
        if op.name == "diag.stream":
            tiles = self.lower_stream(self, op)
            self.places.update(zip(op.results, tiles, strict=True))
        else:
            self.places[op.results[0]] = _RULES[op.name](self, op)

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
        if staged in self.plan.staged and self._is_rows(memory):
            column = next(x for x in memory.local_labels if x not in self.frame.rows)
            return self.staging.rows_tile(staged, memory, column)
        return memory.tile()

    def _is_rows(self, memory: Memory) -> bool:
        columns = [label for label in memory.local_labels if label not in self.frame.rows]
        return self.frame.row in memory.labels and len(columns) == 1

    # -- maps ------------------------------------------------------------------------------------
    def map(self, op: ir.Operation) -> Tile:
        """An elementwise map, added to a product's sums where that is all it does."""
        result = op.results[0]
        element = compute_type(diag.element_type(result))
        rows, column = self.plan.shape(result)
        code = self.frame.code
        body = MapBody(code, op, relative=self.plan.is_relative and _is_streamed(op))
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
        """For x + c product: sums that begin with x / c. None where the body is something else.

        So x and the sums take the same registers. A factor c is rounded twice in a row's sum, so
        that streams, which would do so for every chunk, have none.
        """
        terms = body.addends or ()
        for term, other in (terms, terms[::-1]) if terms else ():
            product, factor = (term, 1.0) if _is_streamed(body.op) else _split_factor(term)
            contraction = self._own_product(product, result)
            if contraction is not None and factor == 1 and self._take_in(product, other, result):
                return contraction.element
            if contraction is not None and _LEAST_FACTOR <= abs(factor) <= 1 / _LEAST_FACTOR:
                return partial(self._sum, body, contraction, other, factor)
        return None

    def _take_in(self, term: ir.Value, other: ir.Value, result: ir.Value) -> bool:
        """Let a product of the same rows be summed with another one, where both are to come.

        Rows of 16 bits are the same words for both; those of f32 depend on the columns.
        """
        first, second = (self._own_product(x, result) for x in (term, other))
        if first is None or second is None or {type(first), type(second)} != {Contraction}:
            return False
        one, two = (self.plan.products[x.owner.operation.operands[0]] for x in (term, other))
        same = (one.rows, one.inner, first.kind) == (two.rows, two.inner, second.kind)
        if not same or first.kind == "tf32":
            return False
        first.beside.append(second.columns)
        return True

    def _own_product(self, term: ir.Value, result: ir.Value) -> Contraction | None:
        """The product that a term is an element of, if nothing else reads it and it is to come."""
        owner = term.owner
        if isinstance(owner, ir.Block) or owner.operation.name != "diag.element":
            return None
        wire = owner.operation.operands[0]
        contraction = self._contractions.get(wire)
        alone = len(list(wire.uses)) == 1 and len(list(term.uses)) == 1
        same = set(diag.labels(wire)) == set(diag.labels(result))
        if contraction is None or contraction.is_emitted:
            return None
        return contraction if alone and same else None

    def _sum(
        self,
        body: MapBody,
        contraction: Contraction,
        other: ir.Value,
        factor: float,
        slot: Slot,
    ) -> ir.Value:
        code = self.frame.code

        def start(at: Slot) -> ir.Value:
            scalar = body.evaluate(other, lambda wire: self.read(wire, at), {})
            value = as_value(code, code.f32, scalar)
            return value if factor == 1 else arith.mulf(value, code.scalar(code.f32, 1 / factor))

        if not contraction.is_emitted:
            contraction.run(start)
        found = contraction.element(slot)
        return found if factor == 1 else arith.mulf(found, code.scalar(code.f32, factor))

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
            contraction = self.multiply(self, product)
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
            lambda slot: arith.mulf(lhs.at(slot), rhs.at(slot), fastmath=code.contract),
        )
        return self._reduced("add", tile, diag.strings(op.attributes["over"]), code.f32)

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
        return literal_tile(self.frame.code, element, number)


_LEAST_FACTOR = 2.0**-8
"""Of a product that is added to x: x / c stays far from the ends of f32 where x is."""


def _split_factor(term: ir.Value) -> tuple[ir.Value, float]:
    """What a scalar is a multiple of, and the constant."""
    op = None if isinstance(term.owner, ir.Block) else term.owner.operation
    if op is None or op.name != "arith.mulf" or len(list(term.uses)) != 1:
        return term, 1.0
    for value, other in (op.operands, list(op.operands)[::-1]):
        owner = other.owner
        if not isinstance(owner, ir.Block) and owner.operation.name == "arith.constant":
            return value, float(ir.FloatAttr(owner.operation.attributes["value"]).value)
    return term, 1.0


def _is_streamed(op: ir.Operation) -> bool:
    """Whether an op is part of a stream: its values are terms and corrections of states."""
    parent = op.parent
    return parent is not None and bool(parent.operation.name == "diag.stream")


_RULES: Mapping[str, Callable[[Region, ir.Operation], Place]] = {
    "diag.map": Region.map,
    "diag.reduce": Region.reduce,
    "diag.contract": Region.contract,
    "diag.relabel": Region.relabel,
    "diag.chunk": Region.chunk,
    "diag.index": Region.index,
    "diag.constant": Region.literal,
}
