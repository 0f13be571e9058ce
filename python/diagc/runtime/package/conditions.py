"""Conditions on sizes: Python expressions of which a package may hold only arithmetic."""

import ast

__all__ = ["check_condition"]

# Powers, shifts and products of `s` itself can be as long as memory is; the rest is no arithmetic.
_ALLOWED = (
    *(ast.Expression, ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Constant),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.USub, ast.UAdd),
    *(ast.And, ast.Or, ast.Not, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)
_LARGEST = 2**63
_LONGEST = 10_000  # characters; so no result is longer than some of these numbers multiplied


def check_condition(text: str) -> None:
    """See that an expression is arithmetic and comparisons on `s[i][j]`, sizes of shapes.

    Its value may still be undefined (a division by zero).

    Raises:
        ValueError: it is anything else, has a number beyond 2**63, or more than 10000 characters.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"condition {text[:40]!r}... has {len(text)} characters")
    try:
        tree = ast.parse(text, mode="eval")
        arithmetic = _is_arithmetic(tree)
        if arithmetic:
            compile(tree, "<condition>", "eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"condition {text!r} is no expression") from error
    if not arithmetic:
        raise ValueError(f"condition {text!r} is more than arithmetic on sizes")


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript):
        return _is_size(node)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, (int, float)) and abs(node.value) <= _LARGEST
    return isinstance(node, _ALLOWED) and all(map(_is_arithmetic, ast.iter_child_nodes(node)))


def _is_size(node: ast.Subscript) -> bool:
    """Whether it is `s[i][j]`."""
    shape = node.value
    if not isinstance(shape, ast.Subscript) or not isinstance(shape.value, ast.Name):
        return False
    indices = (shape.slice, node.slice)
    numbers = [index.value for index in indices if isinstance(index, ast.Constant)]
    return shape.value.id == "s" and [type(number) for number in numbers] == [int, int]
