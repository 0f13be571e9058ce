"""Attention in the forms that people write it in, and how its masks are raised."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diagc.frontend.torch import ImportedProgram

GENERATOR = torch.Generator().manual_seed(4)
INF = float("inf")
Ops = Callable[[ImportedProgram], list[str]]
Check = Callable[..., ImportedProgram]


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR)


Q, K, V = (_random(2, 4, 16, 8) for _ in range(3))
SHORT_K, SHORT_V = _random(2, 4, 12, 8), _random(2, 4, 12, 6)
GROUP_K, GROUP_V = _random(2, 2, 16, 8), _random(2, 2, 16, 8)
KEEP = _random(16, 16) > -0.5
sdpa = F.scaled_dot_product_attention

FUSED: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "plain": (sdpa, (Q, K, V)),
    "causal": (lambda q, k, v: sdpa(q, k, v, is_causal=True), (Q, K, V)),
    "causal, scaled, fewer keys": (
        lambda q, k, v: sdpa(q, k, v, is_causal=True, scale=0.3),
        (Q, SHORT_K, SHORT_V),
    ),
    "float mask": (lambda q, k, v, m: sdpa(q, k, v, m), (Q, K, V, _random(2, 1, 16, 16))),
    "bool mask": (lambda q, k, v, m: sdpa(q, k, v, m), (Q, K, V, KEEP)),
    "bool mask of heads": (
        lambda q, k, v, m: sdpa(q, k, v, m),
        (Q, K, V, KEEP.expand(1, 4, 16, 16)),
    ),
    "groups": (lambda q, k, v: sdpa(q, k, v, enable_gqa=True), (Q, GROUP_K, GROUP_V)),
    "causal groups": (
        lambda q, k, v: sdpa(q, k, v, is_causal=True, enable_gqa=True),
        (Q, GROUP_K, GROUP_V),
    ),
    "masked groups": (
        lambda q, k, v, m: sdpa(q, k, v, m, enable_gqa=True),
        (Q, GROUP_K, GROUP_V, _random(2, 4, 16, 16) > -1),
    ),
    "one key head": (
        lambda q, k, v: sdpa(q, k, v, enable_gqa=True),
        (Q, GROUP_K[:, :1], GROUP_V[:, :1]),
    ),
    "no batch": (sdpa, (Q[0, 0], K[0, 0], V[0, 0])),
    "one query": (sdpa, (Q[:, :, :1], K, V)),
    "one feature": (sdpa, (Q[..., :1], K[..., :1], V[..., :1])),
    "itself": (lambda q: sdpa(q, q, q), (Q,)),
}


@pytest.mark.parametrize("name", FUSED)
def test_scaled_dot_product_attention(name: str, check_import: Check, ops: Ops) -> None:
    function, inputs = FUSED[name]
    program = check_import(function, *inputs)
    assert not program.externs
    assert ops(program).count("normalize") == 1
    assert ops(program).count("contract") == 2


def test_bf16_keeps_scores_in_f32(check_import: Check) -> None:
    inputs = [t.to(torch.bfloat16) for t in (Q, K, V)]
    program = check_import(sdpa, *inputs, double=False, tolerance=3e-2)
    (line,) = [x for x in str(program.module).splitlines() if "diag.normalize" in x]
    assert "bf16" not in line


def test_active_dropout_stays_in_torch() -> None:
    from diagc.frontend.torch import import_torch

    program = import_torch(lambda q, k, v: sdpa(q, k, v, dropout_p=0.5), (Q, K, V))
    (note,) = program.notes
    assert "random" in note.why


# --- causal masks written by hand ---------------------------------------------------------------


def _tril(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    keep = torch.ones(16, 16, dtype=torch.bool).tril()
    return torch.softmax((q @ k.mT).masked_fill(~keep, -INF), -1) @ v


def _triu_of_infinities(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mask = torch.triu(torch.full((16, 16), -INF, dtype=q.dtype), 1)
    return torch.softmax((q @ k.mT) * 0.2 + mask, -1) @ v


def _compared_positions(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    i = torch.arange(q.shape[-2])
    return torch.softmax(torch.where(i[:, None] >= i, q @ k.mT, -INF) / 4, -1) @ v


def _tril_of_ones(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mask = torch.tril(torch.ones(16, 16))
    return F.softmax((q @ k.mT).masked_fill(mask == 0, -INF).to(q.dtype), dim=-1) @ v


def _generated(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mask = torch.nn.Transformer.generate_square_subsequent_mask(16, dtype=q.dtype)
    return sdpa(q, k, v, attn_mask=mask)


def _finite(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    keep = torch.ones(16, 16, dtype=torch.bool).tril()
    return torch.softmax((q @ k.mT).masked_fill(~keep, torch.finfo(q.dtype).min), -1) @ v


def _finite_bias(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    i = torch.arange(16)
    zero = torch.zeros(16, 16, dtype=q.dtype)
    bias = zero.masked_fill(i > i[:, None], torch.finfo(q.dtype).min)
    return torch.softmax(q @ k.mT / 3 + bias, -1) @ v


def _sliced(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mask = torch.full((20, 20), -INF, dtype=q.dtype).triu(1)[2:18, 2:18]
    return torch.softmax(q @ k.mT + mask, -1) @ v


def _packed_positions(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As a tracer sees a library that looks for packed sequences in the positions themselves."""
    n = q.shape[-2]
    position = (torch.arange(n) + 0).unsqueeze(0)
    steps = torch.diff(position, prepend=position[:, :1] - 1, dim=-1)
    document = (steps != 1).cumsum(-1).expand(q.shape[0], -1)
    position = position.expand(q.shape[0], -1)
    b = torch.arange(q.shape[0])[:, None, None, None]
    i, j = torch.arange(n)[None, None, :, None], torch.arange(n)[None, None, None, :]
    keep = i.new_ones((), dtype=torch.bool) & (document[b, i] == document[b, j])
    keep = keep & (position[b, j] <= position[b, i])
    return sdpa(q, k, v, keep.expand(q.shape[0], -1, n, n))


