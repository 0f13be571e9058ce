"""Which forms a kernel has, and by what rule one of them runs: for people."""

from collections.abc import Callable, Iterator

from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.kernel import LoadedKernel

__all__ = ["forms"]

_MAPPED = "where tensor maps can describe the arrays, else on tiles"
_SHARED = (
    "where these are blocks for at most half of the multiprocessors; then a part of the stream for "
    "each block that there is room for, and a launch that joins the parts"
)


def forms(kernel: ir.Operation, loaded: LoadedKernel) -> Iterator[str]:
    """One line for each form of a kernel, and for each that it cannot have.

    Args:
        kernel: the function that it was compiled from.
        loaded: what it became.
    """
    from diagc.targets.nvptx.selection import words
    from diagc.targets.nvptx.tiles.plan import make_plan
    from diagc.targets.nvptx.warpgroups.fit import check_fit

    made = loaded.kernel
    if loaded.tiles is None:
        yield from _refusal("no tiles", lambda: make_plan(kernel, kernel_signature(kernel)))
        return
    yield words(loaded.tiles) + (f": {_MAPPED}" if made.bulk_launches else "")
    if loaded.shared is not None:
        yield f"{words(loaded.shared)}: {_SHARED}"
    if parse_arch(made.arch).has_warpgroups and not made.bulk_launches:
        plan = make_plan(kernel, kernel_signature(kernel))
        refused = list(_refusal("no warpgroups", lambda: check_fit(plan)))
        yield from refused or ["no warpgroups: tiles are estimated to be faster, or these spill"]


def _refusal(form: str, check: Callable[[], object]) -> Iterator[str]:
    """A line with the reason why a form is not there."""
    try:
        check()
    except UnsupportedError as error:
        reason = error.message.partition(": ")[2]
        yield f"{form}: {reason.partition(': ')[2] or reason}"
