"""How a GPU kernel's tiles cut it, as the cost model sees it."""

from collections.abc import Mapping

from diagc.cost import Decoration
from diagc.mlir import ir
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.kernel import LoadedKernel

__all__ = ["decoration"]


def decoration(kernel: ir.Operation, loaded: LoadedKernel, sizes: Mapping[str, int]) -> Decoration:
    """Groups and chunks of a block of tiles; threads without tiles bring every array once.

    Args:
        kernel: the function that it was compiled from.
        loaded: what it became.
        sizes: of the axes that are open, by label.
    """
    from diagc.targets.nvptx.tiles.decoration import tile_decoration
    from diagc.targets.nvptx.tiles.parts import sizes_with
    from diagc.targets.nvptx.tiles.plan import make_plan

    if loaded.tiles is None:
        return Decoration({}, {}, tensor=False)
    plan, count = make_plan(kernel, kernel_signature(kernel)), loaded.multiprocessors
    schedule = loaded.schedule_for(sizes_with(plan, sizes))
    assert schedule is not None, "it is on tiles"
    return tile_decoration(plan, schedule, sizes, multiprocessors=count)
