"""Conditions on sizes: Python expressions of which a package may hold only arithmetic."""

import ast

__all__ = ["check_condition"]

_ALLOWED = (
    *(ast.Expression, ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Subscript, ast.Name),
    *(ast.Constant, ast.Load, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)


def check_condition(text: str) -> None:
    """See that an expression is arithmetic and comparisons on `s`, the shapes.

    Raises:
        ValueError: it is anything else.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"condition {text!r} is no expression") from error
    for node in ast.walk(tree):
        named = not isinstance(node, ast.Name) or node.id == "s"
        number = not isinstance(node, ast.Constant) or type(node.value) in (int, float, bool)
        power = isinstance(node, ast.Pow)  # its results can be as long as memory is
        if not isinstance(node, _ALLOWED) or not named or not number or power:
            raise ValueError(f"condition {text!r} is more than arithmetic on sizes")
