"""Estimated times of large products on tensor cores: by kernels, or by the framework's library.

What kernels and the library reach of the peak is assumed, not measured: a block of a kernel reads
its operands from the second-level cache alone, the library's blocks share them in clusters.
"""

from collections.abc import Iterable, Sequence
from math import ceil

from diagc.algebra.dataflow import reduced_axes
from diagc.cost import Sizes, deciding_device, op_flops, value_bytes
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.options import current

__all__ = [
    *("DTYPES", "blocks_seconds", "kernel_seconds", "library_seconds", "pass_seconds"),
    "tensor_share",
]

DTYPES = ("bf16", "f16")
"""Of operands that tensor cores multiply as they are."""

_KERNELS, _WARPGROUPS, _LIBRARY = 0.4, 0.6, 0.75
"""Of the peak of tensor cores: kernels on tiles, on warpgroups (sm_90a), the library."""


_BLOCK_BYTES = 32 << 20
"""Of what the library makes of a block of a stream, and a kernel reads, at a time."""


def kernel_seconds(
    ops: Sequence[ir.Operation],
    rows: Sequence[ir.Value],
    others: Iterable[ir.Value],
    sizes: Sizes | None = None,
) -> float:
    """Of one kernel that computes contractions and moves wires.

    Args:
        ops: contractions over the same axes.
        rows: wires that their rows are, or are made of; warpgroups want them along the sum.
        others: the other wires that are moved.
        sizes: of open axes.
    """
    over = set(reduced_axes(ops[0]))
    labels = [diag.labels(value) for value in rows]
    along = all(each[-1] in over for each in labels if over & set(each))
    return _seconds(tensor_share(bulk=along), ops, [*rows, *others], sizes)


def tensor_share(*, bulk: bool) -> float:
    """Part of the peak that kernels reach, on warpgroups where there are some and `bulk` is set."""
    return _WARPGROUPS if bulk and current().target.endswith("sm_90a") else _KERNELS


def library_seconds(op: ir.Operation) -> float:
    """Of the library's product."""
    return _seconds(_LIBRARY, [op], [*op.operands, *op.results])


def blocks_seconds(op: ir.Operation, sizes: Sizes) -> float:
    """Of a product of a stream that the library computes in blocks, each of which a kernel reads.

    Blocks stay in the second-level cache; each is two launches.
    """
    device, moved = deciding_device(), value_bytes(op.results[0], sizes)
    launches = 2 * ceil(moved / _BLOCK_BYTES)
    near = 2 * moved / device.levels[-2].bandwidth
    return _seconds(_LIBRARY, [op], op.operands, sizes) + launches * device.launch_seconds + near


def pass_seconds(wires: Iterable[ir.Value]) -> float:
    """Of a kernel that does nothing but read and write these."""
    return deciding_device().launch_seconds + _memory_seconds(wires)


def _seconds(
    share: float,
    ops: Sequence[ir.Operation],
    wires: Iterable[ir.Value],
    sizes: Sizes | None = None,
) -> float:
    device = deciding_device()
    dtype = str(diag.element_type(ops[0].operands[0]))
    flops = sum(op_flops(op, sizes) for op in ops)
    work = flops / (share * device.product_rate(dtype))
    return device.launch_seconds + max(work, _memory_seconds(wires, sizes))


def _memory_seconds(wires: Iterable[ir.Value], sizes: Sizes | None = None) -> float:
    moved = sum(value_bytes(wire, sizes) for wire in wires)
    return moved / deciding_device().levels[-1].bandwidth
