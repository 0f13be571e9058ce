"""The one table of reduction kinds: identity, scalar op, and the element types each accepts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagc.mlir import arith, ir

__all__ = ["MONOIDS", "Monoid", "identity_attr"]


@dataclass(frozen=True)
class Monoid:
    """An associative, commutative scalar operation with an identity.

    `numpy` names the reducing ufunc of the reference meaning; `float_identity` and `int_identity`
    are None where the element class is not accepted.
    """

    name: str
    numpy: str
    float_identity: float | None
    int_identity: int | None
    float_op: Callable[[Any, Any], Any] | None
    int_op: Callable[[Any, Any], Any] | None

    def accepts(self, element: ir.Type) -> bool:
        """Whether elements of this type can be reduced; i1 by `or` and `and` only, f8 by none."""
        if isinstance(element, ir.Float8E4M3FNType):
            return False
        if _is_float(element):
            return self.float_op is not None
        return self.float_op is None or str(element) != "i1"

    def combine(self, lhs: ir.Value, rhs: ir.Value) -> ir.Value:
        """Emit the scalar (or vector) operation at the insertion point."""
        op = self.float_op if _is_float(lhs.type) else self.int_op
        if op is None:
            raise ValueError(f"reduction '{self.name}' has no operation on {lhs.type}")
        result: ir.Value = op(lhs, rhs)
        return result


def _is_float(type_: ir.Type) -> bool:
    element = type_.element_type if isinstance(type_, ir.VectorType) else type_
    return isinstance(element, (ir.F16Type, ir.BF16Type, ir.F32Type, ir.F64Type))


_INF = float("inf")
_I32_MAX = 2**31 - 1

MONOIDS: dict[str, Monoid] = {
    m.name: m
    for m in (
        Monoid("add", "add", 0.0, 0, arith.addf, arith.addi),
        Monoid("mul", "multiply", 1.0, 1, arith.mulf, arith.muli),
        Monoid("max", "maximum", -_INF, -_I32_MAX - 1, arith.maximumf, arith.maxsi),
        Monoid("min", "minimum", _INF, _I32_MAX, arith.minimumf, arith.minsi),
        Monoid("or", "logical_or", None, 0, None, arith.ori),
        Monoid("and", "logical_and", None, -1, None, arith.andi),
    )
}


def identity_attr(kind: str, type_: ir.Type) -> ir.Attribute:
    """The identity of reduction `kind` as an attribute of scalar type `type_`."""
    monoid = MONOIDS[kind]
    if _is_float(type_):
        return ir.FloatAttr.get(type_, monoid.float_identity)
    if isinstance(type_, ir.IntegerType) and type_.width > 32 and kind in ("max", "min"):
        bound = 2 ** (type_.width - 1)
        return ir.IntegerAttr.get(type_, -bound if kind == "max" else bound - 1)
    return ir.IntegerAttr.get(type_, monoid.int_identity)
