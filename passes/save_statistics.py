"""Return what the gradients would otherwise compute again from scores: statistics of rows, and sums.

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

Declines: a value that only the caller reads, which no derivative needs.
"""

from dataclasses import dataclass
from typing import ClassVar

from diagc.algebra.graph import Graph
from diagc.cost import elements
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.base import Pass

__all__ = ["SAVED", "SaveStatisticsPass", "saved_count", "statistics"]

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


def saved_count(function: ir.Operation) -> int:
    """How many of the last results of a function are saved values."""
    known = function.attributes
    return int(ir.IntegerAttr(known[SAVED]).value) if SAVED in known else 0


def statistics(graph: Graph) -> list[ir.Value]:
    """The values that are worth saving, in order."""
    large: set[ir.Value] = set()
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
                elif _is_needed(graph, result):
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


def _append_results(function: ir.Operation, values: list[ir.Value]) -> None:
    """Return `values` behind the results."""
    block = diag.function_body(function)
    old = list(block.operations)[-1].operation
    given = len(old.operands)
    with ir.InsertionPoint(old), old.location:
        made = ir.Operation.create("func.return", operands=[*old.operands, *values])
    old.erase()
    known = function.attributes
    facts = list(known["res_attrs"]) if "res_attrs" in known else [ir.DictAttr.get({})] * given
    names = ({"diag.name": ir.StringAttr.get(f"saved{i}")} for i in range(len(values)))
    known["res_attrs"] = ir.ArrayAttr.get([*facts, *map(ir.DictAttr.get, names)])
    types = [argument.type for argument in block.arguments]
    results = [value.type for value in made.operands]
    known["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(types, results))
    known[SAVED] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), len(values))
