"""The parser of whole `.diag` files: axis declarations, diagrams, statements."""

from diagc.errors import DiagSyntaxError
from diagc.frontend.scalar_types import ELEMENT_TYPES
from diagc.frontend.text import syntax
from diagc.frontend.text.expressions import ExpressionParser
from diagc.frontend.text.source import Source
from diagc.frontend.text.syntax import Word

__all__ = ["MAX_SIZE", "parse_file"]

MAX_SIZE = 2**31 - 1
"""Largest declared size of an axis; kernels index in 32 bits along one axis."""


def parse_file(source: Source) -> syntax.File:
    """Parse a text into its syntax tree.

    Raises:
        DiagSyntaxError: with place, expected, found.
    """
    return _FileParser(source).file()


class _FileParser(ExpressionParser):
    def file(self) -> syntax.File:
        items: list[syntax.AxisDecl | syntax.Diagram] = []
        self.skip_lines()
        while self.next.kind != "end":
            if self.accept("axis"):
                items.extend(self._axes())
            elif self.accept("diagram"):
                items.append(self._diagram())
            else:
                self.fail("'axis' or 'diagram'")
            self.skip_lines()
        return syntax.File(tuple(items))

    def _axes(self) -> list[syntax.AxisDecl]:
        axes = [self._axis()]
        while self.accept(","):
            axes.append(self._axis())
        if not self.at("axis", "diagram"):
            self.end_statement("diagram")
        return axes

    def _axis(self) -> syntax.AxisDecl:
        name = self.name("an axis name")
        if not self.accept("="):
            return syntax.AxisDecl(name, None)
        token = self.next
        if not token.text.isdigit():
            self.fail("a size, such as 64", "leave '=' out for a size that is known at run time")
        if float(token.text) > MAX_SIZE:
            raise self.source.error(
                DiagSyntaxError,
                token.offset,
                f"size of axis '{name.text}' out of range",
                expected=f"at most {MAX_SIZE}",
                found=token,
            )
        return syntax.AxisDecl(name, int(self.advance().text.lstrip("0") or 0))

    def _diagram(self) -> syntax.Diagram:
        name = self.name("the name of the diagram")
        self.expect("(")
        parameters: list[syntax.Parameter] = []
        while not self.at(")"):
            parameters.append(self._parameter())
            if not self.accept(","):
                break
        self.expect(")", "parameters are 'name: axes dtype', separated by commas")
        results = self._result_types() if self.accept("->") else None
        self.expect("{")
        body, outputs = self._body(name)
        self.expect("}", "'return' is the last statement of a diagram")
        return syntax.Diagram(name, tuple(parameters), results, body, outputs)

    def _parameter(self) -> syntax.Parameter:
        name = self.name("the name of a parameter")
        self.expect(":", "a parameter is 'name: axes dtype', such as 'Q: q d bf16'")
        return syntax.Parameter(name, self._wire_type())

    def _result_types(self) -> tuple[syntax.WireType, ...]:
        types = [self._wire_type()]
        while self.accept(","):
            types.append(self._wire_type())
        return tuple(types)

    def _wire_type(self) -> syntax.WireType:
        offset = self.next.offset
        groups: list[tuple[Word, ...]] = []
        dtype: Word | None = None
        while dtype is None and (self.at("(") or self.at_name()):
            if self.next.text in ELEMENT_TYPES:
                dtype = self.word()
            else:
                groups.append(self._group())
        return syntax.WireType(offset, tuple(groups), dtype)

    def _group(self) -> tuple[Word, ...]:
        """Parse one axis, or one dimension of a user's tensor that merges several: `(h d)`."""
        if not self.accept("("):
            return (self.name("an axis name"),)
        labels = self.label_list() if self.at_name() else ()
        self.expect(")")
        return labels

    def _body(self, name: Word) -> tuple[tuple[syntax.Assign, ...], syntax.Return]:
        statements: list[syntax.Assign] = []
        self.skip_lines()
        while not self.at("return"):
            if self.at("}"):
                self.fail("'return'", f"diagram '{name.text}' returns one wire or more")
            statements.append(self._assignment())
            self.end_statement("}")
        offset = self.advance().offset
        values = [self.expression()]
        while self.accept(","):
            values.append(self.expression())
        self.end_statement("}")
        return tuple(statements), syntax.Return(offset, tuple(values))

    def _assignment(self) -> syntax.Assign:
        name = self.name("a statement")
        type_ = self._wire_type() if self.accept(":") else None
        self.expect("=", "a statement is 'name = expression' or 'return expression'")
        return syntax.Assign(name, type_, self.expression())
