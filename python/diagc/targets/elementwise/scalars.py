"""Scalar ops of a map body, emitted on scalars or on vectors of lanes, in compute types.

f16, bf16 and f8 are computed in f32; positions are i32. A value of f16 or bf16 keeps f32 between
the ops of one kernel and is rounded when it is stored. A conversion to f8 rounds: so a kernel sees
what is lost, as it is asked to where a network is trained for f8.
"""

from collections.abc import Callable, Mapping, Sequence

from diagc.errors import UnsupportedError
from diagc.mlir import arith, ir, math_dialect
from diagc.targets.elementwise import approximations, trigonometry
from diagc.targets.elementwise.code import Rule, is_vector, scalar_of
from diagc.targets.elementwise.code import ScalarCode as Code
from diagc.targets.elementwise.float8 import float8_bits, float8_rounded, float8_value, is_float8

__all__ = ["compute_type", "emit_body", "emit_scalar_op", "saturated"]


def compute_type(type_: ir.Type) -> ir.Type:
    """The type that elements of `type_` are computed in."""
    if isinstance(type_, (ir.F16Type, ir.BF16Type)) or is_float8(type_):
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
    if is_float8(op.results[0].type):
        return float8_rounded(code, _narrowed(code, value))
    if scalar_of(value.type) == wanted:
        return value
    type_ = _result_type(code, op, operands)
    return (
        arith.extf(type_, value) if isinstance(wanted, ir.F64Type) else arith.truncf(type_, value)
    )


def _narrowed(code: Code, value: ir.Value) -> ir.Value:
    """An f64 as f32."""
    return (
        value
        if scalar_of(value.type) == code.f32
        else arith.truncf(_like_shape(code, code.f32, value), value)
    )


def _integer_resize(code: Code, op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Value:
    """index_cast, extsi, extui, trunci between compute widths."""
    (value,) = operands
    wanted, found = compute_type(op.results[0].type), scalar_of(value.type)
    if wanted == found:
        return value
    type_ = _result_type(code, op, operands)
    if wanted.width < found.width:
        to_index = isinstance(op.results[0].type, ir.IndexType)
        return arith.trunci(type_, saturated(code, value, wanted) if to_index else value)
    unsigned = op.name in ("arith.extui", "arith.index_castui") or found.width == 1
    return arith.extui(type_, value) if unsigned else arith.extsi(type_, value)


def saturated(code: Code, value: ir.Value, type_: ir.Type) -> ir.Value:
    """The nearest integer that a narrower type has.

    For positions: sentinels like 2^63 - 1 compare with them as before.
    """
    bound = 1 << (type_.width - 1)
    value = arith.minsi(value, code.like(value, bound - 1))
    return arith.maxsi(value, code.like(value, -bound))


def _divide(code: Code, op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Value:
    """Integer division that never traps, as lanes that do not exist may hold zeros.

    By 0 it divides as by 1; the quotient by -1 is the negative, which wraps.
    """
    lhs, rhs = _same_shape(code, operands)
    zero, minus_one = code.like(rhs, 0), code.like(rhs, -1)
    negates = arith.cmpi(arith.CmpIPredicate.eq, rhs, minus_one)
    unsafe = arith.cmpi(arith.CmpIPredicate.eq, rhs, zero)
    signed = op.name in _SIGNED_DIVISIONS
    unsafe = arith.ori(unsafe, negates) if signed else unsafe
    value = _generic(code, op, [lhs, code.select(unsafe, code.like(rhs, 1), rhs)])
    if not signed or op.name == "arith.remsi":
        return value
    return code.select(negates, arith.subi(zero, lhs), value)


_SIGNED_DIVISIONS = ("arith.divsi", "arith.remsi", "arith.floordivsi", "arith.ceildivsi")
_UNSIGNED_DIVISIONS = ("arith.divui", "arith.remui", "arith.ceildivui")


def _bitcast(code: Code, op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Value:
    """Bits of narrow floats are those of the rounded number; other types are what they say."""
    (value,) = operands
    source, target = op.operands[0].type, op.results[0].type
    if is_float8(source):
        return value if is_float8(target) else float8_bits(code, value)
    if is_float8(target):
        return float8_value(code, value)
    if compute_type(source) != source:
        value = arith.truncf(_like_shape(code, source, value), value)
    value = arith.bitcast(_like_shape(code, target, value), value)
    wide = _like_shape(code, compute_type(target), value)
    return value if wide == value.type else arith.extf(wide, value)


def _like_shape(code: Code, scalar: ir.Type, value: ir.Value) -> ir.Type:
    return code.vector_type(scalar) if is_vector(value) else scalar


def _is_infinite(code: Code, _op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Value:
    size = code.absolute(operands[0])
    return arith.cmpf(arith.CmpFPredicate.OEQ, size, code.like(size, float("inf")))


def _clamp(code: Code, _op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Value:
    value, low, high = _same_shape(code, operands)
    return arith.minimumf(arith.maximumf(value, low), high)


def _whole_power(code: Code, op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Value:
    """A power with an integer exponent, which f32 holds exactly where the result is no 0 or inf."""
    base, exponent = _same_shape(code, operands)
    return math_dialect.powf(base, arith.sitofp(_result_type(code, op, operands), exponent))


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


# ops with a rule of their own; the rest of arith and math is emitted as it is
RULES: Mapping[str, Rule] = {
    "arith.bitcast": _bitcast,
    "arith.constant": _constant,
    "arith.extf": _resize,
    "arith.truncf": _resize,
    "arith.index_cast": _integer_resize,
    "arith.index_castui": _integer_resize,
    "arith.extsi": _integer_resize,
    "arith.extui": _integer_resize,
    "arith.trunci": _integer_resize,
    "math.clampf": _clamp,
    "math.fpowi": _whole_power,
    "math.isinf": _is_infinite,
    "math.rsqrt": _reciprocal_root,
    **dict.fromkeys((*_SIGNED_DIVISIONS, *_UNSIGNED_DIVISIONS), _divide),
    **dict.fromkeys(F32_FUNCTIONS, _function),
}


def emit_scalar_op(code: Code, op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Value:
    """Emit one op of a scalar body on compute types.

    Raises:
        UnsupportedError: an op with several results or none.
    """
    if len(op.results) != 1:
        raise UnsupportedError(op.name, reason="it has no rule", location=op.location)
    rule = code.rules.get(op.name) or RULES.get(op.name, _generic)
    return rule(code, op, operands)


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
