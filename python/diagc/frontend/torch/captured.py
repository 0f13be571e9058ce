"""What capturing gives, and what its two ways share."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

import torch
from torch import fx
from torch.utils import _pytree as pytree

from diagc.errors import DiagcError, UnsupportedError, UserError
from diagc.frontend.torch.aten import Input, TensorType
from diagc.frontend.torch.locations import location_of_exception
from diagc.frontend.torch.recorder import NeedsExport
from diagc.frontend.torch.sizes import size_of

__all__ = [
    "Captured",
    "Dynamic",
    "argument_names",
    "check_results",
    "explained",
    "tensor_type",
]

Dynamic: TypeAlias = bool | dict[str, Any] | tuple[Any, ...]
"""Which sizes are symbolic: none, all that can be, or what torch.export takes."""


@dataclass(frozen=True)
class Captured:
    """A graph of ATen calls and what its placeholders and outputs are.

    Args:
        graph: the FX graph; `meta["val"]` of every node tells shape and dtype.
        inputs: one entry for each placeholder that holds a tensor, in order.
        output_spec: pytree spec of what the function returns, over the graph's outputs in order.
        symbols: range of each symbolic size.
        conditions: what the sizes must fulfil for the graph to hold, as Python expressions over
            `s[i][d]`, the size of dim d of the i-th user input.
    """

    graph: fx.Graph
    inputs: list[Input]
    output_spec: pytree.TreeSpec
    symbols: dict[str, tuple[int, int]]
    conditions: tuple[str, ...] = ()


def tensor_type(value: Any) -> TensorType | None:
    """Shape and dtype of a (meta or fake) tensor; None for what is not a tensor."""
    if not isinstance(value, torch.Tensor):
        return None
    return TensorType(tuple(size_of(s) for s in value.shape), value.dtype)


_CONSTANT_RESULTS = (
    *(type(None), bool, int, float, complex, str, bytes, Enum, type),
    *(torch.Size, torch.dtype, torch.device, torch.layout, torch.memory_format),
)


def check_results(results: Iterable[Any]) -> None:
    """See that all results, as leaves, are tensors of the graph or constants.

    Raises:
        UnsupportedError: a size that is open, or an object of another kind: it may hold tensors
            without values, or have to run later.
    """
    for value in results:
        if isinstance(value, fx.Node):
            if not isinstance(value.meta.get("val"), torch.Tensor):
                raise UnsupportedError("an open size as a result")
        elif not isinstance(value, _CONSTANT_RESULTS):
            raise UnsupportedError(
                f"a result of type {type(value).__name__}",
                remedy="return tensors and constants, also in tuples, lists, dicts, or classes "
                "that torch.utils._pytree knows",
            )


def explained(function: Callable[..., Any], error: Exception) -> DiagcError:
    """The error that the user sees for what went wrong while capturing."""
    if isinstance(error, DiagcError):
        return error
    name = getattr(function, "__name__", type(function).__name__)
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    location = location_of_exception(error)
    if isinstance(error, (NeedsExport, NotImplementedError)):
        return UnsupportedError(name, reason=reason, location=location)
    return UserError(
        f"{name} fails on the example inputs: {reason}",
        location=location,
        remedy="check that it runs in eager mode on them",
    )


def argument_names(function: Callable[..., Any], inputs: tuple[Any, ...]) -> list[str]:
    """A name for each flattened input: the parameter's, numbered where it holds several."""
    target = function.forward if isinstance(function, torch.nn.Module) else function
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = []
    for i, value in enumerate(inputs):
        name = positional[i].name if i < len(positional) else f"input_{i}"
        count = len(pytree.tree_leaves(value))
        single = isinstance(value, torch.Tensor)
        names += [name] if single else [f"{name}_{k}" for k in range(count)]
    return names
