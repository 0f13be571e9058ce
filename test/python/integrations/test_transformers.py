"""`attn_implementation="diagc"`: models, masks, gradients, generation with a cache."""

import warnings
from copy import deepcopy
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5EncoderModel,
)

from diagc.errors import UnsupportedError
from diagc.integrations.transformers import NAMES, SPHERICAL, _forward, register
from diagc.testing.seed import SEED

WIDTHS: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}


@pytest.fixture(autouse=True)
def registered() -> None:
    torch.manual_seed(0)
    register()


def twins(kind: Any, config: Any, peer: str = "sdpa", own: str = "diagc") -> tuple[Any, Any]:
    """A model with torch's attention and one with ours, with equal weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # a model keeps its config, with the implementation written into it
        ours = kind._from_config(deepcopy(config), attn_implementation=own)
        theirs = kind._from_config(deepcopy(config), attn_implementation=peer)
    theirs.load_state_dict(ours.state_dict())
    assert ours.config._attn_implementation == own
    return ours.eval(), theirs.eval()


def llama(**more: Any) -> Any:
    return LlamaConfig(**WIDTHS, num_key_value_heads=2, bos_token_id=0, eos_token_id=1, **more)


def test_names() -> None:
    assert NAMES == ("diagc", "diagc_spherical")


@pytest.mark.parametrize("padded", [False, True])
def test_encoder(padded: bool) -> None:
    ours, theirs = twins(BertModel, BertConfig(**WIDTHS))
    tokens, mask = torch.randint(0, 100, (2, 77)), torch.ones(2, 77)
    if padded:
        mask[1, 50:] = 0
    with torch.no_grad():
        found = ours(tokens, attention_mask=mask).last_hidden_state
        wanted = theirs(tokens, attention_mask=mask).last_hidden_state
    kept = mask.bool()
    torch.testing.assert_close(found[kept], wanted[kept], rtol=1e-4, atol=1e-5)


def test_position_bias() -> None:
    sizes = {"vocab_size": 100, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2}
    ours, theirs = twins(T5EncoderModel, T5Config(**sizes, num_heads=4), peer="eager")
    tokens = torch.randint(0, 100, (2, 70))
    with torch.no_grad():
        found, wanted = ours(tokens).last_hidden_state, theirs(tokens).last_hidden_state
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prompts", [[9, 9], [13, 6]])
def test_generation_with_a_cache(prompts: list[int]) -> None:
    """Prefill, then one token at a time, with prompts of unequal length padded on the left."""
    ours, theirs = twins(LlamaForCausalLM, llama())
    tokens = torch.randint(2, 100, (2, max(prompts)))
    mask = torch.stack([torch.arange(max(prompts)) >= max(prompts) - n for n in prompts]).long()
    how: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 1}
    found = ours.generate(tokens, attention_mask=mask, **how)
    wanted = theirs.generate(tokens, attention_mask=mask, **how)
    assert found.tolist() == wanted.tolist()


def test_gradients() -> None:
    ours, theirs = twins(LlamaForCausalLM, llama())
    tokens = torch.randint(2, 100, (2, 40))
    losses = [model(tokens, labels=tokens).loss for model in (ours, theirs)]
    torch.testing.assert_close(losses[0], losses[1])
    for a, b in zip(
        torch.autograd.grad(losses[0], list(ours.parameters())),
        torch.autograd.grad(losses[1], list(theirs.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_gradients_of_checkpointed_layers() -> None:
    ours, theirs = twins(LlamaForCausalLM, llama())
    tokens = torch.randint(2, 100, (2, 40))
    ours.train().gradient_checkpointing_enable({"use_reentrant": False})
    for model in (ours, theirs):
        model(tokens, labels=tokens).loss.backward()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-6)


def test_spherical() -> None:
    """Against the formula: causal scores over their norm, no scale."""
    ours, _ = twins(LlamaForCausalLM, llama(), own="diagc_spherical")
    layer = ours.model.layers[0].self_attn
    q, k, v = torch.randn(1, 4, 30, 16), torch.randn(1, 2, 30, 16), torch.randn(1, 2, 30, 16)
    from transformers import AttentionInterface

    found, _ = AttentionInterface()["diagc_spherical"](layer, q, k, v, None, scaling=0.25)
    k, v = (x.repeat_interleave(2, 1) for x in (k.double(), v.double()))
    scores = (q.double() @ k.transpose(-1, -2)).tril()
    wanted = (scores / scores.norm(dim=-1, keepdim=True)) @ v
    torch.testing.assert_close(found, wanted.transpose(1, 2).float(), rtol=1e-4, atol=1e-5)
    tokens = torch.randint(2, 100, (1, 20))
    assert ours.generate(tokens, max_new_tokens=3, do_sample=False, pad_token_id=1).shape == (1, 23)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("near", [1.0, 0.75])
def test_additive_mask_hides_keys_from_a_norm(dtype: torch.dtype, near: float) -> None:
    """A norm over scores that the least number was added to would be that of the mask."""
    generator = torch.Generator().manual_seed(SEED)
    q, k, v = (torch.randn(2, 2, 30, 16, generator=generator, dtype=dtype) for _ in range(3))
    kept = torch.rand(2, 1, 30, 30, generator=generator) < 0.5
    kept[0, 0, 3] = False
    bias = torch.randn(2, 1, 30, 30, generator=generator, dtype=dtype)
    mask = torch.where(kept, bias, near * torch.finfo(dtype).min)
    module = torch.nn.Module()
    found, _ = _forward(SPHERICAL, module, q, k, v, mask, scaling=0.25, is_causal=False)
    scores = (q.double() @ k.double().transpose(-1, -2) * 0.25 + bias.double()) * kept
    norms = scores.norm(dim=-1, keepdim=True)
    wanted = (scores / norms.where(norms > 0, 1.0)) @ v.double()
    tolerance = 1e-5 if dtype == torch.float32 else 4e-2
    torch.testing.assert_close(
        found.double(), wanted.transpose(1, 2), rtol=tolerance, atol=tolerance
    )


def test_sinks_are_refused() -> None:
    q, k, v = (torch.randn(1, 2, 4, 8) for _ in range(3))
    with pytest.raises(UnsupportedError, match="attention sinks"):
        _forward("diagc", torch.nn.Module(), q, k, v, None, s_aux=torch.zeros(2))


def test_dropout_is_refused() -> None:
    ours, _ = twins(LlamaForCausalLM, llama(attention_dropout=0.1))
    with pytest.raises(UnsupportedError, match="attention dropout"):
        ours.train()(torch.randint(2, 100, (1, 8)))
