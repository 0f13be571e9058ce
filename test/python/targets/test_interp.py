"""The interpreter on ops over whole wires, against numpy written independently."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from diagc.context import make_context
from diagc.dialects import diag
from diagc.errors import DiagcError, UnsupportedError, UserError
from diagc.mlir import ir
from diagc.targets import interp

Array = npt.NDArray[Any]
RNG = np.random.default_rng(20)


@pytest.fixture(autouse=True)
def context() -> Iterator[ir.Context]:
    with make_context() as ctx, ir.Location.unknown():
        yield ctx


def run(
    arguments: Sequence[str], body: str, results: Sequence[str], inputs: Sequence[Any], **how: Any
) -> list[Array]:
    """Evaluate a function with arguments %0, %1 … of these types; `body` ends with the return."""
    names = ", ".join(f"%a{i}: {type_}" for i, type_ in enumerate(arguments))
    text = f"func.func @main({names}) -> ({', '.join(results)}) {{\n{body}\n}}"
    module = ir.Module.parse(text)
    module.operation.verify()
    diag.verify_labels(module)
    return interp.evaluate(module, [np.asarray(x) for x in inputs], **how)


def unary(op: str, source: str, result: str, x: Any, **how: Any) -> Array:
    """One op from %a0 to one result; `op` is its name with attributes."""
    body = f"%r = {op} : ({source}) -> {result}\nreturn %r : {result}"
    (out,) = run([source], body, [result], [x], **how)
    return out


def test_contract_sums_over_labels_and_weaves_shared_ones() -> None:
    b, q, x, d = 3, 5, 7, 4
    left, right = RNG.normal(size=(b, q, d)), RNG.normal(size=(x, d, b))
    types = ('tensor<?x5x4xf32, ["b","q","d"]>', 'tensor<7x4x?xf32, ["x","d","b"]>')
    result = 'tensor<7x?x5xf32, ["x","b","q"]>'
    body = f"""%r = "diag.contract"(%a0, %a1) {{over = ["d"]}} : ({", ".join(types)}) -> {result}
    return %r : {result}"""
    (out,) = run(types, body, [result], [left, right])
    np.testing.assert_allclose(out, np.einsum("bqd,xdb->xbq", left, right), rtol=1e-13)


def test_contract_over_two_axes_and_over_none() -> None:
    left, right = RNG.normal(size=(2, 3)), RNG.normal(size=(3, 2))
    types = ('tensor<2x3xf32, ["a","b"]>', 'tensor<3x2xf32, ["b","a"]>')
    scalar, outer = "tensor<f32, []>", 'tensor<2x3xf32, ["a","b"]>'
    operands = ", ".join(types)
    body = f"""%r = "diag.contract"(%a0, %a1) {{over = ["a", "b"]}} : ({operands}) -> {scalar}
    %s = "diag.contract"(%a0, %a1) {{over = []}} : ({operands}) -> {outer}
    return %r, %s : {scalar}, {outer}"""
    total, product = run(types, body, [scalar, outer], [left, right])
    np.testing.assert_allclose(total, np.sum(left * right.T), rtol=1e-13)
    np.testing.assert_allclose(product, left * right.T, rtol=1e-15)


def test_contract_over_an_empty_axis_is_zero() -> None:
    types = ('tensor<2x?xf32, ["q","d"]>', 'tensor<3x?xf32, ["x","d"]>')
    result = 'tensor<2x3xf32, ["q","x"]>'
    body = f"""%r = "diag.contract"(%a0, %a1) {{over = ["d"]}} : ({", ".join(types)}) -> {result}
    return %r : {result}"""
    (out,) = run(types, body, [result], [np.ones((2, 0)), np.ones((3, 0))])
    assert np.array_equal(out, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("add", lambda x: x.sum(axis=(0, 2))),
        ("mul", lambda x: x.prod(axis=(0, 2))),
        ("max", lambda x: x.max(axis=(0, 2))),
        ("min", lambda x: x.min(axis=(0, 2))),
    ],
)
def test_reduce_over_two_axes(kind: str, expected: Any) -> None:
    x = RNG.normal(size=(3, 5, 2))
    out = unary(
        f'"diag.reduce"(%a0) {{over = ["c", "a"], kind = "{kind}"}}',
        'tensor<3x?x2xf32, ["a","b","c"]>',
        'tensor<?xf32, ["b"]>',
        x,
    )
    np.testing.assert_allclose(out, expected(x), rtol=1e-13)


@pytest.mark.parametrize(
    ("kind", "element", "identity"),
    [
        ("add", "f32", 0.0),
        ("mul", "f32", 1.0),
        ("max", "f32", -np.inf),
        ("min", "f32", np.inf),
        ("add", "i32", 0),
        ("max", "i8", -128),
        ("min", "i32", 2**31 - 1),
        ("and", "i1", True),
        ("or", "i1", False),
        ("and", "i32", -1),
    ],
)
def test_reduce_of_nothing_is_the_identity(kind: str, element: str, identity: Any) -> None:
    out = unary(
        f'"diag.reduce"(%a0) {{over = ["x"], kind = "{kind}"}}',
        f'tensor<2x?x{element}, ["q","x"]>',
        f'tensor<2x{element}, ["q"]>',
        np.zeros((2, 0), dtype=bool if element == "i1" else int),
    )
    assert out.tolist() == [identity, identity]


def test_reduce_propagates_nan() -> None:
    x = np.array([[1.0, np.nan], [2.0, np.inf]])
    for kind in ("add", "max", "min", "mul"):
        out = unary(
            f'"diag.reduce"(%a0) {{over = ["x"], kind = "{kind}"}}',
            'tensor<2x2xf32, ["q","x"]>',
            'tensor<2xf32, ["q"]>',
            x,
        )
        assert np.isnan(out[0])
        assert not np.isnan(out[1])


def test_map_broadcasts_by_label_and_creates_axes() -> None:
    x, y = RNG.normal(size=(3,)), RNG.normal(size=(4, 3))
    types = ('tensor<?xf32, ["q"]>', 'tensor<4x?xf32, ["d","q"]>')
    result = 'tensor<?x2x4xf32, ["q","new","d"]>'
    body = f"""%r = "diag.map"() ({{
      %x = "diag.element"(%a0) : ({types[0]}) -> f32
      %y = "diag.element"(%a1) : ({types[1]}) -> f32
      %s = arith.subf %x, %y : f32
      "diag.yield"(%s) : (f32) -> ()
    }}) : () -> {result}
    return %r : {result}"""
    (out,) = run(types, body, [result], [x, y])
    expected = np.repeat((x[None] - y).T[:, None, :], 2, axis=1)
    assert np.array_equal(out, expected)


def test_map_reads_constants_hoisted_out_of_it() -> None:
    type_ = 'tensor<?xf32, ["q"]>'
    body = f"""%c = arith.constant 2.5 : f32
    %r = "diag.map"() ({{
      %x = "diag.element"(%a0) : ({type_}) -> f32
      %s = arith.mulf %x, %c : f32
      "diag.yield"(%s) : (f32) -> ()
    }}) : () -> {type_}
    return %r : {type_}"""
    (out,) = run([type_], body, [type_], [np.array([1.0, -2.0])])
    assert out.tolist() == [2.5, -5.0]


def test_relabel_and_permuted_result() -> None:
    x = RNG.normal(size=(2, 3))
    out = unary(
        '"diag.relabel"(%a0) {from = ["q"], to = ["x"]}',
        'tensor<2x3xf32, ["q","d"]>',
        'tensor<3x2xf32, ["d","x"]>',
        x,
    )
    assert np.array_equal(out, x.T)


REINDEXINGS = [
    # (map, source type, result type, source shape, expected)
    ("(i, j) -> (j, i)", '?x3xf32, ["a","b"]', '3x?xf32, ["b","a"]', (4, 3), lambda x: x.T),
    ("(i) -> (i * 2 + 1)", '?xf32, ["a"]', '?xf32, ["b"]', (9,), lambda x: x[1::2]),
    ("(i) -> (i, i)", '4x4xf32, ["a","b"]', '4xf32, ["c"]', (4, 4), np.diagonal),
    (
        "(i, j) -> (i * 4 + j)",
        '?xf32, ["a"]',
        '?x4xf32, ["b","c"]',
        (12,),
        lambda x: x.reshape(3, 4),
    ),
    (
        "(i) -> (i floordiv 4, i mod 4)",
        '?x4xf32, ["a","b"]',
        '?xf32, ["c"]',
        (3, 4),
        lambda x: x.reshape(12),
    ),
    ("(i, j) -> (i + j)", '?xf32, ["a"]', '?x3xf32, ["b","w"]', (7,), None),
    ("(i) -> (-i + 4)", '5xf32, ["a"]', '5xf32, ["b"]', (5,), lambda x: x[::-1]),
]


@pytest.mark.parametrize(("map_", "source", "result", "shape", "expected"), REINDEXINGS)
def test_reindex_gathers(map_: str, source: str, result: str, shape: Any, expected: Any) -> None:
    x = RNG.normal(size=shape)
    expected = expected or (lambda x: np.lib.stride_tricks.sliding_window_view(x, 3))
    out = unary(
        f'"diag.reindex"(%a0) {{map = affine_map<{map_}>}}',
        f"tensor<{source}>",
        f"tensor<{result}>",
        x,
    )
    assert np.array_equal(out, expected(x))


def test_reindex_beyond_the_source_is_an_error() -> None:
    with pytest.raises(DiagcError, match=r'positions 2\.\.5 leave axis "a" of size 5'):
        run(
            ['tensor<?xf32, ["a"]>', 'tensor<?xf32, ["b"]>'],
            """%r = "diag.reindex"(%a0) {map = affine_map<(i) -> (i + 2)>}
                 : (tensor<?xf32, ["a"]>) -> tensor<?xf32, ["b"]>
            return %r : tensor<?xf32, ["b"]>""",
            ['tensor<?xf32, ["b"]>'],
            [np.ones(5), np.ones(4)],
        )


def test_index_may_name_an_axis_that_a_later_op_makes() -> None:
    body = """%i = "diag.index"() {axis = "x"} : () -> tensor<?xindex, ["x"]>
    %r = "diag.relabel"(%a0) {from = ["q"], to = ["x"]}
      : (tensor<?xf32, ["q"]>) -> tensor<?xf32, ["x"]>
    return %i : tensor<?xindex, ["x"]>"""
    (out,) = run(['tensor<?xf32, ["q"]>'], body, ['tensor<?xindex, ["x"]>'], [np.zeros(4)])
    assert out.tolist() == [0, 1, 2, 3]
    assert out.dtype == np.int64


@pytest.mark.parametrize(
    ("value", "type_", "expected"),
    [
        ("[1.5, -2.0]", "f32", [1.5, -2.0]),
        ("[1.5, 0xFF80]", "bf16", [1.5, -np.inf]),
        ("[true, false]", "i1", [True, False]),
        ("[1, -3]", "index", [1, -3]),
        ("-1", "i8", [-1, -1]),
        ("0.25", "bf16", [0.25, 0.25]),
        ("0.5", "f16", [0.5, 0.5]),
        ("true", "i1", [True, True]),
    ],
)
def test_constants(value: str, type_: str, expected: list[Any]) -> None:
    result = f'tensor<2x{type_}, ["z"]>'
    body = f"""%r = "diag.constant"()
      {{value = dense<{value}> : tensor<2x{type_}>}} : () -> {result}
    return %r : {result}"""
    (out,) = run([], body, [result], [])
    assert out.tolist() == expected


def test_large_bf16_constant() -> None:
    bits = np.arange(16000, 16256, dtype="<u2")
    result = 'tensor<256xbf16, ["z"]>'
    body = f"""%r = "diag.constant"() {{value = dense<"0x{bits.tobytes().hex().upper()}">
      : tensor<256xbf16>}} : () -> {result}
    return %r : {result}"""
    (out,) = run([], body, [result], [])
    assert np.array_equal(out, (bits.astype(np.uint32) << 16).view(np.float32))


def test_concat_and_pad() -> None:
    left, right = RNG.normal(size=(2, 3)), RNG.normal(size=(4, 2))
    types = ('tensor<2x?xf32, ["d","p"]>', 'tensor<?x2xf32, ["n","d"]>')
    joined, padded = 'tensor<2x?xf32, ["d","x"]>', 'tensor<2x?xf32, ["d","y"]>'
    body = f"""%r = "diag.concat"(%a0, %a1) {{axes = ["p", "n"], to = "x"}}
      : ({", ".join(types)}) -> {joined}
    %p = "diag.pad"(%r) {{axis = "x", to = "y", low = 1 : i64, high = 2 : i64, value = -1.0 : f32}}
      : ({joined}) -> {padded}
    return %r, %p : {joined}, {padded}"""
    out, wide = run(types, body, [joined, padded], [left, right])
    expected = np.concatenate([left, right.T], axis=1)
    assert np.array_equal(out, expected)
    assert np.array_equal(wide, np.pad(expected, ((0, 0), (1, 2)), constant_values=-1.0))


def test_calls_casts_and_externs() -> None:
    text = """
    func.func private @kernel(%x: tensor<?x?xf32, ["a0","a1"]>) -> tensor<?xf32, ["a0"]>
        attributes {diag.kernel} {
      %s = "diag.reduce"(%x) {over = ["a1"], kind = "add"}
        : (tensor<?x?xf32, ["a0","a1"]>) -> tensor<?xf32, ["a0"]>
      return %s : tensor<?xf32, ["a0"]>
    }
    func.func private @extern_0(tensor<2xf32, ["q"]>) -> tensor<2xf32, ["q"]>
        attributes {diag.extern = "aten.sort"}
    func.func @main(%x: tensor<2x3xf32, ["q","d"]>) -> tensor<2xf32, ["q"]> {
      %c = builtin.unrealized_conversion_cast %x
        : tensor<2x3xf32, ["q","d"]> to tensor<?x?xf32, ["a0","a1"]>
      %k = call @kernel(%c) : (tensor<?x?xf32, ["a0","a1"]>) -> tensor<?xf32, ["a0"]>
      %r = builtin.unrealized_conversion_cast %k : tensor<?xf32, ["a0"]> to tensor<2xf32, ["q"]>
      %s = call @extern_0(%r) : (tensor<2xf32, ["q"]>) -> tensor<2xf32, ["q"]>
      return %s : tensor<2xf32, ["q"]>
    }"""
    module = ir.Module.parse(text)
    x = np.array([[5.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    (out,) = interp.evaluate(module, [x], externs={"extern_0": np.sort})
    assert out.tolist() == [3.0, 7.0]
    (row,) = interp.evaluate(module, [x], "kernel")
    assert row.tolist() == [7.0, 3.0]
    with pytest.raises(UserError, match="no Python function was given for the extern 'extern_0'"):
        interp.evaluate(module, [x])
    with pytest.raises(
        UserError, match=r"no such function.*expected one of kernel.*found 'missing'"
    ):
        interp.evaluate(module, [x], "missing")


TWO = ['tensor<?x4xf32, ["q","d"]>', 'tensor<?x4xf32, ["q","d"]>']
FIRST = f"return %a0 : {TWO[0]}"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([np.ones((2, 4))], "wrong number of inputs, expected 2, found 1"),
        ([np.ones((2, 4)), np.ones((3, 4))], 'axis "q" of input 1 .* expected 2, found 3'),
        ([np.ones((2, 5)), np.ones((2, 4))], 'axis "d" of input 0 .* expected 4, found 5'),
        (
            [np.ones(4), np.ones((2, 4))],
            r"input 0 .* wrong rank, expected axes .*found shape \(4,\)",
        ),
    ],
)
def test_wrong_inputs_are_named(inputs: list[Array], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(TWO, FIRST, [TWO[0]], inputs)


def test_floats_for_an_integer_input_are_refused() -> None:
    type_ = 'tensor<?xi1, ["q"]>'
    with pytest.raises(UserError, match=r"wrong element type.*float64"):
        run([type_], f"return %a0 : {type_}", [type_], [np.ones(2)])


def test_op_without_meaning_is_named() -> None:
    type_ = "tensor<f32, []>"
    body = f"""%e = tensor.empty() : {type_}
    return %e : {type_}"""
    with pytest.raises(UnsupportedError, match=r"tensor\.empty"):
        run([], body, [type_], [])


def test_two_rules_for_one_op_are_refused() -> None:
    with pytest.raises(ValueError, match=r"op 'diag\.map' has two rules"):
        interp.rule("diag.map")(lambda op, frame: [])


def test_every_op_of_the_dialect_has_a_rule() -> None:
    ops = {
        value.OPERATION_NAME
        for name, value in vars(diag).items()
        if name.endswith("Op") and isinstance(getattr(value, "OPERATION_NAME", None), str)
    }
    assert len(ops) >= 13
    assert ops - set(interp.rule_names()) == {"diag.yield"}


def test_interpreter_does_not_import_torch() -> None:
    import subprocess

    code = "import sys, diagc.targets.interp; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
