"""Check the tensors of a call against the inputs of a program, in the user's words."""

from collections.abc import Sequence
from functools import cache
from types import CodeType
from typing import Any

import torch

from diagc.errors import LaunchError
from diagc.runtime.sizes import Sizes, label_sizes
from diagc.runtime.steps import Dims, Input
from diagc.runtime.torch_launch import TORCH_DTYPES

__all__ = ["SizeMismatch", "check_inputs", "holds"]


class SizeMismatch(LaunchError):
    """Tensors whose sizes this program was not compiled for, or that contradict each other."""


def holds(conditions: Sequence[str], shapes: Sequence[Sizes]) -> bool:
    """Whether sizes fulfil what a program was imported under.

    A rank that does not fit counts as fulfilled, for `check_inputs` to say; a condition without a
    value (a division by zero) does not hold.

    Args:
        conditions: Python expressions over `s`, the shapes.
        shapes: of the user's tensors.
    """
    try:
        return all(eval(_code(text), {"s": shapes}) for text in conditions)
    except IndexError:
        return True
    except ArithmeticError:
        return False


@cache
def _code(condition: str) -> CodeType:
    return compile(condition, "<condition>", "eval")


def check_inputs(
    inputs: Sequence[Input],
    tensors: Sequence[Any],
    float64: bool = False,
    device: str | None = "cpu",
) -> dict[str, int]:
    """Check number, kind, device, dtype, rank and sizes; give the size of every label.

    Args:
        inputs: of the program.
        tensors: of the call.
        float64: whether floats may also be f64, whatever the inputs say.
        device: kind of the one device that all must be on; None for examples, which are not read.

    Raises:
        SizeMismatch: only sizes are wrong.
        LaunchError: anything else is wrong.
    """
    if len(inputs) != len(tensors):
        names = ", ".join(entry.name for entry in inputs)
        raise LaunchError(
            "wrong number of tensors", expected=f"{len(inputs)} ({names})", found=len(tensors)
        )
    for entry, tensor in zip(inputs, tensors, strict=True):
        _check_tensor(entry, tensor, float64)
        if device is not None:
            _check_device(entry, tensor, tensors[0], device)
    sizes = label_sizes(inputs, [tuple(tensor.shape) for tensor in tensors])
    for entry, tensor in zip(inputs, tensors, strict=True):
        _check_sizes(entry, tuple(tensor.shape), sizes)
    return sizes


def _check_tensor(entry: Input, tensor: Any, float64: bool) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise _refuse(entry, "is no tensor", "torch.Tensor", type(tensor).__name__)
    if tensor.layout is not torch.strided or tensor.is_nested:
        raise _refuse(entry, "has no dense layout", "torch.strided", tensor.layout)
    if tensor.is_neg():
        raise _refuse(entry, "is negated lazily", "values", "a view", "pass .resolve_neg()")
    dtype = TORCH_DTYPES[entry.type.dtype]
    exact = float64 and dtype.is_floating_point and tensor.dtype == torch.float64
    if tensor.dtype != dtype and not exact:
        remedy = f"convert it with .to({dtype}), or compile again with such an example"
        raise _refuse(entry, "has the wrong dtype", dtype, tensor.dtype, remedy)
    if tensor.dim() != len(entry.dims):
        expected = f"{len(entry.dims)} dimensions ({_show(entry.dims)})"
        found = f"{tensor.dim()}, shape {tuple(tensor.shape)}"
        raise _refuse(entry, "has the wrong rank", expected, found)


def _check_device(entry: Input, tensor: torch.Tensor, first: torch.Tensor, device: str) -> None:
    """See that a tensor is on the program's kind of device, and where the first one is."""
    expected = first.device if first.device.type == device else device
    if tensor.device.type != device or tensor.device != first.device:
        remedy = f'move it with .to("{expected}"), or compile for that device'
        raise _refuse(entry, "is on the wrong device", expected, tensor.device, remedy)


def _check_sizes(entry: Input, shape: tuple[int, ...], sizes: dict[str, int]) -> None:
    for dim, (group, found) in enumerate(zip(entry.dims, shape, strict=True)):
        expected = 1
        for label in group:
            expected *= sizes[label]
        if found != expected:
            message = f"{_noun(entry)} has the wrong size in dimension {dim} ({' * '.join(group)})"
            raise SizeMismatch(message, expected=expected, found=f"{found}, shape {shape}")


def _refuse(
    entry: Input, problem: str, expected: object, found: object, remedy: str | None = None
) -> LaunchError:
    return LaunchError(f"{_noun(entry)} {problem}", expected=expected, found=found, remedy=remedy)


def _noun(entry: Input) -> str:
    words = {"user": "argument", "param": "parameter", "buffer": "buffer"}
    return f"{words[entry.kind]} '{entry.name}'"


def _show(dims: Dims) -> str:
    return ", ".join("*".join(group) or "1" for group in dims)
