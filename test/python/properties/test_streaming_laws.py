"""Streams that the compiler derives for every normaliser: any split of the axis gives the same."""

from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagc.compiler import run_pipeline
from diagc.context import make_context
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.targets import interp
from diagc.testing.oracle import ELEVEN_DIGITS, expect

KINDS = ("softmax", "l2", "l1", "relu-sum", "sigmoid", "none", "rms", "layer")
SMALL = settings(
    max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)

ATTENTION = """func.func @main(
    %q: tensor<?x4xf32, ["q","d"]>, %k: tensor<?x4xf32, ["x","d"]>,
    %v: tensor<?x3xf32, ["x","e"]>, %keep: tensor<?x?xi1, ["q","x"]>
  ) -> tensor<?x3xf32, ["q","e"]> {
  %s = "diag.contract"(%q, %k) {over = ["d"]}
    : (tensor<?x4xf32, ["q","d"]>, tensor<?x4xf32, ["x","d"]>) -> tensor<?x?xf32, ["q","x"]>
  %p = "diag.normalize"(%s, %keep) {along = ["x"], kind = "KIND"EPS}
    : (tensor<?x?xf32, ["q","x"]>, tensor<?x?xi1, ["q","x"]>) -> tensor<?x?xf32, ["q","x"]>
  %o = "diag.contract"(%p, %v) {over = ["x"]}
    : (tensor<?x?xf32, ["q","x"]>, tensor<?x3xf32, ["x","e"]>) -> tensor<?x3xf32, ["q","e"]>
  return %o : tensor<?x3xf32, ["q","e"]>
}"""


def _text(kind: str) -> str:
    eps = ", eps = 0.0009765625 : f64" if kind in ("rms", "layer") else ""
    return ATTENTION.replace("KIND", kind).replace("EPS", eps)


@cache
def derived(kind: str) -> str:
    """The attention with this normaliser, with its streams derived, as text."""
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(_text(kind))
        run_pipeline(module, CompileOptions(reassociate="off"), "streams")
        return str(module)


def count_streams(text: str) -> int:
    with make_context():
        module = ir.Module.parse(text)
        ops = diag.walk_ops(module.operation.regions[0])
        return sum(op.name == "diag.stream" for op in ops)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_with_this_normalizer_streams(kind: str) -> None:
    # layer subtracts the mean first, which is a stream of its own
    assert count_streams(derived(kind)) in ((1, 2) if kind == "layer" else (1,))


@pytest.mark.parametrize("kind", KINDS)
@given(
    keys=st.integers(0, 40),
    chunk=st.integers(1, 41),
    tree=st.booleans(),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 30.0]),
    kept=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**31),
)
@SMALL
def test_every_split_of_the_axis_gives_the_unstreamed_result(
    kind: str, keys: int, chunk: int, tree: bool, scale: float, kept: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    q, k, v = (rng.normal(size=shape) for shape in ((5, 4), (keys, 4), (keys, 3)))
    keep = rng.random((5, keys)) < kept
    with make_context(), ir.Location.unknown():
        inputs = [scale * q, k, v, keep]
        expected = expect(ir.Module.parse(_text(kind)), inputs, ELEVEN_DIGITS)
        found = interp.evaluate(ir.Module.parse(derived(kind)), inputs, chunk=chunk, tree=tree)
        assert expected.complaint(found) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", [{"chunk": 1}, {"chunk": 7}, {"chunk": 7, "tree": True}])
def test_streams_survive_hard_scores(kind: str, how: dict[str, int]) -> None:
    """Scores of 1e4, duplicate keys, rows that are masked everywhere: no NaN, and the same."""
    rng = np.random.default_rng(4)
    q, k, v = (rng.normal(size=shape) for shape in ((5, 4), (30, 4), (30, 3)))
    k[10:20] = k[:10]
    keep = np.ones((5, 30), dtype=bool)
    keep[2] = False
    keep[3, :25] = False
    with make_context(), ir.Location.unknown():
        inputs = [5e3 * q, k, v, keep]
        expected = expect(ir.Module.parse(_text(kind)), inputs, ELEVEN_DIGITS)
        found = interp.evaluate(ir.Module.parse(derived(kind)), inputs, **how)  # type: ignore[arg-type]
        assert np.isfinite(found[0]).all()
        assert found[0][2].tolist() == [0.0, 0.0, 0.0]
        assert expected.complaint(found) is None
