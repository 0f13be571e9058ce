"""Scalar functions of Python as terms: they are called on symbols, and must be pure.

A function is called twice. It is refused when it asks for the truth or the number behind a symbol,
when it gives something else than a number, when two calls give different terms, and when a call
changes what the function sees outside of it.
"""

import inspect
from collections.abc import Callable, Collection, Sequence
from types import ModuleType
from typing import Any, NoReturn, TypeAlias

from diagc.algebra.expressions import Expr, constant, symbol
from diagc.errors import DiagcError, SourceLocation, UserError

__all__ = ["Scalar", "Traced", "apply", "trace"]

REMEDY = "use Python's operators and the functions of diagc.scalars; diagc.scalars.where branches"


class Traced:
    """A scalar that stands for a term."""

    __array_ufunc__ = None  # numpy says that it cannot, instead of making an array of objects

    def __init__(self, term: Expr, condition: bool = False) -> None:
        """Wrap a term, a truth value with `condition`."""
        self.term = term
        self.condition = condition

    def __add__(self, other: "Scalar") -> "Traced":
        return apply("add", self, other)

    def __radd__(self, other: "Scalar") -> "Traced":
        return apply("add", other, self)

    def __sub__(self, other: "Scalar") -> "Traced":
        return apply("sub", self, other)

    def __rsub__(self, other: "Scalar") -> "Traced":
        return apply("sub", other, self)

    def __mul__(self, other: "Scalar") -> "Traced":
        return apply("mul", self, other)

    def __rmul__(self, other: "Scalar") -> "Traced":
        return apply("mul", other, self)

    def __truediv__(self, other: "Scalar") -> "Traced":
        return apply("div", self, other)

    def __rtruediv__(self, other: "Scalar") -> "Traced":
        return apply("div", other, self)

    def __pow__(self, exponent: "Scalar") -> "Traced":
        return _power(self, exponent)

    def __rpow__(self, base: "Scalar") -> "Traced":
        return apply("pow", base, self)

    def __neg__(self) -> "Traced":
        return apply("neg", self)

    def __pos__(self) -> "Traced":
        return self

    def __abs__(self) -> "Traced":
        return apply("abs", self)

    def __lt__(self, other: "Scalar") -> "Traced":
        return apply("lt", self, other)

    def __le__(self, other: "Scalar") -> "Traced":
        return apply("le", self, other)

    def __gt__(self, other: "Scalar") -> "Traced":
        return apply("lt", other, self)

    def __ge__(self, other: "Scalar") -> "Traced":
        return apply("le", other, self)

    def __eq__(self, other: object) -> "Traced":  # type: ignore[override]
        return apply("eq", self, other)

    def __ne__(self, other: object) -> "Traced":  # type: ignore[override]
        return apply("not", apply("eq", self, other))

    def __and__(self, other: "Scalar") -> "Traced":
        return apply("and", self, other)

    def __or__(self, other: "Scalar") -> "Traced":
        return apply("or", self, other)

    def __invert__(self) -> "Traced":
        return apply("not", self)

    __hash__ = object.__hash__

    def __bool__(self) -> NoReturn:
        raise UserError("it branches on a value, or uses min or max of Python", remedy=REMEDY)

    def __float__(self) -> NoReturn:
        raise UserError("it asks for the number behind a symbol", remedy=REMEDY)

    __int__ = __index__ = __complex__ = __float__

    def __iter__(self) -> NoReturn:
        raise UserError("it uses an element as a row", expected="a function of one number")


Scalar: TypeAlias = Traced | float
"""What scalar functions take: a symbol, or a number."""

_LOGICAL = ("and", "or", "not")
_CONDITIONS = ("lt", "le", "eq", *_LOGICAL)


def apply(name: str, *args: Any) -> Traced:
    """Function `name` of symbols and numbers; see `expressions.FUNCTIONS`.

    Raises:
        UserError: an argument is neither, or a truth value stands where a number belongs.
    """
    traced = [_wrapped(arg) for arg in args]
    expected = [name in _LOGICAL] * len(traced)
    if name == "select":
        expected[0] = True
    for arg, wanted in zip(traced, expected, strict=True):
        if arg.condition != wanted:
            kinds = ("a number", "a condition such as x > 0")
            raise UserError(f"wrong operand of '{name}'", expected=kinds[wanted], found=arg.term)
    return Traced(Expr(name, tuple(arg.term for arg in traced)), name in _CONDITIONS)


