"""What compilations ask of torch: that its version is known, and how exact products shall be."""

import torch

from diagc.errors import UserError

__all__ = ["matmul_precision", "require_torch"]

_SUPPORTED = "2.13"
"""Parts of torch that diagc relies on change between versions."""


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


def matmul_precision() -> str:
    """How exact torch has products of f32 on GPUs: "high" with tf32, else "highest".

    Asked is what rules the library's products there, whichever way it was set; the older
    `torch.get_float32_matmul_precision` fails where the newer settings were used.
    """
    return "high" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "highest"
