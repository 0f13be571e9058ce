"""Random scalar expressions for the bodies of maps, tame in size and free of jumps.

A jump (a comparison of computed floats) would turn a rounding error into a wrong branch, so only
positions and inputs are compared. Constants are short binary fractions: products of them that a
pass folds in f32 are exact.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from diagc.mlir import arith, ir, math_dialect

__all__ = ["CONSTANTS", "Term", "expression", "widen"]

CONSTANTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
LARGEST = 24.0


@dataclass(frozen=True)
class Term:
    """A scalar and a bound of its absolute value."""

    value: ir.Value
    bound: float


def widen(value: ir.Value, type_: ir.Type) -> ir.Value:
    """`value` as the float type `type_`."""
    if value.type == type_:
        return value
    narrow = ir.FloatType(type_).width < ir.FloatType(value.type).width
    if ir.FloatType(type_).width == ir.FloatType(value.type).width:  # f16 to bf16 or back
        return arith.truncf(type_, arith.extf(ir.F32Type.get(), value))
    return arith.truncf(type_, value) if narrow else arith.extf(type_, value)


def _like(x: Term, number: float) -> ir.Value:
    return arith.constant(x.value.type, number)


def _tanh(rng: Random, x: Term) -> Term:
    return Term(math_dialect.tanh(x.value), 1.0)


def _exp(rng: Random, x: Term) -> Term:
    safe = x if x.bound <= 3 else _tanh(rng, x)
    return Term(math_dialect.exp(safe.value), 21.0)


def _sigmoid(rng: Random, x: Term) -> Term:
    one = _like(x, 1.0)
    grown = math_dialect.exp(arith.negf(x.value))
    return Term(arith.divf(one, arith.addf(one, grown)), 1.0)


def _root(rng: Random, x: Term) -> Term:
    inside = arith.addf(math_dialect.absf(x.value), _like(x, rng.choice(CONSTANTS)))
    return Term(math_dialect.sqrt(inside), x.bound**0.5 + 1.5)


def _relu(rng: Random, x: Term) -> Term:
    return Term(arith.maximumf(x.value, _like(x, 0.0)), x.bound)


def _absolute(rng: Random, x: Term) -> Term:
    return Term(math_dialect.absf(x.value), x.bound)


def _negative(rng: Random, x: Term) -> Term:
    return Term(arith.negf(x.value), x.bound)


def _scaled(rng: Random, x: Term) -> Term:
    factor = rng.choice((*CONSTANTS, -0.5, -1.0))
    return Term(arith.mulf(x.value, _like(x, factor)), x.bound * abs(factor))


def _offset(rng: Random, x: Term) -> Term:
    return Term(arith.addf(x.value, _like(x, rng.choice((*CONSTANTS, -0.5)))), x.bound + 2)


def _capped(rng: Random, x: Term) -> Term:
    return Term(arith.minimumf(x.value, _like(x, 2.0)), max(x.bound, 2.0))


def _lorentz(rng: Random, x: Term) -> Term:
    below = arith.addf(_like(x, 1.0), arith.mulf(x.value, x.value))
    return Term(arith.divf(x.value, below), 0.5)


def _reciprocal_root(rng: Random, x: Term) -> Term:
    below = arith.addf(arith.mulf(x.value, x.value), _like(x, 0.5))
    return Term(math_dialect.rsqrt(below), 1.5)


def _square(rng: Random, x: Term) -> Term:
    return Term(arith.mulf(x.value, x.value), x.bound**2)


def _log(rng: Random, x: Term) -> Term:
    inside = arith.addf(_like(x, 1.0), math_dialect.absf(x.value))
    return Term(math_dialect.log(inside), x.bound**0.5)


def _power(rng: Random, x: Term) -> Term:
    base = arith.addf(math_dialect.absf(x.value), _like(x, 0.25))
    return Term(math_dialect.powf(base, _like(x, rng.choice((0.5, 1.5, -0.5)))), x.bound**1.5 + 2)


def _fused(rng: Random, x: Term) -> Term:
    slope, offset = rng.choice(CONSTANTS), rng.choice(CONSTANTS)
    value = math_dialect.fma(x.value, _like(x, slope), _like(x, offset))
    return Term(value, x.bound * slope + offset)


def _bounded(op: Callable[[ir.Value], ir.Value], bound: float) -> Callable[[Random, Term], Term]:
    """A function that grows fast, of an argument between -1 and 1."""
    return lambda rng, x: Term(op(math_dialect.tanh(x.value)), bound)


def _of_size(op: Callable[[ir.Value], ir.Value], bound: float) -> Callable[[Random, Term], Term]:
    """A function that is singular at -1 or 0, of 1 + |x|."""

    def apply(rng: Random, x: Term) -> Term:
        return Term(op(arith.addf(math_dialect.absf(x.value), _like(x, 1.0))), bound)

    return apply


def _library(op: Callable[[ir.Value], ir.Value], bound: float) -> Callable[[Random, Term], Term]:
    return lambda rng, x: Term(op(x.value), bound)


_UNARY: tuple[tuple[int, Callable[[Random, Term], Term]], ...] = (
    (4, _tanh),
    (4, _exp),
    (3, _sigmoid),
    (3, _root),
    (3, _relu),
    (3, _absolute),
    (2, _negative),
    (4, _scaled),
    (3, _offset),
    (2, _capped),
    (1, _lorentz),
    (1, _reciprocal_root),
    (2, _square),
    (2, _log),
    (1, _library(math_dialect.sin, 1.0)),
    (1, _library(math_dialect.cos, 1.0)),
    (1, _library(math_dialect.erf, 1.0)),
    (1, _library(math_dialect.atan, 1.6)),
    (1, _bounded(math_dialect.exp2, 2.0)),
    (1, _bounded(math_dialect.expm1, 2.0)),
    (1, _bounded(math_dialect.sinh, 1.2)),
    (1, _of_size(math_dialect.log1p, 4.0)),
    (1, _of_size(math_dialect.log2, 5.0)),
    (1, _power),
    (1, _fused),
)


def _plus(x: Term, y: Term) -> Term:
    return Term(arith.addf(x.value, y.value), x.bound + y.bound)


def _minus(x: Term, y: Term) -> Term:
    return Term(arith.subf(x.value, y.value), x.bound + y.bound)


def _times(x: Term, y: Term) -> Term:
    return Term(arith.mulf(x.value, y.value), x.bound * y.bound)


def _maximum(x: Term, y: Term) -> Term:
    return Term(arith.maximumf(x.value, y.value), max(x.bound, y.bound))


def _minimum(x: Term, y: Term) -> Term:
    return Term(arith.minimumf(x.value, y.value), max(x.bound, y.bound))


def _over(x: Term, y: Term) -> Term:
    below = arith.addf(math_dialect.absf(y.value), _like(y, 1.0))
    return Term(arith.divf(x.value, below), x.bound)


_BINARY: tuple[tuple[int, Callable[[Term, Term], Term]], ...] = (
    (4, _plus),
    (4, _minus),
    (5, _times),
    (1, _maximum),
    (1, _minimum),
    (2, _over),
)


def _tame(rng: Random, term: Term) -> Term:
    return term if term.bound <= LARGEST else _tanh(rng, term)


def expression(rng: Random, operands: Sequence[Term], steps: int) -> Term:
    """A random expression that uses every operand and `steps` more unary functions.

    All operands have one float type; the ops are emitted at the insertion point.
    """
    terms = list(operands)
    for _ in range(steps):
        position = rng.randrange(len(terms))
        (function,) = rng.choices([f for _, f in _UNARY], [w for w, _ in _UNARY])
        terms[position] = _tame(rng, function(rng, terms[position]))
    while len(terms) > 1:
        first, second = terms.pop(rng.randrange(len(terms))), terms.pop()
        (join,) = rng.choices([f for _, f in _BINARY], [w for w, _ in _BINARY])
        terms.append(_tame(rng, join(first, second)))
    return terms[0]
