"""Lowering of syntax trees to modules: one public function for each diagram."""

from collections.abc import Sequence

from diagc.dialects import diag
from diagc.errors import DiagSyntaxError, VerificationError
from diagc.frontend.function_builder import FunctionBuilder
from diagc.frontend.scalar_types import typed
from diagc.frontend.scalars import Scalar
from diagc.frontend.text import syntax
from diagc.frontend.text.lower_expression import ExpressionLowering
from diagc.frontend.text.scope import Scope, Want
from diagc.frontend.text.source import Source
from diagc.frontend.verification import verify
from diagc.mlir import ir

__all__ = ["lower_file"]


def lower_file(tree: syntax.File, source: Source) -> ir.Module:
    """Emit a module in the ambient context and verify it.

    A declared axis holds for the diagrams after it; a later declaration of its name replaces it.

    Raises:
        DiagSyntaxError: unknown names, axes and functions.
        VerificationError: wires that do not fit.
    """
    start = source.location(0)
    with start:
        module = ir.Module.create(loc=start)
        axes: dict[str, int] = {}
        names: set[str] = set()
        for item in tree.items:
            if isinstance(item, syntax.AxisDecl):
                axes[item.name.text] = diag.DYNAMIC if item.size is None else item.size
                continue
            if item.name.text in names:
                raise source.error(
                    DiagSyntaxError,
                    item.name.offset,
                    f"there is a diagram '{item.name.text}' already",
                )
            names.add(item.name.text)
            with ir.InsertionPoint(module.body):
                _diagram(item, Scope(source, dict(axes)))
    verify(module, source.text)
    return module


def _diagram(tree: syntax.Diagram, scope: Scope) -> None:
    source = scope.source
    function = FunctionBuilder(tree.name.text, source.location(tree.name.offset))
    for parameter in tree.parameters:
        name = parameter.name
        loc = source.location(name.offset, name.text)
        groups = [[word.text for word in group] for group in parameter.type.groups]
        type_ = scope.wire_type(parameter.type)
        scope.define(name, function.add_input(name.text, type_, loc, groups))
    with function.insertion_point:
        lowering = ExpressionLowering(scope)
        for statement in tree.body:
            _assign(statement, scope, lowering)
        outputs = _outputs(tree, scope, lowering)
    groups_of = [_result_groups(tree, i) for i in range(len(outputs))]
    function.finish(outputs, groups_of, source.location(tree.outputs.offset))


def _assign(statement: syntax.Assign, scope: Scope, lowering: ExpressionLowering) -> None:
    name = statement.name
    if statement.type is None and _is_literal(statement.value, scope):
        tree = lowering.scalar(statement.value)
        with scope.checked(statement.value.offset):
            typed(tree)
        scope.define(name, tree)
        return
    scope.define(name, lowering.value(statement.value, name.text, _want(statement.type, scope)))


def _is_literal(expr: syntax.Expr, scope: Scope) -> bool:
    """Whether a name for `expr` stands for a number, which takes the type of what it meets."""
    match expr:
        case syntax.Number():
            return True
        case syntax.Name():
            return isinstance(scope.bindings.get(expr.text), Scalar)
        case syntax.Unary():
            return _is_literal(expr.operand, scope)
        case syntax.Binary():
            return _is_literal(expr.lhs, scope) and _is_literal(expr.rhs, scope)
    return False


def _want(type_: syntax.WireType | None, scope: Scope) -> Want | None:
    if type_ is None:
        return None
    dtype = None if type_.dtype is None else scope.dtype(type_.dtype)
    return Want(scope.dims(type_.labels), dtype)


def _outputs(
    tree: syntax.Diagram, scope: Scope, lowering: ExpressionLowering
) -> list[tuple[str, ir.Value]]:
    values = tree.outputs.values
    declared: Sequence[syntax.WireType | None] = tree.results or [None] * len(values)
    if len(declared) != len(values):
        raise scope.source.error(
            VerificationError,
            tree.outputs.offset,
            f"diagram '{tree.name.text}' returns another number of wires than it declares",
            expected=len(declared),
            found=len(values),
        )
    outputs = []
    for i, (expr, type_) in enumerate(zip(values, declared, strict=True)):
        fallback = "out" if len(values) == 1 else f"out{i}"
        name = expr.text if isinstance(expr, syntax.Name) else fallback
        value = lowering.value(expr, name, _want(type_, scope))
        outputs.append((_given_name(value) or name, value))
    return outputs


def _given_name(value: ir.Value) -> str:
    """Give the name of a wire where it was made; a second name for it is not kept."""
    return value.location.name_str if isinstance(value.location, ir.NameLoc) else ""


def _result_groups(tree: syntax.Diagram, number: int) -> list[list[str]] | None:
    if tree.results is None:
        return None
    return [[word.text for word in group] for group in tree.results[number].groups]
