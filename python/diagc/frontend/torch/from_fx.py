"""Adapter: FX graph of ATen overloads -> ATen node list."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from diagc.errors import SourceLocation, UnsupportedError
from diagc.frontend.torch.aten import Input, Node, Program, Ref, TensorType, bind_schema
from diagc.frontend.torch.captured import tensor_type
from diagc.frontend.torch.locations import location_of_stack_trace
from diagc.frontend.torch.recorder import LOCATION
from diagc.frontend.torch.sizes import size_of

__all__ = ["CHECKS", "from_fx", "node_location"]

CHECKS = (
    "aten._assert_tensor_metadata.default",
    "aten._assert_scalar.default",
    "aten._assert_async.msg",
    "aten.sym_constrain_range.default",
    "aten.sym_constrain_range_for_size.default",
)
"""Ops that only check what tracing already knows."""


def from_fx(
    graph: fx.Graph, inputs: Sequence[Input], symbols: dict[str, tuple[int, int]] | None = None
) -> Program:
    """Read a graph whose nodes have `meta["val"]`; `inputs` describe its tensor placeholders.

    Raises:
        UnsupportedError: a node is neither an ATen-like overload nor arithmetic of sizes.
    """
    reader = _Reader({i.name for i in inputs})
    outputs: list[Any] = []
    for node in graph.nodes:
        if node.op == "call_function":
            reader.call(node)
        elif node.op == "output":
            outputs = reader.argument(list(node.args[0]))
        elif node.op != "placeholder":
            raise UnsupportedError(f"fx.{node.op}", reason=f"node {node.name} of the graph")
    return Program(list(inputs), reader.nodes, outputs, "fx", dict(symbols or {}))


class _Reader:
    def __init__(self, inputs: set[str]) -> None:
        self.nodes: list[Node] = []
        self._tensors: dict[str, Ref] = {name: Ref(name) for name in inputs}

    def call(self, node: fx.Node) -> None:
        value = node.meta.get("val")
        if node.target is operator.getitem:
            source = node.args[0]
            assert isinstance(source, fx.Node)
            self._tensors[node.name] = Ref(source.name, int(node.args[1]))  # type: ignore[arg-type]
            return
        if isinstance(value, (torch.SymInt, torch.SymBool, torch.SymFloat, int, float, bool)):
            return  # read where it is used
        if not isinstance(node.target, torch._ops.OpOverload):
            raise UnsupportedError(str(node.target), location=node_location(node))
        if str(node.target) in CHECKS:
            return
        args = bind_schema(node.target, node.args, node.kwargs)
        named = {name: self.argument(value) for name, value in args.items()}
        self.nodes.append(
            Node(node.name, str(node.target), named, _types(value), node_location(node))
        )
        self._tensors[node.name] = Ref(node.name)

    def argument(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self._node_argument(value)
        if isinstance(value, (list, tuple)):
            return [self.argument(item) for item in value]
        return size_of(value) if isinstance(value, torch.SymInt) else value

    def _node_argument(self, node: fx.Node) -> Any:
        if node.name in self._tensors:
            return self._tensors[node.name]
        value = node.meta.get("val")
        if isinstance(value, (torch.SymInt, torch.SymFloat)):
            return size_of(value)
        return value


def _types(value: Any) -> tuple[TensorType | None, ...]:
    values = value if isinstance(value, (list, tuple)) else [value]
    return tuple(tensor_type(v) for v in values)


def node_location(node: fx.Node) -> SourceLocation | None:
    """The user's line that made a node, as the recorder or a stack trace has it."""
    return node.meta.get(LOCATION) or location_of_stack_trace(node.meta.get("stack_trace"))
