"""Record un-decomposed ATen calls of a Python function, with shapes only, as an FX graph.

`torch.export` and `make_fx` do the same and more, but both import torch._dynamo, which takes 1.0 to
1.3 s in a fresh process; this recorder takes 1 ms for an attention and 20 ms for a small BERT. It
sits on torch's pre-dispatch key, where matmul, softmax and scaled_dot_product_attention are still
whole, and runs each call on meta tensors. What it cannot follow (writes through views, ops without
a meta kernel) raises `NeedsExport`, and `capture` then takes torch.export.
"""

import contextlib
import operator
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from diagc.errors import UnsupportedError
from diagc.frontend.torch.aten import bind_schema, operator_named
from diagc.frontend.torch.call_checks import check_float8, is_float8
from diagc.frontend.torch.locations import caller_location
from diagc.frontend.torch.shape_rules import broadcast_shapes, infer_shape

__all__ = ["LOCATION", "STOPS", "NeedsExport", "Recorder"]

LOCATION = "diagc_location"
"""Key of `node.meta` that holds the SourceLocation of a call."""

STOPS = "diagc_stops"
"""Key of `node.meta` of calls that gradients do not pass: `detach`, and those made under `no_grad`,
where `autograd.Function` runs its forward, too."""

_KNOWN_VALUES = 1 << 16
"""Values that depend on shapes alone are followed up to this many elements."""

_DATA_DEPENDENT = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
_BRANCHES_ON_DATA = ("aten.is_nonzero.default", "aten.item.default")


class NeedsExport(Exception):
    """This function cannot be recorded here; torch.export may know how."""


