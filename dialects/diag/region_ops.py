"""Ops with regions: map (a scalar body), stream (init, body, combine, tail), and their parts."""

from collections.abc import Iterator
from typing import Any, Optional

from diagc.dialects.diag.array_ops import check_element, check_has, check_result
from diagc.dialects.diag.dialect import DiagOp
from diagc.dialects.diag.types import (
    DYNAMIC,
    VerifyError,
    dims,
    element_type,
    is_wire,
    join_dims,
    labels,
    strings,
    wire,
)
from diagc.mlir import ext, ir

__all__ = [
    "STREAM_RESULTS",
    "ChunkOp",
    "ElementOp",
    "MapOp",
    "StreamOp",
    "YieldOp",
    "emitted_ops",
    "is_emitted",
    "outer_operands",
]

# An IRDL variadic group must be homogeneous in type, so streams have optional results instead.
STREAM_RESULTS = 8

STREAM_PROPERTIES = ("monoid", "commutative", "ordered")


def walk_ops(region: ir.Region) -> Iterator[ir.Operation]:
    """Every op below `region`, outermost first."""
    for block in region.blocks:
        for op in block.operations:
            yield op.operation
            for nested in op.operation.regions:
                yield from walk_ops(nested)


def enclosing(op: ir.Operation, name: str) -> ir.Operation | None:
    """The nearest parent op called `name`, or None."""
    parent = op.parent
    while parent is not None:
        if parent.operation.name == name:
            return parent.operation
        parent = parent.operation.parent
    return None


def _defined_inside(value: ir.Value, owner: ir.Operation) -> bool:
    """Whether `value` is defined below op `owner`."""
    source = value.owner
    op = source.owner.operation if isinstance(source, ir.Block) else source.operation
    if isinstance(source, ir.Block):
        return op == owner or _is_below(op, owner)
    return _is_below(op, owner)


def _is_below(op: ir.Operation, owner: ir.Operation) -> bool:
    parent = op.parent
    while parent is not None:
        if parent.operation == owner:
            return True
        parent = parent.operation.parent
    return False


def _is_constant(value: ir.Value) -> bool:
    owner = value.owner
    return not isinstance(owner, ir.Block) and owner.operation.name == "arith.constant"


def outer_operands(owner: ir.Operation) -> list[ir.Value]:
    """Values defined outside `owner` that its regions use, in order of first use, once each."""
    found: list[ir.Value] = []
    for region in owner.regions:
        for op in walk_ops(region):
            for value in op.operands:
                if value not in found and not _defined_inside(value, owner):
                    found.append(value)
    return found


def emitted_ops(stream: ir.Operation) -> list[ir.Operation]:
    """The ops of a stream's body whose results are given chunk by chunk."""
    count = stream.opview.emitted
    yields = _yields(stream.regions[1].blocks[0])
    return [op.operands[0].owner.operation for op in yields[len(yields) - count :]]


def is_emitted(value: ir.Value) -> bool:
    """Whether a value is given by a stream chunk by chunk."""
    if isinstance(value.owner, ir.Block) or value.owner.operation.name != "diag.stream":
        return False
    op = value.owner.operation
    return list(op.results).index(value) >= len(op.results) - op.opview.emitted


class YieldOp(DiagOp, name="yield"):
    """Gives one result of the enclosing region; several yields, in order, give several results."""

    value: ext.Operand[Any]

    def check(self) -> None:
        parent = self.operation.parent
        if parent is None or parent.operation.name not in ("diag.map", "diag.stream"):
            raise VerifyError("expects parent op 'diag.map' or 'diag.stream'")


class ElementOp(DiagOp, name="element", traits=[ext.Pure]):
    """The scalar of an outer wire at the current position of the enclosing map."""

    out: ext.Result[Any]
    src: ext.Operand[Any]

    def check(self) -> None:
        parent = self.operation.parent
        if parent is None or parent.operation.name != "diag.map":
            raise VerifyError("expects parent op 'diag.map'")
        if self.out.type != element_type(self.src):
            raise VerifyError(f"result type {self.out.type}, expected {element_type(self.src)}")


