"""Attention of HuggingFace models through diagc: `attn_implementation="diagc"`.

>>> from diagc.integrations.transformers import register
>>> register()
>>> model = AutoModel.from_pretrained(name, attn_implementation="diagc")        # doctest: +SKIP

"diagc" is softmax attention; "diagc_spherical" divides the scores of a query by their L2 norm
instead (arXiv 2505.09326), so that weights keep their signs: for models that are trained with it.
"""

from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from diagc.api import CompiledFunction, compile
from diagc.errors import UnsupportedError

__all__ = ["NAMES", "register"]

SPHERICAL = "diagc_spherical"
NAMES = ("diagc", SPHERICAL)
"""What `attn_implementation` takes after `register()`."""

HIDDEN = torch.finfo(torch.float16).min / 2
"""An additive mask up to this hides a key from "diagc_spherical"; models add the least number of
their dtype. Softmax has weight 0 there by itself, but a norm would be that of the mask."""


def register() -> None:
    """Make the implementations known to transformers; doing it again changes nothing.

    Masks are boolean, or absent where the model is causal without padding, as for "sdpa". A model
    in training with attention dropout is refused. Any length, batch and number of heads is served
    by the same kernels; so `generate()` compiles for the prompt, and for the tokens after it.
    """
    for name in NAMES:
        AttentionInterface.register(name, partial(_forward, name))
        AttentionMaskInterface.register(name, sdpa_mask)


def _forward(
    name: str,
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: queries `b h n d`, keys and values `b k m d`; gives `b n h d`.

    Raises:
        UnsupportedError: dropout is on, or there are attention sinks.
    """
    for what, given in (("attention dropout", dropout), ("attention sinks", kwargs.get("s_aux"))):
        if given is not None and (isinstance(given, Tensor) or given != 0.0):
            raise UnsupportedError(what, remedy='use attn_implementation="sdpa" or "eager"')
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    causal = bool(causal) and attention_mask is None and query.shape[2] > 1
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    bias = position_bias
    if attention_mask is not None and attention_mask.dtype != torch.bool:
        bias = attention_mask if bias is None else bias + attention_mask
        attention_mask = None
    spherical = name == SPHERICAL
    operands = (query, key, value, attention_mask, bias)
    compiled = _compiled(tuple(None if x is None else x.dtype for x in operands))
    return compiled(*operands, scale, causal, softcap, spherical), None


@cache
def _compiled(dtypes: tuple[torch.dtype | None, ...]) -> CompiledFunction:
    """One function for each kind of model that is in use, for programs are of one dtype."""
    return compile(attention)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    keep: Tensor | None,
    bias: Tensor | None,
    scale: float,
    causal: bool,
    softcap: float | None,
    spherical: bool,
) -> Tensor:
    """Attention of grouped heads; `keep` says which keys a query sees.

    Weights are the softmax of the scores, or, `spherical`, the scores over their L2 norm, where
    a bias up to `HIDDEN` hides a key.
    """
    if spherical and bias is not None:
        shown = bias > HIDDEN
        bias, keep = bias.masked_fill(~shown, 0.0), shown if keep is None else keep & shown
    scores, kept = _scores(query, key, keep, bias, scale, causal, softcap)
    if kept is not None:
        scores = scores.masked_fill(~kept, 0.0 if spherical else float("-inf"))
    if not spherical:
        return _values(torch.softmax(scores, -1), value)
    norm = torch.linalg.vector_norm(scores, dim=-1, keepdim=True)
    return _values(scores / norm, value)


def _scores(
    query: Tensor,
    key: Tensor,
    keep: Tensor | None,
    bias: Tensor | None,
    scale: float,
    causal: bool,
    softcap: float | None,
) -> tuple[Tensor, Tensor | None]:
    """Scores `b k r n m`, r query heads for one of keys, and which of them count."""
    heads = key.shape[1]
    grouped = query.unflatten(1, (heads, query.shape[1] // heads))
    scores = torch.einsum("bkrnd,bkmd->bkrnm", grouped, key) * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if bias is not None:
        scores = scores + _grouped(bias, heads)
    kept = None if keep is None else _grouped(keep, heads)
    if causal:
        n, m = (torch.arange(x.shape[2], device=x.device) for x in (query, key))
        before = n[:, None] >= m[None, :]
        kept = before if kept is None else kept & before
    return scores, kept


def _grouped(mask: Tensor, heads: int) -> Tensor:
    """A mask or bias `b h n m`, of all heads or of 1, over grouped heads."""
    return mask.unsqueeze(1) if mask.shape[1] == 1 else mask.unflatten(1, (heads, -1))


def _values(weights: Tensor, value: Tensor) -> Tensor:
    out = torch.einsum("bkrnm,bkmd->bnkrd", weights, value)
    return out.flatten(2, 3)
