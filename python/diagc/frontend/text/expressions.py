"""The parser of expressions: operator precedence, calls with clauses, index brackets."""

from dataclasses import replace
from typing import NoReturn

from diagc.errors import DiagSyntaxError
from diagc.frontend.functions import ARITY
from diagc.frontend.reductions import REDUCTIONS
from diagc.frontend.scalar_types import ELEMENT_TYPES
from diagc.frontend.text import syntax
from diagc.frontend.text.syntax import Clauses, Expr, Word
from diagc.frontend.text.tokens import Cursor

__all__ = ["MAX_DEPTH", "ExpressionParser"]

MAX_DEPTH = 100
"""Deepest expression; everything that walks syntax trees recurses at most this far."""

_COMPARE, _NOT, _NEGATE, _POWER, _CONTRACT, _POSTFIX = 4, 3, 7, 8, 9, 10
_LEVELS = (
    {"or": 1, "and": 2}
    | dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), _COMPARE)
    | {"+": 5, "-": 5, "*": 6, "/": 6, "%": 6, "**": _POWER, ".": _CONTRACT}
)
_LITERALS = {"true": True, "false": False, "inf": float("inf"), "nan": float("nan")}
_CLAUSES = ("over", "along", "where", "eps", "as")


class ExpressionParser(Cursor):
    """Recursive descent with precedence levels; see docs/diag_language.md for the grammar."""

    _nesting = 0

    def expression(self, level: int = 0) -> Expr:
        """Parse an expression whose operators bind tighter than `level`."""
        self._nesting += 1
        if self._nesting > MAX_DEPTH:
            self._too_deep(self.next.offset)
        left = self._prefix(level)
        while (self.next.kind in ("sign", "name")) and _LEVELS.get(self.next.text, 0) > level:
            left = self._infix(left)
            if left.depth > MAX_DEPTH:
                self._too_deep(left.offset)
        self._nesting -= 1
        return left

    def _too_deep(self, offset: int) -> NoReturn:
        raise self.source.error(
            DiagSyntaxError,
            offset,
            f"expression of more than {MAX_DEPTH} levels",
            remedy="name a part of it in an assignment of its own",
        )

    def _infix(self, left: Expr) -> Expr:
        token = self.advance()
        level = _LEVELS[token.text]
        if token.text == ".":
            return self._contract(left, token.offset)
        # Powers are right associative; a comparison takes no further comparison.
        right = self.expression(level - 1 if level == _POWER else level)
        if level == _COMPARE and _LEVELS.get(self.next.text, 0) == _COMPARE:
            self.fail("one comparison", "join comparisons with 'and'")
        depth = 1 + max(left.depth, right.depth)
        return syntax.Binary(token.offset, token.text, left, right, depth=depth)

    def _contract(self, left: Expr, offset: int) -> Expr:
        right = self.expression(_CONTRACT)
        self.expect("over", "a contraction is 'A . B over d'; an outer product is 'over ()'")
        over = () if self._empty_list() else self.label_list()
        acc = self.word() if self.accept("acc") else None
        depth = 1 + max(left.depth, right.depth)
        return syntax.Contract(offset, left, right, over, acc, depth=depth)

    def _empty_list(self) -> bool:
        if not self.accept("("):
            return False
        self.expect(")")
        return True

    def label_list(self) -> tuple[Word, ...]:
        """Parse one or more axis names, separated by spaces."""
        words = [self.name("an axis name")]
        while self.at_name():
            words.append(self.name("an axis name"))
        return tuple(words)

    def _prefix(self, level: int) -> Expr:
        offset = self.next.offset
        loose = (self.at("not") and level > _NOT) or (self.at("-") and level >= _CONTRACT)
        if loose:
            self.fail("an operand", f"put '{self.next.text} …' in parentheses")
        if self.accept("not"):
            operand = self.expression(_NOT)
            return syntax.Unary(offset, "not", operand, depth=1 + operand.depth)
        if self.accept("-"):
            operand = self.expression(_NEGATE)
            if isinstance(operand, syntax.Number) and not isinstance(operand.value, bool):
                return replace(operand, offset=offset, value=-operand.value)
            return syntax.Unary(offset, "neg", operand, depth=1 + operand.depth)
        return self._postfix()

    def _postfix(self) -> Expr:
        base = self._atom()
        while self.next.kind == "sign" and self.at("["):
            base = self._index(base)
        return base

    def _atom(self) -> Expr:
        token = self.next
        if token.kind == "number":
            return self._number()
        if token.kind == "name" and token.text in _LITERALS:
            self.advance()
            return syntax.Number(token.offset, _LITERALS[token.text])
        if self.accept("("):
            inner = self.expression()
            self.expect(")", f"to close the parenthesis at {self.source.place(token.offset)}")
            return inner
        if self.at("["):
            return self._table()
        if self.at("map"):
            return self._block()
        return self._name_or_call()

    def _number(self) -> Expr:
        token = self.advance()
        value: int | float = float(token.text)
        whole = token.text.isdigit()
        if value >= 2**63 and (whole or value == float("inf")):
            raise self.source.error(
                DiagSyntaxError, token.offset, "number out of range", found=token
            )
        return syntax.Number(token.offset, int(token.text.lstrip("0") or 0) if whole else value)

    def _name_or_call(self) -> Expr:
        token = self.next
        if not self.at_name() and not self.at("where"):
            self.fail("an expression")
        self.advance()
        if not self.accept("("):
            if token.text == "where":
                self.fail("'('", "the function is where(condition, a, b)")
            return syntax.Name(token.offset, token.text)
        args = self._arguments(token.offset)
        elementwise = token.text in ARITY or token.text in ELEMENT_TYPES
        reduction = token.text in REDUCTIONS or not elementwise
        clauses = self._clauses(reduction and len(args) == 1)
        parts = [*args, *([] if clauses.where is None else [clauses.where])]
        depth = 1 + max((part.depth for part in parts), default=0)
        return syntax.Call(token.offset, token.text, args, clauses, depth=depth)

    def _arguments(self, opened: int) -> tuple[Expr, ...]:
        args: list[Expr] = []
        while not self.at(")"):
            args.append(self.expression())
            if not self.accept(","):
                break
        self.expect(")", f"to close the call at {self.source.place(opened)}")
        return tuple(args)

    def _clauses(self, reduction: bool) -> Clauses:
        """Parse what follows a call; `over` belongs to it only when the call may be a reduction."""
        clauses = Clauses({})
        while self.at(*_CLAUSES):
            if self.at("over") and ("along" in clauses.given or not reduction):
                break
            token = self.advance()
            if token.text in clauses.given:
                raise self.source.error(
                    DiagSyntaxError, token.offset, f"'{token.text}' stands twice"
                )
            given = clauses.given | {token.text: token.offset}
            clauses = replace(self._clause(token.text, clauses), given=given)
        return clauses

    def _clause(self, keyword: str, clauses: Clauses) -> Clauses:
        match keyword:
            case "over":
                return replace(clauses, over=self.label_list())
            case "along":
                return replace(clauses, along=self.label_list())
            case "where":
                return replace(clauses, where=self._postfix())
            case "as":
                return replace(clauses, to=self.name("a new axis name"))
        if self.next.kind != "number":
            self.fail("a number after 'eps'")
        eps = float(self.advance().text)
        place = self.advance().text if self.at("inside", "outside") else None
        return replace(clauses, eps=eps, eps_place=place)

    def _index(self, base: Expr) -> Expr:
        offset = self.expect("[").offset
        renames: list[tuple[Word, Word]] = []
        positions: list[tuple[Word, Expr]] = []
        while not self.at("]"):
            axis = self.name("an axis name")
            if (
                not self.at("->", "=")
                or (self.at("=") and renames)
                or (self.at("->") and positions)
            ):
                self.fail("'->' or '='", "write [old -> new] or [axis = position]")
            if self.accept("->"):
                renames.append((axis, self.name("a new axis name")))
            else:
                self.expect("=")
                positions.append((axis, self.expression()))
            if not self.accept(","):
                break
        self.expect("]", f"to close the bracket at {self.source.place(offset)}")
        depth = 1 + max([base.depth, *(e.depth for _, e in positions)])
        return syntax.Index(offset, base, tuple(renames), tuple(positions), depth=depth)

    def _table(self) -> Expr:
        offset = self.expect("[").offset
        rows: list[Expr] = []
        while not self.at("]"):
            rows.append(self.expression())
            if not self.accept(","):
                break
        self.expect("]", f"to close the table at {self.source.place(offset)}")
        depth = 1 + max((row.depth for row in rows), default=0)
        return syntax.Table(offset, tuple(rows), depth=depth)

    def _block(self) -> Expr:
        offset = self.expect("map").offset
        self.expect("{")
        parts: list[tuple[Word, Expr]] = []
        self.skip_lines()
        result = self.expression()
        while self.at("=") and isinstance(result, syntax.Name):
            self.advance()
            parts.append((Word(result.text, result.offset), self.expression()))
            self.end_statement("}")
            result = self.expression()
        self.skip_lines()
        self.expect("}", f"to close the map at {self.source.place(offset)}")
        depth = 1 + max([result.depth, *(part.depth for _, part in parts)])
        return syntax.Block(offset, tuple(parts), result, depth=depth)
