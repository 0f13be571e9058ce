"""A call of one torch op as plain data, so that programs with such calls can be stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from diagc.errors import SourceLocation, UnsupportedError, UserError
from diagc.runtime import label_checks  # noqa: F401  (its op)
from diagc.runtime.sizes import evaluate_size
from diagc.runtime.steps import Size

__all__ = ["DtypeName", "OpenSize", "Operand", "TorchCall", "operator_named", "plain_argument"]


@dataclass(frozen=True)
class Operand:
    """Stands for tensor number `index` of the call among the arguments of the op."""

    index: int


@dataclass(frozen=True)
class DtypeName:
    """Stands for a torch dtype: `float32`."""

    name: str


@dataclass(frozen=True)
class OpenSize:
    """Stands for a number that follows from shapes of the tensors of the call.

    Args:
        size: whose arrays are tensors of the call, their axes the dims.
    """

    size: Size


@dataclass(frozen=True)
class TorchCall:
    """Takes tensors in user shape, on any device, and gives a tuple of results.

    Args:
        target: overload name, `aten.embedding.default`.
        args: by schema name: numbers, bools, strings, None, `Operand`, `OpenSize`, `DtypeName`
            and tuples of those. Devices are those of the first operand.
        wanted: which results of the op are given.
        location: the user's line.
    """

    target: str
    args: Mapping[str, Any]
    wanted: tuple[int, ...]
    location: SourceLocation | None = None

    def __call__(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the op.

        Raises:
            UserError: torch refuses, for an index that is out of range, say.
        """
        args = {name: _filled(value, tensors) for name, value in self.args.items()}
        if self._has_device and tensors:
            args["device"] = tensors[0].device
        try:
            result = self._operator(**args)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{self.target} fails: {reason}", location=self.location) from error
        results = result if isinstance(result, (tuple, list)) else (result,)
        return tuple(results[i] for i in self.wanted)

    @cached_property
    def _operator(self) -> torch._ops.OpOverload:
        operator = operator_named(self.target)
        if operator is None:
            raise UnsupportedError(self.target, reason=f"torch {torch.__version__} has no such op")
        return operator

    @cached_property
    def _has_device(self) -> bool:
        return any(argument.name == "device" for argument in self._operator._schema.arguments)


def operator_named(target: str) -> torch._ops.OpOverload | None:
    """The overload called `namespace.name.overload`, or None when torch has none."""
    namespace, name, overload = (*target.split("."), "default")[:3]
    packet = getattr(getattr(torch.ops, namespace), name, None)
    return getattr(packet, overload, None) if packet is not None else None


def plain_argument(value: Any) -> Any:
    """An argument of an op as `TorchCall` holds it."""
    if isinstance(value, (list, tuple)):
        return tuple(plain_argument(item) for item in value)
    return DtypeName(str(value).removeprefix("torch.")) if isinstance(value, torch.dtype) else value


def _filled(value: Any, tensors: tuple[torch.Tensor, ...]) -> Any:
    if isinstance(value, tuple):
        return [_filled(item, tensors) for item in value]
    if isinstance(value, Operand):
        return tensors[value.index]
    if isinstance(value, OpenSize):
        return evaluate_size(value.size, [tuple(tensor.shape) for tensor in tensors])
    return getattr(torch, value.name) if isinstance(value, DtypeName) else value
