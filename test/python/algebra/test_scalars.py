"""Terms and map bodies: read what was emitted, emit what was read."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest

from diagc.algebra.expressions import (
    Expr,
    call,
    constant,
    exp,
    maximum,
    parse,
    select,
    show,
    symbol,
)
from diagc.algebra.maps import map_expr
from diagc.algebra.monomials import Monomial, monomial
from diagc.algebra.scalars import emit, read_map
from diagc.context import make_context
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.targets.interp import evaluate

Array: TypeAlias = np.ndarray[Any, Any]

A, B = symbol("a"), symbol("b")

EMITTED = [
    exp(A - B) * 2.0,
    maximum(A, 0.0) / (1.0 + exp(-B)),
    select(call("lt", A, B), A, call("sqrt", call("abs", B))),
    call("tanh", A) + call("erf", B) - call("sin", A) * call("cos", B),
    select(call("and", call("le", A, B), call("not", call("eq", A, B))), A, 1.0),
    call("pow", call("abs", A), constant(1.5)),
]

FUNCTION = """
func.func @main(%a: tensor<5xf64, ["x"]>, %b: tensor<5xf64, ["x"]>) -> tensor<5xf64, ["x"]> {
  return %a : tensor<5xf64, ["x"]>
}
"""

NUMPY: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative,
    "max": np.maximum, "min": np.minimum, "exp": np.exp, "sqrt": np.sqrt, "abs": np.abs,
    "tanh": np.tanh, "sin": np.sin, "cos": np.cos, "pow": np.power, "lt": np.less,
    "le": np.less_equal, "eq": np.equal, "and": np.logical_and, "not": np.logical_not,
    "select": np.where, "erf": np.vectorize(math.erf),
}  # fmt: skip


def value(expr: Expr, arrays: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    if expr.op == "symbol":
        return arrays[str(expr.value)]
    if expr.op == "constant":
        return np.asarray(expr.value)
    return NUMPY[expr.op](*(value(arg, arrays) for arg in expr.args))


@pytest.mark.parametrize("expr", EMITTED, ids=show)
def test_a_term_is_emitted_with_its_meaning_and_read_back(expr: Expr) -> None:
    rng = np.random.default_rng(3)
    arrays = {"a": rng.standard_normal(5), "b": rng.standard_normal(5)}
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(FUNCTION)
        block = diag.function_body(diag.functions(module)[0])
        a, b = block.arguments
        last = list(block.operations)[-1]
        with ir.InsertionPoint(last):
            wire = map_expr(expr, {"a": a, "b": b}, ir.F64Type.get())
        names = {a: A, b: B}
        assert read_map(wire.owner.operation, lambda w: names[w]) == expr
        last.operands[0] = wire
        assert module.operation.verify()
        (found,) = evaluate(module, [arrays["a"], arrays["b"]])
    np.testing.assert_allclose(found, value(expr, arrays), rtol=1e-12)


BODIES = [
    ("%y = math.exp2 %a : f32", "exp(a * 0.693147)"),
    ("%y = math.rsqrt %a : f32", "1 / sqrt(a)"),
    ("%y = math.fma %a, %b, %a : f32", "a * b + a"),
    ("%y = math.log1p %a : f32", "log(a + 1)"),
    ("%t = arith.truncf %a : f32 to bf16\n%y = arith.extf %t : bf16 to f32", "a"),
    ("%t = arith.cmpf ogt, %a, %b : f32\n%y = arith.select %t, %a, %b : f32",
     "select(b < a, a, b)"),
    ("%t = arith.cmpf une, %a, %b : f32\n%y = arith.select %t, %a, %b : f32",
     "select(not a == b, a, b)"),
]  # fmt: skip

TEXT = """
func.func @main(%x: tensor<4xf32, ["x"]>, %z: tensor<4xf32, ["x"]>) -> tensor<4xf32, ["x"]> {{
  %o = "diag.map"() ({{
    %a = "diag.element"(%x) : (tensor<4xf32, ["x"]>) -> f32
    %b = "diag.element"(%z) : (tensor<4xf32, ["x"]>) -> f32
    {body}
    "diag.yield"(%y) : (f32) -> ()
  }}) : () -> tensor<4xf32, ["x"]>
  return %o : tensor<4xf32, ["x"]>
}}
"""


def read(body: str) -> Expr:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(TEXT.format(body=body))
        block = diag.function_body(diag.functions(module)[0])
        names = dict(zip(block.arguments, (A, B), strict=True))
        return read_map(next(iter(block.operations)).operation, lambda w: names[w])


@pytest.mark.parametrize(("body", "shown"), BODIES)
def test_ops_are_read_by_their_real_meaning(body: str, shown: str) -> None:
    assert show(read(body)) == shown


def test_unknown_ops_become_functions_of_their_own() -> None:
    cube, other = read("%y = math.cbrt %a : f32"), read("%y = math.floor %a : f32")
    assert cube.args == (A,)
    assert cube.op != other.op
    assert read("%y = math.cbrt %a : f32") == cube


UNKNOWN: list[tuple[str, Callable[[Array, Array], Array]]] = [
    ("%y = math.floor %a : f32", lambda a, b: np.floor(a)),
    ("%t = math.floor %a : f32\n%y = arith.addf %t, %b : f32", lambda a, b: np.floor(a) + b),
    (
        "%i = arith.fptosi %a : f32 to i32\n%c = arith.constant 1 : i32\n"
        "%t = arith.cmpi slt, %i, %c : i32\n%y = arith.select %t, %a, %b : f32",
        lambda a, b: np.where(np.trunc(a) < 1, a, b),
    ),
]


@pytest.mark.parametrize(("body", "meaning"), UNKNOWN, ids=[body for body, _ in UNKNOWN])
def test_unknown_ops_are_emitted_again(body: str, meaning: Callable[[Array, Array], Array]) -> None:
    expr = read(body)
    a, b = np.random.default_rng(4).standard_normal((2, 5)) * 3
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(FUNCTION)
        block = diag.function_body(diag.functions(module)[0])
        last = list(block.operations)[-1]
        with ir.InsertionPoint(last):
            wires = dict(zip("ab", block.arguments, strict=True))
            last.operands[0] = map_expr(expr, wires, ir.F64Type.get())
        assert module.operation.verify()
        (found,) = evaluate(module, [a, b])
    np.testing.assert_allclose(found, meaning(a, b))


@pytest.mark.parametrize("name", ["math.exp2", "math.log2"])
def test_base_two_is_emitted_as_it_was_read(name: str) -> None:
    """In f32, log 2 has an error of 3e-8, which the meaning in f64 shows."""
    expr = read(f"%y = {name} %a : f32")
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(FUNCTION.replace("f64", "f32"))
        block = diag.function_body(diag.functions(module)[0])
        with ir.InsertionPoint(list(block.operations)[-1]):
            wire = map_expr(expr, {"a": block.arguments[0]}, ir.F32Type.get())
        assert name in str(wire.owner)
        assert "arith" not in str(wire.owner)


def test_a_function_without_an_op_is_not_emitted() -> None:
    with make_context(), ir.Location.unknown(), pytest.raises(ValueError, match="no op computes"):
        emit(call("frobnicate", A), {"a": ir.Value}, ir.F64Type.get())


MONOMIALS = [
    ("(mul a (mul b a))", Monomial(1.0, ("a", "b", "a"))),
    ("(neg (div a 4.0))", Monomial(-0.25, ("a",))),
    ("(pow (abs a) 2.0)", Monomial(1.0, ("a", "a"))),
    ("(mul (abs a) (abs a))", Monomial(1.0, ("a", "a"))),
    ("(select k (mul a 2.0) 0.0)", Monomial(2.0, ("a",), ("k",))),
    ("(pow (select k a 0.0) 2.0)", Monomial(1.0, ("a", "a"), ("k",))),
    ("(add a b)", None),
    ("(abs a)", None),
    ("(pow a 0.5)", None),
    ("(div a b)", None),
    ("(select k a 1.0)", None),
    ("(select (lt a b) a 0.0)", None),
    ("(exp a)", None),
]


@pytest.mark.parametrize(("source", "expected"), MONOMIALS)
def test_monomials(source: str, expected: Monomial | None) -> None:
    assert monomial(parse(source)) == expected
