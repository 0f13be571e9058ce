"""Lengths of chunks: what the body of a stream works on stays in the cache of a core."""

from collections.abc import Mapping, Sequence
from math import prod

from diagc.cost import Device, element_bytes
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.cloning import array_ops

__all__ = ["fitting_chunks"]

WIRE_SHARE = 2
"""Part of the second level that one wire of a body may take (softmax over 256 x 256 pairs of keys,
d = 32, 24 lanes, AVX2: 59 ms with a half, 67 with an eighth, 99 with one position a chunk)."""

Chunks = Sequence[tuple[str, int]]


def fitting_chunks(
    kernel: ir.Operation, tasks: Mapping[str, int], chunks: Chunks, device: Device
) -> tuple[tuple[str, int], ...]:
    """Halve chunks until the largest wire of their stream's body fits.

    It does not where a body works on another axis whole, as on the second keys of pairs of keys.

    Args:
        kernel: the function.
        tasks: positions of one task, by axis that is shared out.
        chunks: positions of a chunk, by streamed axis.
        device: whose caches count.
    """
    room = device.levels[1].size // WIRE_SHARE
    found = dict(chunks)
    for stream in array_ops(kernel):
        if stream.name != "diag.stream":
            continue
        axis = ir.StringAttr(stream.attributes["axis"]).value
        wires = [value for op in array_ops(stream)[1:] for value in op.results]
        one = max(
            (_bytes(wire, {**tasks, axis: 1}) for wire in wires if _has(wire, axis)), default=0
        )
        while found[axis] > 1 and one * found[axis] > room:
            found[axis] //= 2
    return tuple(found.items())


def _has(wire: ir.Value, axis: str) -> bool:
    return diag.is_wire(wire.type) and axis in diag.labels(wire)


def _bytes(wire: ir.Value, tasks: Mapping[str, int]) -> int:
    """Bytes of a wire in one task; an open axis that stays inside counts as one position."""
    sizes = [max(1, tasks.get(label, size)) for label, size in diag.dims(wire).items()]
    return prod(sizes) * element_bytes(diag.element_type(wire))
