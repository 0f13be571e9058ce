"""Apply local identities until none applies: the normal form that the other passes expect.

Before:

    %k = "diag.relabel"(%x) {from = ["q"], to = ["p"]}
    %y = "diag.relabel"(%k) {from = ["p"], to = ["x"]}
    %s = "diag.map"() ({ scale })          // of %y; read by the next map only
    %t = "diag.map"() ({ exp })            // of %s

After:

    %y = "diag.relabel"(%x) {from = ["q"], to = ["x"]}
    %t = "diag.map"() ({ scale, exp })     // of %y

Identities, each a function of its own: views of views are one view, views that do nothing vanish;
literals stand inside map bodies; a map of a map over the same axes, which nobody else reads, is one
map; reductions and contractions over axes of size 1 or over none are views and products; the chunk
of a mask of positions is a mask of chunks, the relabel of a condition of smaller wires a condition
of relabels. Equal ops are merged, dead ones erased, scalar bodies folded, by MLIR's own
`canonicalize` and `cse`.

Requires: nothing; run on functions.

Declines: a map is not computed again for a wider map, nor for several readers (that is decided by
cost in form-kernels), and a mask of positions stays apart from what it masks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from diagc.errors import InternalError
from diagc.mlir import ir, passmanager
from diagc.passes.base import Pass
from diagc.passes.canonical.canonical_maps import MAP_PATTERNS, sink_constants
from diagc.passes.canonical.canonical_views import VIEW_PATTERNS
from diagc.passes.cloning import array_ops

__all__ = ["PATTERNS", "CanonicalizeDiagPass", "canonicalize_diag", "erase_dead_ops"]

PATTERNS: dict[str, tuple[Callable[[ir.Operation], ir.Value | None], ...]] = {
    name: (*MAP_PATTERNS.get(name, ()), *VIEW_PATTERNS.get(name, ()))
    for name in {**MAP_PATTERNS, **VIEW_PATTERNS}
}
"""Identities by op name, tried in order."""

MOST_SWEEPS = 100
"""Every identity makes the function smaller; more sweeps mean that two undo each other."""


@dataclass(frozen=True)
class CanonicalizeDiagPass(Pass):
    """apply local identities: views of views, maps of maps, literals, unit axes, dead ops."""

    name: ClassVar[str] = "canonicalize-diag"

    def run(self, op: ir.Operation) -> None:
        """Bring one function into normal form."""
        canonicalize_diag(op)


def canonicalize_diag(function: ir.Operation) -> None:
    """Bring a function into normal form, in place.

    Raises:
        InternalError: the identities never end.
    """
    with function.context, function.location:
        _run_upstream(function, "canonicalize,cse")
        sweeps = 0
        while _sweep(function):
            sweeps += 1
            if sweeps == MOST_SWEEPS:
                raise InternalError("the identities of canonicalize-diag never end")
        if sweeps > 0:
            _run_upstream(function, "cse")


def _run_upstream(function: ir.Operation, passes: str) -> None:
    manager = passmanager.PassManager.parse(f"{function.name}({passes})")
    manager.enable_verifier(False)
    manager.run(function)
    for op in array_ops(function)[1:]:
        if op.name == "diag.map":
            sink_constants(op)
    erase_dead_ops(function)


def _sweep(function: ir.Operation) -> bool:
    """Try every identity once on every op; whether one applied."""
    changed = False
    for op in [op for op in array_ops(function)[1:] if op.name in PATTERNS]:
        value = _first_match(op)
        if value is not None:
            op.results[0].replace_all_uses_with(value)
            op.erase()
            changed = True
    if changed:
        erase_dead_ops(function)
    return changed


def _first_match(op: ir.Operation) -> ir.Value | None:
    with ir.InsertionPoint(op), op.location:
        for pattern in PATTERNS[op.name]:
            value = pattern(op)
            if value is not None:
                return value
    return None


def erase_dead_ops(function: ir.Operation) -> None:
    """Erase array ops and constants that nobody reads, readers before what they read."""
    for op in reversed(array_ops(function)[1:]):
        unread = all(not any(True for _ in result.uses) for result in op.results)
        if unread and _is_pure(op):
            op.erase()


def _is_pure(op: ir.Operation) -> bool:
    removable = op.name.startswith("diag.") or op.name == "arith.constant"
    return removable and op.name != "diag.yield" and len(op.results) > 0
