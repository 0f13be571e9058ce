"""Factors exp(r c) pushed into a term, to where they meet the exponentials that they keep in range.

`growth` says like which exponential a function of an element grows, `pushed` multiplies it by a
power of exp(c), and `rescaled` writes an aggregate in statistics that were multiplied by powers.
All of it holds for real numbers by the laws of exponentials; that the result also stays in range
where the operands do is for the caller to check.
"""

from collections.abc import Callable, Mapping

from diagc.algebra.expressions import CONSTANT, SYMBOL, Expr, call, constant, exp, is_zero, symbol

__all__ = ["growth", "pushed", "rescaled"]

_C = symbol("c")
_JOINED = ("add", "sub", "max", "min")
_CARRIED = ("neg", "abs")
_Push = Callable[[Expr, float], Expr]
_Joint = Callable[[Expr, Expr], Expr]


def growth(term: Expr) -> Expr | None:
    """The exponent g of the exponential that a term grows like; None where none is seen."""
    parts = [growth(arg) for arg in term.args]
    if term.op == "exp":
        return term.args[0]
    if term.op in _CARRIED:
        return parts[0]
    if term.op in ("sqrt", "pow") and parts[0] is not None:
        power = _power(term)
        return parts[0] * power if power > 0.0 else None
    if term.op == "mul":
        return _sum(parts[0], parts[1])
    if term.op == "div":
        below = parts[1] if _is_single(term.args[1]) else None
        return _sum(parts[0], None if below is None else -below)
    if term.op in _JOINED:
        return _join(parts, lambda a, b: call("max", a, b))
    if term.op == "select":
        kept = [g for g, arg in zip(parts[1:], term.args[1:], strict=True) if not is_zero(arg)]
        return _join(kept, lambda a, b: call("select", term.args[0], a, b))
    return None


def _power(term: Expr) -> float:
    """The exponent of a root or power; 0 where it is no number."""
    if term.op == "sqrt":
        return 0.5
    return float(term.args[1].value or 0.0) if term.args[1].op == CONSTANT else 0.0


def _sum(a: Expr | None, b: Expr | None) -> Expr | None:
    return b if a is None else a if b is None else a + b


def _join(parts: list[Expr | None], joint: _Joint) -> Expr | None:
    """One exponent for several terms; a term without any counts as exp(0)."""
    if all(part is None for part in parts):
        return None
    first, *rest = (constant(0.0) if part is None else part for part in parts)
    for other in rest:
        first = first if other == first else joint(first, other)
    return first


def _is_single(term: Expr) -> bool:
    """Whether a term is one exponential, up to factors, so that its inverse is one too."""
    if term.op == "mul":
        return any(map(_is_single, term.args))
    return term.op == "exp" or (term.op in _CARRIED and _is_single(term.args[0]))


def pushed(term: Expr, rate: float) -> Expr:
    """The function of an element times exp(rate * c)."""
    if rate == 0.0:
        return term
    if term.op == "exp":
        return exp(_moved(term.args[0], rate))
    if term.op == "mul":
        return _push_into_factor(term, rate)
    if term.op == "div" and growth(term.args[0]) is None and growth(term.args[1]) is not None:
        return call("div", term.args[0], pushed(term.args[1], -rate))
    if term.op == "div":
        return call("div", pushed(term.args[0], rate), term.args[1])
    return _distributed(term, rate, pushed) or _times(term, rate)


def _push_into_factor(term: Expr, rate: float) -> Expr:
    left, right = term.args
    if left.op == right.op == "exp":
        return exp(_moved(left.args[0] + right.args[0], rate))
    if growth(left) is None and growth(right) is not None:
        return left * pushed(right, rate)
    return pushed(left, rate) * right


def _distributed(term: Expr, rate: float, push: _Push) -> Expr | None:
    """The factor in every argument of a homogeneous function; None for other functions."""
    if is_zero(term):
        return term
    if term.op in _JOINED or term.op in _CARRIED:
        return Expr(term.op, tuple(push(arg, rate) for arg in term.args))
    if term.op == "select":
        return call("select", term.args[0], *(push(arg, rate) for arg in term.args[1:]))
    if term.op in ("sqrt", "pow") and (power := _power(term)) != 0.0:
        return Expr(term.op, (push(term.args[0], rate / power), *term.args[1:]))
    return None


def _moved(exponent: Expr, rate: float) -> Expr:
    """`exponent + rate * c`."""
    step = _C if abs(rate) == 1.0 else abs(rate) * _C
    return exponent - step if rate < 0.0 else exponent + step


def _times(term: Expr, rate: float) -> Expr:
    """`term * exp(rate * c)`."""
    if rate == 0.0 or is_zero(term):
        return term
    step = _C if rate == 1.0 else -_C if rate == -1.0 else rate * _C
    return exp(step) if term == constant(1.0) else term * exp(step)


# ---- aggregates --------------------------------------------------------------------------------


def rescaled(aggregate: Expr, rates: Mapping[str, float], rate: float) -> Expr:
    """The aggregate of statistics z_k times exp(rate * c), over w_k = z_k exp(-rates[k] c).

    The symbols of the statistics stand for w_k in the result.
    """

    def push(term: Expr, r: float) -> Expr:
        if term.op == SYMBOL:
            return _times(term, rates.get(str(term.value), 0.0) + r)
        if term.op in ("mul", "div"):
            sign = 1.0 if term.op == "mul" else -1.0
            part = _degree(term.args[1], rates)
            left = push(term.args[0], r + sign * part)
            return Expr(term.op, (left, push(term.args[1], -part)))
        if term.op == "exp":
            inner = push(term.args[0], 0.0)
            return exp(_moved(inner, r)) if r else exp(inner)
        if term.op == "log":
            part = _degree(term.args[0], rates)
            inner = call("log", push(term.args[0], -part))
            return _times(_moved(inner, part) if part else inner, r)
        found = _distributed(term, r, push)
        if found is not None:
            return found
        return _times(Expr(term.op, tuple(push(a, 0.0) for a in term.args), term.value), r)

    return push(aggregate, rate)


def _degree(term: Expr, rates: Mapping[str, float]) -> float:
    """The r for which a term grows like exp(r c) when the statistics do."""
    if term.op == SYMBOL:
        return rates.get(str(term.value), 0.0)
    parts = [_degree(arg, rates) for arg in term.args]
    if term.op == "mul":
        return sum(parts)
    if term.op == "div":
        return parts[0] - parts[1]
    if term.op in ("sqrt", "pow"):
        return parts[0] * _power(term)
    if term.op == "select":
        return max(parts[1:])
    return max(parts) if term.op in _JOINED or term.op in _CARRIED else 0.0
