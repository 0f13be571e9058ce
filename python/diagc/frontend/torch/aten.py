"""The ATen node list: the one form that an FX graph and a torch-dialect function are read into.

Nodes are un-decomposed ATen calls: softmax, matmul, scaled_dot_product_attention are single nodes.
Arguments stand under their schema names with defaults filled in, so that rules need not know the
overload. Tensors are `Ref`s, dtypes are `torch.dtype`, symbolic sizes are sympy expressions;
devices, layouts and memory formats are dropped, because a diagram has none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from diagc.errors import SourceLocation
from diagc.frontend.torch.sizes import Size, fix
from diagc.runtime.torch_call import operator_named

__all__ = [
    "IGNORED_ARGUMENTS",
    "Input",
    "Node",
    "Program",
    "Ref",
    "TensorType",
    "bind_schema",
    "operator_named",
    "refs",
    "replace_refs",
]

# types of arguments that say where or how a tensor is stored, never what it holds
IGNORED_ARGUMENTS = ("Device", "Layout", "MemoryFormat", "Generator")


@dataclass(frozen=True)
class TensorType:
    """Shape and dtype of a tensor; sizes are ints or sympy expressions."""

    shape: tuple[Size, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Ref:
    """Result number `index` of the node or input called `node`."""

    node: str
    index: int = 0


@dataclass
class Node:
    """One ATen call.

    Args:
        name: unique in the program.
        target: overload name, such as `aten.softmax.int`.
        args: argument name to value: Ref, number, bool, str, dtype, None, or a list of those.
        results: type of each result; None for one that is not a tensor or is never used.
        location: the user's line that made this call.
    """

    name: str
    target: str
    args: dict[str, Any]
    results: tuple[TensorType | None, ...]
    location: SourceLocation | None = None

    @property
    def packet(self) -> str:
        """The op without its overload: `aten.softmax`."""
        return ".".join(self.target.split(".")[:2])

    def get(self, name: str, default: Any = None) -> Any:
        """An argument, or `default` where this overload has none of that name."""
        return self.args.get(name, default)

    @property
    def result(self) -> TensorType:
        """The type of the only (or first) tensor result."""
        return next(type_ for type_ in self.results if type_ is not None)


@dataclass(frozen=True)
class Input:
    """A tensor that the program reads.

    Args:
        name: what `Ref`s say.
        type: shape and dtype.
        kind: "user", "param" or "buffer"; a lifted constant is a buffer.
        qualified_name: the user's name: an argument, or `encoder.layer.0.weight`.
        user_index: position among the flattened example inputs, for kind "user".
        tensor: the tensor itself, for the other kinds.
    """

    name: str
    type: TensorType
    kind: str
    qualified_name: str
    user_index: int | None = None
    tensor: torch.Tensor | None = None


@dataclass
class Program:
    """Inputs, nodes in order, and outputs: Refs, or constants that the user returned."""

    inputs: list[Input]
    nodes: list[Node]
    outputs: list[Any]
    origin: str = ""
    symbols: dict[str, tuple[int, int]] = field(default_factory=dict)

    def fixed(self, sizes: Mapping[str, Size]) -> "Program":
        """The same program with numbers, or other sizes, for some symbols."""
        return replace(
            self,
            inputs=[replace(i, type=_fixed_type(i.type, sizes)) for i in self.inputs],
            nodes=[
                replace(
                    node,
                    args={name: _fixed_argument(arg, sizes) for name, arg in node.args.items()},
                    results=tuple(t and _fixed_type(t, sizes) for t in node.results),
                )
                for node in self.nodes
            ],
            outputs=_fixed_argument(self.outputs, sizes),
        )

    def drop_unused_results(self) -> None:
        """Set the types of results that nothing reads to None: `max` without its positions."""
        used = {*refs(self.outputs), *(ref for node in self.nodes for ref in refs(node.args))}
        for node in self.nodes:
            if len(node.results) > 1:
                kept = [Ref(node.name, i) in used for i in range(len(node.results))]
                pairs = zip(node.results, kept, strict=True)
                node.results = tuple(type_ if keep else None for type_, keep in pairs)


def _fixed_type(type_: TensorType, sizes: Mapping[str, Size]) -> TensorType:
    return replace(type_, shape=tuple(fix(size, sizes) for size in type_.shape))


def _fixed_argument(value: Any, sizes: Mapping[str, Size]) -> Any:
    return replace_refs(value, lambda leaf: fix(leaf, sizes))


def refs(value: Any) -> Iterator[Ref]:
    """All Refs in an argument, depth first."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from refs(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from refs(item)


def replace_refs(value: Any, replace: Callable[[Any], Any]) -> Any:
    """`value` with `replace` applied to everything in it that is not a container."""
    if isinstance(value, (list, tuple)):
        return [replace_refs(item, replace) for item in value]
    return replace(value)


def bind_schema(
    operator: torch._ops.OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments by schema name, with defaults, without the ignored ones."""
    bound: dict[str, Any] = {}
    for i, argument in enumerate(operator._schema.arguments):
        if any(kind in str(argument.real_type) for kind in IGNORED_ARGUMENTS):
            continue
        if i < len(args):
            bound[argument.name] = args[i]
        elif argument.name in kwargs:
            bound[argument.name] = kwargs[argument.name]
        elif argument.has_default_value():
            bound[argument.name] = argument.default_value
    return bound
