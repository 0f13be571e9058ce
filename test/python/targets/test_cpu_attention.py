"""Attention-shaped diagrams on the CPU target against the interpreter, on poisoned results."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from diagc.compiler import compile_module
from diagc.frontend.text import parse
from diagc.runtime.program import Program

SEED = 20240117
NORMALIZERS = ("softmax", "l2", "l1", "sigmoid", "none")
SHAPES = ((1, 2, 100, 77), (2, 3, 64, 128), (1, 1, 1, 300), (1, 1, 17, 1))


@pytest.fixture(autouse=True)
def poisoned_results() -> Iterator[None]:
    """Fresh tensors hold NaN, so that an element no kernel writes is found."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    yield
    torch.use_deterministic_algorithms(False)


def text(
    scores: str = "S = Q . K over d",
    weights: str = "P = softmax(S) along x",
    *,
    d: int = 64,
    e: int = 64,
    dtype: str = "f32",
    more: str = "",
    mask: str = "",
) -> str:
    """A `.diag` attention with open batch, heads and lengths."""
    return f"""
axis b, h, q, x, d = {d}, e = {e}
diagram attention(Q: b h q d {dtype}, K: b h x d {dtype}, V: b h x e {dtype}{more}) {{
  {scores}
  {weights}{mask}
  return P . V over x
}}
"""


def both(source: str) -> tuple[Program, Program]:
    """The program on the CPU, which must not fall back, and in the interpreter."""
    program = compile_module(parse(source, "test.diag"), "cpu")
    assert program.report is not None
    assert [k.fall_back for k in program.report.kernels] == [None] * len(program.report.kernels)
    return program, compile_module(parse(source, "test.diag"), "interp")


def operands(
    shape: Sequence[int], d: int = 64, e: int = 64, scale: float = 1.0
) -> list[torch.Tensor]:
    """Queries, keys, values for (batch, heads, queries, keys)."""
    b, h, q, x = shape
    rng = np.random.default_rng(SEED)
    sizes = ((b, h, q, d), (b, h, x, d), (b, h, x, e))
    return [torch.from_numpy(scale * rng.standard_normal(size)) for size in sizes]


def error(program: Program, reference: Program, tensors: Sequence[torch.Tensor]) -> float:
    """Largest error of the CPU, relative to the largest element of the reference."""
    wide = [t.double() if t.is_floating_point() else t for t in tensors]
    worst = 0.0
    for ours, exact in zip(program(list(tensors)), reference(wide), strict=True):
        assert not torch.isnan(ours).any()
        if exact.numel():
            bound = exact.abs().max().clamp(min=1e-30)
            worst = max(worst, float((ours.double() - exact).abs().max() / bound))
    return worst


@pytest.mark.parametrize("kind", NORMALIZERS)
def test_every_normaliser_streams_and_agrees(kind: str) -> None:
    program, reference = both(text(weights=f"P = {kind}(S * 0.125) along x"))
    for shape in SHAPES:
        tensors = [t.float() for t in operands(shape)]
        assert error(program, reference, tensors) < 5e-6, shape


@pytest.mark.parametrize("d", [1, 2, 3, 8, 17, 40, 100, 128, 192, 256, 512])
def test_any_head_size(d: int) -> None:
    program, reference = both(text(d=d, e=d))
    tensors = [t.float() for t in operands((1, 2, 33, 70), d, d, d**-0.25)]
    assert error(program, reference, tensors) < 5e-6


@pytest.mark.parametrize(("d", "e"), [(64, 128), (192, 128), (24, 100), (16, 1)])
def test_value_size_differs(d: int, e: int) -> None:
    program, reference = both(text(d=d, e=e))
    tensors = [t.float() for t in operands((1, 2, 40, 65), d, e, d**-0.25)]
    assert error(program, reference, tensors) < 5e-6


@pytest.mark.parametrize(
    ("dtype", "torch_dtype", "bound"),
    [
        ("bf16", torch.bfloat16, 2e-2),
        ("f16", torch.float16, 2e-3),
        ("f64", torch.float64, 1e-13),
    ],
)
@pytest.mark.parametrize("kind", ["softmax", "l1"])
def test_dtypes(dtype: str, torch_dtype: torch.dtype, bound: float, kind: str) -> None:
    for d in (64, 40, 33):
        program, reference = both(text(weights=f"P = {kind}(S) along x", dtype=dtype, d=d, e=d))
        for shape in ((1, 2, 50, 77), (1, 1, 3, 64)):
            tensors = [t.to(torch_dtype) for t in operands(shape, d, d, d**-0.25)]
            assert error(program, reference, tensors) < bound, (shape, d)


