"""What the CUDA driver answers: result codes, and the errors that users see for them.

Codes are those of `CUresult` in the CUDA driver API's reference.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from diagc.errors import LaunchError, TargetError, UserError

__all__ = [
    "INVALID_IMAGE",
    "NO_BINARY_FOR_GPU",
    "OUT_OF_MEMORY",
    "SUCCESS",
    "error_of",
]

SUCCESS = 0
OUT_OF_MEMORY = 2
INVALID_IMAGE = 200
NO_BINARY_FOR_GPU = 209


@dataclass(frozen=True)
class _Kind:
    error: type[UserError]
    remedy: str


_UPDATE = "update the NVIDIA driver, or compile where ptxas is at hand, so that there is a cubin"
_RESTART = (
    "an earlier kernel has failed and the GPU is lost to this process: set CUDA_LAUNCH_BLOCKING=1 "
    "to find it, and start again"
)
_CAPTURE = "call the function once before the graph is captured"

_KINDS: Mapping[int, _Kind] = {
    OUT_OF_MEMORY: _Kind(LaunchError, "free memory of the GPU, e.g. torch.cuda.empty_cache()"),
    3: _Kind(TargetError, "look at what nvidia-smi says"),
    4: _Kind(TargetError, "the process is ending: call nothing from exit handlers"),
    34: _Kind(TargetError, "the library found is a stub: install the NVIDIA driver"),
    100: _Kind(TargetError, "run it where there is a GPU, and look at CUDA_VISIBLE_DEVICES"),
    101: _Kind(TargetError, "look at CUDA_VISIBLE_DEVICES"),
    INVALID_IMAGE: _Kind(
        TargetError,
        "compile it again: the code is damaged, or made by a ptxas that is newer than the driver",
    ),
    NO_BINARY_FOR_GPU: _Kind(TargetError, "compile for this GPU: --target=nvptx:<its sm>"),
    218: _Kind(TargetError, "this is a bug in diagc, please report it with the PTX"),
    221: _Kind(TargetError, "install the driver's library libnvidia-ptxjitcompiler"),
    222: _Kind(TargetError, _UPDATE),
    223: _Kind(TargetError, "unset CUDA_DISABLE_PTX_JIT"),
    500: _Kind(TargetError, "compile it again: the code lacks a function that it lists"),
    701: _Kind(LaunchError, "the kernel wants more registers or shared memory than there are"),
    803: _Kind(TargetError, "the driver's library and its kernel module differ: restart"),
    804: _Kind(TargetError, "the compatibility libraries of CUDA do not fit this GPU"),
    **dict.fromkeys((700, 702, 709, 714, 715, 716, 717, 718, 719), _Kind(LaunchError, _RESTART)),
    **dict.fromkeys((900, 901, 902, 903, 904, 905, 906, 907, 908), _Kind(LaunchError, _CAPTURE)),
}
_OTHER = _Kind(LaunchError, "look at what nvidia-smi says")


def error_of(code: int, name: str, text: str, doing: str, log: str = "") -> UserError:
    """The error for a code that is not `SUCCESS`.

    Args:
        code: a `CUresult`.
        name: of the code, `CUDA_ERROR_OUT_OF_MEMORY`.
        text: what the driver says about it.
        doing: what failed, such as "loading kernel 'f'".
        log: what the driver's PTX compiler has printed.
    """
    kind = _KINDS.get(code, _OTHER)
    notes = tuple(line.strip() for line in log.splitlines() if line.strip())
    return kind.error(
        f"{doing} failed: {text or 'the driver does not say why'}",
        found=f"{name} ({code})",
        remedy=kind.remedy,
        notes=notes,
    )
