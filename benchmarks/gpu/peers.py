"""Other ways to the same attention, by name; what a machine lacks is said when it is first called.

Each is made when it is measured and not before, so that a missing package costs one peer, not the
run. On a CPU, where compiled peers do not run, `dry` gives stand-ins that compute the same.
"""

from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from gpu.functions import Function, sdpa

__all__ = ["BETTER_OF", "MissingPeer", "attention_peers", "dry", "flex", "sdpa_backward"]

Tensor = torch.Tensor

BETTER_OF = ("sdpa cudnn", "sdpa flash")
"""What the gates are about."""


class MissingPeer(RuntimeError):
    """A peer that this machine does not have."""


def attention_peers(
    causal: bool, *, with_flex: bool = False, with_triton: bool = True, suffix: str = ""
) -> dict[str, Function]:
    """Peers of attention on q [heads, rows, d] or [heads, group, rows, d], k and v [heads, ...].

    Args:
        causal: row i sees keys up to i.
        with_flex: compiled anew for every shape, which takes seconds.
        with_triton: needs a head width that is a power of two.
        suffix: behind the names, where they compute something else.
    """
    found: dict[str, Function] = {name: sdpa(name, causal) for name in BETTER_OF}
    if with_triton:
        found["triton"] = partial(_triton, causal=causal)
    if with_flex:
        found["flex compiled"] = flex(causal)
    return {name + suffix: peer for name, peer in found.items()}


def _triton(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    try:
        from gpu.triton_attention import attention
    except ImportError as error:
        raise MissingPeer(f"there is no Triton here: {error}") from None
    rows = q if q.dim() == 3 else q.flatten(0, 1)
    return attention(rows, k, v, causal).reshape(*q.shape[:-1], v.shape[-1])


def flex(causal: bool) -> Function:
    """FlexAttention, compiled for each shape, with a mask of blocks where it is causal."""
    state: dict[Any, Any] = {}

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        try:
            from torch.nn.attention.flex_attention import create_block_mask, flex_attention
        except ImportError as error:
            raise MissingPeer(f"this torch has no FlexAttention: {error}") from None
        key = (q.shape, k.shape)
        if key not in state:
            torch._dynamo.reset()
            compiled = torch.compile(flex_attention, dynamic=False)
            sizes = (None, None, q.shape[-2], k.shape[-2])
            mask = create_block_mask(_sees, *sizes, device=str(q.device)) if causal else None
            state[key] = partial(compiled, block_mask=mask, enable_gqa=q.dim() == 4)
        rows = q if q.dim() == 3 else q.flatten(0, 1)
        result: Tensor = state[key](rows[None], k[None], v[None])
        return result[0].reshape(*q.shape[:-1], v.shape[-1])

    return call


def _sees(_batch: Tensor, _head: Tensor, row: Tensor, key: Tensor) -> Tensor:
    return row >= key


def sdpa_backward(backend: str, causal: bool) -> Function:
    """Gradients of attention by torch alone, of q, k, v and a cotangent; forward is included."""

    def call(q: Tensor, k: Tensor, v: Tensor, cotangent: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in (q, k, v)]
            out = sdpa(backend, causal)(*leaves)
            return torch.autograd.grad(out, leaves, cotangent)

    return call


def dry(name: str, peer: Function) -> Function:
    """What stands in for a peer where there is no GPU: the same meaning, by torch's plain ops."""
    if name.startswith("triton"):
        keywords = getattr(peer, "keywords", {})
        return _plain(bool(keywords.get("causal")))
    return peer


def _plain(causal: bool) -> Function:
    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rows = q if q.dim() == 3 else q.flatten(0, 1)
        result: Tensor = F.scaled_dot_product_attention(
            rows[None], k[None], v[None], is_causal=causal, enable_gqa=q.dim() == 4
        )
        return result[0].reshape(*q.shape[:-1], v.shape[-1])

    return call
