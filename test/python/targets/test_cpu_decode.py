"""Few queries on long caches: whole and broken chunks, rows of register blocks that lie apart."""

from functools import cache

import pytest
import torch

from diagc.compiler import compile_module
from diagc.frontend.text import parse
from diagc.runtime.program import Program

SEED = 20260728
BOUNDS = {"f32": 3e-6, "bf16": 1.5e-2}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}

# key heads, query heads on each, queries
LAYOUTS = ((8, 4, 1), (1, 32, 1), (4, 1, 1), (2, 8, 1), (2, 3, 2), (1, 5, 1), (2, 2, 3))
# features of keys and of values
WIDTHS = ((128, 128), (64, 72), (64, 200), (32, 8), (40, 24), (16, 144))


def source(layout: tuple[int, int, int], widths: tuple[int, int], dtype: str, weights: str) -> str:
    (g, r, q), (d, e) = layout, widths
    return f"""
axis g = {g}, r = {r}, q = {q}, x, d = {d}, e = {e}
diagram decode(Q: g r q d {dtype}, K: g x d {dtype}, V: g x e {dtype}) {{
  S = Q . K over d
  P = {weights}
  return P . V over x
}}
"""


@cache
def programs(
    layout: tuple[int, int, int], widths: tuple[int, int], dtype: str, weights: str
) -> tuple[Program, Program, int]:
    """The program on the CPU, in the interpreter, and the first one's chunk, if it has any."""
    text = source(layout, widths, dtype, weights)
    ours = compile_module(parse(text, "decode.diag"), "cpu")
    assert [kernel.fall_back for kernel in ours.report.kernels] == [None]
    (kernel,) = ours.report.kernels
    (chunk,) = kernel.schedule.get("chunk", {"none": 64}).values()
    return ours, compile_module(parse(text, "decode.diag"), "interp"), chunk


def operands(
    layout: tuple[int, int, int], widths: tuple[int, int], length: int, dtype: str
) -> list[torch.Tensor]:
    """A query, and a cache of which all but `length` rows hold NaN."""
    (g, r, q), (d, e) = layout, widths
    generator = torch.Generator().manual_seed(SEED + length)
    queries = torch.randn(g, r, q, d, generator=generator) * d**-0.5
    caches = [torch.full((g, length + 9, width), float("nan")) for width in (d, e)]
    for rows in caches:
        rows[:, :length] = torch.randn(rows[:, :length].shape, generator=generator)
    kind = DTYPES[dtype]
    return [queries.to(kind), *(rows.to(kind)[:, :length] for rows in caches)]


def assert_agrees(
    layout: tuple[int, int, int],
    widths: tuple[int, int],
    dtype: str = "f32",
    weights: str = "softmax(S) along x",
    scale: float = 1.0,
    bound: float | None = None,
) -> None:
    """Compare lengths around the ends of one to three chunks."""
    ours, exact, chunk = programs(layout, widths, dtype, weights)
    lengths = {max(1, n * chunk + more) for n in (0, 1, 2, 3) for more in (-1, 0, 1, 5)}
    for length in sorted(lengths):
        tensors = operands(layout, widths, length, dtype)
        tensors[0] *= scale
        (found,) = ours(tensors)
        (wanted,) = exact([tensor.double() for tensor in tensors])
        error = float((found.double() - wanted).abs().max() / wanted.abs().max())
        assert error < (bound or BOUNDS[dtype]), f"{length} keys: error {error:.1e}"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_heads(layout: tuple[int, int, int]) -> None:
    assert_agrees(layout, (64, 64))


@pytest.mark.parametrize("widths", WIDTHS)
def test_widths_of_keys_and_values(widths: tuple[int, int]) -> None:
    assert_agrees((2, 4, 1), widths)


@pytest.mark.parametrize("layout", [(8, 4, 1), (2, 3, 2)])
def test_bf16(layout: tuple[int, int, int]) -> None:
    assert_agrees(layout, (64, 72), dtype="bf16")


@pytest.mark.parametrize(
    "weights", ["l1(S) along x", "sigmoid(S)", "softmax(S) along x where (x <= 70 + q)"]
)
def test_other_weights(weights: str) -> None:
    assert_agrees((2, 4, 2), (64, 72), weights=weights)


def test_every_lane_counts_for_the_maximum() -> None:
    """Exponents of hundreds overflow unless the largest score is subtracted."""
    assert_agrees((2, 4, 1), (64, 64), scale=200.0, bound=1e-3)


def test_two_threads_give_what_one_gives() -> None:
    ours, _, chunk = programs((8, 4, 1), (64, 64), "f32", "softmax(S) along x")
    tensors = operands((8, 4, 1), (64, 64), 2 * chunk + 5, "f32")
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(ours(tensors)[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)
