"""Scalar expressions from and to the arith and math ops of a map body.

Reading keeps the real-number meaning only: casts between float types vanish. An op that the laws
know nothing of becomes a function of its own, named for the op, its type and its attributes, which
is all that it takes to emit it again.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping

from diagc.algebra.dataflow import rounds_coarsely
from diagc.algebra.expressions import CONSTANT, SYMBOL, Expr, call, constant
from diagc.mlir import arith, ir, math_dialect

__all__ = ["emit", "is_exact", "read", "read_map", "readable"]

Leaf = Callable[[ir.Value], Expr]

_SAME_NAME = {
    "arith.addf": "add",
    "arith.subf": "sub",
    "arith.mulf": "mul",
    "arith.divf": "div",
    "arith.negf": "neg",
    "arith.maximumf": "max",
    "arith.maxnumf": "max",
    "arith.minimumf": "min",
    "arith.minnumf": "min",
    "arith.select": "select",
    "math.absf": "abs",
    "math.cos": "cos",
    "math.erf": "erf",
    "math.exp": "exp",
    "math.log": "log",
    "math.powf": "pow",
    "math.sin": "sin",
    "math.sqrt": "sqrt",
    "math.tanh": "tanh",
}

_REWRITTEN: dict[str, Callable[..., Expr]] = {
    "math.exp2": lambda x: call("exp", x * math.log(2.0)),
    "math.fma": lambda x, y, z: x * y + z,
    "math.log1p": lambda x: call("log", x + 1.0),
    "math.expm1": lambda x: call("exp", x) - 1.0,
    "math.log2": lambda x: call("log", x) / math.log(2.0),
    "math.rsqrt": lambda x: 1.0 / call("sqrt", x),
    "math.fpowi": lambda x, n: call("pow", x, n),
}

_LOGIC: dict[str, Callable[[Expr, Expr], Expr]] = {
    "arith.andi": lambda x, y: call("and", x, y),
    "arith.ori": lambda x, y: call("or", x, y),
    "arith.xori": lambda x, y: (
        call("not", x) if y == constant(1.0) else call("not", call("eq", x, y))
    ),
}

_FLOAT_CASTS = ("arith.extf", "arith.truncf")

_COMPARES: dict[str, Callable[[Expr, Expr], Expr]] = {
    "eq": lambda x, y: call("eq", x, y),
    "ne": lambda x, y: call("not", call("eq", x, y)),
    "lt": lambda x, y: call("lt", x, y),
    "le": lambda x, y: call("le", x, y),
    "gt": lambda x, y: call("lt", y, x),
    "ge": lambda x, y: call("le", y, x),
}


def read_map(op: ir.Operation, leaf: Leaf) -> Expr:
    """The body of a `diag.map` as a term; `leaf` gives the term of a wire that it reads."""
    block = op.regions[0].blocks[0]
    last = list(block.operations)[-1].operation
    return read(last.operands[0], leaf)


def read(value: ir.Value, leaf: Leaf) -> Expr:
    """The term of a scalar of a map body."""
    return _read(value, leaf, {})


def _read(value: ir.Value, leaf: Leaf, seen: dict[ir.Value, Expr]) -> Expr:
    if value not in seen:
        op = value.owner.operation
        if op.name == "diag.element":
            seen[value] = leaf(op.operands[0])
        else:
            seen[value] = _read_op(op, [_read(operand, leaf, seen) for operand in op.operands])
    return seen[value]


def _read_op(op: ir.Operation, args: list[Expr]) -> Expr:
    name = op.name
    if name in _SAME_NAME:
        return Expr(_SAME_NAME[name], tuple(args))
    if name in _REWRITTEN:
        return _REWRITTEN[name](*args)
    if name in _FLOAT_CASTS and not rounds_coarsely(op):
        return args[0]
    if name == "arith.uitofp" and _is_bool(op.operands[0]):
        return call("select", args[0], 1.0, 0.0)
    if name == "arith.constant":
        return constant(_number(op.attributes["value"]))
    if name in _LOGIC and _is_bool(op.results[0]):
        return _LOGIC[name](*args)
    predicate = _ordered_predicate(op) if name == "arith.cmpf" else None
    if predicate is not None:
        return _COMPARES[predicate](*args)
    return Expr(_opaque_name(op), tuple(args))


_EXACT = {
    *(name for name in _SAME_NAME if "num" not in name),
    *_FLOAT_CASTS,
    *_LOGIC,
    "arith.constant",
    "diag.element",
    "diag.yield",
    "math.rsqrt",
}
_INTEGER_OPS = (
    *("arith.cmpi", "arith.extsi", "arith.extui", "arith.index_cast", "arith.index_castui"),
    "arith.trunci",
)


def is_exact(op: ir.Operation, also: Collection[str] = ()) -> bool:
    """Whether a map that is read and emitted again computes the same, also of NaN.

    Casts may go: then less is rounded. Reading `log1p` as a logarithm would lose digits.

    Args:
        op: the map.
        also: names of further ops that do no harm where this is asked.
    """
    body = [view.operation for view in op.regions[0].blocks[0].operations]
    return all(
        o.name in _EXACT or o.name in also or _is_ordered(o) or _is_mask(o) or _is_compared(o)
        for o in body
    ) and not any(
        rounds_coarsely(o) or (o.name == "arith.select" and _is_integer(o.results[0])) for o in body
    )


def _is_compared(op: ir.Operation) -> bool:
    """Whether integers are compared, or converted to others for that; these ops are kept."""
    return op.name in _INTEGER_OPS


def _is_integer(value: ir.Value) -> bool:
    return isinstance(value.type, (ir.IntegerType, ir.IndexType)) and not _is_bool(value)


def _is_mask(op: ir.Operation) -> bool:
    """Whether a condition becomes 1 or 0."""
    return op.name == "arith.uitofp" and _is_bool(op.operands[0])


def _is_ordered(op: ir.Operation) -> bool:
    """Whether a comparison is false for NaN, or `not equal` and true."""
    if op.name != "arith.cmpf":
        return False
    name = str(arith.CmpFPredicate(ir.IntegerAttr(op.attributes["predicate"]).value)).lower()
    name = name.rsplit(".", 1)[-1]
    return name == "une" or (name[0] == "o" and name[1:] in _COMPARES and name != "one")


def _is_bool(value: ir.Value) -> bool:
    return bool(value.type == ir.IntegerType.get_signless(1))


def _number(attr: ir.Attribute) -> float:
    if isinstance(attr, ir.FloatAttr):
        return float(attr.value)
    return float(ir.IntegerAttr(attr).value) if not isinstance(attr, ir.BoolAttr) else attr.value


def _ordered_predicate(op: ir.Operation) -> str | None:
    """`eq` for oeq and ueq: the real numbers have no NaN."""
    name = str(arith.CmpFPredicate(ir.IntegerAttr(op.attributes["predicate"]).value)).lower()
    name = name.rsplit(".", 1)[-1]
    return name[1:] if name[1:] in _COMPARES and name[0] in "ou" else None


def _opaque_name(op: ir.Operation) -> str:
    attributes = ",".join(f"{name}={op.attributes[name]}" for name in op.attributes)
    return re.sub(r"[\s()]+", "", f"{op.name}:{op.results[0].type}:{attributes}")


_READABLE = {
    "arith.addi": "add",
    "arith.andi": "and",
    "arith.muli": "mul",
    "arith.ori": "or",
    "arith.remsi": "mod",
    "arith.remui": "mod",
    "arith.subi": "sub",
}
_INTEGER_COMPARES = ("eq", "ne", "lt", "le", "gt", "ge", "lt", "le", "gt", "ge")
_VALUE_CASTS = ("extsi", "extui", "index_cast", "index_castui", "sitofp", "trunci", "uitofp")


def readable(expr: Expr) -> Expr:
    """The term as people write it: no casts of integers, ops by plain names. For texts only."""
    args = tuple(map(readable, expr.args))
    name, *attributes = expr.op.split(":")
    if name.removeprefix("arith.") in _VALUE_CASTS:
        return args[0]
    plain = _READABLE.get(name, name.rsplit(".", 1)[-1])
    predicates = [text for text in attributes if text.startswith("predicate=")]
    if name == "arith.cmpi" and predicates:
        plain = _INTEGER_COMPARES[int(predicates[0].removeprefix("predicate="))]
    if name == "not" and args[0].op in _OPPOSITES:
        return Expr(_OPPOSITES[args[0].op], args[0].args)
    return Expr(plain, args, expr.value)


_OPPOSITES = {"eq": "ne", "lt": "ge", "le": "gt"}
_BUILDERS: dict[str, Callable[..., ir.Value]] = {
    "add": arith.addf,
    "sub": arith.subf,
    "mul": arith.mulf,
    "div": arith.divf,
    "neg": arith.negf,
    "max": arith.maximumf,
    "min": arith.minimumf,
    "select": arith.select,
    "abs": math_dialect.absf,
    "cos": math_dialect.cos,
    "erf": math_dialect.erf,
    "exp": math_dialect.exp,
    "log": math_dialect.log,
    "pow": math_dialect.powf,
    "sin": math_dialect.sin,
    "sqrt": math_dialect.sqrt,
    "tanh": math_dialect.tanh,
    "eq": lambda x, y: arith.cmpf(arith.CmpFPredicate.OEQ, x, y),
    "lt": lambda x, y: arith.cmpf(arith.CmpFPredicate.OLT, x, y),
    "le": lambda x, y: arith.cmpf(arith.CmpFPredicate.OLE, x, y),
    "and": arith.andi,
    "or": arith.ori,
    "not": lambda x: arith.xori(x, arith.constant(ir.IntegerType.get_signless(1), True)),
}


def emit(expr: Expr, values: Mapping[str, ir.Value], type_: ir.Type) -> ir.Value:
    """Emit `expr` at the insertion point, computed in float type `type_`.

    Args:
        expr: the term; equal subterms are emitted once.
        values: the scalar of every symbol: of `type_`, or i1 for a condition.
        type_: type of constants, hence of the result.

    Raises:
        ValueError: a function that has no op.
    """
    return _emit(expr, values, type_, {})


def _emit(
    expr: Expr, values: Mapping[str, ir.Value], type_: ir.Type, done: dict[Expr, ir.Value]
) -> ir.Value:
    if expr.op == SYMBOL:
        return values[str(expr.value)]
    if expr not in done:
        if expr.op == CONSTANT:
            done[expr] = arith.constant(type_, float(expr.value or 0.0))
        elif expr.op not in _BUILDERS:
            done[expr] = _emit_opaque(expr, values, type_, done)
        elif (power := _power_of_2(expr)) is not None:
            done[expr] = math_dialect.exp2(_emit(power, values, type_, done))
        else:
            args = [_emit(arg, values, type_, done) for arg in expr.args]
            done[expr] = _BUILDERS[expr.op](*args)
    return done[expr]


def _power_of_2(expr: Expr) -> Expr | None:
    """The x of exp(x log 2), which read as 2^x: the rounding of log 2 stays out of it."""
    if expr.op != "exp" or expr.args[0].op != "mul":
        return None
    left, right = expr.args[0].args
    log2 = constant(math.log(2.0))
    return left if right == log2 else right if left == log2 else None


def _emit_opaque(
    expr: Expr, values: Mapping[str, ir.Value], type_: ir.Type, done: dict[Expr, ir.Value]
) -> ir.Value:
    """An op that was read as a function of its own; floats are of `type_` whatever they were."""
    name, _, rest = expr.op.partition(":")
    result, _, attributes = rest.partition(":")
    if not result:
        raise ValueError(f"no op computes '{expr.op}'")
    typed = [_emit(arg, values, type_, done) for arg in expr.args if arg.op != CONSTANT]
    like = typed[0].type if typed else type_
    args = [
        _typed_constant(arg, like) if arg.op == CONSTANT else _emit(arg, values, type_, done)
        for arg in expr.args
    ]
    was = ir.Type.parse(result)
    pairs = [text.split("=", 1) for text in re.split(r",(?=\w+=)", attributes) if text]
    found = {key: ir.Attribute.parse(text) for key, text in pairs}
    types = [type_ if isinstance(was, ir.FloatType) else was]
    return ir.Operation.create(name, results=types, operands=args, attributes=found).result


def _typed_constant(expr: Expr, type_: ir.Type) -> ir.Value:
    number = float(expr.value or 0.0)
    return arith.constant(type_, number if isinstance(type_, ir.FloatType) else int(number))
