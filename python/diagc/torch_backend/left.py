"""Why a call stayed in torch: what the passes made of it, or what kind of call it is."""

from collections.abc import Iterable

from torch import fx

from diagc.compiler import find_entry
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.runtime.saving_ops import CALLS
from diagc.torch_backend.options import BackendOptions
from diagc.torch_backend.stretches import Stretch, is_item, is_number, is_pure, is_random, is_view
from diagc.torch_backend.units import Unit, linear_places, places_of

__all__ = ["note_reason", "note_reasons", "why_left"]

_REASON = "diagc_reason"
"""Key of why a node was not taken."""

_LINEAR = "a product with weights, which the library computes"
_LONE = "nothing fuses with it"
_NO_STREAM = 'a kernel that streams nothing; take="all" takes it'


def note_reasons(
    stretch: Stretch, module: ir.Module, found: Iterable[Unit], options: BackendOptions
) -> None:
    """Note with each call of a stretch what the passes to the stage `kernels` made of it."""
    unwanted = {
        number: _NO_STREAM if options.take == "streams" and unit.fuses else _LONE
        for unit in found
        for number in unit.places
    }
    reasons = {**unwanted, **dict.fromkeys(linear_places(module), _LINEAR), **_externs(module)}
    for number, reason in reasons.items():
        note_reason(stretch.nodes[number], reason)


def _externs(module: ir.Module) -> dict[int, str]:
    """Reasons of the calls that have no meaning as a diagram, by place."""
    functions = {diag.symbol_of(op): op for op in diag.functions(module)}
    found: dict[int, str] = {}
    for view in diag.function_body(find_entry(module)).operations:
        op = view.operation
        callee = functions[diag.callee_of(op)] if op.name == "func.call" else None
        if callee is not None and diag.is_extern(callee):
            found.update(dict.fromkeys(places_of([op]), _extern_reason(callee)))
    return found


def _extern_reason(function: ir.Operation) -> str:
    reason = function.attributes.get("diag.reason")
    return "no meaning as a diagram" if reason is None else str(ir.StringAttr(reason).value)


def note_reason(node: fx.Node, reason: str) -> None:
    """Note with a call why it was not taken."""
    node.meta[_REASON] = reason


def why_left(node: fx.Node) -> str | None:
    """Why a call of the final graph is torch's; None for what is no call of the user's."""
    target = node.target
    no_call = node.op != "call_function" or is_number(node) or is_item(node)
    if no_call or target in CALLS:
        return None
    if not is_pure(node):
        return "writes into a tensor, switches a mode, or is no call of ATen"
    if is_random(node):
        return "draws random numbers"
    if is_view(node):
        return "a view, or a copy in another order"
    return str(node.meta.get(_REASON, _LONE))
