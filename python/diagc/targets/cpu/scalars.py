"""Scalar ops of a map body, emitted on scalars or on vectors of lanes, in compute types.

f16 and bf16 are computed in f32 (a value keeps f32 between the ops of one kernel and is rounded
when it is stored); positions are i32.
"""

from collections.abc import Callable, Mapping, Sequence

from diagc.errors import UnsupportedError
from diagc.mlir import arith, ir, math_dialect
from diagc.targets.cpu import approximations, trigonometry
from diagc.targets.cpu.code import Code, is_vector, scalar_of

__all__ = ["compute_type", "emit_body", "emit_scalar_op"]


def compute_type(type_: ir.Type) -> ir.Type:
    """The type that elements of `type_` are computed in."""
    if isinstance(type_, (ir.F16Type, ir.BF16Type)):
        return ir.F32Type.get()
    if isinstance(type_, ir.IndexType):
        return ir.IntegerType.get_signless(32)
    return type_


def _result_type(code: Code, op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Type:
    scalar = compute_type(op.results[0].type)
    return code.vector_type(scalar) if any(is_vector(v) for v in operands) else scalar


def _same_shape(code: Code, operands: Sequence[ir.Value]) -> list[ir.Value]:
    if any(is_vector(v) for v in operands):
        return [code.broadcast(v) for v in operands]
    return list(operands)


def _generic(code: Code, op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Value:
    """The same op on the compute type."""
    values = _same_shape(code, operands)
    attributes = {
        name: op.attributes[name] for name in op.attributes if not name.startswith("diag.")
    }
    new = ir.Operation.create(
        op.name,
        results=[_result_type(code, op, values)],
        operands=values,
        attributes=attributes,
    )
    return new.results[0]


def _constant(code: Code, op: ir.Operation, _operands: Sequence[ir.Value]) -> ir.Value:
    value = op.attributes["value"]
    type_ = compute_type(op.results[0].type)
    return code.scalar(
        type_, ir.FloatAttr(value).value if _is_float(type_) else ir.IntegerAttr(value).value
    )


def _is_float(type_: ir.Type) -> bool:
    return isinstance(type_, (ir.F32Type, ir.F64Type))


def _resize(code: Code, op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Value:
    """Extf and truncf: only f32 and f64 differ in registers."""
    (value,) = operands
    wanted = compute_type(op.results[0].type)
    if scalar_of(value.type) == wanted:
        return value
    type_ = _result_type(code, op, operands)
    return (
        arith.extf(type_, value) if isinstance(wanted, ir.F64Type) else arith.truncf(type_, value)
    )


def _integer_resize(code: Code, op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Value:
    """index_cast, extsi, extui, trunci between compute widths."""
    (value,) = operands
    wanted, found = compute_type(op.results[0].type), scalar_of(value.type)
    if wanted == found:
        return value
    type_ = _result_type(code, op, operands)
    if wanted.width < found.width:
        return arith.trunci(type_, value)
    unsigned = op.name in ("arith.extui", "arith.index_castui") or found.width == 1
    return arith.extui(type_, value) if unsigned else arith.extsi(type_, value)


F32_FUNCTIONS = {
    **approximations.F32_FUNCTIONS,
    "math.sin": trigonometry.sin,
    "math.cos": trigonometry.cos,
}


def _function(code: Code, op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Value:
    """exp, log, tanh …: a polynomial in f32, the library's function in f64."""
    (value,) = operands
    if not isinstance(scalar_of(value.type), ir.F32Type):
        return F64_FUNCTIONS.get(op.name, _generic)(code, op, operands)
    if op.name == "math.exp" and "diag.nonpositive" in op.attributes:
        return approximations.exp_nonpositive(code, value)
    return F32_FUNCTIONS[op.name](code, value)


def _expm1(code: Code, _op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Value:
    (value,) = operands
    return approximations.expm1_by(code, value, math_dialect.exp, math_dialect.log)


def _log1p(code: Code, _op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Value:
    (value,) = operands
    return approximations.log1p_by(code, value, math_dialect.log)


# MLIR would expand these to exp(x) - 1 and log(1 + x), which lose all digits near 0
F64_FUNCTIONS = {"math.expm1": _expm1, "math.log1p": _log1p}


def _reciprocal_root(code: Code, _op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Value:
    """Rsqrt as 1 / sqrt: the hardware's estimate is too coarse."""
    (value,) = operands
    return arith.divf(code.like(value, 1.0), math_dialect.sqrt(value))


Rule = Callable[[Code, ir.Operation, Sequence[ir.Value]], ir.Value]

# ops with a rule of their own; the rest of arith and math is emitted as it is
RULES: Mapping[str, Rule] = {
    "arith.constant": _constant,
    "arith.extf": _resize,
    "arith.truncf": _resize,
    "arith.index_cast": _integer_resize,
    "arith.index_castui": _integer_resize,
    "arith.extsi": _integer_resize,
    "arith.extui": _integer_resize,
    "arith.trunci": _integer_resize,
    "math.rsqrt": _reciprocal_root,
    **dict.fromkeys(F32_FUNCTIONS, _function),
}


def emit_scalar_op(code: Code, op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Value:
    """Emit one op of a scalar body on compute types.

    Raises:
        UnsupportedError: an op with several results or none.
    """
    if len(op.results) != 1:
        raise UnsupportedError(
            op.name, reason="the cpu target has no rule for it", location=op.location
        )
    return RULES.get(op.name, _generic)(code, op, operands)


def emit_body(code: Code, block: ir.Block, read: Callable[[ir.Operation], ir.Value]) -> ir.Value:
    """Emit a map body; `read` gives the value of each `diag.element`. Returns what is yielded."""
    values: dict[ir.Value, ir.Value] = {}

    def value_of(value: ir.Value) -> ir.Value:
        if value not in values:  # a scalar constant from outside the body
            values[value] = emit_scalar_op(code, value.owner.operation, ())
        return values[value]

    for view in block.operations:
        op = view.operation
        if op.name == "diag.yield":
            return value_of(op.operands[0])
        if op.name == "diag.element":
            values[op.results[0]] = read(op)
        else:
            values[op.results[0]] = emit_scalar_op(code, op, [value_of(v) for v in op.operands])
    raise AssertionError("a verified map body ends with diag.yield")
