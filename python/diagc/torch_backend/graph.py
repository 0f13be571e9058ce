"""From Dynamo's graph to un-decomposed ATen, before autograd."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import fx
from torch._guards import TracingContext, tracing
from torch._ops import HigherOrderOperator
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from diagc.errors import UnsupportedError
from diagc.frontend.torch import decompositions
from diagc.torch_backend.autocast import Autocasting, uses_autocast, write_casts

__all__ = ["KIND", "aten_graph", "fake_mode_of", "is_trained"]

KIND = "diagc_kind"
"""Key of what a placeholder holds: "param" or "user", as `frontend.torch.aten.Input` has it."""

_TRAINED = "diagc_trained"
"""Key of whether gradients of some placeholder are wanted: values of nodes do not tell."""

# higher-order ops that stay whole when they are traced
_TRANSPARENT = ("cond",)

# torch's own kernel is better than the maps that it would become
_UNTRACED = ("aten.batch_norm.default",)


def aten_graph(module: fx.GraphModule, inputs: Sequence[Any]) -> fx.GraphModule:
    """The same program as ATen calls with one placeholder each for `inputs`.

    Every node's `meta["val"]` tells its fake value. Views are normalised by the front end's table;
    all ops with structure are whole.

    Raises:
        UnsupportedError: autocast does more with a call than to cast; or a call has rules
            of its own for gradients (an autograd.Function, a hook), or is of a transform; or an
            argument is of a subclass.
    """
    _check_calls(module)
    values = [node.meta["example_value"] for node in _placeholders(module)]
    _check_kinds(values)
    mode = fake_mode_of(values)
    # an interpreter carries places in the user's code over to the new nodes
    nodes, aside = fx.traceback.preserve_node_meta(), _aside_from_hooks()
    with mode, tracing(TracingContext(mode)), nodes, aside:
        trace = make_fx(
            Autocasting(module).run,
            decomposition_table=_table(),
            pre_dispatch=True,
            _allow_non_fake_inputs=True,
        )
        traced: fx.GraphModule = trace(*values)
        if uses_autocast(traced):
            write_casts(traced)
    _check_constants(traced)
    for value, node in zip(values, _placeholders(traced), strict=True):
        node.meta[KIND] = "param" if isinstance(value, torch.nn.Parameter) else "user"
    wanted = any(isinstance(value, torch.Tensor) and value.requires_grad for value in values)
    traced.meta[_TRAINED] = torch.is_grad_enabled() and wanted
    return traced


def is_trained(traced: fx.GraphModule) -> bool:
    """Whether autograd will record a graph that `aten_graph` gave."""
    return bool(traced.meta[_TRAINED])


def _aside_from_hooks() -> AbstractContextManager[Any]:
    """Hide what tracing saves for gradients from the user's hooks, such as a checkpoint's.

    Hooks that are innermost are asked alone; where they are not allowed there are none.
    """
    if not torch._C._autograd._saved_tensors_hooks_is_enabled():
        return nullcontext()
    return saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)


def _check_kinds(values: Sequence[Any]) -> None:
    """Subclasses have operations of their own, which a kernel of plain tensors would skip."""
    for value in values:
        if is_traceable_wrapper_subclass(value):
            raise UnsupportedError(type(value).__name__, reason="a subclass of torch.Tensor")


def _check_calls(module: fx.GraphModule) -> None:
    """Tracing looks into such calls, and would lose what they do to gradients."""
    for node in module.graph.nodes:
        own = isinstance(node.target, HigherOrderOperator) and str(node.target) not in _TRANSPARENT
        transform = "functorch" in str(getattr(node.target, "__module__", ""))
        if own or transform:
            reason = "it changes what other calls compute, or their gradients"
            raise UnsupportedError(f"call {node.name}", reason=reason)


def _check_constants(traced: fx.GraphModule) -> None:
    """Tracing does not follow some accesses, such as `.data`, and takes their values as given."""
    for node in traced.graph.nodes:
        if node.op == "get_attr" and isinstance(getattr(traced, node.target, None), FakeTensor):
            raise UnsupportedError("access to a tensor", reason="it is hidden from tracing")


def _placeholders(module: fx.GraphModule) -> list[fx.Node]:
    return [node for node in module.graph.nodes if node.op == "placeholder"]


def fake_mode_of(values: Sequence[Any]) -> FakeTensorMode:
    """The mode that Dynamo's own values live in; a fresh one when there are none."""
    modes = (value.fake_mode for value in values if hasattr(value, "fake_mode"))
    return next(modes, None) or FakeTensorMode(allow_non_fake_inputs=True)


def _table() -> dict[Any, Callable[..., Any]]:
    table = decompositions.table()
    return {op: rule for op, rule in table.items() if str(op) not in _UNTRACED}
