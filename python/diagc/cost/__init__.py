"""What ops and kernels cost on a described device: FLOPs, bytes, and the time they bound.

Passes ask it to decide, `explain` asks it to report; it imports dialects and algebra only.
"""

from diagc.cost.decisions import deciding_device, move_seconds, recompute_pays, step_seconds
from diagc.cost.device import Device, Level, Rate
from diagc.cost.device_catalog import (
    cpu_device,
    device_of_architecture,
    find_device,
    known_devices,
    machine_device,
)
from diagc.cost.estimate import Estimate, Estimator, estimate
from diagc.cost.kernels import Cost, kernel_cost, sizes_of_call
from diagc.cost.ops import (
    UNKNOWN_BATCH,
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
from diagc.cost.tiles import rank, steps_of, tilings
from diagc.cost.traffic import Traffic
from diagc.cost.transfers import Decoration, LevelUse, level_uses, transfers
from diagc.cost.work import Work

__all__ = [
    "UNKNOWN_BATCH",
    "UNKNOWN_SIZE",
    "Cost",
    "Decoration",
    "Device",
    "Estimate",
    "Estimator",
    "Level",
    "LevelUse",
    "Rate",
    "Sizes",
    "Traffic",
    "Work",
    "body_weight",
    "cpu_device",
    "deciding_device",
    "device_of_architecture",
    "element_bytes",
    "elements",
    "estimate",
    "find_device",
    "kernel_cost",
    "known_devices",
    "level_uses",
    "machine_device",
    "move_seconds",
    "op_flops",
    "rank",
    "recompute_pays",
    "resident_bytes",
    "sizes_of_call",
    "step_seconds",
    "steps_of",
    "stream_size",
    "tilings",
    "transfers",
    "value_bytes",
]