class ChunkOp(DiagOp, name="chunk", traits=[ext.Pure]):
    """The current chunk, along the stream's axis, of a wire from outside the stream."""

    out: ext.Result[Any]
    src: ext.Operand[Any]

    def check(self) -> None:
        stream = enclosing(self.operation, "diag.stream")
        if stream is None:
            raise VerifyError("expects to stand inside 'diag.stream'")
        if _defined_inside(self.src, stream):
            raise VerifyError("the operand must come from outside the stream")
        axis = ir.StringAttr(stream.attributes["axis"]).value
        check_has(labels(self.src), axis, "operand", self.src.type)
        expected = {
            label: DYNAMIC if label == axis else size for label, size in dims(self.src).items()
        }
        check_element(self.out, element_type(self.src))
        check_result(self.out, expected)


def _yields(block: ir.Block) -> list[ir.Operation]:
    """The trailing yields of a block; a yield anywhere else is an error."""
    ops = [op.operation for op in block.operations]
    yields = [op for op in ops if op.name == "diag.yield"]
    if not yields or ops[-len(yields) :] != yields:
        raise VerifyError("a region must end with its 'diag.yield' ops, one per result")
    return yields


class MapOp(DiagOp, name="map", traits=[ext.Pure, ir.NoTerminatorTrait]):
    """Elementwise: the body is arith and math on scalars; it runs at each position of the result.

    The body captures outer wires through `diag.element`; broadcasting is by label.
    """

    out: ext.Result[Any]
    body: ext.Region

    def elements(self) -> list[ir.Operation]:
        """The `diag.element` ops of the body."""
        return [op for op in walk_ops(self.body) if op.name == "diag.element"]

    def check(self) -> None:
        if len(self.body.blocks) != 1 or len(self.body.blocks[0].arguments):
            raise VerifyError("body must be one block without arguments")
        yields = _yields(self.body.blocks[0])
        if len(yields) != 1:
            raise VerifyError(f"body must yield one scalar, found {len(yields)}")
        if yields[0].operands[0].type != element_type(self.out):
            raise VerifyError(
                f"body yields {yields[0].operands[0].type}, result is {self.out.type}"
            )
        result = dims(self.out)
        for element in self.elements():
            for label in labels(element.operands[0]):
                if label not in result:
                    raise VerifyError(
                        f'axis "{label}" of an element is missing in the result ({self.out.type})',
                        element.location,
                    )
            join_dims((result, dims(element.operands[0])))
        self._check_body()

    def _check_body(self) -> None:
        for op in walk_ops(self.body):
            dialect = op.name.split(".")[0]
            if dialect not in ("arith", "math") and op.name not in ("diag.element", "diag.yield"):
                raise VerifyError(f"'{op.name}' may not stand in a scalar body", op.location)
            if op.name != "diag.element":
                self._check_scalars(op)

    def _check_scalars(self, op: ir.Operation) -> None:
        for value in (*op.operands, *op.results):
            if is_wire(value.type):
                raise VerifyError("wires are read through 'diag.element'", op.location)
            if isinstance(value.type, ir.ShapedType):
                raise VerifyError(f"a body holds scalars, found {value.type}", op.location)
        for value in op.operands:  # upstream folding hoists constants out of the body
            if not _defined_inside(value, self.operation) and not _is_constant(value):
                raise VerifyError("scalars from outside must be constants", op.location)


