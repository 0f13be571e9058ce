"""Raise an ATen node list to the axis graph: the driver, and what rules build with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from diagc.errors import SourceLocation
from diagc.frontend.torch.aten import Input, Node, Program, Ref, TensorType, refs, replace_refs
from diagc.frontend.torch.axes import Axis, AxisSpace, CannotAlign, leaves
from diagc.frontend.torch.call_checks import check_float8, is_float8
from diagc.frontend.torch.extern import check_dtype, check_signed, raise_extern
from diagc.frontend.torch.graph import (
    ContractOp,
    GraphOp,
    InputOp,
    NormalizeOp,
    ReduceOp,
    Use,
    Value,
    View,
)
from diagc.frontend.torch.map_builder import MapBuilder
from diagc.frontend.torch.names import value_names
from diagc.frontend.torch.rules import RULES, NotRaised
from diagc.frontend.torch.scalar import Expr
from diagc.frontend.torch.simplify import cast
from diagc.frontend.torch.sizes import Size
from diagc.frontend.torch.unstreamable import failing_law

__all__ = ["Note", "Raiser", "raise_program"]

_INPUT_HINTS = {1: "d", 2: "nd", 3: "bnd", 4: "bhnd"}
_PARAMETER_HINTS = {1: "d", 2: "ed"}


@dataclass(frozen=True)
class Note:
    """An op that stayed outside of the diagram, and why."""

    op: str
    location: SourceLocation | None
    why: str


def raise_program(program: Program) -> "Raiser":
    """Raise all nodes; the result holds the ops, `outputs` and the notes."""
    program.drop_unused_results()
    raiser = Raiser(value_names(program))
    for source in program.inputs:
        raiser.add_input(source)
    for node in program.nodes:
        raiser.raise_node(node)
    raiser.outputs = [raiser.output(value) for value in program.outputs]
    return raiser


class Raiser:
    """The axis graph under construction."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """Take a name for the value of each node."""
        self.space = AxisSpace()
        self.ops: list[GraphOp] = []
        self.outputs: list[Any] = []
        self.homes: dict[str, tuple[Ref, int]] = {}
        """For each symbol an argument of the user's, and the dim of it that has this size."""
        self._views: dict[Ref, View] = {}
        self._node: Node | None = None
        self._names = names

    def add_input(self, source: Input) -> None:
        """Declare an argument; its axes split later, as the program asks.

        Raises:
            UnsupportedError: wires do not hold its dtype.
        """
        check_dtype(source.type.dtype, f"argument '{source.qualified_name}'", None)
        table = _INPUT_HINTS if source.kind == "user" else _PARAMETER_HINTS
        rank = len(source.type.shape)
        ids = rank == 2 and source.type.dtype in (torch.int32, torch.int64)
        dims = self.new_dims(source.type.shape, "bn" if ids else table.get(rank, ""))
        op = InputOp(name=source.qualified_name, source=source, dims=dims)
        value = Value(op, tuple(leaves(a for d in dims for a in d)), source.type.dtype)
        op.results.append(value)
        self.ops.append(op)
        self._views[Ref(source.name)] = View(value, dims)
        if source.kind == "user":
            for dim, size in enumerate(source.type.shape):
                if getattr(size, "is_Symbol", False):
                    self.homes.setdefault(str(size), (Ref(source.name), dim))

    def raise_node(self, node: Node) -> None:
        """Apply the rule of the op; without one, or when it declines, add an extern op."""
        self._node = node
        start = len(self.ops)
        try:
            views = self._apply_rule(node)
        except (NotRaised, CannotAlign) as reason:
            del self.ops[start:]
            views = raise_extern(self, node, str(reason))
        if len(self.ops) > start:
            self.ops[-1].name = self._names[node.name]
        for i, view in enumerate([views] if isinstance(views, View) else views):
            self._views[Ref(node.name, i)] = view

    def _apply_rule(self, node: Node) -> View | Sequence[View]:
        function = RULES.get(node.packet)
        if function is None:
            raise NotRaised(failing_law(node.packet))
        if any(is_float8(self._views[ref].dtype) for ref in refs(node.args)):
            self._check_float8(node)
        if any(t is not None and t.dtype.is_complex for t in node.results):
            raise NotRaised("complex numbers")
        return function(self, node)

    def _check_float8(self, node: Node) -> None:
        def like(value: Any) -> Any:
            if not isinstance(value, Ref):
                return value
            view = self._views[value]
            return torch.empty([1] * len(view.dims), dtype=view.dtype, device="meta")

        args = {name: replace_refs(value, like) for name, value in node.args.items()}
        check_float8(node.target, args, node.location)

    def output(self, value: Any) -> Any:
        """The view of an output; every axis of it is in the value.

        Raises:
            UnsupportedError: bytes.
        """
        if not isinstance(value, Ref):
            return value
        view = self._views[value]
        check_signed(view.value.dtype, "a result of bytes", None)
        return self.materialize(view, "output")

    def view(self, ref: Any) -> View:
        """The view of a tensor argument."""
        if not isinstance(ref, Ref):
            raise NotRaised(f"expected a tensor, found {ref!r}")
        return self._views[ref]

    # --- axes ------------------------------------------------------------------------------

    def new_dims(self, shape: Sequence[Size], hints: str = "") -> tuple[tuple[Axis, ...], ...]:
        """Fresh axes for a shape."""
        padded = hints.ljust(len(shape))
        return tuple(
            tuple(self.space.make(size, padded[i].strip())) for i, size in enumerate(shape)
        )

    def use(self, view: View) -> tuple[Use, list[list[Axis]]]:
        """Read a value: the use, and the view's dims in axes of the reading op."""
        carried = {id(a) for a in view.value.leaves()}
        pairs: list[tuple[Axis, Axis]] = []
        dims: list[list[Axis]] = []
        for dim in view.dims:
            local_dim = []
            for axis in leaves(dim):
                if id(axis) not in carried:
                    local_dim.append(Axis(axis.size, axis.hint))
                    continue
                local = self.space.twin(axis)
                pairs.append((axis, local))
                local_dim.append(local)
            dims.append(local_dim)
        return Use(view.value, tuple(pairs)), dims

    def broadcast(
        self, operands: Iterable[Sequence[Sequence[Axis]]], shape: Sequence[Size]
    ) -> list[list[Axis]]:
        """Align operands from the last dim as torch broadcasts; the dims of the result."""
        none: list[Axis] = []
        padded = [[none] * (len(shape) - len(dims)) + [list(d) for d in dims] for dims in operands]
        result = []
        for i, size in enumerate(shape):
            present = [dims[i] for dims in padded if leaves(dims[i])]
            for other in present[1:]:
                self.space.align(present[0], other)
            result.append(leaves(present[0]) if present else self.space.make(size))
        return result

    # --- ops -------------------------------------------------------------------------------

    def add(
        self, op: GraphOp, dims: Sequence[Sequence[Axis]], dtype: torch.dtype, suffix: str = ""
    ) -> View:
        """Append an op with one result that carries those axes of `dims` that `op` carries."""
        carried = {id(a) for a in op.local_axes()}
        flat = [a for dim in dims for a in leaves(dim)]
        return self.add_value(op, tuple(a for a in flat if id(a) in carried), dims, dtype, suffix)

    def add_value(
        self,
        op: GraphOp,
        axes: tuple[Axis, ...],
        dims: Sequence[Sequence[Axis]],
        dtype: torch.dtype,
        suffix: str = "",
    ) -> View:
        """Append an op with one result of exactly `axes`."""
        self.name(op, suffix)
        value = Value(op, axes, dtype)
        op.results.append(value)
        self.ops.append(op)
        return View(value, tuple(tuple(d) for d in dims))

    def name(self, op: GraphOp, suffix: str = "") -> None:
        """Name and locate an op after the node that is being raised."""
        if self._node is None:
            return
        name = self._names[self._node.name]
        op.name = f"{name}_{suffix}" if suffix else name
        op.location = self._node.location

    def map(
        self,
        views: Sequence[View],
        result: TensorType,
        build: Callable[..., Expr],
        suffix: str = "",
    ) -> View:
        """An elementwise op on broadcast operands; `build` takes their elements."""
        builder = MapBuilder(self)
        read = [builder.operand(view) for view in views]
        dims = self.broadcast([dims for _, dims in read], result.shape)
        expr = build(*(expr for expr, _ in read))
        return builder.finish(cast(expr, result.dtype), dims, suffix)

    def cast(self, view: View, dtype: torch.dtype, suffix: str = "cast") -> View:
        """The view in another dtype."""
        if view.dtype == dtype:
            return view
        builder = MapBuilder(self)
        expr, dims = builder.operand(view)
        return builder.finish(cast(expr, dtype), dims, suffix)

    def materialize(self, view: View, suffix: str = "expand") -> View:
        """A view of a value that has all axes of the view."""
        carried = {id(a) for a in view.value.leaves()}
        if all(id(a) in carried for dim in view.dims for a in leaves(dim)):
            return view
        builder = MapBuilder(self)
        expr, dims = builder.operand(view)
        return builder.finish(expr, dims, suffix, every_axis=True)

    def reduce(
        self, view: View, dims: Iterable[int], kind: str, keepdim: bool = False, suffix: str = ""
    ) -> View:
        """Reduce whole dims with a monoid; dims of size 1 need no reduction."""
        over = set(dims)
        if not any(view.leaves(i) for i in over):
            return _without(view, over, keepdim)
        use, local = self.use(self.materialize(view))
        op = ReduceOp([use], over=tuple(a for i in over for a in leaves(local[i])), kind=kind)
        kept = [[] if i in over else d for i, d in enumerate(local)]
        result = self.add(op, kept, view.dtype, suffix)
        return _without(result, over, keepdim)

    def contract(
        self,
        left: Use,
        right: Use,
        over: Sequence[Axis],
        dims: Sequence[Sequence[Axis]],
        dtype: torch.dtype,
        suffix: str = "",
    ) -> View:
        """Multiply two uses and sum over axes that both have.

        Raises:
            NotRaised: the sums are kept in f8, which diagrams only store.
        """
        if is_float8(dtype):
            raise NotRaised(f"its sums are {dtype}")
        return self.add(ContractOp([left, right], over=tuple(over)), dims, dtype, suffix)

    def normalize(
        self,
        view: View,
        along: Iterable[int],
        kind: str,
        eps: float | None = None,
        keep: View | None = None,
        *,
        place: str = "inside",
        parameters: Sequence[View] = (),
    ) -> View:
        """Normalise along whole dims; each dim of `keep` and parameters is equal or empty."""
        along = set(along)
        source = self.materialize(view)
        use, local = self.use(source)
        uses = [use]
        for further in (*(() if keep is None else (keep,)), *parameters):
            further_use, further_dims = self.use(further)
            local = self.broadcast([local, further_dims], [1] * len(local))
            uses.append(further_use)
        axes = tuple(a for i in sorted(along) for a in leaves(local[i]))
        op = NormalizeOp(uses, along=axes, kind=kind, eps=eps, place=place, masked=keep is not None)
        return self.add(op, local, view.dtype)


def _without(view: View, dims: set[int], keepdim: bool) -> View:
    """The view without dims that have no axes any more, unless they are kept with size 1."""
    if keepdim:
        return view
    return view.with_dims([d for i, d in enumerate(view.dims) if i not in dims])
