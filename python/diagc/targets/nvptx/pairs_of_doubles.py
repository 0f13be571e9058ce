"""Numbers as sums of two doubles, 106 bits.

After Dekker and Knuth; with fused multiply-add, and error bounds: Joldes, Muller and Popescu,
"Tight and rigorous error bounds for basic building blocks of double-word arithmetic", 2017.
"""

from typing import NamedTuple

from diagc.mlir import arith, ir
from diagc.targets.elementwise.code import ScalarCode

__all__ = ["Pair", "add", "multiply", "product", "sorted_sum", "total"]


class Pair(NamedTuple):
    """`high` + `low`, where `low` is what rounding the sum to `high` left."""

    high: ir.Value
    low: ir.Value


def total(a: ir.Value, b: ir.Value) -> Pair:
    """A + b, exactly (Knuth)."""
    s = arith.addf(a, b)
    part = arith.subf(s, a)
    lost = arith.addf(arith.subf(a, arith.subf(s, part)), arith.subf(b, part))
    return Pair(s, lost)


def sorted_sum(a: ir.Value, b: ir.Value) -> Pair:
    """A + b, exactly, where |a| >= |b| or a is 0 (Dekker)."""
    s = arith.addf(a, b)
    return Pair(s, arith.subf(b, arith.subf(s, a)))


def product(code: ScalarCode, a: ir.Value, b: ir.Value) -> Pair:
    """A * b, exactly but for underflow."""
    high = arith.mulf(a, b)
    return Pair(high, code.fma(a, b, arith.negf(high)))


def add(a: Pair, b: Pair) -> Pair:
    """Sum of pairs; relative error 2^-104 unless they cancel."""
    s = total(a.high, b.high)
    return sorted_sum(s.high, arith.addf(s.low, arith.addf(a.low, b.low)))


def multiply(code: ScalarCode, a: Pair, b: Pair) -> Pair:
    """Product of pairs, relative error 2^-102."""
    p = product(code, a.high, b.high)
    low = code.fma(a.high, b.low, p.low)
    return sorted_sum(p.high, code.fma(a.low, b.high, low))
