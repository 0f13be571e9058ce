"""Builder functions of the dialect: inferred types, and what they refuse."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from diagc.context import make_context
from diagc.dialects import diag
from diagc.mlir import arith, func, ir

D = diag.DYNAMIC


@pytest.fixture(autouse=True)
def function() -> Iterator[ir.Block]:
    """Give an empty function body as the ambient insertion point."""
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            block = func.FuncOp("f", ir.FunctionType.get([], [])).regions[0].blocks.append()
        with ir.InsertionPoint(block):
            yield block


def zeros(dtype: str = "f32", **sizes: int) -> ir.Value:
    element = ir.Type.parse(dtype)
    attr = ir.FloatAttr.get(element, 0) if dtype[0] != "i" else ir.IntegerAttr.get(element, 0)
    return diag.map_([], lambda: arith.constant(element, attr), result=sizes, dtype=element)


def shown(value: ir.Value) -> str:
    return str(value.type)


def test_contract_keeps_free_axes_in_order_and_weaves_shared_ones() -> None:
    lhs, rhs = zeros(h=2, q=D, d=4), zeros("bf16", h=2, x=3, d=4)
    assert shown(diag.contract(lhs, rhs, ["d"])) == 'tensor<2x?x3xf32, ["h", "q", "x"]>'
    ordered = diag.contract(lhs, rhs, ["d"], order=["x", "q", "h"], dtype=ir.F64Type.get())
    assert shown(ordered) == 'tensor<3x?x2xf64, ["x", "q", "h"]>'


@pytest.mark.parametrize(
    ("left", "right", "result"),
    [
        ("f32", "f64", "f64"),
        ("bf16", "bf16", "bf16"),
        ("bf16", "f16", "f32"),
        ("f16", "f32", "f32"),
    ],
)
def test_contract_gives_the_wider_type(left: str, right: str, result: str) -> None:
    value = diag.contract(zeros(left, d=4), zeros(right, d=4), ["d"])
    assert str(diag.element_type(value)) == result


def test_reductions_normalisers_and_views_infer_their_types() -> None:
    A = zeros(q=D, d=4)
    assert shown(diag.reduce(A, ["q", "d"], "max")) == "tensor<f32, []>"
    assert shown(diag.normalize(A, ["d"], "softmax")) == shown(A)
    assert shown(diag.relabel(A, {"d": "e"})) == 'tensor<?x4xf32, ["q", "e"]>'
    assert shown(diag.pad(A, "d", "p", 1, 2)) == 'tensor<?x7xf32, ["q", "p"]>'
    assert shown(diag.pad(A, "q", "p", 1, 2)) == 'tensor<?x4xf32, ["p", "d"]>'
    assert shown(diag.concat(A, zeros(x=3, d=4), ["q", "x"], "z")) == 'tensor<?x4xf32, ["z", "d"]>'
    assert shown(diag.index("q")) == 'tensor<?xindex, ["q"]>'
    assert shown(diag.constant(0.5)) == "tensor<f32, []>"


def test_a_map_has_the_union_of_labels_and_the_type_of_its_body() -> None:
    A, B = zeros(q=D, d=4), zeros(x=3, d=D)
    less = diag.map_([A, B], lambda a, b: arith.cmpf(arith.CmpFPredicate.OLT, a, b))
    assert shown(less) == 'tensor<?x4x3xi1, ["q", "d", "x"]>'
    assert diag.element_type(diag.map_([], lambda: arith.constant(ir.F64Type.get(), 1.0))) == (
        ir.F64Type.get()
    )


def test_a_stream_gets_its_results_from_its_tail() -> None:
    V = zeros(x=D, e=4)
    results = diag.stream(
        "x",
        init=lambda: [diag.constant(0.0), zeros(e=4)],
        body=lambda z, o: [z, diag.reduce(diag.chunk(V, "x"), ["x"])],
        tail=lambda z, o: [o, z],
        combine=lambda za, oa, zb, ob: [za, ob],
        properties=["monoid"],
    )
    assert [shown(r) for r in results] == ['tensor<4xf32, ["e"]>', "tensor<f32, []>"]
    assert results[0].owner.verify()


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "contract label": (
        lambda: diag.contract(zeros(q=2), zeros(d=2), ["d"]),
        'axis "d" is missing in the left operand (tensor<2xf32, ["q"]>)',
    ),
    "contract size": (
        lambda: diag.contract(zeros(q=2, d=2), zeros(q=3, d=2), ["d"]),
        'axis "q" has size 2 in one operand and 3 in another',
    ),
    "contract order": (
        lambda: diag.contract(zeros(q=2, d=2), zeros(d=2), ["d"], order=["d"]),
        "result order ['d'] must permute the axes ['q']",
    ),
    "contract integers": (
        lambda: diag.contract(zeros("i32", d=2), zeros(d=2), ["d"]),
        "a contraction takes floats, found i32",
    ),
    "reduce": (lambda: diag.reduce(zeros(q=2), ["d"]), 'axis "d" is missing in the operand'),
    "relabel": (
        lambda: diag.relabel(zeros(q=2), {"d": "e"}),
        'axis "d" is missing in the operand',
    ),
    "pad": (lambda: diag.pad(zeros(q=2), "d", "e", 1, 1), 'axis "d" is missing in the operand'),
    "concat": (
        lambda: diag.concat(zeros(q=2), zeros(d=2), ["q", "x"], "z"),
        'axis "x" is missing in the right operand',
    ),
    "map type": (
        lambda: diag.map_([zeros(q=2)], lambda a: a, dtype=ir.F64Type.get()),
        "map body yields f32, expected f64",
    ),
    "stream results": (
        lambda: diag.stream(
            "x",
            lambda: [diag.constant(0.0)],
            lambda z: [z],
            lambda z: [z] * 9,
        ),
        "a stream has at most 8 results, found 9",
    ),
    "no wire": (
        lambda: diag.labels(ir.F32Type.get()),
        "expected a wire (a ranked tensor with axis labels), found f32",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_builder_refuses(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(diag.VerifyError) as caught:
        make()
    assert words in str(caught.value)
