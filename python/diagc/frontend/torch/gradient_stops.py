"""Which inputs of a function have gradients that autograd cuts or replaces on the way.

A diagram says what a function computes, and `detach`, `no_grad` and `autograd.Function` change
nothing of that. So gradients of a diagram are those of the function only by inputs from which no
such call is reached.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from diagc.errors import SourceLocation
from diagc.frontend.torch.aten import Input
from diagc.frontend.torch.capture import record_calls
from diagc.frontend.torch.recorder import LOCATION, STOPS

__all__ = ["gradient_stops"]


def gradient_stops(
    function: Callable[..., Any], tensors: tuple[torch.Tensor, ...]
) -> list[tuple[Input, SourceLocation | None]]:
    """The inputs from which such a call is reached, with the place of the last one.

    Args:
        function: of tensors alone.
        tensors: of the shapes and dtypes of a call; they are not read.

    Raises:
        UnsupportedError: the function cannot be followed.
    """
    captured = record_calls(function, tensors)
    reached: dict[fx.Node, SourceLocation | None] = {}
    for node in reversed(captured.graph.nodes):
        if node.meta.get(STOPS):
            reached[node] = node.meta.get(LOCATION)
        if node in reached:
            for source in node.all_input_nodes:
                reached.setdefault(source, reached[node])
    placeholders = (node for node in captured.graph.nodes if node.op == "placeholder")
    pairs = zip(placeholders, captured.inputs, strict=True)
    return [(entry, reached[node]) for node, entry in pairs if node in reached]
