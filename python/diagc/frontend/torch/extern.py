"""Ops without a diag meaning: the host calls torch for them between kernels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from diagc.errors import SourceLocation, UnsupportedError
from diagc.frontend.torch.aten import Node, Ref, operator_named, refs, replace_refs
from diagc.frontend.torch.axes import leaves
from diagc.frontend.torch.graph import ExternOp, Value, View
from diagc.frontend.torch.sizes import free_symbols
from diagc.runtime.steps import Size
from diagc.runtime.torch_call import OpenSize, Operand, TorchCall, plain_argument
from diagc.size_texts import parse_size

if TYPE_CHECKING:
    from diagc.frontend.torch.raiser import Raiser

__all__ = ["ExternCall", "check_dtype", "check_signed", "raise_extern"]

LabelledDims = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ExternCall:
    """A torch op that the host runs.

    Args:
        symbol: the function that the module calls for it.
        target: overload name, `aten.embedding.default`.
        call: takes the operand tensors in user shape, on any device, and gives a tuple of results.
        operand_dims: for each operand, the labels of its wire that make up each user dim; [] is a
            dim of size 1.
        result_dims: likewise for each result; a wire is row major in the order of these labels.
        location: the user's line.
        why: the reason that it was not raised.
    """

    symbol: str
    target: str
    call: Callable[..., tuple[torch.Tensor, ...]]
    operand_dims: tuple[LabelledDims, ...]
    result_dims: tuple[LabelledDims, ...]
    location: SourceLocation | None
    why: str

    @property
    def is_random(self) -> bool:
        """Whether it draws random numbers."""
        op = operator_named(self.target)
        return op is not None and torch.Tag.nondeterministic_seeded in op.tags


_DTYPES = (
    *(torch.float8_e4m3fn, torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
)
"""What wires hold."""


def check_dtype(dtype: torch.dtype, what: str, location: SourceLocation | None) -> None:
    """Refuse a dtype that wires do not hold, such as complex numbers.

    Raises:
        UnsupportedError: naming `what`.
    """
    if dtype not in _DTYPES:
        remedy = "convert with .float() before the call" if dtype.is_floating_point else None
        reason = f"its elements are {dtype}"
        raise UnsupportedError(what, reason=reason, location=location, remedy=remedy)


def check_signed(dtype: torch.dtype, what: str, location: SourceLocation | None) -> None:
    """Refuse bytes where torch meets a wire, which holds the same bits as a signed number.

    Raises:
        UnsupportedError: naming `what`.
    """
    if dtype == torch.uint8:
        remedy = "convert to torch.int16 before it"
        raise UnsupportedError(
            what, reason="it takes or gives torch.uint8", location=location, remedy=remedy
        )


def raise_extern(r: "Raiser", node: Node, why: str) -> list[View]:
    """An opaque op for `node`; results that are never used keep their place in the list.

    Raises:
        UnsupportedError: torch has no such op, it needs a size that no operand has, or its results
            are of a dtype that wires do not hold.
    """
    operands = list(dict.fromkeys([*refs(node.args), *_tellers(r, node)]))
    views = [r.materialize(r.view(ref)) for ref in operands]
    op = ExternOp(target=node.target, why=why, call=_callable(r, node, operands))
    r.name(op)
    for view in views:
        check_signed(view.value.dtype, node.target, node.location)
        use, dims = r.use(view)
        op.uses.append(use)
        op.operand_dims.append(tuple(tuple(d) for d in dims))
    results = []
    for type_ in node.results:
        if type_ is None:
            continue
        check_dtype(type_.dtype, node.target, node.location)
        check_signed(type_.dtype, node.target, node.location)
        dims_ = r.new_dims(type_.shape, _HINTS.get(len(type_.shape), ""))
        axes = tuple(a for d in dims_ for a in leaves(d))
        value = Value(op, axes, type_.dtype)
        op.results.append(value)
        op.result_dims.append(dims_)
        results.append(View(value, dims_))
    r.ops.append(op)
    made = iter(results)
    return [next(made) if t is not None else results[0] for t in node.results]


_HINTS = {1: "n", 2: "nd", 3: "bnd", 4: "bhnd"}


def _callable(r: "Raiser", node: Node, operands: Sequence[Ref]) -> TorchCall:
    """A function from operand tensors to the tuple of tensor results."""
    if operator_named(node.target) is None:
        raise UnsupportedError(node.target, reason="torch has no such op", location=node.location)
    places = {ref: Operand(i) for i, ref in enumerate(operands)}
    wanted = tuple(i for i, type_ in enumerate(node.results) if type_ is not None)
    homes = {
        name: ("axis", operands.index(ref), dim)
        for name, (ref, dim) in r.homes.items()
        if ref in operands
    }

    def replace(value: Any) -> Any:
        if hasattr(value, "free_symbols"):
            return _open_size(value, homes, node)
        return places[value] if isinstance(value, Ref) else value

    args = {name: replace_refs(value, replace) for name, value in node.args.items()}
    plain = {name: plain_argument(value) for name, value in args.items()}
    return TorchCall(node.target, plain, wanted, node.location)


def _tellers(r: "Raiser", node: Node) -> list[Ref]:
    """Arguments of the function whose dims tell the open sizes among arguments of an op."""
    found: set[str] = set()

    def note(value: Any) -> Any:
        if hasattr(value, "free_symbols"):
            found.update(free_symbols(value))
        return value

    for value in node.args.values():
        replace_refs(value, note)
    return [ref for name, (ref, _) in r.homes.items() if name in found]


def _open_size(value: Any, homes: Mapping[str, Size], node: Node) -> OpenSize:
    """A size that is computed at the call.

    Raises:
        UnsupportedError: no argument has a dim of one of its symbols.
    """
    size = parse_size(str(value), homes)
    if size is None:
        raise UnsupportedError(
            node.target,
            reason=f"its arguments hold the symbolic size {value}, which nothing tells",
            location=node.location,
            remedy="import with static sizes",
        )
    return OpenSize(size)
