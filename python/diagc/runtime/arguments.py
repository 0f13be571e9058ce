"""The arguments of a call as tensors, and everything else as a key."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeAlias

import torch
from torch.utils import _pytree as pytree

from diagc.errors import UserError

__all__ = [
    "Arguments",
    "GroupKey",
    "dynamic_shapes",
    "read_arguments",
    "split_arguments",
    "write_arguments",
]

GroupKey: TypeAlias = Any
"""Equal for calls that differ in tensors only: their number, or structure and constants."""


@dataclass(frozen=True)
class Arguments:
    """How a call's arguments are made of tensors and constants.

    Args:
        spec: structure of (args, kwargs); None when the arguments are just tensors, in order.
        leaves: the constants among the leaves; None in the places of tensors.
        places: positions of the tensors among the leaves.
        count: of the tensors.
    """

    spec: pytree.TreeSpec | None = None
    leaves: tuple[Any, ...] = ()
    places: tuple[int, ...] = ()
    count: int = 0

    @property
    def plain(self) -> bool:
        """Whether the arguments are just tensors, in order."""
        return self.spec is None

    def rebuild(self, tensors: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments with these tensors."""
        if self.spec is None:
            return tuple(tensors), {}
        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return args, kwargs


def split_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Sequence[torch.Tensor], GroupKey, Arguments]:
    """Tensors of a call, a key of the rest, and how to rebuild the call.

    Raises:
        UserError: an argument that is neither a tensor nor can be a key.
    """
    if not kwargs and all(isinstance(arg, torch.Tensor) for arg in args):
        return args, len(args), Arguments(count=len(args))
    leaves, spec = pytree.tree_flatten((args, dict(kwargs)))
    places = tuple(i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor))
    tensors = [leaves[place] for place in places]
    rest = tuple(None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves)
    if not all(map(_is_constant, rest)):
        kinds = ", ".join(sorted({type(leaf).__name__ for leaf in rest if not _is_constant(leaf)}))
        message = "an argument is neither a tensor nor a constant"
        raise UserError(message, expected="a value that never changes", found=kinds)
    key = (spec, tuple(map(_constant_key, rest)), places)
    return tensors, key, Arguments(spec, rest, places, len(places))


def dynamic_shapes(dynamic: Sequence[frozenset[int]] | bool, is_module: bool) -> Any:
    """Open dims of each tensor as torch.export takes them, for a function of tensors.

    Args:
        dynamic: dims by tensor; True or False for all or none.
        is_module: whether the tensors are the parameters of a module's forward.
    """
    if isinstance(dynamic, bool):
        return dynamic
    auto = torch.export.Dim.AUTO
    shapes = tuple(dict.fromkeys(sorted(dims), auto) for dims in dynamic)
    return shapes if is_module else (shapes,)


# Constants that are compared by identity, of which there is one for each value.
_SINGLETONS = (type(None), type(...), torch.dtype, torch.layout, torch.memory_format)


def _is_constant(value: object) -> bool:
    """Whether equality says that nothing has changed: not for objects that compare by identity.

    Functions and modules count, though what they refer to may change.
    """
    if type(value).__hash__ is object.__hash__:
        return isinstance(value, _SINGLETONS) or callable(value)
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _constant_key(value: object) -> tuple[type, object]:
    """Equal for constants that mean the same: 0.0 and -0.0 do not, two NaNs do."""
    exact = repr(value) if isinstance(value, float | complex) else value
    return type(value), exact


# ---- as plain data -----------------------------------------------------------------------------


def write_arguments(arguments: Arguments, name: str) -> tuple[Any, ...]:
    """Structure, constants and places as values that Python can read back from their text.

    Args:
        arguments: with a structure.
        name: of the function, for messages.

    Raises:
        UserError: a constant, or a structure, that cannot be written.
    """
    assert arguments.spec is not None
    try:
        spec = json.loads(pytree.treespec_dumps(arguments.spec))
    except NotImplementedError as error:
        raise UserError(
            f"arguments of '{name}' are in a container that cannot be written",
            expected="tuples, lists, dictionaries, and what torch's pytree can write",
            found=str(error).split("\n")[0],
            remedy="pass the tensors themselves, or compile without a name",
        ) from None
    leaves = tuple(_write_constant(leaf, name) for leaf in arguments.leaves)
    return spec, leaves, arguments.places


def read_arguments(data: tuple[Any, ...]) -> Arguments:
    """The inverse of `write_arguments`."""
    spec, leaves, places = data
    constants = tuple(_read_constant(leaf) for leaf in leaves)
    return Arguments(pytree.treespec_loads(json.dumps(spec)), constants, places)


_OF_TORCH = (torch.dtype, torch.layout, torch.memory_format)


def _write_constant(value: object, name: str) -> object:
    """A constant, or a pair of its kind and a text."""
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if isfinite(value) else ("float", repr(value))
    if isinstance(value, torch.device):
        return ("device", str(value))
    if isinstance(value, _OF_TORCH):
        return ("torch", str(value).removeprefix("torch."))
    raise UserError(
        f"an argument of '{name}' cannot be written into a graph",
        expected="None, a number, a text, a dtype or a device",
        found=f"{type(value).__name__} {value!r:.40}",
        remedy="bind it in a function of its own, or compile without a name",
    )


def _read_constant(data: Any) -> object:
    if not isinstance(data, tuple):
        return data
    kind, text = data
    if kind == "float":
        return float(text)
    return torch.device(text) if kind == "device" else getattr(torch, text)
