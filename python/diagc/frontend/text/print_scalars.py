"""Bodies of maps as expressions of the language."""

from collections.abc import Callable, Sequence

from diagc.frontend.elementwise import constant_attr, predicate_number
from diagc.frontend.functions import COMPARISONS, FLOAT_FUNCTIONS
from diagc.frontend.scalar_types import ARITHMETIC, cast_op
from diagc.frontend.text.print_names import Names
from diagc.mlir import ir

__all__ = ["literal_text", "map_text"]

MAX_TREE = 64
"""Largest expression, in operations; a larger one with shared parts is printed as a block."""

_ATOM = 10
_LEVELS = {"or": 1, "and": 2, "not": 3, "cmp": 4, "+": 5, "-": 5, "*": 6, "/": 6, "%": 6, "neg": 7}
_SIGNS = ("+", "-", "*", "/", "%")
_BINARY = {op: sign for sign in _SIGNS for op in ARITHMETIC[sign]}
_CALLS = (
    {op: name for name, op in FLOAT_FUNCTIONS.items()}
    | {op: name for name in ("max", "min", "abs") for op in ARITHMETIC[name]}
    | {"math.powf": "pow", "arith.select": "where"}
)
_LOGIC = {"arith.andi": "and", "arith.ori": "or"}
_PREDICATES = {
    (op, predicate_number(op, predicates[i])): sign
    for sign, predicates in COMPARISONS.items()
    for i, op in enumerate(("arith.cmpf", "arith.cmpi"))
}

Piece = tuple[str, int]
"""A text and how tight it binds."""


def literal_text(attr: ir.Attribute) -> str:
    """Give a number as the language writes it, with the fewest digits that give it back."""
    if isinstance(attr, ir.BoolAttr) or str(attr.type) == "i1":
        return "true" if attr.value else "false"
    if isinstance(attr, ir.IntegerAttr):
        return str(attr.value)
    value = float(attr.value)
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    texts = (f"{value:.{digits}g}" for digits in range(1, 18))
    text = next(t for t in texts if constant_attr(float(t), attr.type).value == value)
    return text if "." in text or "e" in text else f"{text}.0"


def map_text(op: ir.Operation, names: Names, wire: Callable[[ir.Value], str]) -> str:
    """Give the body of a `diag.map` as an expression, or as `map { ... }` when that is shorter.

    Args:
        op: the map.
        names: where names of shared parts come from.
        wire: how a wire is called.
    """
    return _Body(op, names, wire).text()


