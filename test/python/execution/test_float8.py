"""Numbers of f8E4M3FN with scales by blocks: plain torch code on a CPU against float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import diagc
from diagc.errors import UnsupportedError, UserError
from diagc.frontend.text import parse
from diagc.testing.seed import SEED

FLOAT8 = torch.float8_e4m3fn
LARGEST = 448.0
D = 32


def quantized(shape: tuple[int, ...], block: int) -> tuple[Tensor, Tensor]:
    """Random numbers as f8 with a scale (f32) for each block of rows; rows may end in a block."""
    *heads, rows, width = shape
    blocks = -(-rows // block)
    x = torch.randn(*heads, blocks, block, width) * torch.rand(*heads, blocks, 1, 1)
    scale = x.abs().amax((-1, -2)) / LARGEST
    found = (x / scale[..., None, None]).to(FLOAT8).flatten(-3, -2)
    return found[..., :rows, :], scale


def wide(x: Tensor, scale: Tensor, block: int) -> Tensor:
    """The numbers that f8 numbers with scales of blocks stand for."""
    return x.float() * scale.repeat_interleave(block, -1)[..., : x.shape[-2], None]


def softmax(s: Tensor) -> Tensor:
    return torch.softmax(s, -1)


def spherical(s: Tensor) -> Tensor:
    return s / torch.linalg.vector_norm(s, dim=-1, keepdim=True)


def l1(s: Tensor) -> Tensor:
    return s / s.abs().sum(-1, keepdim=True)


def causal(s: Tensor) -> Tensor:
    keep = torch.ones(s.shape[-2:], dtype=torch.bool).tril()
    return torch.softmax(s.masked_fill(~keep, float("-inf")), -1)


Weights = Callable[[Tensor], Tensor]


def attention(
    weights: Weights, blocks: tuple[int, int, int], dtype: torch.dtype = torch.float32
) -> Callable[..., Tensor]:
    """Of numbers with scales for blocks of rows, of queries, keys and values."""

    def function(q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        parts = zip((q, k, v), (a, b, c), blocks, strict=True)
        left, right, values = (wide(*part).to(dtype) for part in parts)
        return weights(left @ right.transpose(-1, -2) / 8) @ values

    return function


def tensors(
    rows: int, keys: int, blocks: tuple[int, int, int], heads: tuple[int, int]
) -> list[Tensor]:
    torch.manual_seed(SEED)
    queries, shared = heads
    parts = [
        quantized((1, queries, rows, D), blocks[0]),
        quantized((1, shared, keys, D), blocks[1]),
        quantized((1, shared, keys, D), blocks[2]),
    ]
    return [*(x for x, _ in parts), *(scale for _, scale in parts)]


@pytest.mark.parametrize(
    ("weights", "keys", "blocks"),
    [
        (softmax, 96, (16, 32, 32)),
        (causal, 96, (32, 16, 16)),
        (spherical, 90, (64, 16, 32)),
        (l1, 90, (16, 64, 64)),
    ],
)
def test_attention_with_scales_of_blocks(
    weights: Weights, keys: int, blocks: tuple[int, int, int]
) -> None:
    """One kernel, whose contractions read f8 arrays: the scales have left their operands."""
    inputs = tensors(keys, keys, blocks, (2, 2))
    function = attention(weights, blocks)
    compiled = diagc.compile(function, *inputs, target="cpu", reassociate="off")
    expected = attention(weights, blocks, torch.float64)(*inputs)
    error = (compiled(*inputs) - expected).abs().max() / expected.abs().max()
    assert error < 1e-5
    assert len(compiled.kernels) == 1
    text = compiled.emit("streams")
    products = [line for line in text.splitlines() if '"diag.contract"(%' in line]
    assert len(products) == 2
    assert [line.count("xf8E4M3FN,") for line in products] == [2, 1]


def test_heads_that_share_keys_and_their_scales() -> None:
    def function(q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        right, values = (wide(*x, 16).repeat_interleave(2, 1) for x in ((k, b), (v, c)))
        return torch.softmax(wide(q, a, 16) @ right.transpose(-1, -2) / 8, -1) @ values

    inputs = tensors(32, 64, (16, 16, 16), (4, 2))
    found = diagc.compile(function, target="cpu")(*inputs)
    torch.testing.assert_close(found, function(*inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("target", ["cpu", "interp"])
def test_every_number(target: str) -> None:
    """Both ways, and from one to the other; NaN is NaN."""
    every = torch.arange(256, dtype=torch.uint8).view(FLOAT8)
    found = diagc.compile(lambda x: x.float() * 2.0, target=target, library="none")(every)
    torch.testing.assert_close(found, every.float() * 2.0, equal_nan=True, rtol=0, atol=0)
    again = diagc.compile(lambda x: (x * 0.5).to(FLOAT8), target=target, library="none")(found)
    assert torch.equal(again.view(torch.uint8)[:127], every.view(torch.uint8)[:127])
    assert again[127].isnan()


@pytest.mark.parametrize("target", ["cpu", "interp"])
def test_rounding_is_that_of_torch(target: str) -> None:
    """To nearest, ties to even, subnormal numbers; too large ones become the largest, as in PTX."""
    torch.manual_seed(SEED)
    some = torch.randn(999) * torch.exp2(torch.randint(-14, 12, (999,)).float())
    middles = torch.arange(126).to(torch.uint8).view(FLOAT8).float() * 1.0
    ties = (middles[1:] + middles[:-1]) / 2
    special = torch.tensor([448.0, 464.0, 465.0, 1e9, float("inf"), -float("inf"), float("nan")])
    x = torch.cat([some, ties, -ties, special, torch.zeros(2).copysign(torch.tensor([1.0, -1.0]))])
    rounded = diagc.compile(lambda x: (x * 1.0).to(FLOAT8), target=target, library="none")(x)
    assert torch.equal(rounded.view(torch.uint8), x.to(FLOAT8).view(torch.uint8))


def test_rounding_inside_of_a_kernel() -> None:
    """As networks are trained that will be run in f8; the library computes nothing with f8."""

    def function(x: Tensor) -> Tensor:
        return torch.exp((x * 1.5).to(FLOAT8).float()) + 1.0

    x = torch.linspace(-3.0, 3.0, 257)
    torch.testing.assert_close(diagc.compile(function, target="cpu")(x), function(x))


def test_such_numbers_are_not_added() -> None:
    with pytest.raises(UserError, match="'add' is not defined on f8E4M3FN; convert it to f32"):
        parse("axis n = 8\ndiagram total(X: n f8E4M3FN) {\n  Y = sum(X) over n\n  return Y\n}\n")


def test_precisions() -> None:
    with pytest.raises(UserError, match="no such float8_matmul_precision"):
        diagc.compile(softmax, target="cpu", float8_matmul_precision="medium")


@pytest.mark.parametrize("library", ["torch", "none"])
def test_linear_layer(library: str) -> None:
    """The library multiplies in f32."""

    def function(x: Tensor, w: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return wide(x, a, 16) @ wide(w, b, 16).transpose(-1, -2)

    torch.manual_seed(SEED)
    (x, a), (w, b) = quantized((70, 64), 16), quantized((48, 64), 16)
    found = diagc.compile(function, target="cpu", library=library)(x, w, a, b)
    torch.testing.assert_close(found, function(x, w, a, b))


def test_gradients_of_scales() -> None:
    function = attention(softmax, (16, 16, 16))
    found = []
    for each in (function, diagc.compile(function, target="cpu")):
        arrays = tensors(32, 64, (16, 16, 16), (2, 2))
        scales = [x.requires_grad_() for x in arrays[3:]]
        each(*arrays).square().sum().backward()
        found.append([scale.grad for scale in scales])
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-4)


COMPUTED: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda x: x.sum(-1, dtype=torch.float32),
    "mean": lambda x: x.mean(-1, dtype=torch.float32),
    "softmax": lambda x: torch.softmax(x, -1, dtype=torch.float32),
    "views": lambda x: x.mT.reshape(4, -1).unsqueeze(0).float() * 2,
    "cat": lambda x: torch.cat([x, x[:, :3]], 1).float() + 1,
    "half": lambda x: x.to(torch.bfloat16) * 2,
    "a copy": lambda x: x.clone().float() @ x.float().mT,
    "a product by torch": lambda x: (x @ x.mT).float() + 1,
    "a layer by torch": lambda x: torch.nn.functional.linear(x, x).float() + 1,
    "factors": lambda x: (x * x).float() + 1,
}


@pytest.mark.parametrize("name", COMPUTED)
def test_what_torch_computes(name: str) -> None:
    """Conversions, in an operation too, and what only moves numbers."""
    torch.manual_seed(SEED)
    x = torch.randn(6, 8).to(FLOAT8)
    found = diagc.compile(COMPUTED[name], target="cpu")(x)
    torch.testing.assert_close(found, COMPUTED[name](x))


def test_the_other_8_bit_floats_are_refused() -> None:
    x = torch.ones(6, 8).to(torch.float8_e5m2)
    with pytest.raises(UnsupportedError, match=r"argument 'x'.*convert with .float\(\) before"):
        diagc.compile(lambda x: x.float() + 1, x)
