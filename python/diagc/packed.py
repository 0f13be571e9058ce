"""Attention over packed sequences: documents of many lengths behind each other, without padding.

`cu_seqlens` is where documents start, and the end: (0, 3, 5) for documents of 3 and 2 tokens. Where
its values are at hand, a program of open length runs once for each document, on views, and no key
of another is read. Where they are not (in a graph of torch's, on a GPU), the kernel compares the
numbers of documents while it streams: keys of others are read and left out. No mask is stored.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from diagc.api import compile
from diagc.errors import UserError

if TYPE_CHECKING:
    from diagc.api import CompiledFunction

__all__ = ["document_ids", "packed_attention"]

Tensor = torch.Tensor

_PAIRS_OF_A_CALL = 8000
"""A call more takes as long as so many pairs of a query and a key of 8 heads of 64 features."""


def document_ids(cu_seqlens: Tensor, total: int) -> Tensor:
    """The number of the document of each token.

    Two tokens see each other where their numbers are equal; so write masks for other normalisers.

    Args:
        cu_seqlens: integers `(documents + 1,)`, ascending from 0 to `total`.
        total: number of tokens.
    """
    tokens = torch.arange(total, device=cu_seqlens.device, dtype=cu_seqlens.dtype)
    return torch.searchsorted(cu_seqlens, tokens, right=True)


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
    starts = _checked_starts(cu_seqlens, query)
    dtypes = query.dtype, key.dtype, value.dtype
    if starts is not None and _is_apart(starts):
        lengths = [end - start for start, end in pairwise(starts)]
        one = _compiled(_document, dtypes)
        documents = zip(*(x.split(lengths) for x in (query, key, value)), strict=True)
        return torch.cat([one(q, k, v, causal, scale) for q, k, v in documents if q.shape[0]])
    ids = document_ids(cu_seqlens, query.shape[0])
    if torch.compiler.is_compiling():
        return _attention(query, key, value, ids, causal, scale)
    found: Tensor = _compiled(_attention, (*dtypes, ids.dtype))(
        query, key, value, ids, causal, scale
    )
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


def _checked_starts(cu_seqlens: Tensor, query: Tensor) -> list[int] | None:
    """Where documents start, and the end; None on a GPU, for that would wait for it."""
    integers = cu_seqlens.dtype in (torch.int32, torch.int64)
    if cu_seqlens.dim() != 1 or not integers or cu_seqlens.device != query.device:
        expected = f"a vector of int32 or int64 on {query.device}"
        found = f"{cu_seqlens.dtype} {tuple(cu_seqlens.shape)} on {cu_seqlens.device}"
        raise UserError("cu_seqlens cannot be that", expected=expected, found=found)
    if cu_seqlens.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    starts: list[int] = cu_seqlens.tolist()
    ends = starts[:1] + starts[-1:]
    if ends != [0, query.shape[0]] or sorted(starts) != starts:
        expected = f"positions that ascend from 0 to {query.shape[0]}, the number of tokens"
        raise UserError("cu_seqlens are not documents", expected=expected, found=starts)
    return starts


def _is_apart(starts: Sequence[int]) -> bool:
    """Whether calls by document are worth their overhead."""
    lengths = [end - start for start, end in pairwise(starts) if end > start]
    skipped = sum(lengths) ** 2 - sum(length**2 for length in lengths)
    return skipped > _PAIRS_OF_A_CALL * len(lengths)


@cache
def _compiled(function: Callable[..., Tensor], dtypes: tuple[Any, ...]) -> "CompiledFunction":
    """One function for each kind of tensors, for programs are of one dtype."""
    return compile(function, dynamic=True if function is _document else None)


def _document(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float | None
) -> Tensor:
    q, k, v = (x.transpose(0, 1) for x in (query, key, value))
    grouped = q.shape[0] != k.shape[0]
    found = scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale, enable_gqa=grouped)
    return found.transpose(0, 1)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, ids: Tensor, causal: bool, scale: float | None
) -> Tensor:
    keep = ids[:, None] == ids[None, :]
    if causal:
        tokens = torch.arange(ids.shape[0], device=ids.device)
        keep = keep & (tokens[:, None] >= tokens[None, :])
    q, k, v = (x.transpose(0, 1) for x in (query, key, value))
    grouped = q.shape[0] != k.shape[0]
    found = scaled_dot_product_attention(q, k, v, keep, scale=scale, enable_gqa=grouped)
    return found.transpose(0, 1)
