"""Attention over packed sequences: documents of many lengths behind each other, without padding.

`cu_seqlens` is where documents start, and the end: (0, 3, 5) for documents of 3 and 2 tokens. Each
token reads where its own starts and ends, and a kernel visits the chunks of keys between the first
start and the last end of its rows: time goes by the sum of squares of lengths. No mask is stored.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from diagc.api import compile
from diagc.errors import UserError

if TYPE_CHECKING:
    from diagc.api import CompiledFunction

__all__ = ["document_bounds", "packed_attention"]

Tensor = torch.Tensor


def document_bounds(cu_seqlens: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Where the document of each token starts and ends, both int32 `(total,)`.

    A mask of token i for token j, `starts[i] <= j` and `j < ends[i]`, bounds a stream over j; so
    write masks for other normalisers. For gradients, whose streams are over i too, add the same
    with i and j exchanged.

    Args:
        cu_seqlens: integers `(documents + 1,)`, ascending from 0 to `total`.
        total: number of tokens.
    """
    tokens = torch.arange(total, device=cu_seqlens.device, dtype=cu_seqlens.dtype)
    behind = torch.searchsorted(cu_seqlens.contiguous(), tokens, right=True)
    places = cu_seqlens.int()
    return places[behind - 1], places[behind]


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Softmax attention of each token to those of its own document.

    Values that are not finite may reach documents nearby, as under any mask of torch's.

    Args:
        query: `(tokens, heads, d)`, or a jagged nested tensor `(documents, length, heads, d)`.
        key: likewise, with as many heads or fewer that divide them, and with the same lengths.
        value: `(tokens, heads of key, e)`.
        cu_seqlens: int32 or int64 `(documents + 1,)`; None for nested tensors, which know theirs.
        causal: whether a token sees only itself and those before it.
        scale: of the scores; by default `d ** -0.5`.

    Returns:
        `(tokens, heads, e)`, nested if the query is.

    Raises:
        UserError: shapes that do not fit each other, or positions that are not those of documents.
    """
    if query.is_nested:
        return _nested(query, key, value, causal, scale)
    if cu_seqlens is None:
        raise UserError("packed tensors need cu_seqlens", expected="where documents start")
    _check_shapes(query, key, value)
    _check_starts(cu_seqlens, query)
    starts, ends = document_bounds(cu_seqlens, query.shape[0])
    if torch.compiler.is_compiling():
        return _attention(query, key, value, starts, ends, causal, scale)
    compiled = _compiled(query.dtype, key.dtype, value.dtype)
    found: Tensor = compiled(query, key, value, starts, ends, causal, scale)
    return found


def _nested(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float | None) -> Tensor:
    if not all(x.is_nested and x.layout == torch.jagged for x in (query, key, value)):
        raise UserError("not all are jagged", expected="three nested tensors, layout torch.jagged")
    nested: list[Any] = [query, key, value]  # methods of a subclass
    starts, *others = [x.offsets() for x in nested]
    if not all(other is starts or torch.equal(other, starts) for other in others):
        raise UserError("documents of query, key and value have different lengths")
    q, k, v = (x.values() for x in nested)
    packed = packed_attention(q, k, v, starts, causal=causal, scale=scale)
    found: Tensor = torch.nested.nested_tensor_from_jagged(packed, starts)
    return found


def _check_shapes(query: Tensor, key: Tensor, value: Tensor) -> None:
    shapes = [tuple(x.shape) for x in (query, key, value)]
    found = ", ".join(map(str, shapes))
    if any(len(shape) != 3 for shape in shapes) or shapes[1][:2] != shapes[2][:2]:
        expected = "(tokens, heads, d), (tokens, key heads, d), (tokens, key heads, e)"
        raise UserError("tensors are not packed", expected=expected, found=found)
    (tokens, heads, width), (others, groups, depth) = shapes[0], shapes[1]
    if tokens != others or width != depth or not groups or heads % groups:
        expected = "as many tokens and features; heads of the query a multiple of the key's"
        raise UserError("query and key do not fit", expected=expected, found=found)


def _check_starts(cu_seqlens: Tensor, query: Tensor) -> None:
    """Values are looked at on CPUs only: elsewhere that would wait for the device."""
    integers = cu_seqlens.dtype in (torch.int32, torch.int64)
    if cu_seqlens.dim() != 1 or not integers or cu_seqlens.device != query.device:
        expected = f"a vector of int32 or int64 on {query.device}"
        found = f"{cu_seqlens.dtype} {tuple(cu_seqlens.shape)} on {cu_seqlens.device}"
        raise UserError("cu_seqlens cannot be that", expected=expected, found=found)
    if cu_seqlens.device.type != "cpu" or torch.compiler.is_compiling():
        return
    starts: list[int] = cu_seqlens.tolist()
    ends = starts[:1] + starts[-1:]
    if ends != [0, query.shape[0]] or sorted(starts) != starts:
        expected = f"positions that ascend from 0 to {query.shape[0]}, the number of tokens"
        raise UserError("cu_seqlens are not documents", expected=expected, found=starts)


@cache
def _compiled(*_dtypes: torch.dtype) -> "CompiledFunction":
    """One function for each kind of tensors, for programs are of one dtype."""
    return compile(_attention)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts: Tensor,
    ends: Tensor,
    causal: bool,
    scale: float | None,
) -> Tensor:
    """Each condition of the mask bounds a stream over keys, or over queries in the gradients."""
    tokens = torch.arange(starts.shape[0], device=starts.device, dtype=starts.dtype)
    rows = tokens[:, None]
    other = (tokens <= rows) if causal else (tokens < ends[:, None]) & (starts <= rows)
    keep = (starts[:, None] <= tokens) & (rows < ends) & other
    q, k, v = (x.transpose(0, 1) for x in (query, key, value))
    grouped = q.shape[0] != k.shape[0]
    found = scaled_dot_product_attention(q, k, v, keep, scale=scale, enable_gqa=grouped)
    return found.transpose(0, 1)
