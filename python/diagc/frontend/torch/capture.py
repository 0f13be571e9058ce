"""From a function or nn.Module and example inputs to a graph of un-decomposed ATen calls.

Static shapes are recorded by `Recorder` (milliseconds). Symbolic sizes (`dynamic`), writes through
views and what else the recorder declines go through non-strict `torch.export` (1.6 s for the first
call in a process, 0.02 s and more after it), whose `run_decompositions` also removes mutation.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._dispatch.python import enable_python_dispatcher
from torch.utils import _pytree as pytree

from diagc.errors import DiagcError, UnsupportedError, UserError
from diagc.frontend.torch import decompositions
from diagc.frontend.torch.aten import Input
from diagc.frontend.torch.call_checks import RefusedCall
from diagc.frontend.torch.captured import (
    Captured,
    Dynamic,
    argument_names,
    check_results,
    explained,
    tensor_type,
)
from diagc.frontend.torch.export import export
from diagc.frontend.torch.recorder import NeedsExport, Recorder
from diagc.frontend.torch.tracing_state import DeviceFacade, LayoutRefusal, tracing_state

__all__ = ["capture", "record_calls"]


def capture(
    function: Callable[..., Any], example_inputs: tuple[Any, ...], dynamic: Dynamic = False
) -> Captured:
    """Capture `function(*example_inputs)`; nothing is computed, only shapes are followed.

    Args:
        function: a Python function or nn.Module over torch tensors.
        example_inputs: tensors, or tuples, lists and dicts of tensors.
        dynamic: False for static sizes, True for symbolic ones wherever torch.export finds that
            possible, or what torch.export takes as `dynamic_shapes`.

    Raises:
        UserError: the inputs are not tensors, or the function fails on them.
        UnsupportedError: the graph depends on values, or an argument is written to.
    """
    tensors = _check_inputs(function, example_inputs)
    if dynamic:
        return export(function, example_inputs, dynamic)
    failure: Exception
    try:
        with torch.no_grad():
            return _record_as_eager(function, example_inputs, tensors)
    except (DiagcError, RefusedCall, TypeError) as error:
        failure = error
    except Exception as error:
        try:
            return export(function, example_inputs, False)
        except Exception as export_error:
            failure = export_error if isinstance(error, NeedsExport) else error
    raise explained(function, failure) from failure


def _check_inputs(function: Callable[..., Any], inputs: tuple[Any, ...]) -> list[torch.Tensor]:
    if not callable(function):
        raise UserError(
            "nothing to compile",
            expected="a function or nn.Module",
            found=type(function).__name__,
        )
    if not isinstance(inputs, tuple):
        raise UserError(
            "example inputs must be a tuple, one item per argument",
            expected="tuple",
            found=type(inputs).__name__,
        )
    leaves = pytree.tree_leaves(inputs)
    for i, leaf in enumerate(leaves):
        if not isinstance(leaf, torch.Tensor):
            raise UserError(
                f"example input {i} is not a tensor",
                expected="torch.Tensor",
                found=f"{type(leaf).__name__} {leaf!r:.40}",
                remedy="bind values that never change with functools.partial or a lambda",
            )
        _check_layout(i, leaf)
    return leaves


def _check_layout(position: int, tensor: torch.Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        raise UserError(
            f"example input {position} is not a dense tensor",
            expected="layout torch.strided",
            found=_layout_name(tensor),
        )


def _layout_name(tensor: torch.Tensor) -> str:
    if tensor.is_nested:
        return "a nested tensor"
    return "a quantized tensor" if tensor.is_quantized else str(tensor.layout)


def record_calls(function: Callable[..., Any], inputs: tuple[torch.Tensor, ...]) -> Captured:
    """Record a function with static shapes where gradients are on; see `recorder.STOPS`.

    Raises:
        UnsupportedError: the recorder cannot follow it.
    """
    try:
        with torch.enable_grad():
            return _record_as_eager(function, inputs, list(inputs))
    except Exception as error:
        raise explained(function, error) from error


# --- recording ---------------------------------------------------------------------------------


def _record_as_eager(
    function: Callable[..., Any], inputs: tuple[Any, ...], tensors: list[torch.Tensor]
) -> Captured:
    """Record with branches taken as eager takes them; if one needs data, as libraries export."""
    try:
        return _record(function, inputs, tensors, flags=False)
    except UnsupportedError as error:
        try:
            return _record(function, inputs, tensors, flags=True)
        except DiagcError:
            raise error from None


def _record(
    function: Callable[..., Any],
    inputs: tuple[Any, ...],
    tensors: list[torch.Tensor],
    flags: bool,
) -> Captured:
    known = _named_tensors(function)
    device = tensors[0].device if tensors else torch.device("cpu")
    known_names = {i: name for i, (_, name) in known.items()}
    recorder = Recorder(decompositions.table(), known_names, device)
    names = argument_names(function, inputs)
    twins = [recorder.placeholder(t, n) for t, n in zip(tensors, names, strict=True)]
    arguments = pytree.tree_unflatten(twins, pytree.tree_structure(inputs))
    with tracing_state(flags), DeviceFacade(device), LayoutRefusal():
        result = call_user_function(recorder, function, arguments)
    leaves, spec = pytree.tree_flatten(result)
    nodes = [recorder.node_of(x) if isinstance(x, torch.Tensor) else x for x in leaves]
    check_results(nodes)
    recorder.graph.output(tuple(nodes))
    return Captured(recorder.graph, _inputs(recorder, names, known), spec, {})


def call_user_function(recorder: Recorder, function: Any, arguments: tuple[Any, ...]) -> Any:
    """Run the user's code under the recorder; `locations.BOUNDARY` names this function."""
    with enable_python_dispatcher(), recorder:
        return function(*arguments)


def _inputs(
    recorder: Recorder, user_names: list[str], known: Mapping[int, tuple[str, str]]
) -> list[Input]:
    inputs = []
    placeholders = [n for n in recorder.graph.nodes if n.op == "placeholder"]
    users = 0
    for node in placeholders:
        type_ = tensor_type(node.meta["val"])
        assert type_ is not None
        tensor = recorder.lifted.get(node.name)
        if tensor is None:
            inputs.append(Input(node.name, type_, "user", user_names[users], users))
            users += 1
            continue
        kind, name = known.get(id(tensor), ("buffer", node.name))
        inputs.append(Input(node.name, type_, kind, name, None, tensor))
    return inputs


def _named_tensors(function: Callable[..., Any]) -> dict[int, tuple[str, str]]:
    """Kind and qualified name by `id`, for tensors of modules that the function can see."""
    found: dict[int, tuple[str, str]] = {}
    for prefix, module in _modules(function):
        for kind, items in (("param", module.named_parameters), ("buffer", module.named_buffers)):
            for name, tensor in items():
                found.setdefault(id(tensor), (kind, f"{prefix}{name}"))
    return found


def _modules(function: Callable[..., Any]) -> list[tuple[str, torch.nn.Module]]:
    if isinstance(function, torch.nn.Module):
        return [("", function)]
    function = inspect.unwrap(function)
    seen = {"": getattr(function, "__self__", None)}
    code = getattr(function, "__code__", None)
    if code is not None:
        cells = getattr(function, "__closure__", None) or ()
        seen.update({n: _contents(c) for n, c in zip(code.co_freevars, cells, strict=False)})
        used = getattr(function, "__globals__", {})
        seen.update({n: used[n] for n in code.co_names if n in used})
    return [
        (f"{name}." if name else "", value)
        for name, value in seen.items()
        if isinstance(value, torch.nn.Module)
    ]


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None