class Recorder(ProxyTorchDispatchMode):
    """The dispatch mode; use it through `record`.

    It is a ProxyTorchDispatchMode because the pre-dispatch key admits no other kind of user mode.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would wrap __torch_dispatch__ in a function that imports dynamo

    def __init__(
        self,
        decompositions: Mapping[Any, Callable[..., Any]],
        names: Mapping[int, str],
        device: torch.device,
    ) -> None:
        """Take the decomposition table, qualified names of tensors by `id`, the inputs' device."""
        TorchDispatchMode.__init__(self, torch._C.DispatchKey.PreDispatch)
        self._mode_key = torch._C._TorchDispatchModeKey.PROXY
        self.enter_stack = []
        self.graph = fx.Graph()
        self.lifted: dict[str, torch.Tensor] = {}
        self._decompositions = decompositions
        self._names = names
        self._device = device
        self._twins: dict[int, torch.Tensor] = {}
        self._fresh: set[int] = set()  # made by the user's code from Python numbers
        self._kept: list[torch.Tensor] = []
        self._aliases: dict[int, list[weakref.ref[torch.Tensor]]] = {}
        self._first_call: fx.Node | None = None

    def placeholder(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        """A meta twin of `tensor` that stands for a new graph input."""
        twin = torch.empty_like(tensor, device="meta", requires_grad=False)
        first = self._first_call
        # inputs stand before calls; `inserting_before(None)` would be the very start
        with contextlib.nullcontext() if first is None else self.graph.inserting_before(first):
            node = self.graph.placeholder(name)
        node.meta["val"] = twin
        node.meta["is_input"] = True
        self._attach(twin, node)
        return twin

    def node_of(self, tensor: torch.Tensor) -> fx.Node:
        """The node that made `tensor`; a tensor from outside becomes an input."""
        owner, node = getattr(tensor, "_diagc_node", (None, None))
        if owner is self and node is not None:
            return node
        return self.node_of(self._twin(tensor))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record one call and give meta results."""
        kwargs = dict(kwargs or {})
        decomposition = self._decompositions.get(func)
        if decomposition is not None:
            with self:
                result = decomposition(*args, **kwargs)
            if result is not NotImplemented:
                return result
        if self._is_constant(args, kwargs):
            return func(*args, **kwargs)
        if func is torch.ops.aten.lift_fresh.default:
            self._fresh.add(id(args[0]))
        if _needs_values(func, args):
            return self._answer(func, args, kwargs)
        if func._schema.is_mutable:
            return self._record_in_place(func, args, kwargs)
        return self._record(func, args, kwargs)

    def _is_constant(self, args: Any, kwargs: Any) -> bool:
        """Whether all tensors are plain ones from outside, such as `torch.tensor(3)` makes."""
        tensors = _tensors((args, kwargs))
        return bool(tensors) and all(
            _is_number(t) and id(t) not in self._names and id(t) not in self._twins for t in tensors
        )

    def _answer(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """A Python value that the user's code branches on, if it depends on shapes alone."""
        known = self._known_arguments(args, kwargs)
        if known is None:
            raise UnsupportedError(
                str(func),
                reason="its result, or a branch on it, depends on the values of tensors",
                location=caller_location(),
                remedy="compute it outside of the compiled function and pass the result in",
            )
        result = _run_for_real(func, *known)
        if _tensors(result):
            raise NeedsExport(f"{func} has a result whose shape depends on values")
        return result

    def _known_arguments(self, args: Any, kwargs: Any) -> Any:
        """The arguments with the true values of their tensors, or None if one is not known."""
        if not all(self._is_known(t) for t in _tensors((args, kwargs))):
            return None
        return pytree.tree_map(lambda t: getattr(t, "_diagc_value", t), (args, kwargs))

    def _is_known(self, tensor: torch.Tensor) -> bool:
        if getattr(tensor, "_diagc_node", (None,))[0] is self:
            return hasattr(tensor, "_diagc_value")
        return id(tensor) in self._fresh or (_is_number(tensor) and id(tensor) not in self._names)

    def _follow_value(self, func: Any, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        """Keep the true value of a result that depends on shapes alone (arange, comparisons)."""
        random = torch.Tag.nondeterministic_seeded in func.tags
        if random or not isinstance(result, torch.Tensor) or result.numel() > _KNOWN_VALUES:
            return
        known = self._known_arguments(args, kwargs)
        if known is not None:
            result._diagc_value = _run_for_real(func, *known)  # type: ignore[attr-defined]

    def _record(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        nodes = pytree.tree_map(self._to_node, (args, kwargs))
        metas = pytree.tree_map(self._to_meta, (args, kwargs))
        result = self._run(func, *metas)
        if isinstance(result, torch.Tensor) and any(result is t for t in _tensors(metas)):
            return result  # `contiguous()` or `to()` that changed nothing
        self._add(func, nodes, result)
        self._follow_value(func, args, kwargs, result)
        return result

    def _add(self, func: Any, nodes: Any, result: Any) -> fx.Node:
        if not _tensors(result):
            raise NeedsExport(f"{func} gives {type(result).__name__}, not a tensor")
        node = self.graph.call_function(func, *nodes)
        self._first_call = self._first_call or node
        node.meta[LOCATION] = caller_location()
        node.meta[STOPS] = func is torch.ops.aten.detach.default or not torch.is_grad_enabled()
        node.meta["val"] = pytree.tree_map(_description, result)
        if isinstance(result, torch.Tensor):
            self._attach(result, node)
            return node
        for i, item in enumerate(result):
            if isinstance(item, torch.Tensor):
                self._attach(item, self._item(node, i))
        return node

    def _item(self, node: fx.Node, index: int) -> fx.Node:
        item = self.graph.call_function(operator.getitem, (node, index))
        item.meta["val"] = node.meta["val"][index]
        return item

    def _run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Shapes and dtypes of the results, as meta tensors."""
        if self._device.type != "meta" and torch.is_autocast_enabled(self._device.type):
            raise NeedsExport("autocast does not act on meta tensors")
        if any(is_float8(tensor.dtype) for tensor in _tensors((args, kwargs))):
            check_float8(str(func), bind_schema(func, args, kwargs), caller_location())
        if torch.Tag.pointwise in func.tags:
            return _run_pointwise(func, args, kwargs)
        inferred = infer_shape(_packet(func), bind_schema(func, args, kwargs))
        if inferred is not None:
            shape, dtype = inferred
            return torch.empty(shape, dtype=dtype, device="meta")
        kwargs = dict(kwargs)
        for argument in func._schema.arguments:
            if argument.kwarg_only and argument.name == "device":
                kwargs["device"] = "meta"
        args = pytree.tree_map(lambda a: "meta" if isinstance(a, torch.device) else a, args)
        try:
            with torch._C._DisablePythonDispatcher():
                return func(*args, **kwargs)
        except NotImplementedError as error:
            raise NeedsExport(f"{func} has no meta kernel: {error}") from error

    def _record_in_place(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Record `add_` as `add` and let the written tensor stand for the new value."""
        target, functional = args[0], _functional(func)
        if functional is None or not isinstance(target, torch.Tensor):
            raise NeedsExport(f"{func} has no functional form")
        if func is torch.ops.aten.detach_.default:
            self.node_of(target).meta[STOPS] = True
            return target
        if self.node_of(target).meta.get("is_input") and id(target) not in self._fresh:
            raise UnsupportedError(
                str(func),
                reason="it writes into an argument or parameter of the compiled function",
                location=caller_location(),
                remedy="write into a clone, and return what has changed (modules: call eval())",
            )
        if len(self._live_aliases(target)) > 1:
            raise NeedsExport(f"{func} writes through a view")
        nodes = pytree.tree_map(self._to_node, (args, kwargs))
        metas, options = pytree.tree_map(self._to_meta, (args, kwargs))
        result = self._run(functional, metas, options)
        if result.shape != target.shape:
            raise NeedsExport(f"{func} changes the shape of its operand")
        node = self._add(functional, nodes, result)
        if result.dtype != target.dtype:
            cast = torch.ops.aten._to_copy.default
            like = torch.empty_like(target)
            node = self._add(cast, ((node,), {"dtype": target.dtype}), like)
        self._attach(target, node)
        if hasattr(target, "_diagc_value"):
            del target._diagc_value
        return target

    def _attach(self, tensor: torch.Tensor, node: fx.Node) -> None:
        tensor._diagc_node = (self, node)  # type: ignore[attr-defined]
        known = self._live_aliases(tensor)
        if not any(t is tensor for t in known):
            known.append(tensor)
        self._aliases[_storage(tensor)] = [weakref.ref(t) for t in known]

    def _live_aliases(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        references = self._aliases.get(_storage(tensor), [])
        return [t for t in (r() for r in references) if t is not None]

    def _twin(self, tensor: torch.Tensor) -> torch.Tensor:
        """The meta tensor that stands for a tensor from outside."""
        if id(tensor) not in self._twins:
            self._kept.append(tensor)  # an id is only unique while its object lives
            self._twins[id(tensor)] = self._lift(tensor)
        return self._twins[id(tensor)]

    def _lift(self, tensor: torch.Tensor) -> torch.Tensor:
        """A number that the user wrapped in a tensor becomes a literal, all else an input."""
        if id(tensor) not in self._names and _is_number(tensor):
            twin = torch.empty((), dtype=tensor.dtype, device="meta")
            literal = torch.ops.aten.scalar_tensor.default
            self._add(literal, ((tensor.item(),), {"dtype": tensor.dtype}), twin)
            return twin
        name = self._names.get(id(tensor), f"constant_{len(self.lifted)}")
        twin = self.placeholder(tensor, name.replace(".", "_"))
        self.lifted[self.node_of(twin).name] = tensor
        return twin

    def _to_meta(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        owner, _ = getattr(value, "_diagc_node", (None, None))
        return value if owner is self else self._twin(value)

    def _to_node(self, value: Any) -> Any:
        return self.node_of(value) if isinstance(value, torch.Tensor) else value


def _needs_values(func: Any, args: Any) -> bool:
    if str(func) in _BRANCHES_ON_DATA:
        return True
    if str(func) == "aten.index.Tensor":  # a mask gives as many rows as it has true values
        return any(t.dtype in (torch.bool, torch.uint8) for t in _tensors(args[1]))
    return any(tag in func.tags for tag in _DATA_DEPENDENT)


def _run_for_real(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run a call on true values, on the CPU."""
    kwargs = {name: "cpu" if name == "device" else value for name, value in kwargs.items()}
    args = pytree.tree_map(lambda a: "cpu" if isinstance(a, torch.device) else a, args)
    with torch._C._DisablePythonDispatcher():
        return func(*args, **kwargs)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _is_number(tensor: torch.Tensor) -> bool:
    plain = tensor.device.type == "cpu" and not tensor.requires_grad
    return plain and tensor.dim() == 0 and not isinstance(tensor, torch.nn.Parameter)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _description(value: Any) -> Any:
    """A tensor of the same shape and dtype that does not keep `value` alive."""
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def _run_pointwise(func: Any, args: Any, kwargs: dict[str, Any]) -> torch.Tensor:
    """Shape by broadcasting, dtype from the real kernel on one element.

    The meta kernels of many elementwise ops are Python references whose first call imports dynamo.
    """

    def tiny(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return torch.ones([1] * value.dim(), dtype=value.dtype)

    shapes = [t.shape for t in _tensors((args, kwargs))]
    tiny_args, tiny_kwargs = pytree.tree_map(tiny, (args, kwargs))
    with torch._C._DisablePythonDispatcher():
        dtype = func(*tiny_args, **tiny_kwargs).dtype
    return torch.empty(broadcast_shapes(*shapes), dtype=dtype, device="meta")


def _packet(func: Any) -> str:
    return ".".join(str(func).split(".")[:2])


def _functional(func: Any) -> Any:
    """The overload without side effects of an in-place overload, or None."""
    namespace, name, overload = str(func).split(".")
    if not name.endswith("_"):
        return None
    return operator_named(f"{namespace}.{name.removesuffix('_')}.{overload}")
