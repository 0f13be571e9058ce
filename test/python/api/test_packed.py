"""Packed sequences and jagged nested tensors: each document as if it were alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import diagc
from diagc.errors import DiagcError, UserError
from diagc.testing.seed import SEED
from diagc.torch_backend.report import collecting

LENGTHS = [70, 1, 0, 33, 100]


def tensors(heads: int = 4, lengths: list[int] = LENGTHS) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    shapes = ((4, 16), (heads, 16), (heads, 24))
    packed = [torch.randn(sum(lengths), *shape, generator=generator) for shape in shapes]
    return packed, torch.tensor([0, *lengths]).cumsum(0).int()


def attend(packed: list[Tensor], starts: Tensor, causal: bool = False) -> Tensor:
    q, k, v = packed
    return diagc.packed_attention(q, k, v, starts, causal=causal)


def alone(packed: list[Tensor], lengths: list[int] = LENGTHS, causal: bool = False) -> Tensor:
    """Each document by itself, in float64."""
    parts = zip(*(x.double().split(lengths) for x in packed), strict=True)
    results = []
    for part in parts:
        q, k, v = (x.transpose(0, 1) for x in part)
        k, v = (x.repeat_interleave(4 // x.shape[0], 0) for x in (k, v))
        scores = q @ k.transpose(-1, -2) / 4
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).tril() == 0, -torch.inf)
        results.append((scores.softmax(-1) @ v).transpose(0, 1))
    return torch.cat(results)


@pytest.mark.parametrize(("heads", "causal"), [(4, False), (2, True)])
def test_documents_do_not_see_each_other(heads: int, causal: bool) -> None:
    packed, starts = tensors(heads)
    found = attend(packed, starts, causal)
    wanted = alone(packed, causal=causal)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)
    # other documents, same program
    lengths = [20, 184]
    _, others = tensors(heads, lengths)
    found = attend(packed, others, causal)
    wanted = alone(packed, lengths, causal)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)


def test_the_mask_is_not_stored() -> None:
    from diagc.packed import _attention

    packed, starts = tensors()
    bounds = diagc.document_bounds(starts, packed[0].shape[0])
    compiled = diagc.compile(_attention, *packed, *bounds, False, None)
    (kernel,) = compiled.kernels
    assert len(kernel.streams) == 3
    assert not compiled.outside


@pytest.mark.parametrize("causal", [False, True])
def test_gradients(causal: bool) -> None:
    """Documents far away are not visited in either direction: anything may stand there."""
    lengths = [128, 72, 300, 76, 144]
    packed, starts = tensors(lengths=lengths)
    cotangent = torch.randn_like(packed[2])

    def step(attention: Callable[[list[Tensor]], Tensor]) -> list[Tensor]:
        leaves = [x.detach().requires_grad_() for x in packed]
        out = attention(leaves)
        return [out, *torch.autograd.grad(out, leaves, cotangent.to(out.dtype))]

    wanted = step(lambda leaves: alone(leaves, lengths, causal))
    for found, right in zip(
        step(lambda leaves: attend(leaves, starts, causal)), wanted, strict=True
    ):
        torch.testing.assert_close(found, right.float(), rtol=1e-3, atol=1e-4)
    for x in (*packed, cotangent):
        x[:128] = torch.nan  # whole chunks, or values reach all of the next document
        x[-144:] = torch.nan
    inner = slice(200 + 64, 500 - 64)  # no tile is of two documents
    for found, right in zip(
        step(lambda leaves: attend(leaves, starts, causal)), wanted, strict=True
    ):
        torch.testing.assert_close(found[inner], right[inner].float(), rtol=1e-3, atol=1e-4)


def test_starts_that_lie_apart() -> None:
    packed, starts = tensors()
    apart = torch.stack([starts, starts], 1)[:, 0]
    assert torch.equal(attend(packed, apart), attend(packed, starts))


def test_no_tokens() -> None:
    packed, starts = tensors(lengths=[0, 0])
    assert attend(packed, starts).shape == (0, 4, 24)


def test_nested_tensors() -> None:
    packed, starts = tensors()
    nested = [torch.nested.nested_tensor_from_jagged(x, starts.long()) for x in packed]
    found = diagc.packed_attention(nested[0], nested[1], nested[2])
    assert found.is_nested
    torch.testing.assert_close(found.values().double(), alone(packed), rtol=1e-4, atol=1e-5)


def test_a_graph_reads_bounds_too() -> None:
    packed, starts = tensors()
    torch._dynamo.reset()
    compiled: Any = torch.compile(attend, backend="diagc", options={"rest": "eager"})
    with collecting() as reports:
        found = compiled(packed, starts)
    torch.testing.assert_close(found.double(), alone(packed), rtol=1e-4, atol=1e-5)
    (region,) = [region for report in reports for region in report.regions]
    (kernel,) = region.compiled.kernels
    assert "bounded" in kernel.name


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_under_torch_compile_stay_in_torch() -> None:
    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    lengths = [70, 33, 100]
    packed, starts = tensors(lengths=lengths)
    q = torch.nested.nested_tensor_from_jagged(packed[0], starts.long())
    offsets = q.offsets()  # type: ignore[attr-defined]
    k, v = (torch.nested.nested_tensor_from_jagged(x, offsets) for x in packed[1:])
    torch._dynamo.reset()
    compiled: Any = torch.compile(attention, backend="diagc", options={"rest": "eager"})
    with collecting() as reports:
        found = compiled(q, k, v)
    torch.testing.assert_close(
        found.values().double(), alone(packed, lengths), rtol=1e-4, atol=1e-5
    )
    assert any("NestedTensor" in reason for report in reports for reason in report.reasons)
    with pytest.raises(DiagcError, match="nested tensor"):
        diagc.compile(attention)(q, k, v)


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        ([0, 100, 205], "not documents"),
        ([1, 204], "not documents"),
        ([0, 150, 100, 204], "not documents"),
        ([0.0, 204.0], "cannot be that"),
    ],
)
def test_bad_starts(starts: list[float], message: str) -> None:
    packed, _ = tensors()
    with pytest.raises(UserError, match=message):
        attend(packed, torch.tensor(starts))


def test_bad_shapes() -> None:
    (q, k, v), starts = tensors()
    with pytest.raises(UserError, match="not packed"):
        diagc.packed_attention(q, k, v[:-1], starts)
    with pytest.raises(UserError, match="do not fit"):
        diagc.packed_attention(q, k[:, :3], v[:, :3], starts)
    with pytest.raises(UserError, match="need cu_seqlens"):
        diagc.packed_attention(q, k, v)