@pytest.mark.parametrize("kind", ["softmax", "l2", "l1"])
@pytest.mark.parametrize("mask", ["q >= x", "q + 5 >= x", "(q >= x) and (q < x + 9)"])
def test_masks_of_positions(kind: str, mask: str) -> None:
    program, reference = both(
        text(weights=f"P = {kind}(S * 0.125) along x", mask=f" where ({mask})")
    )
    for shape in SHAPES:
        tensors = [t.float() for t in operands(shape)]
        assert error(program, reference, tensors) < 5e-6, shape


@pytest.mark.parametrize("kind", ["softmax", "l2"])
def test_boolean_mask_and_fully_masked_rows(kind: str) -> None:
    program, reference = both(
        text(weights=f"P = {kind}(S) along x", more=", M: b q x i1", mask=" where M")
    )
    for shape in SHAPES:
        b, _, q, x = shape
        mask = torch.from_numpy(np.random.default_rng(SEED).random((b, q, x)) < 0.6)
        mask[:, q // 2] = False
        tensors = [t.float() for t in operands(shape, scale=0.3)]
        assert error(program, reference, [*tensors, mask]) < 5e-6, shape
        (result,) = program([*tensors, mask])
        assert result[:, :, q // 2].abs().max() == 0


def test_additive_bias_broadcast_over_batch() -> None:
    program, reference = both(
        text(scores="T = Q . K over d\n  S = T * 0.125 + B", more=", B: h q x")
    )
    for shape in SHAPES:
        _, h, q, x = shape
        bias = torch.from_numpy(np.random.default_rng(SEED).standard_normal((h, q, x))).float()
        tensors = [t.float() for t in operands(shape)]
        assert error(program, reference, [*tensors, bias]) < 5e-6, shape


def test_all_zero_rows_and_empty_axes_give_zeros() -> None:
    for kind in ("softmax", "l2", "l1"):
        program, _ = both(text(weights=f"P = {kind}(S) along x"))
        (none,) = program(
            [torch.ones(1, 1, 5, 64), torch.ones(1, 1, 0, 64), torch.ones(1, 1, 0, 64)]
        )
        assert none.shape == (1, 1, 5, 64)
        assert none.abs().max() == 0
        (empty,) = program([torch.ones(1, 1, 0, 64), *[torch.ones(1, 1, 4, 64)] * 2])
        assert empty.shape == (1, 1, 0, 64)
        if kind != "softmax":
            (zero,) = program([torch.zeros(1, 1, 5, 64), *[torch.ones(1, 1, 4, 64)] * 2])
            assert zero.abs().max() == 0


def test_scores_of_ten_thousand_do_not_overflow() -> None:
    program, reference = both(text())
    tensors = [t.float() for t in operands((1, 2, 40, 90), scale=1.0)]
    tensors[0] *= 1250.0
    assert error(program, reference, tensors) < 2e-3


@pytest.mark.parametrize("kind", ["softmax", "l2", "l1"])
def test_nan_and_infinity_propagate(kind: str) -> None:
    program, _ = both(text(weights=f"P = {kind}(S) along x"))
    tensors = [t.float() for t in operands((1, 1, 20, 70))]
    tensors[0][0, 0, 3, 5] = float("nan")
    (result,) = program(tensors)
    assert torch.isnan(result[0, 0, 3]).all()
    assert not torch.isnan(result[0, 0, [0, 1, 2, 4, 19]]).any()


def test_strided_and_expanded_inputs_are_read_in_place() -> None:
    program, reference = both(text())
    b, h, q, x = 2, 3, 50, 60
    rng = np.random.default_rng(SEED)
    base = torch.from_numpy(rng.standard_normal((b, q, h, 64))).float()
    keys = torch.from_numpy(rng.standard_normal((1, 1, x, 64))).float().expand(b, h, x, 64)
    values = torch.from_numpy(rng.standard_normal((b, h, x, 96))).float()[..., :64]
    assert error(program, reference, [base.transpose(1, 2), keys, values]) < 5e-6


def test_two_threads_give_what_one_gives() -> None:
    program, _ = both(text())
    tensors = [t.float() for t in operands((2, 3, 130, 77))]
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(program(tensors)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_one_label_summed_for_scores_and_free_in_values() -> None:
    source = """
axis b, h, q, x, e = 16
diagram attention(Q: b q h e, K: b x h e, V: b x h e) {
  S = Q . K over e
  P = softmax(S * 0.25) along x
  return P . V over x
}
"""
    program, reference = both(source)
    rng = np.random.default_rng(SEED)
    tensors = [torch.from_numpy(rng.standard_normal((2, 50, 4, 16))).float() for _ in range(3)]
    assert error(program, reference, tensors) < 5e-6
