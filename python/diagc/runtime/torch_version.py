"""Which torch diagc works with: it relies on parts of it that change between versions."""

import torch

from diagc.errors import UserError

__all__ = ["require_torch"]

_SUPPORTED = "2.13"


def require_torch() -> None:
    """See that torch is of a version that diagc was tested with.

    Raises:
        UserError: it is not.
    """
    found = str(torch.__version__)
    if not found.startswith(f"{_SUPPORTED}."):
        remedy = f"pip install 'torch=={_SUPPORTED}.*'"
        raise UserError(
            "this version of torch is not supported",
            expected=_SUPPORTED,
            found=found,
            remedy=remedy,
        )