CAUSAL = (
    *(_finite, _finite_bias, _sliced, _packed_positions),
    *(_tril, _triu_of_infinities, _compared_positions, _tril_of_ones, _generated),
)


@pytest.mark.parametrize("function", CAUSAL, ids=lambda f: f.__name__.strip("_"))
def test_causal_mask_is_one_comparison_of_positions(
    function: Any, check_import: Check, ops: Ops
) -> None:
    program = check_import(function, Q, K, V)
    text = str(program.module)
    assert not program.externs
    assert ops(program).count("index") == 2
    (normalize,) = [x for x in text.splitlines() if "diag.normalize" in x]
    assert "xi1" in normalize
    assert text.count("arith.cmpi") == 1
    assert "arith.select" not in text
    assert "0xFF" not in text  # no infinity is left


def test_positions_are_followed_with_open_sizes() -> None:
    from diagc.frontend.torch import import_torch

    program = import_torch(_packed_positions, (Q, K, V), dynamic=True)
    assert not program.externs
    assert str(program.module).count("arith.cmpi") == 1


def _of_documents(q: Tensor, k: Tensor, v: Tensor, position: Tensor) -> Tensor:
    document = (torch.diff(position, prepend=position[:, :1] - 1, dim=-1) != 1).cumsum(-1)
    return sdpa(q, k, v, (document[:, None, :, None] == document[:, None, None, :]))


def test_positions_that_are_given_stay_data(check_import: Check) -> None:
    position = torch.tensor([[*range(9), *range(7)]] * 2)
    program = check_import(_of_documents, Q, K, V, position)
    (running,) = [note for note in program.notes if "cumsum" in note.op]
    assert "every result needs those at the positions before it" in running.why


def test_window_is_a_mask_of_positions(check_import: Check, ops: Ops) -> None:
    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        i = torch.arange(16)
        near = (i[:, None] - i[None, :]).abs() < 3
        return torch.softmax(torch.where(near, q @ k.mT, -INF), -1) @ v

    program = check_import(function, Q, K, V)
    assert "i1>" not in str(program.module).split("diag.normalize")[0].split("func.func")[1][:400]
    assert ops(program).count("normalize") == 1


# --- masks that must not become `keep` ----------------------------------------------------------


