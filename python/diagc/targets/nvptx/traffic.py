"""The global memory traffic of a compiled kernel, predicted from its diagram and its schedule."""

from collections.abc import Mapping

from diagc.cost import Traffic
from diagc.mlir import ir
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.kernel import LoadedKernel

__all__ = ["predict_traffic"]


def predict_traffic(
    kernel: ir.Operation, loaded: LoadedKernel, sizes: Mapping[str, int]
) -> Traffic | None:
    """What one call of a kernel reads and writes; None where that cannot be told.

    Args:
        kernel: the function that it was compiled from.
        loaded: what it became.
        sizes: of the axes that are open, by label.
    """
    from diagc.targets.nvptx.threads.traffic import thread_traffic
    from diagc.targets.nvptx.tiles.parts import sizes_with
    from diagc.targets.nvptx.tiles.plan import make_plan
    from diagc.targets.nvptx.tiles.traffic import tile_traffic

    if loaded.tiles is None:
        return thread_traffic(kernel, parse_arch(loaded.kernel.arch), sizes)
    plan, count = make_plan(kernel, kernel_signature(kernel)), loaded.multiprocessors
    schedule = loaded.schedule_for(sizes_with(plan, sizes))
    assert schedule is not None, "it is on tiles"
    return tile_traffic(plan, schedule, sizes, multiprocessors=count)
