"""What ops and kernels cost on a described device: FLOPs, bytes, and the time they bound.

Passes ask it to decide, `explain` asks it to report; it imports dialects only.
"""

from diagc.cost.device import Device, Level, cpu_device
from diagc.cost.kernels import Cost, kernel_cost, sizes_of_call
from diagc.cost.ops import (
    UNKNOWN_SIZE,
    Sizes,
    body_weight,
    element_bytes,
    elements,
    op_flops,
    stream_size,
    value_bytes,
)
from diagc.cost.residency import resident_bytes
from diagc.cost.traffic import Traffic

__all__ = [
    "UNKNOWN_SIZE",
    "Cost",
    "Device",
    "Level",
    "Sizes",
    "Traffic",
    "body_weight",
    "cpu_device",
    "element_bytes",
    "elements",
    "kernel_cost",
    "op_flops",
    "resident_bytes",
    "sizes_of_call",
    "stream_size",
    "value_bytes",
]
