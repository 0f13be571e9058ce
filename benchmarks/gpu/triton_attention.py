"""Attention in Triton 3.6, forward, in the manner of Triton's tutorial: a peer, not ours to tune.

A program keeps a tile of queries in registers, walks over the keys with a running maximum and sum,
and rescales what it has. Exponentials are of base two; a causal walk is split into the part below
the diagonal, which needs no mask, and the diagonal. Query heads that share keys come as groups.
This module imports Triton: `gpu.peers` does so where a GPU is.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from triton.testing import do_bench

__all__ = ["CONFIGS", "attention", "candidates", "shared_bytes"]

CONFIGS = [
    triton.Config({"ROWS": rows, "KEYS": keys}, num_warps=warps, num_stages=stages)
    for rows, keys, warps, stages in (
        *((128, 64, 4, 3), (128, 64, 8, 3), (128, 64, 8, 2), (128, 128, 8, 2)),
        *((128, 128, 8, 3), (64, 64, 4, 3), (128, 32, 8, 3)),
    )
]

MOST_KEYS = max(config.kwargs["KEYS"] for config in CONFIGS)
"""Of a tile; all are powers of two, so what this divides, all divide."""


_FASTEST: dict[tuple[int, bool, int], list[triton.Config]] = {}
_MOST_LATER = 3
"""Configurations by kernel: head width, mask and heads that share keys; so many."""


def shared_bytes(config: triton.Config, d: int) -> int:
    """What a block takes: its queries, and keys and values of each stage, in 16 bits."""
    rows, keys = config.kwargs["ROWS"], config.kwargs["KEYS"]
    return int(2 * d * (rows + 2 * keys * config.num_stages))


def candidates(
    configs: Sequence[triton.Config], arguments: Mapping[str, Any], **constants: Any
) -> Sequence[triton.Config]:
    """What is tried for a shape, for every trial takes seconds.

    For the first shape of a kernel that is all that a block has room for (Triton would compile the
    others too, in vain), for later ones the fastest of these.
    """
    d, causal = constants["D"], constants["CAUSAL"]
    known = _FASTEST.get((d, causal, arguments["group"]))
    if known is not None:
        return known
    utils = triton.runtime.driver.active.utils
    most = utils.get_device_properties(torch.cuda.current_device())["max_shared_mem"]
    return [config for config in configs if shared_bytes(config, d) <= most]


@triton.jit
def _walk(
    total,
    sums,
    largest,
    q,
    k_base,
    v_base,
    k_row,
    v_row,
    first,
    last,
    keys,
    row_at,
    scale,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    MASKED: tl.constexpr,
    EVEN: tl.constexpr,
):
    """Keys from `first` to `last`, a multiple of KEYS apart; masked where they end or cross.

    They end within a tile unless EVEN: then nothing is asked of a tile below the diagonal.
    """
    d_at = tl.arange(0, D)
    for start in tl.range(first, last, KEYS):
        key_at = start + tl.arange(0, KEYS)
        inside = key_at < keys
        k_at = k_base + key_at[None, :] * k_row + d_at[:, None]
        v_at = v_base + key_at[:, None] * v_row + d_at[None, :]
        k = tl.load(k_at) if EVEN else tl.load(k_at, inside[None, :], 0.0)
        scores = tl.dot(q, k) * scale
        if MASKED:
            scores = tl.where(key_at[None, :] <= row_at[:, None], scores, float("-inf"))
        if not EVEN:
            scores = tl.where(inside[None, :], scores, float("-inf"))
        now = tl.maximum(largest, tl.max(scores, 1))
        weights = tl.exp2(scores - now[:, None])
        shrink = tl.exp2(largest - now)
        sums = sums * shrink + tl.sum(weights, 1)
        total = total * shrink[:, None]
        v = tl.load(v_at) if EVEN else tl.load(v_at, inside[:, None], 0.0)
        total = tl.dot(weights.to(v.dtype), v, total)
        largest = now
    return total, sums, largest


@triton.autotune(
    configs=CONFIGS,
    key=["rows", "keys", "group", "D", "CAUSAL", "EVEN"],
    prune_configs_by={"early_config_prune": candidates},
    do_bench=partial(do_bench, warmup=5, rep=25),  # milliseconds, of every shape and tile
)
@triton.jit
def _forward(
    q_ptr,
    k_ptr,
    v_ptr,
    o_ptr,
    q_head,
    q_row,
    k_head,
    k_row,
    v_head,
    v_row,
    o_head,
    o_row,
    rows,
    keys,
    group,
    scale,
    D: tl.constexpr,
    CAUSAL: tl.constexpr,
    EVEN: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    """One tile of queries of one head; `scale` holds log2(e)."""
    tile = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    row_at = tile * ROWS + tl.arange(0, ROWS)
    d_at = tl.arange(0, D)
    there = (row_at < rows)[:, None]
    q = tl.load(q_ptr + head * q_head + row_at[:, None] * q_row + d_at[None, :], there, 0.0)
    k_base = k_ptr + (head // group) * k_head
    v_base = v_ptr + (head // group) * v_head
    largest = tl.full([ROWS], float("-inf"), tl.float32)
    sums = tl.zeros([ROWS], tl.float32)
    total = tl.zeros([ROWS, D], tl.float32)
    # below the diagonal all keys are seen
    plain = (tile * ROWS // KEYS) * KEYS if CAUSAL else keys
    plain = tl.minimum(plain, keys)
    total, sums, largest = _walk(
        total, sums, largest, q, k_base, v_base, k_row, v_row,
        0, plain, keys, row_at, scale, ROWS, KEYS, D, False, EVEN,
    )  # fmt: skip
    if CAUSAL:
        last = tl.minimum((tile + 1) * ROWS, keys)
        total, sums, largest = _walk(
            total, sums, largest, q, k_base, v_base, k_row, v_row,
            plain, last, keys, row_at, scale, ROWS, KEYS, D, True, EVEN,
        )  # fmt: skip
    out = (total / sums[:, None]).to(o_ptr.dtype.element_ty)
    tl.store(o_ptr + head * o_head + row_at[:, None] * o_row + d_at[None, :], out, there)


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool = False
) -> torch.Tensor:
    """Softmax attention with the scale 1 / sqrt(d).

    Args:
        q: [heads, rows, d], the last axis dense; d a power of two.
        k: [key heads, keys, d]; heads are a multiple of key heads, neighbours share one.
        v: as k.
        causal: row i sees keys up to i.
    """
    heads, rows, d = q.shape
    out = torch.empty_like(q)
    log2e = 1.4426950408889634

    def grid(meta: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(rows, meta["ROWS"]), heads

    _forward[grid](
        *(q, k, v, out),
        *(q.stride(0), q.stride(1), k.stride(0), k.stride(1), v.stride(0), v.stride(1)),
        *(out.stride(0), out.stride(1)),
        *(rows, k.shape[1], heads // k.shape[0], log2e / d**0.5),
        D=d,
        CAUSAL=causal,
        EVEN=k.shape[1] % MOST_KEYS == 0,
    )
    _remember((d, causal, heads // k.shape[0]))
    return out


def _remember(kernel: tuple[int, bool, int]) -> None:
    """Keep what was fastest for the first shape of a kernel."""
    if kernel not in _FASTEST:
        times = _forward.configs_timings
        _FASTEST[kernel] = sorted(times, key=times.__getitem__)[:_MOST_LATER]
