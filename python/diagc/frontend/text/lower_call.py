"""Lowering of calls that are not elementwise: reductions, normalisers, concat, pad."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from diagc.dialects import diag
from diagc.errors import DiagSyntaxError
from diagc.frontend.functions import ARITY
from diagc.frontend.reductions import REDUCTIONS, emit_reduction
from diagc.frontend.scalar_types import ELEMENT_TYPES, literal_value
from diagc.frontend.text import syntax
from diagc.frontend.text.scope import Want, closest
from diagc.mlir import ir

if TYPE_CHECKING:
    from diagc.frontend.text.lower_expression import ExpressionLowering

__all__ = ["CallLowering", "kinds_by_name"]


def kinds_by_name() -> dict[str, str]:
    """Give the normalisers by their names in the language, which has _ where a kind has -."""
    return {kind.replace("-", "_"): kind for kind in diag.registered_kinds()}


class CallLowering:
    """One call under lowering.

    Args:
        lowering: lowers the arguments, and knows the scope.
        expr: the call.
        name: the name of the result, empty for an intermediate wire.
        want: what the annotation of an assignment asks for.
    """

    def __init__(
        self, lowering: "ExpressionLowering", expr: syntax.Call, name: str, want: Want | None
    ) -> None:
        """Keep what all methods need."""
        self._lowering = lowering
        self._scope = lowering.scope
        self._expr = expr
        self._clauses = expr.clauses
        self._name = name
        self._want = want

    def emit(self) -> ir.Value:
        """Emit the op.

        Raises:
            DiagSyntaxError: an unknown function, missing or superfluous clauses and arguments.
            VerificationError, VerifyError: operands that do not fit.
        """
        function = self._expr.function
        if function in _STRUCTURAL:
            return _STRUCTURAL[function](self)
        if function in REDUCTIONS and "along" not in self._clauses.given:
            return self._reduction()
        kinds = kinds_by_name()
        if function not in kinds:
            raise self._unknown_function(sorted(kinds))
        return self._normalize(kinds[function])

    def _error(
        self,
        message: str,
        clause: str = "",
        expected: object = None,
        found: object = None,
        remedy: str | None = None,
    ) -> DiagSyntaxError:
        """Make an error at a clause, or at the call."""
        offset = self._clauses.given.get(clause, self._expr.offset)
        return self._scope.source.error(
            DiagSyntaxError, offset, message, expected=expected, found=found, remedy=remedy
        )

    def _unknown_function(self, kinds: list[str]) -> DiagSyntaxError:
        function = self._expr.function
        if "along" in self._clauses.given:
            expected = f"one of {', '.join(kinds)}"
            remedy = closest(function, kinds)
            return self._error(f"unknown normaliser '{function}'", "", expected, None, remedy)
        if "over" in self._clauses.given:
            expected = f"one of {', '.join(REDUCTIONS)}"
            remedy = closest(function, REDUCTIONS)
            return self._error(f"unknown reduction '{function}'", "", expected, None, remedy)
        elementwise = [name for name in ARITY if name.isidentifier()]
        known = [*elementwise, *REDUCTIONS, *ELEMENT_TYPES, *kinds, *_STRUCTURAL]
        return self._error(f"unknown function '{function}'", remedy=closest(function, known))

    def _expect_clauses(self, needed: tuple[str, ...], allowed: tuple[str, ...] = ()) -> None:
        function = self._expr.function
        for clause in needed:
            if clause not in self._clauses.given:
                remedy = f"write {function}(X) {clause} x"
                raise self._error(f"'{function}' needs '{clause}'", remedy=remedy)
        for clause in self._clauses.given:
            if clause not in needed and clause not in allowed:
                raise self._error(f"'{function}' takes no '{clause}'", clause)

    def _operands(self, count: int) -> list[ir.Value]:
        expr = self._expr
        if len(expr.args) != count:
            message = f"wrong number of arguments for '{expr.function}'"
            raise self._error(message, expected=count, found=len(expr.args))
        return [self._lowering.wire(arg) for arg in expr.args]

    def _loc(self, kind: str) -> ir.Location:
        return self._lowering.loc(self._expr, self._name, kind)

    def _reduction(self) -> ir.Value:
        self._expect_clauses(("over",))
        (src,) = self._operands(1)
        over = self._scope.has(src, self._clauses.over, "reduced", "operand")
        return emit_reduction(self._expr.function, src, over, self._loc(self._expr.function))

    def _normalize(self, kind: str) -> ir.Value:
        self._expect_clauses(("along",), ("where", "eps"))
        names = diag.kind_parameters(kind)
        src, *parameters = self._operands(1 + len(names))
        for (name, axes), wire in zip(names.items(), parameters, strict=True):
            if set(diag.labels(wire)) != set(axes):
                expected, found = (" ".join(a) or "none" for a in (axes, diag.labels(wire)))
                what = f"parameter '{name}' of '{self._expr.function}' has other axes"
                raise self._error(what, "", expected, found)
        clauses = self._clauses
        return diag.normalize(
            src,
            self._scope.has(src, clauses.along, "normalised", "operand"),
            kind,
            keep=None if clauses.where is None else self._lowering.part(clauses.where, "keep"),
            parameters=parameters,
            eps=clauses.eps,
            eps_place=clauses.eps_place,
            dtype=self._want.dtype if self._want else None,
            loc=self._loc(self._expr.function),
        )

    def _concat(self) -> ir.Value:
        self._expect_clauses(("along", "as"))
        lhs, rhs = self._operands(2)
        along, to = self._clauses.along, self._clauses.to
        assert to is not None
        if len(along) != 2:
            message = "wrong number of axes for 'concat'"
            raise self._error(message, "along", "one of each operand", len(along))
        axes = [
            *self._scope.has(lhs, along[:1], "joined", "left operand"),
            *self._scope.has(rhs, along[1:], "joined", "right operand"),
        ]
        sizes = diag.ConcatOp.infer(lhs.type, rhs.type, axes, self._scope.label(to))
        self._scope.new_axis(to, sizes[to.text])
        return diag.concat(lhs, rhs, axes, to.text, loc=self._loc("concat"))

    def _pad(self) -> ir.Value:
        self._expect_clauses(("along", "as"))
        along, to = self._clauses.along, self._clauses.to
        assert to is not None
        numbers = [arg.value for arg in self._expr.args[1:] if isinstance(arg, syntax.Number)]
        if not self._expr.args or len(numbers) not in (2, 3) or len(along) != 1:
            expected = "pad(A, low, high, value) along x as y, with numbers"
            raise self._error("malformed 'pad'", expected=expected)
        src = self._lowering.wire(self._expr.args[0])
        low, high = (int(literal_value(number, "i64")) for number in numbers[:2])
        if min(low, high) < 0:
            raise diag.VerifyError(f"padding must not be negative, found {low} and {high}")
        (axis,) = self._scope.has(src, along, "padded", "operand")
        size = diag.dims(src)[axis]
        self._scope.new_axis(to, size if size == diag.DYNAMIC else size + low + high)
        value = literal_value([*numbers, 0][2], str(diag.element_type(src)))
        return diag.pad(src, axis, to.text, low, high, value, loc=self._loc("pad"))


_STRUCTURAL: dict[str, Callable[[CallLowering], ir.Value]] = {
    "concat": CallLowering._concat,
    "pad": CallLowering._pad,
}
