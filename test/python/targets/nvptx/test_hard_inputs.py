"""Inputs that break careless kernels: huge and tiny scores, rows without keys, infinities."""

import numpy as np
import pytest

from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.testing.tile_kernels import Array, TileRun, compile_tiles, kernels_of, run_tiles

NORMALISERS = ("softmax", "l1", "l2", "relu_sum")
UNBOUNDED = NORMALISERS[1:]
# of the largest element: results, and the weights of softmax, are rounded to the type
TOLERANCE = {"bf16": 3 * 2.0**-9, "f16": 3 * 2.0**-12, "f32": 1e-5}
HEADS, ROWS, KEYS = 1, 19, 37
LOWEST = {"bf16": -3.3895313892515355e38, "f32": -3.4028234663852886e38}


def attention(normaliser: str, dtype: str, *, d: int = 16, q: str = "Q", scores: str = "S") -> str:
    bias = "" if "B" not in scores else f", B: q x {dtype}"
    # without a mask, l2 is a Gram state
    where = " where (q + 30 >= x)" if normaliser == "l2" else ""
    return f"""axis h, q, x, d = {d}, e = 16
diagram attention(Q: h q d {dtype}, K: h x d {dtype}, V: h x e {dtype}{bias}) {{
  R = {q}
  S: h q x f32 = R . K over d
  P = {normaliser}({scores}) along x{where}
  O: h q e {dtype} = P . V over x
  return O
}}
"""


def inputs(d: int = 16) -> list[Array]:
    """Q, K and V."""
    rng = np.random.default_rng(0)
    shapes = [(HEADS, ROWS, d), (HEADS, KEYS, d), (HEADS, KEYS, 16)]
    return [rng.standard_normal(shape) for shape in shapes]


def run(text: str, arrays: list[Array], bias: Array | None = None) -> TileRun:
    """Arguments are found by their labels: rows l, keys s; K is used before V."""
    _module, kernels = kernels_of(text)
    assert len(kernels) == 1
    built, compiled = compile_tiles(kernels[0], TileSchedule(warps=2, chunk=16))
    q, *of_keys = arrays
    ordered: list[Array] = []
    for wire in built.signature.args:
        if "s" not in wire.labels:
            ordered.append(q)
        elif "l" not in wire.labels:
            ordered.append(of_keys.pop(0))
        else:
            assert bias is not None
            ordered.append(bias)
    return run_tiles(kernels[0], built, compiled, ordered)


# ---- shifts of an exponential that are large ---------------------------------------------------


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
@pytest.mark.parametrize("masked", ["lowest", "-1e30", "-1e9"])
def test_a_row_masked_by_a_large_number_is_uniform(dtype: str, masked: str) -> None:
    """In f32 the scores are all the bias, as they are where the model comes from."""
    arrays, bias = inputs(), np.zeros((ROWS, KEYS))
    bias[::2] = LOWEST[dtype] if masked == "lowest" else float(masked)
    found = run(attention("softmax", dtype, scores="S * 0.125 + B"), arrays, bias).found[0]
    mean = arrays[2].mean(axis=1, keepdims=True)
    assert np.abs(found[:, ::2] - mean).max() < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f32"])
def test_rows_without_keys_are_zero(dtype: str) -> None:
    arrays, bias = inputs(), np.zeros((ROWS, KEYS))
    bias[::2] = bias[:, :20] = -np.inf
    outcome = run(attention("softmax", dtype, scores="S * 0.125 + B"), arrays, bias)
    assert np.all(outcome.found[0][:, ::2] == 0)
    assert outcome.error() < TOLERANCE[dtype]


