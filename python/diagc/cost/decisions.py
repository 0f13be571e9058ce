"""What passes ask before they rewrite: does computing again pay, how long does a step take.

They run before kernels and schedules are formed, so that the answers are for a usual device and for
ops at their best: each reads its operands and writes its result once, from the fastest level that
holds them.
"""

from collections.abc import Iterable

from diagc.cost.device import Device
from diagc.cost.device_catalog import cpu_device, device_of_architecture, find_device
from diagc.cost.ops import body_work, element_bytes
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.options import current

__all__ = ["deciding_device", "move_seconds", "recompute_pays", "step_seconds"]

_LEAST_BYTES = 4
"""Narrower values are computed in f32."""


def deciding_device() -> Device:
    """The device that rewrites are judged for: the GPU of the options in force, else a usual core.

    A CPU's own description does not count: which kernels a program has should not depend on whether
    a machine was measured.
    """
    options = current()
    name, _, architecture = options.target.partition(":")
    if name != "nvptx":
        return cpu_device()
    if options.device:
        return find_device(options.device)
    return device_of_architecture(architecture) if architecture else cpu_device()


def recompute_pays(op: ir.Operation, device: Device | None = None) -> bool:
    """Whether computing a map again takes no longer than to store its result and load it.

    At best it is found in the second-level cache; what the map reads is there in any case.

    Args:
        op: a `diag.map`.
        device: by default a generic core.
    """
    device = device or cpu_device()
    dtype = str(diag.element_type(op.results[0]))
    additions, specials = body_work(op)
    seconds = 2 * additions / device.peak(dtype)
    seconds += specials / (device.rate("special", dtype) or device.peak(dtype))
    bytes_ = max(_LEAST_BYTES, element_bytes(diag.element_type(op.results[0])))
    return seconds <= 2 * bytes_ / device.levels[1].bandwidth


def step_seconds(flops: float, wires: Iterable[int], device: Device, dtype: str = "f32") -> float:
    """The time of one operation: its start, and the larger of its FLOPs and what it moves.

    Args:
        flops: of the operation.
        wires: bytes of everything that it reads and writes.
        device: that it runs on.
        dtype: that it computes in.
    """
    moved = sum(move_seconds(size, device) for size in wires)
    return device.launch_seconds + max(flops / device.product_rate(dtype), moved)


def move_seconds(size: int, device: Device) -> float:
    """The time to read or write a wire of so many bytes, in the fastest level that holds it.

    What a multiprocessor has of its own holds nothing from one kernel to the next.
    """
    shared = (level for level in device.levels if device.kind == "cpu" or level.shared_by != "unit")
    level = next((level for level in shared if size <= level.size), device.levels[-1])
    return size / level.bandwidth
