"""Make the casts of `torch.autocast` calls of the graph: they happen below the level of its ops.

No table of ops is kept here: every call is run on its fake values, and what is cast then is cast
before the call. Blocks of autocast inside of a graph stay in it, as calls that switch it on and
off: no region crosses one, and calls of torch find done what they would cast.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import fx
from torch.amp.autocast_mode import _enter_autocast, _exit_autocast
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from diagc.errors import UnsupportedError

__all__ = ["Autocasting", "uses_autocast", "write_casts"]

_KINDS = ("cpu", "cuda")


def uses_autocast(module: fx.GraphModule) -> bool:
    """Whether autocast is on, or switched inside, for a kind of device that programs run on."""
    switched = any(node.target is _enter_autocast for node in module.graph.nodes)
    return switched or any(map(torch.is_autocast_enabled, _KINDS))


class Autocasting(fx.Interpreter):
    """Switches autocast where Dynamo's graph does, and lets `make_fx` note it.

    `make_fx` notes the graph's own calls without running them, so that the calls in between would
    have the dtypes of no autocast.
    """

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph."""
        with _Blocks() as self._blocks:
            return super().run(*args, **kwargs)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Run a call."""
        if target is _enter_autocast:
            return self._blocks.enter(args)
        if target is _exit_autocast:
            return args[0].close()
        return super().call_function(target, args, kwargs)


class _Blocks(ExitStack):
    """Blocks of autocast, of which none stays open, whatever happens."""

    def enter(self, args: Sequence[Any]) -> ExitStack:
        """Switch autocast; `close` of the result leaves the block."""
        block = self.enter_context(ExitStack())
        block.enter_context(torch.autocast(*args))
        return block


def write_casts(module: fx.GraphModule) -> None:
    """Add a cast before every call that autocast gives other dtypes; in place.

    Args:
        module: traced by `Autocasting`; `meta["val"]` of each node has its value then.

    Raises:
        UnsupportedError: autocast does more with a call than to cast what it reads.
    """
    made: _Casts = {}
    opened: dict[Any, ExitStack] = {}
    with _Blocks() as blocks:
        for node in list(module.graph.nodes):
            target = node.target
            if isinstance(target, torch._ops.OpOverload) and not target._schema.is_mutable:
                _cast_operands(module.graph, node, made)
                continue
            if target is _enter_autocast:
                opened[node] = blocks.enter(node.args)
            elif target is _exit_autocast:
                opened[node.args[0]].close()
            if target is not operator.getitem:
                made.clear()  # what is written or switched here, casts may see
    module.recompile()


_Casts: TypeAlias = dict[tuple[fx.Node, torch.dtype], fx.Node]


def _cast_operands(graph: fx.Graph, node: fx.Node, made: _Casts) -> None:
    casts = _casts(node)
    for source, dtype in casts.items():
        if (source, dtype) not in made:
            with graph.inserting_before(node):
                cast = graph.call_function(torch.ops.aten.to.dtype, (source, dtype))
            cast.meta.update({k: v for k, v in node.meta.items() if k == "stack_trace"})
            cast.meta["val"] = _without_autocast(partial(_run, cast))
            made[source, dtype] = cast
        node.replace_input_with(source, made[source, dtype])
    if casts and _dtypes(_without_autocast(partial(_run, node))) != _dtypes(node.meta["val"]):
        raise UnsupportedError(str(node.target), reason="autocast does more with it than to cast")


def _casts(node: fx.Node) -> Mapping[fx.Node, torch.dtype]:
    """Operands that are cast when the call runs, and to what."""
    values = {source: source.meta.get("val") for source in node.all_input_nodes}
    floats = [v for v in values.values() if isinstance(v, torch.Tensor) and v.is_floating_point()]
    if not floats:
        return {}
    with _CastLog() as log:
        _run(node)
    # what a call casts itself may be written, too: it finds that done
    return {source: log.found[id(v)] for source, v in values.items() if id(v) in log.found}


class _CastLog(TorchDispatchMode):
    """Notes tensors that are cast, by identity, and their new dtypes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[int, torch.dtype] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run an op; note a cast."""
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and result.dtype != args[0].dtype:
            self.found.setdefault(id(args[0]), result.dtype)
        return result


def _run(node: fx.Node) -> Any:
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda source: source.meta["val"])
    return node.target(*args, **kwargs)  # type: ignore[operator]


def _without_autocast(function: Callable[[], Any]) -> Any:
    cpu, cuda = (torch.autocast(kind, enabled=False) for kind in _KINDS)
    with cpu, cuda:
        return function()


def _dtypes(value: Any) -> list[torch.dtype]:
    return [leaf.dtype for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]
