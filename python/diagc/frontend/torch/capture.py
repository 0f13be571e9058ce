"""From a function or nn.Module and example inputs to a graph of un-decomposed ATen calls.

Static shapes are recorded by `Recorder` (milliseconds). Symbolic sizes (`dynamic`), writes through
views and what else the recorder declines go through non-strict `torch.export` (1.6 s for the first
call in a process, 0.02 s and more after it), whose `run_decompositions` also removes mutation.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from diagc.errors import DiagcError, UnsupportedError, UserError
from diagc.frontend.torch import decompositions
from diagc.frontend.torch.aten import Input, TensorType
from diagc.frontend.torch.locations import location_of_exception
from diagc.frontend.torch.recorder import DeviceFacade, NeedsExport, Recorder, tracing_flags
from diagc.frontend.torch.sizes import size_of

__all__ = ["Captured", "capture", "tensor_type"]

Dynamic = bool | dict[str, Any] | tuple[Any, ...]


@dataclass(frozen=True)
class Captured:
    """A graph of ATen calls and what its placeholders and outputs are.

    Args:
        graph: the FX graph; `meta["val"]` of every node tells shape and dtype.
        inputs: one entry for each placeholder that holds a tensor, in order.
        output_spec: pytree spec of what the function returns, over the graph's outputs in order.
        symbols: range of each symbolic size.
    """

    graph: fx.Graph
    inputs: list[Input]
    output_spec: pytree.TreeSpec
    symbols: dict[str, tuple[int, int]]


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
        return _export(function, example_inputs, dynamic)
    failure: Exception
    try:
        return _record(function, example_inputs, tensors)
    except (DiagcError, TypeError) as error:
        failure = error
    except Exception as error:
        try:
            return _export(function, example_inputs, False)
        except Exception as export_error:
            failure = export_error if isinstance(error, NeedsExport) else error
    raise _explained(function, failure) from failure


def tensor_type(value: Any) -> TensorType | None:
    """Shape and dtype of a (meta or fake) tensor; None for what is not a tensor."""
    if not isinstance(value, torch.Tensor):
        return None
    return TensorType(tuple(size_of(s) for s in value.shape), value.dtype)


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
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise UserError(
            f"example input {position} is not a dense tensor",
            expected="layout torch.strided",
            found=str(tensor.layout),
        )


def _explained(function: Callable[..., Any], error: Exception) -> DiagcError:
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


# --- recording ---------------------------------------------------------------------------------


def _record(
    function: Callable[..., Any], inputs: tuple[Any, ...], tensors: list[torch.Tensor]
) -> Captured:
    known = _named_tensors(function)
    device = tensors[0].device if tensors else torch.device("cpu")
    known_names = {i: name for i, (_, name) in known.items()}
    recorder = Recorder(decompositions.table(), known_names, device)
    names = _argument_names(function, inputs)
    twins = [recorder.placeholder(t, n) for t, n in zip(tensors, names, strict=True)]
    arguments = pytree.tree_unflatten(twins, pytree.tree_structure(inputs))
    with torch.no_grad(), tracing_flags(), DeviceFacade(device):
        result = call_user_function(recorder, function, arguments)
    leaves, spec = pytree.tree_flatten(result)
    with recorder_off():
        nodes = [recorder.node_of(x) if isinstance(x, torch.Tensor) else x for x in leaves]
    recorder.graph.output(tuple(nodes))
    return Captured(recorder.graph, _inputs(recorder, names, known), spec, {})


def recorder_off() -> Any:
    """Placeholders may still be added for constants that are returned as they are."""
    return torch._C._DisablePythonDispatcher()


def call_user_function(recorder: Recorder, function: Any, arguments: tuple[Any, ...]) -> Any:
    """Run the user's code under the recorder; `locations.BOUNDARY` names this function."""
    from torch._dispatch.python import enable_python_dispatcher

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


def _argument_names(function: Callable[..., Any], inputs: tuple[Any, ...]) -> list[str]:
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


# --- torch.export ------------------------------------------------------------------------------


class _FunctionModule(torch.nn.Module):
    """torch.export wants a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *args: Any) -> Any:
        return self._function(*args)


def _export(function: Callable[..., Any], inputs: tuple[Any, ...], dynamic: Dynamic) -> Captured:
    module = function if isinstance(function, torch.nn.Module) else _FunctionModule(function)
    # without this, torch.export keeps stack traces of methods called `forward` only
    torch.fx.proxy._register_stack_trace_anchor(function)
    shapes = _dynamic_shapes(module, inputs, dynamic)
    try:
        with torch.no_grad():
            exported = torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)
            exported = exported.run_decompositions(decompositions.table())
    except DiagcError:
        raise
    except Exception as error:
        raise _explained(function, error) from error
    return _from_exported(exported, _argument_names(function, inputs))


def _dynamic_shapes(module: torch.nn.Module, inputs: tuple[Any, ...], dynamic: Dynamic) -> Any:
    if dynamic is not True:
        return dynamic or None
    auto = torch.export.Dim.AUTO  # type: ignore[attr-defined]
    shapes = pytree.tree_map(lambda t: dict.fromkeys(range(t.dim()), auto), inputs)
    # an argument list `*args` is one parameter to torch.export
    return (shapes,) if isinstance(module, _FunctionModule) else shapes


def _from_exported(exported: Any, user_names: list[str]) -> Captured:
    signature = exported.graph_signature
    mutated = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if mutated:
        raise UnsupportedError(
            "mutation",
            reason=f"the function writes into its arguments or buffers: {', '.join(mutated)}",
            remedy="write into a clone, and return what has changed (modules: call eval() first)",
        )
    kinds = {"PARAMETER": "param", "USER_INPUT": "user"}
    state = {**exported.state_dict, **exported.constants}
    values = {n.name: n.meta.get("val") for n in exported.graph.nodes if n.op == "placeholder"}
    inputs: list[Input] = []
    for spec in signature.input_specs:
        type_ = tensor_type(values[spec.arg.name])
        assert type_ is not None
        kind = kinds.get(spec.kind.name, "buffer")
        users = sum(i.kind == "user" for i in inputs)
        name = user_names[users] if kind == "user" else str(spec.target)
        tensor = None if kind == "user" else state[spec.target]
        index = users if kind == "user" else None
        inputs.append(Input(spec.arg.name, type_, kind, name, index, tensor))
    symbols = {
        str(s): (int(max(r.lower, 0)), int(min(r.upper, 2**62)))
        for s, r in exported.range_constraints.items()
    }
    spec = exported.call_spec.out_spec
    return Captured(exported.graph, inputs, spec, symbols)