def _wrapped(value: Any) -> Traced:
    if isinstance(value, Traced):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        return Traced(constant(value))
    raise UserError("it is no scalar function", expected="numbers", found=f"{value!r:.40}")


def _power(base: Traced, exponent: Scalar) -> Traced:
    """Small powers are products and roots, in which laws are found."""
    if isinstance(exponent, int | float) and exponent in (1, 2, 3, 4):
        result = base
        for _ in range(int(exponent) - 1):
            result = result * base
        return result
    if isinstance(exponent, float) and exponent == 0.5:
        return apply("sqrt", base)
    return apply("pow", base, exponent)


def trace(
    function: Callable[..., Any], role: str, positional: Sequence[str], named: Collection[str]
) -> Expr:
    """The term that a scalar function computes.

    Args:
        function: the function.
        role: what messages call it.
        positional: symbols of the arguments that come first, whatever they are called.
        named: symbols that further arguments may name.

    Raises:
        UserError: it is no pure scalar function of these arguments.
    """
    if not callable(function):
        raise UserError(f"{role} is no function", found=f"{function!r:.60}")
    location = _location(function)
    names = [*positional, *_further(function, role, len(positional), named, location)]
    before = _outside(function)
    first, second = (_call(function, role, names, location) for _ in range(2))
    if first != second:
        found = f"{first} and then {second}"
        expected = "the same from two calls"
        raise _impure(role, location, expected=expected, found=found)
    after = _outside(function)
    changed = sorted(name for name in before if before[name] != after.get(name))
    if changed:
        raise _impure(role, location, found=f"a call changes {', '.join(changed)}")
    return first


def _impure(
    role: str, location: SourceLocation | None, found: str, expected: str | None = None
) -> UserError:
    message = f"{role} is not pure"
    return UserError(message, location=location, expected=expected, found=found, remedy=REMEDY)


def _location(function: Callable[..., Any]) -> SourceLocation | None:
    code = getattr(function, "__code__", None)
    return None if code is None else SourceLocation(code.co_filename, code.co_firstlineno, 1)


def _further(
    function: Callable[..., Any],
    role: str,
    count: int,
    named: Collection[str],
    location: SourceLocation | None,
) -> list[str]:
    """The names of the arguments after the first `count`."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []  # a function of C; the call will tell
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    wrong = [p.name for p in parameters if p.kind not in plain]
    names = [p.name for p in parameters]
    unknown = [name for name in names[count:] if name not in named]
    if wrong or len(names) < count or unknown:
        plural = "" if count == 1 else "s"
        expected = f"{count} argument{plural}" + (f", then any of {', '.join(named)}" * bool(named))
        found = f"({', '.join(map(str, parameters))})"
        message = f"wrong arguments of {role}"
        raise UserError(message, location=location, expected=expected, found=found)
    return names[count:]


def _call(
    function: Callable[..., Any], role: str, names: Sequence[str], location: SourceLocation | None
) -> Expr:
    try:
        result = _wrapped(function(*(Traced(symbol(name)) for name in names)))
        if result.condition:
            raise UserError("it gives a truth value", expected="a number")
    except DiagcError as error:
        raise UserError(
            f"{role}: {error.message}",
            location=location,
            expected=error.expected,
            found=error.found,
            remedy=error.remedy or REMEDY,
        ) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        message = f"{role} is no scalar function: {reason}"
        raise UserError(message, location=location, remedy=REMEDY) from error
    return result.term


# ---- side effects ------------------------------------------------------------------------------

_EFFECTS = ("print", "open", "input", "exec", "eval", "setattr", "delattr")


def _outside(function: Callable[..., Any]) -> dict[str, str]:
    """What a function sees outside of it, by name, as text that changes with the values.

    Raises:
        UserError: it calls a built-in function that has effects.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        return {}
    around = getattr(function, "__globals__", {})
    effects = [name for name in code.co_names if name in _EFFECTS and name not in around]
    if effects:
        raise _impure("the function", _location(function), found=f"it calls {effects[0]}")
    seen = {name: around[name] for name in code.co_names if name in around}
    cells = zip(code.co_freevars, getattr(function, "__closure__", None) or (), strict=False)
    seen |= {name: cell.cell_contents for name, cell in cells}
    return {name: _shown(value) for name, value in seen.items() if not _is_code(value)}


def _is_code(value: object) -> bool:
    return isinstance(value, ModuleType | type) or callable(value)


def _shown(value: object) -> str:
    return f"{value!r} {vars(value)!r}" if hasattr(value, "__dict__") else repr(value)
