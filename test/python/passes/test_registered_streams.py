"""Attention by registered normalisers: one stream over keys, with the states that were derived."""

from typing import Any

import numpy as np
import pytest

from diagc.compiler import run_pipeline
from diagc.context import make_context
from diagc.dialects import diag
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.normalizers import register_normalizer
from diagc.options import CompileOptions
from diagc.scalars import exp
from diagc.targets import interp
from diagc.testing.registered import CASES, Case, reference

pytestmark = pytest.mark.usefixtures("registry")
Array = np.ndarray[Any, Any]


def text(case: Case, masked: bool) -> str:
    """Attention; parameters are arguments without axes."""
    parameters = "".join(f", {name}: ()" for name in case.parameters)
    name = case.name.replace("-", "_")
    args = "".join(f", {parameter}" for parameter in case.parameters)
    where = " where M" if masked else ""
    return (
        f"axis q, x, d = 4, e = 3\n"
        f"diagram main(Q: q d, K: x d, V: x e, M: q x i1{parameters}) {{\n"
        f"  P = {name}(Q . K over d{args}) along x{where}\n"
        f"  O = P . V over x\n  return O\n}}\n"
    )


def data(case: Case, scale: float, keys: int) -> list[Array]:
    """Rows 0 and 1 are masked whole and to the last key."""
    rng = np.random.default_rng(keys)
    q, k, v = (rng.standard_normal(shape) for shape in ((5, 4), (keys, 4), (keys, 3)))
    keep = rng.random((5, keys)) < 0.7
    keep[0] = False
    keep[1] = np.arange(keys) == keys - 1
    return [scale * q, k, v, keep, *(np.array(p) for p in case.parameters.values())]


def expected(case: Case, inputs: list[Array], masked: bool) -> Array:
    q, k, v, keep = inputs[:4]
    return reference(case, q @ k.T, keep if masked else np.ones_like(keep)) @ v


def streamed(module: ir.Module) -> list[ir.Operation]:
    run_pipeline(module, CompileOptions(reassociate="off"), "streams")
    found = diag.walk_ops(module.operation.regions[0])
    return [op for op in found if op.name == "diag.stream"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_derived_states(case: Case) -> None:
    proof = case.register()
    assert proof.state == case.states
    assert bool(proof.correction) == (case.states[0] == "m")
    with make_context(), ir.Location.unknown():
        module = parse(text(case, masked=True))
        (stream,) = streamed(module)
        assert stream.attributes["axis"].value == "x"
        states = stream.regions[1].blocks[0].arguments
        # and the sum that the output needs; the number of positions is counted too
        assert len(states) == len(case.states) + 1 + (case.name == "sized")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("masked", [False, True])
def test_any_chunks_give_the_reference(case: Case, masked: bool) -> None:
    case.register()
    with make_context(), ir.Location.unknown():
        module = parse(text(case, masked))
        assert streamed(module)
        for scale, keys in ((1.0, 1), (1.0, 13), (0.0, 6), (40.0, 30)):
            inputs = data(case, scale, keys)
            wanted = expected(case, inputs, masked)
            for how in ({"chunk": 1}, {"chunk": 4, "tree": True}, {"chunk": 40}):
                (found,) = interp.evaluate(module, inputs, **how)  # type: ignore[arg-type]
                np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_scores_of_ten_thousand_stay_in_range(case: Case) -> None:
    case.register()
    if case.name == "sigmoid-sum":
        pytest.skip("sigmoid(-1e4) is 0 in floats: such a row has no mass, and gives zeros")
    with make_context(), ir.Location.unknown():
        module = parse(text(case, masked=True))
        before = parse(text(case, masked=True))
        streamed(module)
        inputs = data(case, 3e3, 24)
        (found,) = interp.evaluate(module, inputs, chunk=5)
        (unstreamed,) = interp.evaluate(before, inputs)
    assert np.isfinite(found).all()
    assert not found[0].any()
    np.testing.assert_allclose(found, unstreamed, rtol=1e-6, atol=1e-9)


def test_a_parameter_may_vary_with_an_axis() -> None:
    register_normalizer(
        "head-sink", exp, [exp], lambda z, sink: exp(sink) + z, params={"sink": "h"}
    )
    source = (
        "axis h = 3, q, x, d = 4, e = 2\n"
        "diagram main(Q: h q d, K: h x d, V: h x e, sink: h) {\n"
        "  P = head_sink(Q . K over d, sink) along x\n  O = P . V over x\n  return O\n}\n"
    )
    rng = np.random.default_rng(3)
    q, k, v = (rng.standard_normal((3, n, w)) for n, w in ((5, 4), (9, 4), (9, 2)))
    sink = rng.standard_normal(3)
    scores = np.einsum("hqd,hxd->hqx", q, k)
    whole = np.logaddexp(np.logaddexp.reduce(scores, axis=2), sink[:, None])
    with make_context(), ir.Location.unknown():
        module = parse(source)
        assert len(streamed(module)) == 1
        (found,) = interp.evaluate(module, [q, k, v, sink], chunk=4)
    wanted = np.einsum("hqx,hxe->hqe", np.exp(scores - whole[..., None]), v)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
