"""The performance table: rows in the order of their importance, for a run of a few minutes.

Rows of one function and head width share a package whose sizes are open, so that the packages of
the whole table stay below 2 MiB. `heads` stands for batch times heads: the number of tokens stays
the same while rows grow up to 16384; longer ones have as many heads as those. Attention takes part
with a hidden width of 2048.

A new row is a line in `_rows`; what does not fit into the time of a run is said by `gpu.check`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gpu import functions as f
from gpu.functions import Function
from gpu.peers import BETTER_OF, attention_peers, sdpa_backward
from gpu.variants import MATRIX, Gate, Variant, attention

__all__ = ["PREFIX", "TABLE"]

PREFIX = "table-"
"""Of the names of rows."""

WARPGROUPS = "nvptx:sm_90a"
_HIDDEN, _TOKENS = 2048, 16384
_LONG = 16384
_CHECKED = 2
"""Heads of a row that are compared with float64; the kernels' matrix compares all."""

_AND_TILES = 3
"""Programs of the packages of the first rows: products in turns and at any time, then tiles."""

_SOFTMAX = " (softmax)"
_SDPA = tuple(name + _SOFTMAX for name in BETTER_OF)


def _open(
    name: str,
    function: Function,
    n: int,
    d: int,
    *,
    gates: Sequence[Gate] = (),
    peers: Mapping[str, Function] | None = None,
    share: float = 1.0,
    **more: Any,
) -> Variant:
    """A row of `n` queries and keys whose package is open in all sizes but the head width."""
    heads = max(_HIDDEN // d * _TOKENS // n, _HIDDEN // d)
    made = attention(name, function, heads=heads, rows=n, keys=n, d=d, share=share, peers=peers)
    return replace(
        made,
        name=f"{PREFIX}{name}-d{d}-n{n}",
        package=f"{PREFIX}{name}-d{d}",
        is_open=True,
        checked=_CHECKED,
        gates=tuple(gates),
        options={"target": WARPGROUPS, "device": "h200", **more.pop("options", {})},
        **more,
    )


def _full(n: int, d: int, *, flex: bool = False, gates: Sequence[Gate] = ()) -> Variant:
    programs = _AND_TILES if gates else 1
    peers = attention_peers(False, with_flex=flex)
    return _open("full", f.softmax, n, d, peers=peers, gates=gates, programs=programs)


def _causal(n: int, d: int, *, flex: bool = False, gates: Sequence[Gate] = ()) -> Variant:
    programs = _AND_TILES if gates else 1
    peers = attention_peers(True, with_flex=flex)
    return _open("causal", f.causal, n, d, peers=peers, gates=gates, share=0.5, programs=programs)


def _spherical(form: str, n: int, d: int, gates: Sequence[Gate] = ()) -> Variant:
    """Forms: streamed in O(n^2), reassociated in O(n), causal; beside softmax by torch."""
    is_causal = form == "causal"
    peers = attention_peers(is_causal, with_triton=False, suffix=_SOFTMAX)
    if form == "reassociated":
        peers["reassociated in torch"] = f.spherical_by_hand
    options = {"reassociate": "off"} if form == "streamed" else {}
    function = f.spherical_causal if is_causal else f.spherical
    share = 0.5 if is_causal else 1.0
    programs = _AND_TILES if gates and form == "streamed" else 1
    made = _open(
        *(f"spherical-{form}", function, n, d),
        gates=gates, peers=peers, share=share, options=options, programs=programs,
    )  # fmt: skip
    return replace(made, operations=None) if form == "reassociated" else made


def _chunked(n: int, d: int) -> Variant:
    """Causal, with states of chunks: lengths are part of the code, so the package is not open."""
    heads = _HIDDEN // d * _TOKENS // n
    peers = attention_peers(True, with_triton=False, suffix=_SOFTMAX)
    made = attention(
        "spherical-chunked", f.spherical_causal, heads=heads, rows=n, keys=n, d=d, peers=peers
    )
    name = f"{PREFIX}spherical-chunked-d{d}-n{n}"
    options = {"target": WARPGROUPS, "device": "h200"}
    return replace(made, name=name, checked=_CHECKED, options=options, operations=None)


def _grouped(causal: bool, n: int, d: int, *, flex: bool = False) -> Variant:
    """64 query heads on 8 key heads; the group is part of the code, all else is open."""
    made = attention(
        "grouped-causal" if causal else "grouped-full",
        f.grouped if causal else f.decode,
        heads=8, group=8, rows=n, keys=n, d=d, share=0.5 if causal else 1.0,
        peers=attention_peers(causal, with_flex=flex),
    )  # fmt: skip
    package = f"{PREFIX}{made.name.removesuffix(f'-bf16-d{d}')}-d{d}"
    return replace(
        made,
        name=f"{package}-n{n}",
        package=package,
        is_open=True,
        other=((2, 8, 200, d), *[(2, 200, d)] * 2),
        checked=_CHECKED,
        options={"target": WARPGROUPS, "device": "h200"},
    )


def _decode(keys: int) -> Variant:
    """One query of 64 heads on 8 key heads, batch 16."""
    made = attention(
        "decode", f.decode, heads=128, group=8, rows=1, keys=keys, d=128,
        peers=attention_peers(False, with_triton=False),
    )  # fmt: skip
    return replace(
        made,
        name=f"{PREFIX}decode-d128-n{keys}",
        operations=None,
        checked=8,
        options={"target": WARPGROUPS, "device": "h200"},
        gates=(Gate("copy", 0.8),) if keys > 16384 else (),
    )


def _backward(n: int, causal: bool) -> Variant:
    """Gradients of q, k and v; nothing is saved from the forward pass, on either side."""
    function = f.causal if causal else f.softmax
    kind = "causal" if causal else "full"
    share = 3.5 * (0.5 if causal else 1.0)  # forward and backward, of which are seven products
    made = attention(f"backward-{kind}", function, heads=16, rows=n, keys=n, share=share)
    return replace(
        made,
        name=f"{PREFIX}backward-{kind}-d128-n{n}",
        shapes=(*made.shapes, made.shapes[0]),
        small=(*made.small, made.small[0]),
        function=f.gradients(function),
        forward=function,
        peers={name: sdpa_backward(name, causal) for name in BETTER_OF},
        checked=_CHECKED,
        options={"target": WARPGROUPS, "device": "h200"},
    )


def _norm(name: str) -> Variant:
    return replace(MATRIX[name], name=PREFIX + name, package=name, compare=True)


def _rows() -> Iterator[Variant]:
    better = f"the better of {' and '.join(BETTER_OF)}"
    yield _full(_LONG, 128, flex=True, gates=[Gate(better, 1.0, BETTER_OF)])
    yield _spherical("streamed", _LONG, 128, [Gate(better, 1.1, _SDPA), Gate("matmul", 0.75)])
    yield _spherical("reassociated", _LONG, 128, [Gate(better, 25.0, _SDPA)])
    yield _causal(_LONG, 128, flex=True, gates=[Gate(better, 0.95, BETTER_OF)])
    yield _spherical("causal", _LONG, 128)
    yield _chunked(_LONG, 128)
    yield from (make(n, 128) for n in (4096, 8192) for make in (_full, _causal))
    yield from (make(_LONG, d) for d in (64, 256) for make in (_full, _causal))
    yield from (_grouped(causal, _LONG, 128, flex=causal) for causal in (True, False))
    yield _decode(32768)
    yield from map(_norm, ("layer-norm-bf16", "residual-rms-bf16", "rows-softmax-bf16"))
    yield from (make(32768, 128) for make in (_full, _causal))
    yield from (make(n, 128) for n in (2048, 1024) for make in (_full, _causal))
    yield _spherical("streamed", _LONG, 64)
    yield _spherical("reassociated", _LONG, 64, [Gate(better, 25.0, _SDPA)])
    yield _spherical("causal", _LONG, 64)
    yield _chunked(_LONG, 64)
    yield from (_backward(4096, causal) for causal in (False, True))
    yield _decode(8192)
    yield from (make(4096, d) for d in (64, 256) for make in (_full, _causal))
    yield from (_grouped(causal, _LONG, d) for d in (64, 256) for causal in (True, False))
    yield from (_grouped(causal, 4096, 128) for causal in (True, False))
    yield _norm("l2-bf16")
    rest = (8192, 2048, 1024, 32768)  # what takes longest comes last
    yield from (make(n, d) for n in rest for d in (64, 256) for make in (_full, _causal))
    yield from (_spherical(form, 4096, 128) for form in ("streamed", "reassociated", "causal"))
    yield from (_grouped(causal, 4096, d) for d in (64, 256) for causal in (True, False))
    yield from (
        _grouped(causal, n, d) for n in rest for d in (128, 64, 256) for causal in (True, False)
    )


TABLE: Mapping[str, Variant] = {row.name: row for row in _rows()}
"""By name, the most important first."""
