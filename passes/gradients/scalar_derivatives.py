"""Derivatives of the scalar body of a map by one of the wires that it reads.

Forward mode on the ops of the body: the derivative of a scalar is a term over symbols, each of
which stands for another scalar of the body, or None where it is 0. A selection stays outermost, so
that what it excludes, as the 1 / 0 of a guarded division, never meets a factor that is 0. At a kink
the derivative is that of torch: 0 at 0 for |x| and for max(x, 0), half of each where two wires are
equal. Casts between float types have the derivative 1.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from diagc.algebra.dataflow import defining_op
from diagc.algebra.expressions import (
    CONSTANT,
    Expr,
    call,
    constant,
    equal,
    exp,
    log,
    select,
    symbol,
)
from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import ir

__all__ = ["Derivatives", "carried", "times"]

Slope: TypeAlias = Expr | None
_ONE, _ZERO = constant(1.0), constant(0.0)
_MINUS = constant(-1.0)


class Derivatives:
    """Derivatives by one wire.

    Args:
        wire: the wire.
    """

    def __init__(self, wire: ir.Value) -> None:
        self._wire = wire
        self._known: dict[ir.Value, Slope] = {}
        self._names: dict[ir.Value, Expr] = {}
        self.scalars: dict[str, ir.Value] = {}
        """What the symbols stand for."""

    def of(self, value: ir.Value) -> Slope:
        """The derivative of a scalar of the body; None where it is 0.

        Raises:
            UnsupportedError: a function that has no derivative here.
        """
        if value not in self._known:
            self._known[value] = self._derive(value)
        return self._known[value]

    def term(self, value: ir.Value) -> Expr:
        """The scalar itself: a number, or a symbol."""
        op = defining_op(value)
        if op is not None and op.name == "arith.constant" and diag.is_float(value.type):
            return constant(float(ir.FloatAttr(op.attributes["value"]).value))
        if value not in self._names:
            name = f"s{len(self._names)}"
            self._names[value], self.scalars[name] = symbol(name), value
        return self._names[value]

    def _derive(self, value: ir.Value) -> Slope:
        op = defining_op(value)
        if op is None or not diag.is_float(value.type) or op.name == "arith.constant":
            return None
        if op.name == "diag.element":
            return _ONE if op.operands[0] == self._wire else None
        slopes = [self.of(operand) for operand in op.operands]
        if all(slope is None for slope in slopes):
            return None
        args = [self.term(operand) for operand in op.operands]
        if op.name in _BRANCHES:
            return _BRANCHES[op.name](args, slopes)
        if op.name not in _PARTIALS:
            raise UnsupportedError(
                op.name,
                reason="the pass 'differentiate' has no derivative for it",
                location=op.location,
            )
        return self._chain(_PARTIALS[op.name], args, slopes, value)

    def _chain(
        self, partials: Sequence["Partial"], args: list[Expr], slopes: list[Slope], value: ir.Value
    ) -> Slope:
        """The chain rule: the sum of partial derivatives times slopes."""
        total: Slope = None
        for partial, slope in zip(partials, slopes, strict=True):
            if slope is not None:
                total = _plus(total, times(slope, partial(self, args, value)))
        return total


Partial: TypeAlias = Callable[[Derivatives, list[Expr], ir.Value], Expr]

# ---- terms without useless parts ---------------------------------------------------------------


def times(x: Expr, y: Expr) -> Expr:
    """The product; a factor moves into a selection, where 0 stays 0 whatever the factor is."""
    for one, other in ((x, y), (y, x)):
        if one == _ONE:
            return other
        if one == _MINUS:
            return other.args[0] if other.op == "neg" else -other
        if one.op == "select" and _ZERO in one.args[1:]:
            branches = (_ZERO if b == _ZERO else times(other, b) for b in one.args[1:])
            return select(one.args[0], *branches)
    return x * y


def carried(cotangent: Expr, slope: Expr) -> Expr:
    """Their product, by one factor of the slope after the other.

    d / n**3 is ((d / n) / n) / n: where d is about as large as n, that stays in range when n**3 or
    its inverse does not.
    """
    if slope.op == "mul":
        return carried(carried(cotangent, slope.args[0]), slope.args[1])
    if slope.op == "div" and slope.args[0] != _ONE:
        return carried(cotangent, slope.args[0]) / slope.args[1]
    if slope.op == "neg":
        return -carried(cotangent, slope.args[0])
    if slope.op == "select" and _ZERO in slope.args[1:]:
        branches = (_ZERO if b == _ZERO else carried(cotangent, b) for b in slope.args[1:])
        return select(slope.args[0], *branches)
    return times(cotangent, slope)


def _plus(x: Slope, y: Slope) -> Slope:
    if x is None or y is None:
        return y if x is None else x
    if x == y:
        return times(constant(2.0), x)
    if y.op == "neg":
        return x - y.args[0]
    return y - x.args[0] if x.op == "neg" else x + y


def _chosen(condition: Expr, x: Slope, y: Slope) -> Slope:
    """The selection of two slopes."""
    if x == y:
        return x
    return select(condition, _ZERO if x is None else x, _ZERO if y is None else y)


# ---- functions that are one thing here and another there ---------------------------------------


def _negative(slope: Slope) -> Slope:
    return None if slope is None else times(slope, _MINUS)


def _half(x: Slope, y: Slope) -> Slope:
    both = _plus(x, y)
    return None if both is None else times(constant(0.5), both)


def _larger(args: list[Expr], slopes: list[Slope]) -> Slope:
    """Of max(x, y); at x = y half of each, of a wire and a number nothing."""
    (x, y), (dx, dy) = args, slopes
    tie = None if CONSTANT in (x.op, y.op) else _half(dx, dy)
    return _chosen(call("lt", y, x), dx, _chosen(call("lt", x, y), dy, tie))


def _smaller(args: list[Expr], slopes: list[Slope]) -> Slope:
    (x, y), (dx, dy) = args, slopes
    tie = None if CONSTANT in (x.op, y.op) else _half(dx, dy)
    return _chosen(call("lt", x, y), dx, _chosen(call("lt", y, x), dy, tie))


def _absolute(args: list[Expr], slopes: list[Slope]) -> Slope:
    x, dx = args[0], slopes[0]
    negative = _chosen(call("lt", x, _ZERO), _negative(dx), None)
    return _chosen(call("lt", _ZERO, x), dx, negative)


def _clamped(args: list[Expr], slopes: list[Slope]) -> Slope:
    """Of min(max(x, low), high), which is x at its bounds too."""
    (x, low, high), (dx, dlow, dhigh) = args, slopes
    return _chosen(call("lt", x, low), dlow, _chosen(call("lt", high, x), dhigh, dx))


_BRANCHES: dict[str, Callable[[list[Expr], list[Slope]], Slope]] = {
    "arith.maximumf": _larger,
    "arith.maxnumf": _larger,
    "arith.minimumf": _smaller,
    "arith.minnumf": _smaller,
    "arith.select": lambda args, slopes: _chosen(args[0], slopes[1], slopes[2]),
    "math.absf": _absolute,
    "math.clampf": _clamped,
    # constant but where they jump
    "math.ceil": lambda args, slopes: None,
    "math.floor": lambda args, slopes: None,
    "math.round": lambda args, slopes: None,
    "math.roundeven": lambda args, slopes: None,
    "math.trunc": lambda args, slopes: None,
}

# ---- smooth functions --------------------------------------------------------------------------


def _number(value: float) -> Partial:
    return lambda _known, _args, _out: constant(value)


def _of(partial: Callable[..., Expr]) -> Partial:
    """A partial derivative as a function of the arguments."""
    return lambda _known, args, _out: partial(*args)


def _by_result(partial: Callable[[Expr], Expr]) -> Partial:
    """A partial derivative as a function of the result."""
    return lambda known, _args, out: partial(known.term(out))


def _by_divisor(known: Derivatives, args: list[Expr], out: ir.Value) -> Expr:
    ratio = known.term(out)
    return -(ratio * ratio) if args[0] == _ONE else -(ratio / args[1])


def _by_modulus(known: Derivatives, args: list[Expr], out: ir.Value) -> Expr:
    """Minus the whole number of times that y goes into x."""
    return (known.term(out) - args[0]) / args[1]


def _by_base(base: Expr, power: Expr) -> Expr:
    if power.op == CONSTANT:
        lower = float(power.value or 0.0) - 1.0
        rest = base if lower == 1.0 else call("pow", base, lower)
        return power if lower == 0.0 else times(power, rest)
    return select(equal(power, 0.0), 0.0, power * call("pow", base, power - 1.0))


def _by_power(known: Derivatives, args: list[Expr], out: ir.Value) -> Expr:
    return select(equal(args[0], 0.0), 0.0, known.term(out) * log(args[0]))


def _no_power(_known: Derivatives, _args: list[Expr], _out: ir.Value) -> Expr:
    raise AssertionError("an integer has no slope")


_LOG2 = math.log(2.0)
_PARTIALS: dict[str, tuple[Partial, ...]] = {
    "arith.addf": (_number(1.0), _number(1.0)),
    "arith.divf": (_of(lambda x, y: 1.0 / y), _by_divisor),
    "arith.extf": (_number(1.0),),
    "arith.mulf": (_of(lambda x, y: y), _of(lambda x, y: x)),
    "arith.negf": (_number(-1.0),),
    "arith.remf": (_number(1.0), _by_modulus),
    "arith.subf": (_number(1.0), _number(-1.0)),
    "arith.truncf": (_number(1.0),),
    "math.atan": (_of(lambda x: 1.0 / (x * x + 1.0)),),
    "math.cos": (_of(lambda x: -call("sin", x)),),
    "math.erf": (_of(lambda x: exp(-(x * x)) * (2.0 / math.sqrt(math.pi))),),
    "math.exp": (_by_result(lambda e: e),),
    "math.exp2": (_by_result(lambda e: e * _LOG2),),
    "math.expm1": (_of(exp),),
    "math.fma": (_of(lambda x, y, z: y), _of(lambda x, y, z: x), _number(1.0)),
    "math.fpowi": (_of(_by_base), _no_power),
    "math.log": (_of(lambda x: 1.0 / x),),
    "math.log1p": (_of(lambda x: 1.0 / (x + 1.0)),),
    "math.log2": (_of(lambda x: 1.0 / (x * _LOG2)),),
    "math.powf": (_of(_by_base), _by_power),
    "math.rsqrt": (_by_result(lambda r: (r * r * r) * -0.5),),
    "math.sin": (_of(lambda x: call("cos", x)),),
    "math.sqrt": (_by_result(lambda r: 0.5 / r),),
    "math.tanh": (_by_result(lambda t: 1.0 - t * t),),
}
"""Partial derivatives of each function by its operands, in order."""
