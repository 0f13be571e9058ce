"""Which forms a kernel has, by what rule one of them runs, and why it lacks others: for people."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING

from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import GpuArch, parse_arch
from diagc.targets.nvptx.kernel import LoadedKernel

if TYPE_CHECKING:
    from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = ["describe_forms", "describe_schedule"]

_MAPPED = "where tensor maps can describe the arrays, else on tiles"
_SHARED = (
    "where these are blocks for at most half of the multiprocessors; then a part of the stream for "
    "each block that there is room for, and a launch that joins the parts"
)


def describe_forms(kernel: ir.Operation, loaded: LoadedKernel) -> Iterator[str]:
    """One line for each form of a kernel, and for each that it has not, with the reason.

    Args:
        kernel: the function that it was compiled from.
        loaded: what it became.
    """
    from diagc.targets.nvptx.selection import words

    made = loaded.kernel
    if loaded.tiles is None:
        yield "threads"
    else:
        yield words(loaded.tiles) + (f": {_MAPPED}" if made.bulk_launches else "")
        yield from _turns(kernel, loaded.tiles)
    if loaded.shared is not None:
        yield f"{words(loaded.shared)}: {_SHARED}"
    for why, alike in groupby(_lacking(kernel, loaded), lambda pair: pair[1]):
        yield f"no {' or '.join(form for form, _ in alike)}: {why}"


def describe_schedule(kernel: ir.Operation, loaded: LoadedKernel) -> Mapping[str, object]:
    """How the form that many blocks run cuts the axes of a kernel.

    Args:
        kernel: the function that it was compiled from.
        loaded: what it became.

    Returns:
        `mode` (threads, tiles or warpgroups); but of threads also, where there are any, `grid`
        (axes of which a block has one position), `block` (positions that it has of others), `chunk`
        (positions of streamed axes at a time).
    """
    from diagc.targets.nvptx.tiles.decoration import tile_decoration
    from diagc.targets.nvptx.tiles.plan import make_plan

    tiles = loaded.tiles
    if tiles is None:
        return {"mode": "threads"}
    cut = tile_decoration(make_plan(kernel, kernel_signature(kernel)), tiles, {})
    found = {
        "mode": "warpgroups" if tiles.producers else "tiles",
        "grid": [label for label, size in cut.groups.items() if size == 1],
        "block": {label: size for label, size in cut.groups.items() if size > 1},
        "chunk": dict(cut.chunks),
    }
    return {name: value for name, value in found.items() if value}


def _turns(kernel: ir.Operation, tiles: "TileSchedule") -> Iterator[str]:
    """Whether groups take turns to issue products, where they can, and what is the rule."""
    from diagc.cost import Estimator, device_of_architecture
    from diagc.targets.nvptx.tiles.decoration import tile_decoration
    from diagc.targets.nvptx.tiles.plan import make_plan
    from diagc.targets.nvptx.tiles.ranking import TURNS_FROM, special_share
    from diagc.targets.nvptx.warpgroups.turns import may_take_turns

    plan = make_plan(kernel, kernel_signature(kernel))
    if not tiles.producers or not may_take_turns(plan, tiles.warps):
        return
    with kernel.context, ir.Location.unknown():
        cut = tile_decoration(plan, tiles, {})
        share = special_share(Estimator(kernel, device_of_architecture("sm_90a")).estimate(cut))
    how = "issue their products in turns" if tiles.turns else "issue their products at any time"
    yield (
        f"warpgroups {how}: special functions take {share:.0%} of the time of products; turns are "
        f"the rule from {TURNS_FROM:.0%} on"
    )


def _lacking(kernel: ir.Operation, loaded: LoadedKernel) -> Iterator[tuple[str, str]]:
    """Forms that a kernel of its architecture might have, but has not, and why."""
    from diagc.targets.nvptx.tiles.schedule import candidates
    from diagc.targets.nvptx.warpgroups.schedule import warpgroup_schedules

    arch = parse_arch(loaded.kernel.arch)
    if loaded.tiles is None:
        yield "tiles", _reason(kernel, arch, candidates, bulk=False)
    if arch.has_warpgroups and not loaded.kernel.bulk_launches:
        yield "warpgroups", _reason(kernel, arch, warpgroup_schedules, bulk=True)


def _reason(
    kernel: ir.Operation,
    arch: GpuArch,
    find: Callable[..., Iterable[object]],
    *,
    bulk: bool,
) -> str:
    """Why no schedule that `find` gives was taken.

    Nothing fits; or the cost model has tried others; or what was tried was refused later.
    """
    from diagc.targets.nvptx.selection import tile_schedules, words
    from diagc.targets.nvptx.tiles.plan import make_plan

    try:
        list(find(make_plan(kernel, kernel_signature(kernel)), arch))
    except UnsupportedError as error:
        reason = error.message.partition(": ")[2]
        return reason.partition(": ")[2] or reason
    tried = [x for x in tile_schedules(kernel, arch) if bool(x.producers) == bulk]
    if not tried:
        return "other forms are estimated to be faster"
    return f"they spill, or cannot be lowered: {words(tried[0])}"
