"""Lowering of expressions: elementwise ones become scalar trees, all others become wires."""

from collections.abc import Callable
from typing import Any

from diagc.dialects import diag
from diagc.errors import DiagSyntaxError, VerificationError
from diagc.frontend.affine_positions import emit_reindex
from diagc.frontend.elementwise import constant_attr, emit_map
from diagc.frontend.functions import ARITY, build
from diagc.frontend.reductions import REDUCTIONS
from diagc.frontend.scalar_types import ELEMENT_TYPES, element_type, literal_value
from diagc.frontend.scalars import Number, Scalar, leaf, literal
from diagc.frontend.text import syntax
from diagc.frontend.text.lower_call import CallLowering
from diagc.frontend.text.scope import Part, Scope, Want
from diagc.frontend.text.syntax import Expr, Word
from diagc.mlir import ir

__all__ = ["ExpressionLowering"]


class ExpressionLowering:
    """Emits the ops of expressions at the ambient insertion point."""

    def __init__(self, scope: Scope) -> None:
        """Resolve names in `scope`."""
        self.scope = scope
        self._source = scope.source
        self._target = ""

    # ---- wires ---------------------------------------------------------------------------------

    def value(self, expr: Expr, target: str, want: Want | None = None) -> ir.Value:
        """Emit `expr`, the value of the assignment to `target`."""
        self._target = target
        with self.scope.checked(expr.offset):
            value = self.wire(expr, target, want)
            return value if want is None else self._conform(value, want, expr)

    def wire(self, expr: Expr, name: str = "", want: Want | None = None) -> ir.Value:
        """Emit an expression as a wire; without a `name` it gets one made from the target."""
        with self.scope.checked(expr.offset):
            if self._is_elementwise(expr):
                return self._map(expr, name, want)
            return _WIRES[type(expr)](self, expr, name, want)

    def part(self, expr: Expr, kind: str) -> ir.Value:
        """Emit a wire on the way to the target, called after both."""
        return self.wire(expr, f"{self._target}_{kind}")

    def loc(self, expr: Expr, name: str, kind: str) -> ir.Location:
        """Give the location of an op, called `name`, or else by its kind."""
        return self._source.location(expr.offset, name or f"{self._target}_{kind}")

    def _map(self, expr: Expr, name: str, want: Want | None) -> ir.Value:
        tree = self.scalar(expr)
        loc = self.loc(expr, name, "map")
        if tree.name == "literal" and (want is None or not want.dims):
            return _rank_0(tree.payload, want, loc)
        if tree.name == "leaf":  # a wire under a second name
            return tree.payload
        if want is None:
            return emit_map(tree, loc=loc)
        return emit_map(tree, result=want.dims, dtype=want.dtype, loc=loc)

    def _conform(self, value: ir.Value, want: Want, expr: Expr) -> ir.Value:
        """Give a wire the axes, in memory order, and the element type of an annotation."""
        loc = self.loc(expr, self._target, "")
        missing = [label for label in diag.labels(value) if label not in want.dims]
        if missing:
            raise diag.VerifyError(
                f'axis "{missing[0]}" of the value is missing in the declared type of '
                f"'{self._target}'; declare it, or reduce over it"
            )
        dtype = want.dtype or diag.element_type(value)
        if (diag.labels(value), diag.element_type(value)) == (tuple(want.dims), dtype):
            return value
        self._rename_part(value, expr)
        if diag.labels(value) != tuple(want.dims):
            value = emit_reindex(value, {}, self.scope.axes, want.dims, loc)
        return emit_map(leaf(value), dtype=dtype, loc=loc)

    def _rename_part(self, value: ir.Value, expr: Expr) -> None:
        """Leave the name of the target to the op that gives the wire its declared type."""
        named = isinstance(value.location, ir.NameLoc) and value.location.name_str == self._target
        if named and not isinstance(value.owner, ir.Block):
            value.owner.location = self.loc(expr, "", "value")

    def _contract(self, expr: syntax.Contract, name: str, want: Want | None) -> ir.Value:
        sides = self.wire(expr.lhs), self.wire(expr.rhs)
        for value, side in zip(sides, ("left", "right"), strict=True):
            self.scope.has(value, expr.over, "contracted", f"{side} operand")
            if not diag.is_float(diag.element_type(value)):
                raise diag.VerifyError(
                    f"the {side} operand of a contraction must hold floats, found "
                    f"{diag.element_type(value)}; convert it, for example f32(A)"
                )
        over = [word.text for word in expr.over]
        free = diag.ContractOp.infer(sides[0].type, sides[1].type, over)
        fits = want is not None and set(want.dims) == set(free)
        return diag.contract(
            *sides,
            over,
            acc=None if expr.acc is None else self.scope.dtype(expr.acc),
            dtype=want.dtype if want else None,
            order=list(want.dims) if want and fits else None,
            loc=self.loc(expr, name, "contract"),
        )

    def _call(self, expr: syntax.Call, name: str, want: Want | None) -> ir.Value:
        return CallLowering(self, expr, name, want).emit()

    # ---- index brackets ------------------------------------------------------------------------

    def _index(self, expr: syntax.Index, name: str, want: Want | None) -> ir.Value:
        base = self.wire(expr.base)
        loc = self.loc(expr, name, "index")
        if expr.renames:
            return self._rename(base, expr, loc)
        self.scope.has(base, [axis for axis, _ in expr.positions], "indexed", "operand")
        positions = {axis.text: self._position(position) for axis, position in expr.positions}
        return emit_reindex(base, positions, self.scope.axes, want.dims if want else None, loc)

    def _rename(self, base: ir.Value, expr: syntax.Index, loc: ir.Location) -> ir.Value:
        self.scope.has(base, [old for old, _ in expr.renames], "renamed", "operand")
        sizes = diag.dims(base)
        names = {old.text: self.scope.new_axis(new, sizes[old.text]) for old, new in expr.renames}
        return diag.relabel(base, names, loc=loc)

    def _position(self, expr: Expr) -> Scalar:
        """Build the tree of a position: numbers and axis names, whose leaves are labels."""
        loc = self._source.location(expr.offset)
        match expr:
            case syntax.Number():
                return literal(expr.value, loc)
            case syntax.Name():
                return Scalar("leaf", (), self.scope.label(Word(expr.text, expr.offset)), loc)
            case syntax.Binary():
                sides = (self._position(expr.lhs), self._position(expr.rhs))
                return Scalar(expr.op, sides, None, loc)
            case syntax.Unary():
                return Scalar(expr.op, (self._position(expr.operand),), None, loc)
        raise self._source.error(
            VerificationError,
            expr.offset,
            "this cannot be a position",
            expected="numbers, axis names and + - * / %",
        )

    # ---- tables --------------------------------------------------------------------------------

    def _table(self, expr: syntax.Table, name: str, want: Want | None) -> ir.Value:
        if want is None:
            raise self._source.error(
                DiagSyntaxError,
                expr.offset,
                "a table needs a declared type",
                remedy="write 'T: i j = [[1, 2], [3, 4]]' as a statement of its own",
            )
        element = want.dtype or ir.F32Type.get()
        shape = list(want.dims.values())
        numbers: list[ir.Attribute] = []
        self._fill(expr, shape, element, numbers)
        dense = ir.DenseElementsAttr.get(numbers, ir.RankedTensorType.get(shape, element))
        return diag.constant(dense, list(want.dims), loc=self.loc(expr, name, "table"))

    def _fill(
        self, expr: Expr, shape: list[int], element: ir.Type, out: list[ir.Attribute]
    ) -> None:
        """Append the numbers of a table in row-major order."""
        if shape and isinstance(expr, syntax.Table) and len(expr.rows) == shape[0]:
            for row in expr.rows:
                self._fill(row, shape[1:], element, out)
            return
        if not shape and isinstance(expr, syntax.Number):
            with self.scope.checked(expr.offset):
                out.append(constant_attr(literal_value(expr.value, str(element)), element))
            return
        rows = "declared size" if shape and shape[0] == diag.DYNAMIC else "number of rows"
        raise self._source.error(
            VerificationError,
            expr.offset,
            "the table does not have the shape of its type",
            expected=f"a list with the {rows} of its axis" if shape else "a number",
            found=f"{len(expr.rows)} rows" if isinstance(expr, syntax.Table) else None,
        )

    # ---- elementwise ---------------------------------------------------------------------------

    def _is_elementwise(self, expr: Expr) -> bool:
        if not isinstance(expr, syntax.Call):
            return not isinstance(expr, (syntax.Contract, syntax.Index, syntax.Table))
        if expr.clauses.given or (expr.function in REDUCTIONS and len(expr.args) == 1):
            return False
        return expr.function in ARITY or expr.function in ELEMENT_TYPES

    def scalar(self, expr: Expr) -> Scalar:
        """Build the scalar tree of an expression; what is not elementwise becomes a leaf."""
        if not self._is_elementwise(expr):
            return leaf(self.wire(expr), self._source.location(expr.offset))
        loc = self.loc(expr, "", _part_name(expr))
        match expr:
            case syntax.Number():
                return literal(expr.value, loc)
            case syntax.Name():
                return self._named(expr, loc)
            case syntax.Unary():
                return build(expr.op, [self.scalar(expr.operand)], loc)
            case syntax.Binary():
                op = "pow" if expr.op == "**" else expr.op
                return build(op, [self.scalar(expr.lhs), self.scalar(expr.rhs)], loc)
            case syntax.Block():
                return self._block(expr)
        assert isinstance(expr, syntax.Call)
        return self._scalar_call(expr, loc)

    def _scalar_call(self, expr: syntax.Call, loc: ir.Location) -> Scalar:
        cast = expr.function in ELEMENT_TYPES
        count = 1 if cast else ARITY[expr.function]
        if len(expr.args) != count:
            raise self._source.error(
                DiagSyntaxError,
                expr.offset,
                f"wrong number of arguments for '{expr.function}'",
                expected=count,
                found=len(expr.args),
            )
        args = [self.scalar(arg) for arg in expr.args]
        if cast:
            return Scalar("cast", tuple(args), element_type(expr.function), loc)
        return build(expr.function, args, loc)

    def _named(self, expr: syntax.Name, loc: ir.Location) -> Scalar:
        binding = self.scope.binding(Word(expr.text, expr.offset))
        if isinstance(binding, Part):
            return self._part(binding)
        return binding if isinstance(binding, Scalar) else leaf(binding, loc)

    def _part(self, part: Part) -> Scalar:
        if part.tree is None:
            with self.scope.seeing(part.visible):
                part.tree = self.scalar(part.expr)
        return part.tree

    def _block(self, expr: syntax.Block) -> Scalar:
        with self.scope.seeing(dict(self.scope.bindings)):
            parts = []
            for name, value in expr.parts:
                parts.append(Part(value, dict(self.scope.bindings)))
                self.scope.define(name, parts[-1])
            result = self.scalar(expr.result)
        for part in parts:  # one that nothing uses is checked as well
            self._part(part)
        return result


_SIGNS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "%": "rem", "**": "pow"}


def _part_name(expr: Expr) -> str:
    """Name a scalar of a map for readers of the MLIR text."""
    match expr:
        case syntax.Unary() | syntax.Binary():
            return _SIGNS.get(expr.op, expr.op if expr.op.isidentifier() else "cmp")
        case syntax.Call():
            return expr.function
        case syntax.Number():
            return "c"
        case syntax.Name():
            return expr.text
    return "part"


def _rank_0(value: Number, want: Want | None, loc: ir.Location) -> ir.Value:
    element = ir.IntegerType.get_signless(1) if isinstance(value, bool) else ir.F32Type.get()
    if want is not None and want.dtype is not None:
        element = want.dtype
    return diag.constant(literal_value(value, str(element), loc), dtype=element, loc=loc)


Handler = Callable[[ExpressionLowering, Any, str, Want | None], ir.Value]

_WIRES: dict[type[Expr], Handler] = {
    syntax.Contract: ExpressionLowering._contract,
    syntax.Index: ExpressionLowering._index,
    syntax.Table: ExpressionLowering._table,
    syntax.Call: ExpressionLowering._call,
}
