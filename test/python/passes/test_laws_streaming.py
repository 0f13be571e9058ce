"""The streaming law for every normaliser of the table: any chunks give what one chunk gives."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagc.algebra.normalizers import NORMALIZERS
from diagc.context import make_context
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.normalizer_meaning import normalize
from diagc.passes.pipeline import Pipeline
from diagc.targets.interp import evaluate

Array = np.ndarray[Any, Any]

PASSES = (
    "canonicalize-diag,expand-normalizers,canonicalize-diag,fuse-normalization,canonicalize-diag,"
    "{reassociate}derive-streams,canonicalize-diag"
)
REASSOCIATE = "reassociate-contractions,canonicalize-diag,"

ATTENTION = """
func.func @main(%q: {Q}, %k: {K}, %v: {V}, %m: {M}) -> {O} {{
  %s = "diag.contract"(%q, %k) {{over = ["d"]}} : ({Q}, {K}) -> {S}
  %p = "diag.normalize"(%s{mask}) {{along = ["x"], kind = "{kind}"}} : ({S}{mask_type}) -> {S}
  %o = "diag.contract"(%p, %v) {{over = ["x"]}} : ({S}, {V}) -> {O}
  return %o : {O}
}}
"""


def attention(kind: str, masked: bool, element: str = "f32") -> str:
    """Attention with any normaliser, all lengths dynamic; the mask is an argument in any case."""
    types = {
        "Q": f'tensor<2x?x4x{element}, ["b", "q", "d"]>',
        "K": f'tensor<2x?x4x{element}, ["b", "x", "d"]>',
        "V": f'tensor<2x?x3x{element}, ["b", "x", "e"]>',
        "S": f'tensor<2x?x?x{element}, ["b", "q", "x"]>',
        "O": f'tensor<2x?x3x{element}, ["b", "q", "e"]>',
        "M": 'tensor<?x?xi1, ["q", "x"]>',
    }
    mask = {"mask": ", %m", "mask_type": f", {types['M']}"} if masked else {}
    return ATTENTION.format(kind=kind, **types, **({"mask": "", "mask_type": ""} | mask))


def compiled(text: str, reassociate: bool = False) -> ir.Module:
    module = ir.Module.parse(text)
    passes = PASSES.format(reassociate=REASSOCIATE if reassociate else "")
    Pipeline(f"builtin.module(func.func({passes}))").run(module)
    return module


def streams(module: ir.Module) -> list[ir.Operation]:
    block = diag.function_body(diag.functions(module)[0])
    return [v.operation for v in block.operations if v.operation.name == "diag.stream"]


def reference(kind: str, inputs: list[Array], masked: bool) -> Array:
    """Attention in float64, from the definition of the normaliser."""
    q, k, v, keep = inputs
    scores = np.einsum("bqd,bxd->bqx", q, k)
    kept = np.broadcast_to(keep if masked else np.ones_like(keep), scores.shape)
    weights = normalize(kind, scores, (2,), keep=kept)
    return np.einsum("bqx,bxe->bqe", weights, v)


def data(seed: int, queries: int, keys: int, scale: float, empty: bool) -> list[Array]:
    """Random inputs; with `empty`, the first half of the keys and one whole row are masked."""
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((2, n, d)) for n, d in ((queries, 4), (keys, 4), (keys, 3)))
    keep = rng.random((queries, keys)) < 0.8
    if empty:
        keep[:, : keys // 2] = False
        keep[:1] = False
    return [q * scale, k, v, keep]


@pytest.mark.parametrize("kind", NORMALIZERS)
@pytest.mark.parametrize("masked", [False, True])
def test_every_normaliser_streams_over_keys(kind: str, masked: bool) -> None:
    with make_context(), ir.Location.unknown():
        module = compiled(attention(kind, masked))
        found = streams(module)
        assert found
        assert all(op.attributes["axis"].value == "x" for op in found)
        assert len(found) == 1
        assert not any("diag.normalize" in str(op) for op in found)


@pytest.mark.parametrize("kind", NORMALIZERS)
@settings(max_examples=12, database=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 5),
    keys=st.integers(0, 11),
    chunk=st.integers(1, 12),
    tree=st.booleans(),
    masked=st.booleans(),
    empty=st.booleans(),
    reassociate=st.booleans(),
    scale=st.sampled_from([0.0, 1.0, 1e4]),
)
def test_chunks_and_merges_give_the_whole(
    kind: str,
    seed: int,
    queries: int,
    keys: int,
    chunk: int,
    tree: bool,
    masked: bool,
    empty: bool,
    reassociate: bool,
    scale: float,
) -> None:
    inputs = data(seed, queries, keys, scale, empty)
    with make_context(), ir.Location.unknown():
        module = compiled(attention(kind, masked), reassociate)
        (found,) = evaluate(module, inputs, chunk=chunk, tree=tree)
    wanted = reference(kind, inputs, masked)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(
        found, wanted, rtol=1e-9, atol=1e-9 * (1 + np.abs(wanted).max(initial=0))
    )


@pytest.mark.parametrize("kind", NORMALIZERS)
def test_an_empty_row_and_a_row_of_zeros_give_zeros(kind: str) -> None:
    inputs = data(5, 3, 8, 1.0, empty=True)
    inputs[0][:, 1] = 0.0
    with make_context(), ir.Location.unknown():
        (found,) = evaluate(compiled(attention(kind, masked=True)), inputs, chunk=3)
    assert (found[:, 0] == 0.0).all()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("kind", NORMALIZERS)
def test_nan_propagates_along_its_row_only(kind: str) -> None:
    inputs = data(6, 3, 8, 1.0, empty=False)
    inputs[0][0, 1, 2] = np.nan
    with make_context(), ir.Location.unknown():
        (found,) = evaluate(compiled(attention(kind, masked=False)), inputs, chunk=3)
    assert np.isnan(found[0, 1]).all()
    assert np.isfinite(found[1]).all()
    assert np.isfinite(found[0, [0, 2]]).all()


@pytest.mark.parametrize("element", ["f16", "bf16", "f64"])
@pytest.mark.parametrize("kind", NORMALIZERS)
def test_states_are_wide_enough(kind: str, element: str) -> None:
    with make_context(), ir.Location.unknown():
        module = compiled(attention(kind, masked=True, element=element))
        for op in streams(module):
            states = op.regions[1].blocks[0].arguments
            found = {str(diag.element_type(state)) for state in states}
            assert found == {"f64" if element == "f64" else "f32"}