@pytest.mark.parametrize("scale", ["1.0", "0.17"])
@pytest.mark.parametrize("size", [1e4, 1e5, 1e10, 1e30])
def test_large_scores(size: float, scale: str) -> None:
    """All keys but some that are equal are far below: the result is the mean of theirs.

    Their weights are equal, but need not be 1: they are rounded, as the result is, to 2**-8 each.
    """
    arrays = inputs()
    arrays[0] = np.abs(arrays[0]) * size
    arrays[1][:] = -np.abs(arrays[1])
    arrays[1][:, [3, 17, 30]] = 0.75
    outcome = run(attention("softmax", "bf16", scores=f"S * {scale}"), arrays)
    values = outcome.arguments[2]
    mean = values[:, [3, 17, 30]].mean(axis=1, keepdims=True)
    assert np.abs(outcome.found[0] - mean).max() < 2 * 2.0**-8 * np.abs(mean).max()


# ---- padding, and operands that are not finite -------------------------------------------------


@pytest.mark.parametrize(("dtype", "d"), [("f32", 40), ("bf16", 72)])
def test_padding_of_rows_that_a_map_makes(dtype: str, d: int) -> None:
    """1 / 0 is infinite, and where the axis ends the keys are 0."""
    arrays = inputs(d)
    arrays[0] = np.sign(arrays[0]) * (0.5 + np.abs(arrays[0]))
    text = attention("softmax", dtype, d=d, q="1 / Q", scores="S * 0.05")
    assert run(text, arrays).error() < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f32"])
@pytest.mark.parametrize("normaliser", ["softmax", "l1"])
def test_infinities_in_values_stay_in_their_columns(normaliser: str, dtype: str) -> None:
    arrays = inputs()
    arrays[0][...] = np.abs(arrays[0]) / 4
    arrays[1][...] = np.abs(arrays[1]) / 4
    arrays[2][0, 5, 3], arrays[2][0, 20, 7] = np.inf, -np.inf
    outcome = run(attention(normaliser, dtype), arrays)
    found, expected = outcome.found[0], outcome.expected[0]
    assert np.all(found[..., 3] == np.inf)
    assert np.all(found[..., 7] == -np.inf)
    rest = [column for column in range(16) if column not in (3, 7)]
    assert np.abs(found[..., rest] - expected[..., rest]).max() < TOLERANCE[dtype]


# ---- scores of all sizes, in all types ---------------------------------------------------------


@pytest.mark.parametrize("size", [100.0, 200.0, 1e-2])
@pytest.mark.parametrize("normaliser", UNBOUNDED)
def test_scores_beyond_the_range_of_f16(normaliser: str, size: float) -> None:
    arrays = inputs()
    arrays[0], arrays[1] = np.abs(arrays[0]) * size, np.abs(arrays[1]) * size
    assert run(attention(normaliser, "f16"), arrays).error() < TOLERANCE["f16"]


@pytest.mark.parametrize("normaliser", UNBOUNDED)
def test_tiny_scores_keep_their_digits_in_f16(normaliser: str) -> None:
    arrays = inputs()
    arrays[0], arrays[1] = np.abs(arrays[0]), np.abs(arrays[1]) * 1e-4
    assert run(attention(normaliser, "f16", scores="S * 0.01"), arrays).error() < TOLERANCE["f16"]


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("keys", ["equal", "of low rank"])
def test_keys_without_full_rank(keys: str, normaliser: str, dtype: str) -> None:
    arrays = inputs()
    arrays[0] = np.abs(arrays[0])
    kinds = np.arange(KEYS) % (1 if keys == "equal" else 3)
    arrays[1] = np.abs(arrays[1])[:, kinds]
    assert run(attention(normaliser, dtype), arrays).error() < TOLERANCE[dtype]


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_queries_near_the_null_space_of_keys(normaliser: str) -> None:
    """All scores are small next to the terms of their sums."""
    arrays = inputs()
    arrays[1] -= arrays[1].mean(axis=2, keepdims=True)
    arrays[0] = 1 + 1e-3 * arrays[0]
    tolerance = 1e-5 if normaliser == "softmax" else 1e-3
    assert run(attention(normaliser, "f32"), arrays).error() < tolerance
