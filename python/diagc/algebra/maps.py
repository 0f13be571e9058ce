"""Scalar expressions as `diag.map` ops on wires, with casts at the edges."""

from collections.abc import Mapping

from diagc.algebra.expressions import SYMBOL, Expr, constant, symbols
from diagc.algebra.scalars import emit
from diagc.dialects import diag
from diagc.mlir import arith, ir

__all__ = ["cast", "convert", "full", "map_expr", "statistic_type"]


def statistic_type(type_: ir.Type) -> ir.Type:
    """The type that statistics and sums are kept in: f64 for f64, else f32."""
    return type_ if isinstance(type_, ir.F64Type) else ir.F32Type.get()


def convert(value: ir.Value, type_: ir.Type) -> ir.Value:
    """A float scalar in another float type; other scalars stay as they are."""
    if value.type == type_ or not diag.is_float(value.type) or not diag.is_float(type_):
        return value
    wider = ir.FloatType(type_).width > ir.FloatType(value.type).width
    return arith.extf(type_, value) if wider else arith.truncf(type_, value)


def map_expr(
    expr: Expr,
    wires: Mapping[str, ir.Value],
    compute: ir.Type,
    *,
    dtype: ir.Type | None = None,
    result: Mapping[str, int] | None = None,
    loc: ir.Location | None = None,
) -> ir.Value:
    """Emit `expr` as one map; a term that is just a wire of the right type is that wire.

    Args:
        expr: the term; its symbols are keys of `wires`.
        wires: what the symbols stand for; a float of another type is converted, i1 is not.
        compute: float type of the arithmetic.
        dtype: element type of the result; by default `compute`.
        result: labelled sizes of the result; by default the union of those of the wires used.
        loc: location of the ops.
    """
    dtype = dtype or compute
    used = [name for name in wires if name in symbols(expr)]
    if expr.op == SYMBOL:
        wire = wires[str(expr.value)]
        same_axes = result is None or list(result) == list(diag.labels(wire))
        if same_axes and diag.element_type(wire) == dtype:
            return wire

    def body(*scalars: ir.Value) -> ir.Value:
        values = {n: convert(v, compute) for n, v in zip(used, scalars, strict=True)}
        return convert(emit(expr, values, compute), dtype)

    return diag.map_([wires[name] for name in used], body, result=result, dtype=dtype, loc=loc)


def cast(wire: ir.Value, dtype: ir.Type, loc: ir.Location | None = None) -> ir.Value:
    """The wire with elements of another float type."""
    return map_expr(Expr(SYMBOL, (), "x"), {"x": wire}, dtype, loc=loc)


def full(
    value: float, result: Mapping[str, int], dtype: ir.Type, loc: ir.Location | None = None
) -> ir.Value:
    """A wire that holds one number everywhere."""
    return map_expr(constant(value), {}, dtype, result=result, loc=loc)
