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

A mask may compare the streamed position with an integer of the row. The element that reads it is
marked: rows keep positions below what is read plus the number (`diag.lower`: from there on), so a
task visits what lies between the least and the largest integer that its rows read, in any order:

    "diag.element"(%ends) {diag.upper = 0 : i64} : (tensor<?xi32, ["q"]>) -> i32

For a GPU the kernel also gets the sizes of its tiles in the order in which they are tried, until
one does not spill (`diag.tiles`). Where schedules were compared, the first few are noted with the
time that the cost model estimates at the sizes of the program, and what bounds it
(`diag.ranking`):

    func.func private @stream(...) attributes {diag.kernel, diag.schedule = {...},
        diag.tiles = [{row_blocks = 2, warps = 4, chunk = 64, stages = 2, ...}, ...],
        diag.ranking = [{text = "128 rows by 4 warps, ...", seconds = 7e-4, bound = "tensor"}, ...]}

Requires: run on functions; those that are no kernels are left alone.

Declines: a kernel that has a schedule keeps it. A mask bounds nothing when it is not a comparison
of linear forms of positions, or of the streamed position with an integer of 32 or 64 bits that the
mask reads (no sum, which may overflow; nothing along the stream), or when an excluded position
would still change the stream. Integers bound no stream of GPU threads; on
warpgroups only those that are arguments do.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar

from diagc.cost import Device, cpu_device, find_device
from diagc.dialects import diag
from diagc.errors import PassError
from diagc.mlir import ir
from diagc.passes.base import Pass
from diagc.passes.kernels.generalize_kernels import opened_copy
from diagc.passes.kernels.ranking import Ranking, note_ranking
from diagc.passes.kernels.schedule_candidates import compare_schedules, words
from diagc.passes.kernels.schedules import SCHEDULE, invariant_schedule
from diagc.passes.streams.stream_bounds import bound_streams

__all__ = ["SelectSchedulePass", "select_schedule", "select_tiles"]


@dataclass(frozen=True)
class SelectSchedulePass(Pass):
    """decorate kernels with grid, lanes, rows and chunks; turn masks into bounds of streams."""

    name: ClassVar[str] = "select-schedule"
    vector_bytes: int = 64
    """Width of a vector register of the device, in bytes: 64, 32 or 16."""
    device: str = ""
    """Name or file of its description; by default that of a usual CPU with such vectors."""
    batch_invariant: bool = False
    """Whether sums run in one order whatever the sizes of other axes are."""

    def run(self, op: ir.Operation) -> None:
        """Decorate one function if it is a kernel.

        Raises:
            PassError: no device is described that has such vectors.
            UserError: there is no device of this name, or its file is malformed.
        """
        if not diag.is_kernel(op):
            return
        found = find_device(self.device) if self.device else None
        ranked = select_schedule(op, self._cpu(found), batch_invariant=self.batch_invariant)
        if found is not None and found.kind == "gpu":
            ranked = select_tiles(op, found)
        note_ranking(op, ranked)

    def _cpu(self, found: Device | None) -> Device:
        """The device, if it is a CPU whose vectors are as wide as those that code is made for.

        Which axes are shared out, and which are streamed, is the same for all devices.
        """
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


def select_schedule(
    kernel: ir.Operation, device: Device, *, batch_invariant: bool = False
) -> Ranking:
    """Decorate a kernel for a CPU; one that has a schedule keeps it.

    Returns:
        The schedules that were compared, the chosen one first; nothing where there was no choice.
    """
    with kernel.context, kernel.location:
        bound_streams(kernel)
        if SCHEDULE in kernel.attributes:
            return ()
        if batch_invariant:
            kernel.attributes[SCHEDULE] = invariant_schedule(kernel, device).to_attr()
            return ()
        chosen, ranked = compare_schedules(kernel, device)
        kernel.attributes[SCHEDULE] = chosen.to_attr()
        return [(words(each), estimate) for each, estimate in ranked]


def select_tiles(kernel: ir.Operation, device: Device) -> Ranking:
    """Decorate a scheduled kernel with tiles for a GPU; one that has tiles keeps them.

    Returns:
        As `select_schedule`.
    """
    selection = import_module(_SELECTION)
    if selection.TILES in kernel.attributes:
        return ()
    with kernel.context, kernel.location:
        copy, sizes = opened_copy(kernel)
        order, ranked = selection.choose_tiles(copy, sizes, device)
        if order:
            kernel.attributes[selection.TILES] = selection.tiles_attribute(order)
        found: Ranking = ranked
        return found


_SELECTION = "diagc.targets.nvptx.selection"
"""Knows what fits a block; imported by name, for targets import passes."""
