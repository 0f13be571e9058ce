"""Decorate each kernel with how it is cut into tasks, vectors and chunks.

Before:

    func.func private @stream(%q: tensor<2x4x?x64xf32, ["b", "h", "q", "d"]>, ...)
        attributes {diag.kernel}

After:

    func.func private @stream(...) attributes {diag.kernel, diag.schedule = {
        mode = "lanes", grid = ["b", "h"], lanes = "q", lane_tile = 64, chunk = {x = 64}}}

and, where a mask inside a stream is monotone in position, the stream is bounded, the mask marked:

    "diag.stream"() ({ ... "diag.map"() ({ x <= q }) {diag.keep} ... })
        {axis = "x", diag.upper = affine_map<(d0) -> (d0 + 1)>, diag.bound_axes = ["q"]}

`diag.upper` is the first position of the streamed axis that is excluded behind the others, at
positions of the axes `diag.bound_axes`, `diag.lower` the first that is not excluded; both grow with
every position. A mask with `diag.keep` is true wherever `diag.upper` allows.

Requires: run on functions; those that are no kernels are left alone.

Declines: a kernel that has a schedule keeps it. A mask bounds nothing when it is not a comparison
of linear forms of positions, or when an excluded position would still change the stream.
"""

from dataclasses import dataclass
from typing import ClassVar

from diagc.cost import cpu_device
from diagc.dialects import diag
from diagc.errors import PassError
from diagc.mlir import ir
from diagc.passes.base import Pass
from diagc.passes.schedule_candidates import best_schedule
from diagc.passes.schedules import SCHEDULE
from diagc.passes.stream_bounds import bound_streams

__all__ = ["SelectSchedulePass", "select_schedule"]


@dataclass(frozen=True)
class SelectSchedulePass(Pass):
    """decorate kernels with grid, lanes, rows and chunks; turn masks into bounds of streams."""

    name: ClassVar[str] = "select-schedule"
    vector_bytes: int = 64
    """Width of a vector register of the device, in bytes: 64, 32 or 16."""

    def run(self, op: ir.Operation) -> None:
        """Decorate one function if it is a kernel."""
        if diag.is_kernel(op):
            select_schedule(op, self.vector_bytes)


def select_schedule(kernel: ir.Operation, vector_bytes: int = 64) -> None:
    """Decorate a kernel; one that has a schedule keeps it.

    Raises:
        PassError: no device is described that has such vectors.
    """
    try:
        device = cpu_device(vector_bytes)
    except KeyError:
        raise PassError(
            "no device with such vectors is described", expected="64, 32 or 16", found=vector_bytes
        ) from None
    with kernel.context, kernel.location:
        bound_streams(kernel)
        if SCHEDULE not in kernel.attributes:
            kernel.attributes[SCHEDULE] = best_schedule(kernel, device).to_attr()
