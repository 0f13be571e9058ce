"""What sines of f32 and of f64 share: an angle as a rest, at most pi/4, and a quadrant."""

from collections.abc import Callable, Sequence

from diagc.mlir import arith, ir, scf
from diagc.targets.elementwise.code import ScalarCode

__all__ = ["LARGEST", "reduced", "sine", "tangent"]

LARGEST = 2.0**27
"""Up to this size of an angle its multiple of pi/2 is subtracted in floats."""

Reduction = Callable[[ScalarCode, ir.Value], Sequence[ir.Value]]
"""The values that a rest is made of, then the quadrant, right modulo 4."""


def reduced(
    code: ScalarCode, x: ir.Value, large: Reduction, small: Reduction, parts: int
) -> list[ir.Value]:
    """A rest of `parts` values, and the quadrant in 64 bits; `large` runs beyond `LARGEST` only."""
    beyond = arith.cmpf(arith.CmpFPredicate.OGT, code.absolute(x), code.like(x, LARGEST))
    types = [*[x.type] * parts, ir.IntegerType.get_signless(64)]
    branch = scf.IfOp(beyond, types, has_else=True)
    for block, reduction in ((branch.then_block, large), (branch.else_block, small)):
        with ir.InsertionPoint(block):
            scf.yield_(list(reduction(code, x)))
    return list(branch.results)


def sine(
    code: ScalarCode, sin: ir.Value, cos: ir.Value, quadrant: ir.Value, quarter: int
) -> ir.Value:
    """Sine of an angle + quarter * pi/2, from sine and cosine of its rest."""
    quadrant = arith.addi(quadrant, code.like(quadrant, quarter))
    value = arith.select(_bit(code, quadrant, 1), cos, sin)
    return arith.select(_bit(code, quadrant, 2), arith.negf(value), value)


def tangent(code: ScalarCode, sin: ir.Value, cos: ir.Value, quadrant: ir.Value) -> ir.Value:
    """Tangent: the quotient of sine and cosine of the rest, or its negative inverse."""
    odd = _bit(code, quadrant, 1)
    top = arith.select(odd, arith.negf(cos), sin)
    return arith.divf(top, arith.select(odd, sin, cos))


def _bit(code: ScalarCode, bits: ir.Value, bit: int) -> ir.Value:
    found = arith.andi(bits, code.like(bits, bit))
    return arith.cmpi(arith.CmpIPredicate.ne, found, code.like(bits, 0))