def _finite_with_empty_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    keep = torch.ones(16, 16, dtype=torch.bool).tril(-1)
    return torch.softmax((q @ k.mT).masked_fill(~keep, torch.finfo(q.dtype).min), -1) @ v


def _finite_of_data(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    return torch.softmax((q @ k.mT).masked_fill(~keep, torch.finfo(q.dtype).min), -1) @ v


def _finite_and_scaled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    keep = torch.ones(16, 16, dtype=torch.bool).tril()
    scores = (q @ k.mT).masked_fill(~keep, torch.finfo(q.dtype).min)
    return torch.softmax(scores * 1e-308, -1) @ v


def _given(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT + mask, -1) @ v


def _l2(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = (q @ k.mT).masked_fill(torch.ones(16, 16).triu(1) != 0, -INF)
    return (scores / torch.linalg.vector_norm(scores, dim=-1, keepdim=True)) @ v


def _negated(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    keep = torch.ones(16, 16, dtype=torch.bool).tril()
    return torch.softmax(-((q @ k.mT).masked_fill(keep, -INF)), -1) @ v


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (_finite_with_empty_rows, (Q, K, V)),
        (_finite_of_data, (Q, K, V, KEEP)),
        (_finite_and_scaled, (Q, K, V)),
        (_given, (Q, K, V, torch.where(KEEP, 0.0, -INF))),
        (_l2, (Q, K, V)),
        (_negated, (Q, K, V)),
    ],
    ids=[
        "empty rows",
        "finite, of data",
        "finite, scaled",
        "given as floats",
        "not a softmax",
        "negative factor",
    ],
)
def test_other_masks_stay_arithmetic(
    function: Any, inputs: tuple[Tensor, ...], check_import: Check
) -> None:
    program = check_import(function, *inputs)
    for line in str(program.module).splitlines():
        assert "diag.normalize" not in line or "xi1" not in line


def test_boolean_mask_that_is_given_is_kept(check_import: Check) -> None:
    def function(q: Tensor, k: Tensor, v: Tensor, m: Tensor) -> Tensor:
        return torch.softmax((q @ k.mT).masked_fill(m, -INF) * 0.5, -1) @ v

    program = check_import(function, Q, K, V, ~KEEP)
    (line,) = [x for x in str(program.module).splitlines() if "diag.normalize" in x]
    assert "tensor<16x16xi1" in line


def test_masked_scores_that_are_also_returned_stay(check_import: Check) -> None:
    def function(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        scores = (q @ k.mT).masked_fill(~torch.ones(16, 16, dtype=torch.bool).tril(), -INF)
        return scores, torch.softmax(scores, -1)

    check_import(function, Q, K)


# --- other normalisers, and axis names ----------------------------------------------------------


def test_spherical_attention_is_reduce_and_map(check_import: Check, ops: Ops) -> None:
    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.mT
        return (scores / torch.linalg.vector_norm(scores, dim=-1, keepdim=True)) @ v

    program = check_import(function, Q, K, V)
    assert set(ops(program)) == {"contract", "map", "reduce"}


def test_self_attention_relabels_the_keys(check_import: Check, ops: Ops) -> None:
    program = check_import(lambda x: torch.softmax(x @ x.mT, -1) @ x, Q)
    assert ops(program) == ["relabel", "contract", "normalize", "contract"]


def test_separate_inputs_need_no_relabel(check_import: Check, ops: Ops) -> None:
    program = check_import(lambda q, k, v: torch.softmax(q @ k.mT, -1) @ v, Q, K, V)
    assert ops(program) == ["contract", "normalize", "contract"]
    types = str(program.module)
    assert 'tensor<2x4x16x16xf64, ["b", "h", "n", "m"]>' in types


def test_transpose_sum_swaps_labels(check_import: Check, ops: Ops) -> None:
    assert ops(check_import(lambda a: a + a.T, _random(4, 4))) == ["relabel", "map"]


def test_letters_of_einsum_name_axes(check_import: Check) -> None:
    program = check_import(lambda a, b: torch.einsum("bqd,bkd->bqk", a, b), Q[0], K[0])
    assert '["b", "q", "k"]' in str(program.module)
