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

from diagc.cost import Device, cpu_device, find_device
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
    device: str = ""
    """Name or file of its description; by default that of a usual CPU with such vectors."""

    def run(self, op: ir.Operation) -> None:
        """Decorate one function if it is a kernel."""
        if diag.is_kernel(op):
            select_schedule(op, self._device())

    def _device(self) -> Device:
        """The device, if its vectors are as wide as those that code is made for.

        Raises:
            PassError: no device is described that has such vectors.
            UserError: there is no device of this name, or its file is malformed.
        """
        found = find_device(self.device) if self.device else None
        if found is not None and found.limits.get("vector_bytes") == self.vector_bytes:
            return found
        try:
            return cpu_device(self.vector_bytes)
        except KeyError:
            raise PassError(
                "no device with such vectors is described",
                expected="64, 32 or 16",
                found=self.vector_bytes,
            ) from None


def select_schedule(kernel: ir.Operation, device: Device) -> None:
    """Decorate a kernel for a CPU; one that has a schedule keeps it."""
    with kernel.context, kernel.location:
        bound_streams(kernel)
        if SCHEDULE not in kernel.attributes:
            kernel.attributes[SCHEDULE] = best_schedule(kernel, device).to_attr()