class StreamOp(DiagOp, name="stream", traits=[ext.Pure, ir.NoTerminatorTrait]):
    """A streamed operation: init, then body for each chunk of `axis` in order, then tail.

    Regions hold array-level ops and capture outer wires; one that carries `axis` is read through
    `diag.chunk`. `combine`, when not empty, merges two states (a monoid). The optional operand
    `where` (i1, labels not streamed) says where results are wanted at all. What the body yields
    behind the states carries `axis`: the chunks of results, which stand behind those of the tail.
    """

    OPTIONAL = {
        "chunk": ir.IntegerAttr,
        "law": ir.ArrayAttr,
        "properties": ir.ArrayAttr,
    }
    r0: Optional[ext.Result[Any]]
    r1: Optional[ext.Result[Any]]
    r2: Optional[ext.Result[Any]]
    r3: Optional[ext.Result[Any]]
    r4: Optional[ext.Result[Any]]
    r5: Optional[ext.Result[Any]]
    r6: Optional[ext.Result[Any]]
    r7: Optional[ext.Result[Any]]
    where: Optional[ext.Operand[Any]]
    axis: ir.StringAttr
    init: ext.Region
    body: ext.Region
    combine: ext.Region
    tail: ext.Region

    @property
    def condition(self) -> ir.Value | None:
        """The `where` operand, or None."""
        operands = self.operation.operands
        return operands[0] if len(operands) else None

    @property
    def emitted(self) -> int:
        """How many of the results, the last ones, are given chunk by chunk."""
        return len(self.operation.results) - len(_yields(self.tail.blocks[0]))

    def check(self) -> None:
        for region, name in zip(
            self.operation.regions, ("init", "body", "combine", "tail"), strict=True
        ):
            blocks = len(region.blocks)
            if blocks != 1 and not (name == "combine" and blocks == 0):
                raise VerifyError(f"region '{name}' must be one block, found {blocks}")
        states = [op.operands[0].type for op in _yields(self.init.blocks[0])]
        self._check_state_types(states)
        self._check_region("init", [], states)
        results = [r.type for r in self.operation.results]
        given = max(0, len(results) - self.emitted)
        self._check_region("body", states, [*states, *map(self._chunk_type, results[given:])])
        if len(self.combine.blocks):
            self._check_region("combine", states + states, states)
        self._check_region("tail", states, results[:given])
        self._check_captures()
        self._check_where()
        for name in strings(self.optional("properties") or ir.ArrayAttr.get([])):
            if name not in STREAM_PROPERTIES:
                raise VerifyError(
                    f"unknown property '{name}'; expected {', '.join(STREAM_PROPERTIES)}"
                )

    def _chunk_type(self, type_: ir.Type) -> ir.Type:
        """The type of a chunk of a result."""
        axis = self.axis.value
        check_has(labels(type_), axis, "result that is given chunk by chunk", type_)
        sizes = {k: DYNAMIC if k == axis else n for k, n in dims(type_).items()}
        return wire(sizes, element_type(type_))

    def _check_state_types(self, states: list[ir.Type]) -> None:
        for type_ in states:
            if self.axis.value in labels(type_):
                raise VerifyError(f'state {type_} carries the streamed axis "{self.axis.value}"')

    def _check_region(self, name: str, arguments: list[ir.Type], results: list[ir.Type]) -> None:
        index = ("init", "body", "combine", "tail").index(name)
        block = self.operation.regions[index].blocks[0]
        found = [a.type for a in block.arguments]
        if found != arguments:
            raise VerifyError(
                f"region '{name}' takes {_names(found)}, expected the state {_names(arguments)}"
            )
        yields = _yields(block)
        given = [op.operands[0].type for op in yields]
        if given != results:
            raise VerifyError(
                f"region '{name}' yields {_names(given)}, expected {_names(results)}",
                yields[0].location,
            )

    def _check_captures(self) -> None:
        """Outer wires with the streamed axis are only read chunk by chunk, and in the body."""
        for region in self.operation.regions:
            for op in walk_ops(region):
                if op.name == "diag.chunk":
                    self._check_chunk(op, region)
                else:
                    self._check_inner(op)

    def _check_chunk(self, op: ir.Operation, region: ir.Region) -> None:
        nested = enclosing(op, "diag.stream") != self.operation
        if not nested and region != self.body:
            raise VerifyError("'diag.chunk' may only stand in the body", op.location)

    def _check_inner(self, op: ir.Operation) -> None:
        axis = self.axis.value
        if op.name == "diag.index" and op.attributes["axis"].value == axis:
            raise VerifyError(
                f"'diag.index' of the streamed axis \"{axis}\" must stand outside and be read "
                "through 'diag.chunk'",
                op.location,
            )
        for value in op.operands:
            outside = not _defined_inside(value, self.operation)
            if outside and is_wire(value.type) and axis in labels(value):
                raise VerifyError(
                    f'outer wire with the streamed axis "{axis}" must be read through '
                    f"'diag.chunk'",
                    op.location,
                )

    def _check_where(self) -> None:
        where = self.condition
        if where is None:
            return
        if str(element_type(where)) != "i1" or self.axis.value in labels(where):
            raise VerifyError(
                f"'where' must be an i1 wire without the streamed axis, found {where.type}"
            )


def _names(types: list[ir.Type]) -> str:
    return "(" + ", ".join(str(t) for t in types) + ")"
