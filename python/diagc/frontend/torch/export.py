"""Capture through non-strict torch.export: symbolic sizes, and writes through views."""

import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from diagc.errors import DiagcError, UnsupportedError
from diagc.frontend.torch import decompositions
from diagc.frontend.torch.aten import Input
from diagc.frontend.torch.captured import (
    Captured,
    Dynamic,
    argument_names,
    check_results,
    explained,
    tensor_type,
)
from diagc.frontend.torch.tracing_state import LayoutRefusal

__all__ = ["export"]


class _FunctionModule(torch.nn.Module):
    """torch.export wants a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *args: Any) -> Any:
        return self._function(*args)


def export(function: Callable[..., Any], inputs: tuple[Any, ...], dynamic: Dynamic) -> Captured:
    """Capture `function(*inputs)`; arguments as those of `capture`.

    Raises:
        UserError: the function fails.
        UnsupportedError: torch.export does not take it, or it writes into arguments or buffers.
    """
    module = function if isinstance(function, torch.nn.Module) else _FunctionModule(function)
    # without this, torch.export keeps stack traces of methods called `forward` only
    torch.fx.proxy._register_stack_trace_anchor(function)
    shapes = _dynamic_shapes(module, inputs, dynamic)
    try:
        with torch.no_grad(), warnings.catch_warnings(), _within_another():
            warnings.simplefilter("ignore")  # torch.export warns about torch's own code
            with LayoutRefusal():
                exported = torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)
            exported = exported.run_decompositions(decompositions.table())
    except DiagcError:
        raise
    except Exception as error:
        raise explained(function, error) from error
    captured = _from_exported(exported, argument_names(function, inputs))
    conditions = _conditions(exported._guards_code, _sources(module, inputs), captured.inputs)
    return replace(captured, conditions=tuple(conditions))


@contextmanager
def _within_another() -> Iterator[None]:
    """torch.export may be under way, with a call of ours in it: keep what it keeps globally."""
    from torch.export import _trace  # imports torch._dynamo, which takes a second

    names = ("_EXPORT_FLAGS", "_EXPORT_MODULE_HIERARCHY")
    kept = {name: getattr(_trace, name, None) for name in names}
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(_trace, name, value)


def _dynamic_shapes(module: torch.nn.Module, inputs: tuple[Any, ...], dynamic: Dynamic) -> Any:
    if dynamic is not True:
        return dynamic or None
    auto = torch.export.Dim.AUTO
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
            remedy="write into a clone, and return what has changed (modules: call eval())",
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
    (output,) = (node for node in exported.graph.nodes if node.op == "output")
    check_results(output.args[0])
    spec = exported.call_spec.out_spec
    return Captured(exported.graph, inputs, spec, symbols)


# ---- what the sizes must fulfil ------------------------------------------------------------------


def _sources(module: torch.nn.Module, inputs: tuple[Any, ...]) -> dict[str, int]:
    """Number of each tensor by what torch.export calls it: `L['x'][0]`."""
    bound = inspect.signature(module.forward).bind(*inputs)
    leaves, _ = pytree.tree_flatten_with_path(dict(bound.arguments))
    return {f"L{pytree.keystr(path)}": i for i, (path, _) in enumerate(leaves)}


_SIZE = re.compile(r"(?P<source>L(?:\[[^\]]*\])+)\.size\(\)\[(?P<dim>\d+)\]")


def _conditions(
    guards: Sequence[str], sources: dict[str, int], inputs: Sequence[Input]
) -> Iterator[str]:
    """Guards of torch.export over `s[i][d]`; open sizes are above 1, as torch assumes.

    Raises:
        UnsupportedError: a guard is not on sizes.
    """

    def size(match: re.Match[str]) -> str:
        number = sources.get(match["source"])
        return match[0] if number is None else f"s[{number}][{match['dim']}]"

    for guard in guards:
        condition = _SIZE.sub(size, guard)
        if "L[" in condition:
            raise UnsupportedError("a branch on more than sizes", reason=f"assumes {guard}")
        yield condition
    for source in inputs:
        for dim, length in enumerate(source.type.shape):
            if source.user_index is not None and not isinstance(length, int):
                yield f"s[{source.user_index}][{dim}] > 1"
