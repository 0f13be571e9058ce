"""Open sizes as text over symbols, `2*s27 - 1`, as the importer writes them down."""

import ast
from collections.abc import Mapping
from typing import Any

__all__ = ["parse_size"]


def parse_size(text: str, known: Mapping[str, Any]) -> Any:
    """The `diagc.runtime.steps.Size` of such a text; None where something in it has no size.

    Args:
        text: sums, products and whole quotients of symbols and numbers.
        known: sizes by symbol, or by the whole text of what they are the size of.
    """
    if text in known:
        return known[text]
    try:
        return _value(ast.parse(text, mode="eval").body, known)
    except (KeyError, SyntaxError):
        return None


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """As `parse_size`.

    Raises:
        KeyError: an unknown symbol or operation.
    """
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.Name(id=name):
            return known[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return ("*", _value(operand, known), -1)
        case ast.BinOp(left=left, op=operator, right=right):
            return (_OPERATORS[type(operator)], _value(left, known), _value(right, known))
    raise KeyError(ast.dump(node))


_OPERATORS: Mapping[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.FloorDiv: "//",
    ast.Mod: "%",
}
