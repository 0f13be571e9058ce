"""Random cascades: reductions that use earlier ones, legal by construction or of too high a rank.

A cascade is a list of steps over elements X and Y along the axis x. What a legal summand is made of
(polynomials of x - s, exponentials that a maximum keeps in range, products of a function of x and
one of s) is known here as mathematics; nothing is asked of the compiler.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from diagc.algebra.expressions import (
    Expr,
    absolute,
    call,
    constant,
    exp,
    log,
    maximum,
    minimum,
    show,
    sqrt,
    symbol,
    symbols,
)

__all__ = ["ELEMENTS", "Cascade", "Step", "random_cascade"]

ELEMENTS = ("X", "Y")
_X, _Y = map(symbol, ELEMENTS)

Term = Callable[[Random], Expr]


@dataclass(frozen=True)
class Step:
    """One wire: a reduction over x of a term, or a formula of earlier results.

    Args:
        name: of the wire.
        kind: "max", "min", "sum" or "mean"; None for a formula.
        term: over X, Y and names of earlier steps.
    """

    name: str
    kind: str | None
    term: Expr

    def statistics(self) -> list[str]:
        """The earlier results that the term uses."""
        return sorted(symbols(self.term) - set(ELEMENTS))


@dataclass(frozen=True)
class Cascade:
    """Steps, the last of which is the result.

    Args:
        steps: in order.
        legal: whether every summand is of low rank and has a stable form.
    """

    steps: tuple[Step, ...]
    legal: bool

    def text(self) -> str:
        """The cascade as a `.diag` diagram of X and Y, b rows of f64 each."""
        lines = []
        for step in self.steps:
            term = show(step.term)
            lines.append(
                f"  {step.name} = " + (f"{step.kind}({term}) over x" if step.kind else term)
            )
        body = "\n".join(lines)
        return (
            "axis b = 2, x\n"
            f"diagram main(X: b x f64, Y: b x f64) {{\n{body}\n  return {self.steps[-1].name}\n}}\n"
        )


@dataclass(frozen=True)
class _Statistic:
    """A statistic that summands may use.

    Args:
        steps: what computes it; the last is the statistic.
        largest_of: the element that it is an upper bound of, if any.
        bounded: whether it stays the same when the row is seen twice.
    """

    steps: tuple[Step, ...]
    largest_of: Expr | None = None
    bounded: bool = True

    @property
    def symbol(self) -> Expr:
        return symbol(self.steps[-1].name)


def _statistics(rng: Random, tag: str) -> _Statistic:
    """A first statistic; `tag` makes names unique."""
    element = rng.choice((_X, _Y))
    m, s = symbol(f"M{tag}"), f"S{tag}"
    top = Step(f"M{tag}", "max", element)
    weights = exp(element - m)
    total = Step(f"Z{tag}", "sum", weights)
    weighted = Step(f"U{tag}", "sum", weights * rng.choice((_X, _Y)))
    z, u = symbol(total.name), symbol(weighted.name)
    return rng.choice(
        (
            _Statistic((Step(s, "max", element),), element),
            _Statistic((Step(s, "max", element),), element),
            _Statistic((Step(s, "min", element),)),
            _Statistic((Step(s, "mean", element),)),
            _Statistic((Step(s, "sum", element),), bounded=False),
            _Statistic((top, total, Step(s, None, m + log(z))), element),
            _Statistic((top, total, weighted, Step(s, None, u / z))),
        )
    )


# ---- functions of one side ----------------------------------------------------------------------

_OF_ELEMENT: tuple[Term, ...] = (
    lambda rng: rng.choice((_X, _Y)),
    lambda rng: call("tanh", rng.choice((_X, _Y))),
    lambda rng: _X * _Y,
    lambda rng: _square(rng.choice((_X, _Y))),
    lambda rng: call("cos", _X) + 2.0,
    lambda rng: maximum(_X, _Y),
    lambda rng: absolute(_Y),
    lambda rng: constant(rng.choice((0.5, 2.0, 3.0))),
)


def _square(x: Expr) -> Expr:
    return x * x


def _power(x: Expr, degree: int) -> Expr:
    product = x
    for _ in range(degree - 1):
        product = product * x
    return product


def _of_statistic(rng: Random, s: Expr) -> Expr:
    return rng.choice(
        (
            s,
            s * s,
            call("tanh", s),
            call("cos", s),
            1.0 / (1.0 + s * s),
            exp(-(s * s)),
            sqrt(1.0 + absolute(s)),
            constant(1.0),
        )
    )


# ---- legal summands -----------------------------------------------------------------------------


def _separable(rng: Random, used: _Statistic) -> Expr:
    """Up to three products of a function of elements and one of the statistic."""
    count = rng.choice((1, 2, 3)) if used.bounded else 1
    terms = [rng.choice(_OF_ELEMENT)(rng) * _of_statistic(rng, used.symbol) for _ in range(count)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _polynomial(rng: Random, used: _Statistic) -> Expr:
    """A power of x - s, up to the fifth, times a function of elements; or multiplied out."""
    s, element = used.symbol, rng.choice((_X, _Y))
    if rng.random() < 0.2:
        return element * element - 2.0 * element * s + s * s
    power = _power(rng.choice((element - s, s - element)), rng.randint(1, 5))
    return power * rng.choice(_OF_ELEMENT)(rng) if rng.random() < 0.5 else power


def _exponential(rng: Random, used: _Statistic) -> Expr:
    """Exponentials of x - s, which s keeps in range, times polynomials of low degree."""
    assert used.largest_of is not None
    distance = used.largest_of - used.symbol
    rates = rng.sample((0.5, 1.0, 2.0), rng.choice((1, 1, 2)))
    total: Expr | None = None
    for rate in rates:
        term = exp(distance if rate == 1.0 else distance * rate)
        degree = rng.randint(0, 2)
        term = term * _power(distance, degree) if degree else term
        term = term * rng.choice(_OF_ELEMENT)(rng)
        total = term if total is None else total + term
    assert total is not None
    return total


def _angle(rng: Random, used: _Statistic) -> Expr:
    element, s = rng.choice((_X, _Y)), used.symbol
    return call(rng.choice(("sin", "cos")), rng.choice((element + s, element - s)))


def _legal(rng: Random, used: _Statistic) -> Expr:
    kinds: list[Callable[[Random, _Statistic], Expr]] = [_separable]
    if used.bounded:
        kinds += [_polynomial, _polynomial, _angle]
    if used.largest_of is not None:
        kinds += [_exponential, _exponential]
    return rng.choice(kinds)(rng, used)


def _legal_of_two(rng: Random, first: _Statistic, second: _Statistic) -> Expr:
    """A summand of two statistics."""
    s, t = first.symbol, second.symbol
    if first.largest_of is not None and second.bounded and rng.random() < 0.6:
        weights = exp(first.largest_of - s)
        return weights * _power(rng.choice((_X, _Y)) - t, rng.randint(1, 2))
    if first.bounded and second.bounded and rng.random() < 0.6:
        return (_X - s) * (_Y - t)
    return rng.choice(_OF_ELEMENT)(rng) * _of_statistic(rng, s) * _of_statistic(rng, t)


# ---- summands of high rank ----------------------------------------------------------------------


def _illegal(rng: Random, used: _Statistic) -> Expr:
    """A summand that no few products give, alone, scaled, or beside a legal one."""
    s, element = used.symbol, rng.choice((_X, _Y))
    distance = (element - s) * rng.choice((1.0, 0.5, 0.1))
    core = rng.choice(
        (
            call("tanh", distance),
            call("erf", distance),
            1.0 / (1.0 + exp(distance)),
            1.0 / (1.0 + distance * distance),
            sqrt(1.0 + distance * distance),
            log(1.0 + exp(minimum(distance, 30.0))),
            exp(-(distance * distance)),
            absolute(element - s),
            maximum(element, s),
            minimum(element * 2.0, s),
            element / (1.0 + element * element + s * s),
            call("sin", element * s),
            call("cos", distance * distance),
            exp(-(absolute(element - s))),
            _power(element - s, rng.randint(6, 9)),
            exp(element * s * 0.1),
        )
    )
    shape = rng.random()
    if shape < 0.25:
        return core * rng.choice((0.5, 2.0, 0.01))
    if shape < 0.5:
        return _legal(rng, used) + core * rng.choice((1.0, 0.01))
    if shape < 0.6:
        return core * call("tanh", s)
    return core


# ---- cascades -----------------------------------------------------------------------------------


def random_cascade(seed: int, legal: bool) -> Cascade:
    """A cascade of two or three levels, in which every step reads elements and is needed.

    Args:
        seed: the same seed gives the same cascade.
        legal: whether all summands are of low rank; else one is not.
    """
    rng = Random(f"cascade {seed} {legal}")
    while True:
        found = _cascade(rng, legal)
        if _is_sound(found):
            return found


def _is_sound(cascade: Cascade) -> bool:
    reads = all(step.kind is None or symbols(step.term) & set(ELEMENTS) for step in cascade.steps)
    used = {name for step in cascade.steps for name in symbols(step.term)}
    return reads and all(step.name in used for step in cascade.steps[:-1])


def _cascade(rng: Random, legal: bool) -> Cascade:
    first = _statistics(rng, "1")
    if rng.random() < 0.5:
        term = _legal(rng, first) if legal else _illegal(rng, first)
        return Cascade((*first.steps, Step("R", "sum", term)), legal)
    return _three_levels(rng, first, legal)


def _three_levels(rng: Random, first: _Statistic, legal: bool) -> Cascade:
    """The second level is a mean or sum over the first, the third uses it, or both."""
    wrong = None if legal else rng.choice((2, 3))
    term = _illegal(rng, first) if wrong == 2 else _legal(rng, first)
    kind = rng.choice(("mean", "sum"))
    second = _Statistic((Step("S2", kind, term),), bounded=kind == "mean")
    if wrong == 3:
        last = _illegal(rng, second)
    elif rng.random() < 0.5:
        last = _legal_of_two(rng, first, second)
    else:
        last = _legal(rng, second)
    steps: Sequence[Step] = (*first.steps, *second.steps, Step("R", "sum", last))
    return Cascade(tuple(steps), legal)
