"""The op `diagc::check_labels`: labels of classes as i32, once all of them are seen to be classes.

A sum over classes finds nothing for a label that is none, so without it a wrong label would give a
wrong loss instead of an error.
"""

import torch

__all__ = ["check_labels"]

_LIBRARY = torch.library.Library("diagc", "FRAGMENT")
_LIBRARY.define("check_labels(Tensor labels, int classes, int ignored) -> Tensor")


def check_labels(labels: torch.Tensor, classes: int, ignored: int) -> torch.Tensor:
    """Labels as i32.

    Args:
        labels: integers of any shape.
        classes: how many there are.
        ignored: the label that may be outside of them.

    Raises:
        IndexError: a label is neither; names it. On a GPU the device asserts instead.
    """
    fits = ((labels >= 0) & (labels < classes)) | (labels == ignored)
    if labels.device.type != "cpu":
        torch._assert_async(fits.all(), f"a label is none of {classes} classes")
    elif not bool(fits.all()):
        wrong = labels[~fits].flatten()[0].item()
        raise IndexError(f"label {wrong} is out of bounds: classes are 0 to {classes - 1}")
    return labels.to(torch.int32)


def _fake(labels: torch.Tensor, classes: int, ignored: int) -> torch.Tensor:
    return labels.new_empty(labels.shape, dtype=torch.int32)


for _key in ("CPU", "CUDA"):
    _LIBRARY.impl("check_labels", check_labels, _key)
_LIBRARY.impl("check_labels", _fake, "Meta")
