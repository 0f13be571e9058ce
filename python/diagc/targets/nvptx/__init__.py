"""The target of NVIDIA GPUs: PTX, and cubins where ptxas is at hand."""

from diagc.passes.kernels.generalize_kernels import MOST_PACKED
from diagc.targets.nvptx.decoration import decoration
from diagc.targets.nvptx.forms import describe_forms, describe_schedule
from diagc.targets.nvptx.kernel import LoadedKernel, load_kernel, lower_kernel, text_key
from diagc.targets.nvptx.traffic import predict_traffic
from diagc.targets.nvptx.tuning import choices

__all__ = [
    "LoadedKernel",
    "choices",
    "decoration",
    "describe_forms",
    "describe_schedule",
    "load_kernel",
    "lower_kernel",
    "pass_options",
    "predict_traffic",
    "text_key",
]


def pass_options() -> dict[str, int]:
    """Options of passes.

    Rows may be those of so many heads that share keys; products are in tiles, of narrow words.
    """
    return {"packed": MOST_PACKED, "products": True, "split_words": True}
