"""Whether a function has rules of its own for gradients, which its diagram does not show.

A diagram tells what a function computes. What is detached, computed without gradients, or has a
backward of its own must be differentiated as eager torch does it.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import fx
from torch._subclasses import FakeTensorMode
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from diagc.runtime.arguments import Arguments
from diagc.runtime.dispatch_keys import plain_dispatch

__all__ = ["rule_of_its_own"]

_CALLS = ("detach", "detach_", "_set_grad_enabled", "register_hook", "requires_grad_")


def rule_of_its_own(
    function: Callable[..., Any],
    arguments: Arguments,
    tensors: Sequence[tuple[tuple[int, ...], torch.dtype]],
) -> str | None:
    """The first rule that is found; None when the diagram tells all.

    Args:
        function: the user's.
        arguments: how a call of it is made of tensors.
        tensors: their shapes and dtypes.
    """
    if isinstance(function, fx.GraphModule):
        names = (str(node.target).split(".") for node in function.graph.nodes)
        return next((part for name in names for part in name if part in _CALLS), None)
    try:
        return _watched(function, arguments, tensors)
    except Exception as error:  # whatever a function does on fake tensors
        return f"it cannot be followed: {str(error).strip().splitlines()[:1]}"


def _watched(
    function: Callable[..., Any],
    arguments: Arguments,
    tensors: Sequence[tuple[tuple[int, ...], torch.dtype]],
) -> str | None:
    """Run on fake tensors: nothing is computed."""
    with FakeTensorMode(allow_non_fake_inputs=True), plain_dispatch(), torch.enable_grad():
        fakes = [
            torch.empty(shape, dtype=dtype, requires_grad=dtype.is_floating_point)
            for shape, dtype in tensors
        ]
        args, kwargs = arguments.rebuild(fakes)
        with _Watch() as watch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about its own fake tensors
            value = function(*args, **kwargs)
    if watch.found is not None:
        return watch.found
    own = (node for node in _nodes(value) if isinstance(node, BackwardCFunction))
    return next((type(node).__name__ for node in own), None)


class _Watch(TorchFunctionMode):
    """Notes the first call that changes how gradients flow."""

    def __init__(self) -> None:
        super().__init__()
        self.found: str | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run a call."""
        name = getattr(func, "__name__", "")
        owner = getattr(getattr(func, "__self__", None), "__name__", "")
        if name in _CALLS or (name == "__get__" and owner == "data"):
            self.found = self.found or (owner if name == "__get__" else name)
        return func(*args, **(kwargs or {}))


def _nodes(value: Any) -> Iterator[Any]:
    """All nodes of the backward graph."""
    leaves = [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]
    stack, seen = [leaf.grad_fn for leaf in leaves if leaf.grad_fn is not None], set()
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            yield node
            stack += [source for source, _ in node.next_functions if source is not None]
