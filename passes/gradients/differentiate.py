"""Turn a diagram into the one that computes its vector-Jacobian product (reverse mode).

Before:

    func @main(%Q, %K) -> %S {
      %S = "diag.contract"(%Q, %K) {over = ["d"]}
      return %S
    }

After (arguments are the inputs and a cotangent for each float result, results are gradients):

    func @main(%Q, %K, %d_S) -> (%d_Q, %d_K) {
      %d_Q = "diag.contract"(%d_S, %K) {over = ["x"]}
      %d_K = "diag.contract"(%d_S, %Q) {over = ["q"]}
      return %d_Q, %d_K
    }

Each op has one rule (`adjoint_rules.py`, `adjoint_views.py`, `adjoint_maps.py`), which reads the
forward values that are there. A cotangent may lack axes along which it is constant, so the adjoint
of a sum is nothing at all. A maximum that cancels in every result (that of a safe softmax) is a
constant (`algebra/shifts.py`). Option `wrt`: names of the arguments whose
gradients are wanted (`diag.name`, else `arg0`, `arg1` ...); by default all that hold floats. What
`save-statistics` has made results becomes arguments, behind the cotangents.

Requires: normalisers are expanded, streams not derived; run on functions of one block. Kinks have
the subgradients of torch: a maximum or minimum gives the same share to all hits, |x| and max(x, 0)
have slope 0 at 0.

Declines: nothing silently. It is an error where a cotangent would pass a stream, a call, a scalar
function without a derivative, or a view whose adjoint is no view (`adjoint_views.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from diagc.algebra.graph import Graph
from diagc.algebra.maps import full
from diagc.algebra.shifts import cancelling_shifts
from diagc.dialects import diag
from diagc.errors import PassError, UnsupportedError
from diagc.mlir import ir
from diagc.passes.base import Pass
from diagc.passes.canonical.canonicalize_diag import erase_dead_ops
from diagc.passes.gradients.adjoint_rules import RULES
from diagc.passes.gradients.adjoint_signature import Signature
from diagc.passes.gradients.cotangents import Cotangents, Values, broadcast
from diagc.passes.gradients.save_statistics import drop_saved
from diagc.passes.scales.nonpositive import mark_nonpositive
from diagc.passes.streams.absorption import GRADIENT

__all__ = ["DifferentiatePass"]


@dataclass(frozen=True)
class DifferentiatePass(Pass):
    """turn a diagram into the one that computes its vector-Jacobian product."""

    name: ClassVar[str] = "differentiate"
    wrt: tuple[str, ...] = ()

    def run(self, op: ir.Operation) -> None:
        """Differentiate the function; private functions (kernels, externs) are refused."""
        if diag.is_kernel(op) or len(op.regions[0].blocks) != 1:
            raise PassError(
                "'differentiate' takes a diagram",
                expected="a function of one block that is no kernel",
                remedy="run it at the stage `expanded`",
            )
        block = diag.function_body(op)
        saved = drop_saved(op)  # no results: what cancels in the others would not cancel in them
        signature = Signature(op)
        wanted = signature.wanted(self.wrt)
        graph = Graph(block)
        last = graph.ops[-1]
        active = _active(graph, wanted)
        if saved:
            mark_nonpositive(graph)  # what proves it is no longer there behind arguments
        with ir.InsertionPoint(last), last.location:
            cotangents = Cotangents()
            for result, cotangent in zip(last.operands, signature.add_cotangents(), strict=True):
                if cotangent is not None and result in active:
                    cotangents.add(result, cotangent)
            _backward(graph, active, cotangents)
            gradients = [_gradient(cotangents, argument) for argument in wanted]
        signature.take(saved)
        signature.give(gradients, wanted)
        op.attributes[GRADIENT] = ir.UnitAttr.get()
        erase_dead_ops(op)


def _active(graph: Graph, wanted: Iterable[ir.Value]) -> Values:
    """The float values that depend on a wanted argument other than by a shift that cancels."""
    active = set(wanted)
    fixed = cancelling_shifts(graph)
    for op in graph.ops:
        if any(value in active for value in graph.reads[op]):
            made = (value for value in op.results if _is_float(value) and value not in fixed)
            active.update(made)
    return active


def _is_float(value: ir.Value) -> bool:
    return diag.is_wire(value.type) and diag.is_float(diag.element_type(value))


def _backward(graph: Graph, active: Values, cotangents: Cotangents) -> None:
    """Go through the ops in reverse; the rule of each adds to the cotangents of what it reads."""
    for op in reversed(graph.ops[:-1]):
        if not any(result in active and cotangents.has(result) for result in op.results):
            continue
        if op.name not in RULES:
            raise UnsupportedError(
                op.name,
                reason="it has no rule in the pass 'differentiate'",
                location=op.location,
                remedy=_REMEDIES.get(op.name),
            )
        with op.location:
            cotangent = cotangents.total(op.results[0])
            for value, part in RULES[op.name](op, cotangent, active):
                cotangents.add(value, part)


_REMEDIES = {
    "diag.stream": "differentiate the diagram before streams are derived",
    "diag.normalize": "run expand-normalizers first",
    "diag.normalize_with": "run expand-normalizers first",
    "func.call": "differentiate the parts before and after the call",
}


def _gradient(cotangents: Cotangents, argument: ir.Value) -> ir.Value:
    """The cotangent of an argument, with all its axes; zeros where no result depends on it."""
    if not cotangents.has(argument):
        return full(0.0, diag.dims(argument), diag.element_type(argument))
    return broadcast(cotangents.total(argument), argument)