class _Body:
    def __init__(self, op: ir.Operation, names: Names, wire: Callable[[ir.Value], str]) -> None:
        self._ops = [inner.operation for inner in op.regions[0].blocks[0].operations]
        self._names = names
        self._wire = wire
        self._pieces: dict[ir.Value, Piece] = {}

    def text(self) -> str:
        *body, last = self._ops
        parts = self._shared(body) if self._size(body, last) > MAX_TREE else []
        lines = []
        for op in body:
            for result in op.results:
                piece = self._piece(op)
                if result in parts:
                    name = self._names.fresh("t")
                    lines.append(f"{name} = {piece[0]}")
                    piece = (name, _ATOM)
                self._pieces[result] = piece
        result_text = self._argument(last.operands[0], "f32")
        if not lines:
            return result_text
        return "map {\n" + "".join(f"  {line}\n" for line in [*lines, result_text]) + "}"

    def _size(self, body: Sequence[ir.Operation], last: ir.Operation) -> int:
        """Count the operations of the expression with shared parts written out."""
        sizes: dict[ir.Value, int] = {}
        for op in body:
            for result in op.results:
                sizes[result] = 1 + sum(sizes.get(operand, 0) for operand in op.operands)
        return sizes.get(last.operands[0], 0)

    def _shared(self, body: Sequence[ir.Operation]) -> list[ir.Value]:
        return [
            result
            for op in body
            for result in op.results
            if op.name not in ("diag.element", "arith.constant") and len(list(result.uses)) > 1
        ]

    def _piece(self, op: ir.Operation) -> Piece:
        if op.name == "diag.element":
            return self._wire(op.operands[0]), _ATOM
        if op.name == "arith.constant":
            return literal_text(op.attributes["value"]), _ATOM
        if op.name in _BINARY:
            return self._infix(op, _BINARY[op.name])
        if op.name in ("arith.cmpf", "arith.cmpi"):
            sign = _PREDICATES.get((op.name, op.attributes["predicate"].value))
            return self._foreign(op) if sign is None else self._infix(op, sign, "cmp")
        if op.name in _LOGIC and str(op.results[0].type) == "i1":
            return self._infix(op, _LOGIC[op.name])
        if op.name == "arith.xori" and self._is_true(op.operands[1]):
            return f"not {self._operand(op.operands[0], _LEVELS['not'])}", _LEVELS["not"]
        if op.name == "arith.negf":
            return f"-{self._operand(op.operands[0], _ATOM)}", _LEVELS["neg"]
        if op.name in _CALLS:
            return self._call(op, _CALLS[op.name])
        if len(op.operands) == 1 and len(op.results) == 1:
            source, target = str(op.operands[0].type), str(op.results[0].type)
            if op.name == cast_op(source, target):
                return f"{target}({self._pieces_of(op.operands[0])[0]})", _ATOM
        return self._foreign(op)

    def _foreign(self, op: ir.Operation) -> Piece:
        """Show an operation that the language has no name for."""
        args = ", ".join(self._pieces_of(operand)[0] for operand in op.operands)
        return f"{op.name}({args})", _ATOM

    def _infix(self, op: ir.Operation, sign: str, level_name: str = "") -> Piece:
        level = _LEVELS[level_name or sign]
        lhs, rhs = self._unified(op.operands)
        left = self._bind(lhs, level - (level_name != "cmp"))
        return f"{left} {sign} {self._bind(rhs, level)}", level

    def _call(self, op: ir.Operation, name: str) -> Piece:
        operands = list(op.operands)
        if name == "where":
            condition = self._pieces_of(operands[0])[0]
            branches = [text for text, _ in self._unified(operands[1:])]
            return f"where({', '.join([condition, *branches])})", _ATOM
        if len(operands) == 1:
            return f"{name}({self._argument(operands[0], 'f32')})", _ATOM
        return f"{name}({', '.join(text for text, _ in self._unified(operands))})", _ATOM

    def _unified(self, operands: Sequence[ir.Value]) -> list[Piece]:
        """Give operands of one type; a literal takes it from the others, else it is spelled out."""
        if all(_is_constant(operand) for operand in operands):
            return [(self._argument(operand, ""), _ATOM) for operand in operands]
        return [self._pieces_of(operand) for operand in operands]

    def _argument(self, operand: ir.Value, default: str) -> str:
        """Give an operand whose type nothing else tells; a literal alone is `default`."""
        text = self._pieces_of(operand)[0]
        plain = not _is_constant(operand) or str(operand.type) in (default, "i1")
        return text if plain else f"{operand.type}({text})"

    def _operand(self, operand: ir.Value, level: int) -> str:
        return self._bind(self._pieces_of(operand), level)

    @staticmethod
    def _bind(piece: Piece, level: int) -> str:
        """Put parentheses around what binds no tighter than `level`."""
        return piece[0] if piece[1] > level or piece[1] == _ATOM else f"({piece[0]})"

    def _pieces_of(self, value: ir.Value) -> Piece:
        """Give the text of a scalar; one from outside the map is a hoisted constant."""
        if value not in self._pieces:
            owner = value.owner
            outside = not isinstance(owner, ir.Block) and owner.operation.name == "arith.constant"
            self._pieces[value] = (
                self._piece(owner.operation) if outside else (self._wire(value), _ATOM)
            )
        return self._pieces[value]

    def _is_true(self, value: ir.Value) -> bool:
        return _is_constant(value) and self._pieces_of(value)[0] == "true"


def _is_constant(value: ir.Value) -> bool:
    owner = value.owner
    return not isinstance(owner, ir.Block) and owner.operation.name == "arith.constant"
