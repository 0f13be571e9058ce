"""Return what gradients would otherwise compute again from scores: statistics of rows, and sums.

Before (softmax attention, after fuse-normalization):

    func @main(%q, %k, %v) -> %y {
      %s = "diag.contract"(%q, %k) {over = ["d"]}
      ...
      %z = "diag.reduce"(%e) {over = ["x"], kind = "add"}
      %o = "diag.contract"(%e, %v) {over = ["x"]}
      %y = "diag.map"() ({ o / z })
      return %y
    }

After:

    func @main(%q, %k, %v) -> (%y, %m, %z, %o) attributes {diag.saved = 3} {
      ...
      return %y, %m, %z, %o
    }

A wire is large when a contraction makes it larger than its operands, or when it is computed from
such a wire position by position. What is saved are sums, products and maxima of large wires that
have at most half their size; never a large wire itself. `differentiate` makes arguments of them.

Requires: normalisers are expanded, streams not derived; run on functions of one block.

Declines: a value that only the caller reads, which no derivative needs; a maximum that has a
gradient of its own, for it is compared with scores, to the last digit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from diagc.algebra.graph import Graph
from diagc.algebra.shifts import needed_extrema
from diagc.cost import elements
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.base import Pass

__all__ = ["SaveStatisticsPass", "drop_saved", "statistics"]

SAVED = "diag.saved"
"""Attribute of a function: how many of its last results are there for its gradients only."""

_VIEWS = ("diag.map", "diag.relabel", "diag.reindex")


@dataclass(frozen=True)
class SaveStatisticsPass(Pass):
    """Return what gradients would compute again from scores: statistics of rows, and sums."""

    name: ClassVar[str] = "save-statistics"

    def run(self, op: ir.Operation) -> None:
        """Append results to the function, where there is something to save."""
        if diag.is_kernel(op) or len(op.regions[0].blocks) != 1:
            return
        saved = statistics(Graph(diag.function_body(op)))
        if saved:
            _append_results(op, saved)


def drop_saved(function: ir.Operation) -> list[ir.Value]:
    """Return no saved values any more; gives them, in order."""
    known = function.attributes
    if SAVED not in known:
        return []
    count = int(ir.IntegerAttr(known[SAVED]).value)
    values = list(_return_op(function).operands)
    _give(function, values[:-count], list(known["res_attrs"])[:-count])
    del known[SAVED]
    return values[-count:]


def statistics(graph: Graph) -> list[ir.Value]:
    """The values that are worth saving, in order."""
    large: set[ir.Value] = set()
    compared = needed_extrema(graph)
    found: list[ir.Value] = []
    for op in graph.ops[:-1]:
        for result in op.results:
            if not diag.is_wire(result.type):
                continue
            size = elements(result)
            read = [elements(value) for value in graph.reads[op] if value in large]
            if _grows(op) or (read and op.name in _VIEWS and size >= max(read)):
                large.add(result)
            elif read and op.name in ("diag.reduce", "diag.contract"):
                if 2 * size > max(read):
                    large.add(result)
                elif _is_needed(graph, result) and result not in compared:
                    found.append(result)
    return found


def _grows(op: ir.Operation) -> bool:
    """Whether a contraction gives more than it reads."""
    if op.name != "diag.contract":
        return False
    return elements(op.results[0]) > max(map(elements, op.operands))


def _is_needed(graph: Graph, value: ir.Value) -> bool:
    is_float = diag.is_float(diag.element_type(value))
    return is_float and any(user.name != "func.return" for user in graph.users(value))


def _append_results(function: ir.Operation, saved: list[ir.Value]) -> None:
    """Return `saved` behind the results."""
    values, known = list(_return_op(function).operands), function.attributes
    none = [ir.DictAttr.get({})] * len(values)
    facts = list(known["res_attrs"]) if "res_attrs" in known else none
    names = ({"diag.name": ir.StringAttr.get(f"saved{i}")} for i in range(len(saved)))
    _give(function, [*values, *saved], [*facts, *map(ir.DictAttr.get, names)])
    known[SAVED] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), len(saved))


def _return_op(function: ir.Operation) -> ir.Operation:
    return list(diag.function_body(function).operations)[-1].operation


def _give(
    function: ir.Operation, values: Sequence[ir.Value], facts: Sequence[ir.Attribute]
) -> None:
    """Let the function return `values`, with the attributes `facts`."""
    old = _return_op(function)
    with ir.InsertionPoint(old), old.location:
        ir.Operation.create("func.return", operands=list(values))
    old.erase()
    types = [argument.type for argument in diag.function_body(function).arguments]
    type_ = ir.FunctionType.get(types, [value.type for value in values])
    function.attributes["res_attrs"] = ir.ArrayAttr.get(list(facts))
    function.attributes["function_type"] = ir.TypeAttr.get(type_)
