"""Terms evaluated over arrays of any library, and what numbers tell about terms."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from diagc.algebra.expressions import CONSTANT, SYMBOL, Expr, evaluate, symbols

__all__ = ["excludes", "interpret", "ratio", "sample"]

OPERATORS: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "neg": lambda x: -x,
    "eq": lambda x, y: x == y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "not": lambda x: ~x,
    "and": lambda x, y: x & y,
    "or": lambda x, y: x | y,
}
"""The functions that arrays spell as operators of Python."""


def interpret(
    expr: Expr,
    values: Mapping[str, Any],
    functions: Mapping[str, Callable[..., Any]],
    number: Callable[[float], Any] = float,
) -> Any:
    """The term on arrays.

    Args:
        expr: the term.
        values: the array of each symbol; they broadcast.
        functions: the functions that are no operators, by name.
        number: from a constant to what the functions take.

    Raises:
        KeyError: a function that neither table has.
    """
    done: dict[Expr, Any] = {}

    def visit(term: Expr) -> Any:
        if term.op == SYMBOL:
            return values[str(term.value)]
        if term.op == CONSTANT:
            return number(float(term.value or 0.0))
        if term not in done:
            function = OPERATORS.get(term.op) or functions[term.op]
            done[term] = function(*map(visit, term.args))
        return done[term]

    return visit(expr)


_ELEMENTS = (-2.3, -0.4, 0.7, 1.9)
_SHIFTS = (-2.5, 0.0, 3.1)


def sample(names: Iterable[str], element: float) -> dict[str, float]:
    """Some number for every symbol: `element` for x, numbers of their own for the rest."""
    others = (name for name in sorted(names) if name != "x")
    return {name: 0.61 + 0.37 * k for k, name in enumerate(others)} | {"x": element}


def ratio(term: Expr, base: Expr) -> float | None:
    """The number that `term / base` is for all elements and parameters; None if it varies."""
    names = symbols(term) | symbols(base)
    found = []
    for scale in (1.0, 1.7):
        for element in _ELEMENTS:
            values = {n: v * scale for n, v in sample(names, element).items()}
            found.append((evaluate(term, values), evaluate(base, values)))
    pairs = [(top, bottom) for top, bottom in found if bottom]
    if not pairs or any(top for top, bottom in found if not bottom):
        return None
    first = pairs[0][0] / pairs[0][1]
    same = all(math.isclose(t, first * b, rel_tol=1e-12, abs_tol=1e-300) for t, b in pairs)
    return first if same else None


def excludes(identities: Iterable[tuple[Expr, float]], value: float) -> bool:
    """Whether every term gives its identity for the element `value`, whatever c is.

    Terms with parameters are not trusted: their sign may turn a limit around.
    """
    for term, identity in identities:
        if symbols(term) - {"x", "c"}:
            return False
        for shift in _SHIFTS:
            if evaluate(term, {"x": value, "c": shift}) != identity:
                return False
    return True
