"""The rule of each op in reverse mode: from the cotangent of its result to those of its operands.

A rule gives pairs of an operand and a part of its cotangent, for the operands among `active`. See
`cotangents.py` for the types of cotangents. Everything is emitted at the ambient insertion point.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from diagc.algebra.dataflow import defining_op, inputs, reduced_axes
from diagc.algebra.expressions import Expr, equal, select, symbol
from diagc.algebra.maps import map_expr, statistic_type
from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.passes.gradients.adjoint_maps import differentiate_map
from diagc.passes.gradients.adjoint_views import VIEW_ADJOINTS
from diagc.passes.gradients.cotangents import Parts, Values, axes_like, summed
from diagc.passes.kernels.kernel_axes import LEAVES, VIEWS
from diagc.passes.kernels.library_products import LIBRARY

__all__ = ["RULES"]

Rule: TypeAlias = Callable[[ir.Operation, ir.Value, Values], Parts]


def _contract(op: ir.Operation, cotangent: ir.Value, active: Values) -> Parts:
    """Each operand gets the cotangent times the other operand, summed over what it lacks."""
    for number, operand in enumerate(op.operands):
        if operand in active:
            yield operand, _product(cotangent, op.operands[1 - number], operand)


def _product(cotangent: ir.Value, other: ir.Value, operand: ir.Value) -> ir.Value:
    """The sum of `cotangent * other` over the axes that `operand` lacks."""
    own, given = diag.labels(operand), diag.labels(cotangent)
    lacking = [label for label in diag.labels(other) if label not in own]
    other = summed(other, [label for label in lacking if label not in given])
    over = [label for label in lacking if label in given]
    order = axes_like(operand, [*given, *diag.labels(other)])
    return diag.contract(
        cotangent, other, over, dtype=diag.element_type(operand), order=list(order)
    )


# ---- reductions --------------------------------------------------------------------------------


def _reduce(op: ir.Operation, cotangent: ir.Value, active: Values) -> Parts:
    kind = ir.StringAttr(op.attributes["kind"]).value
    if op.operands[0] in active:
        yield op.operands[0], _REDUCTIONS[kind](op, cotangent)


def _sum(_op: ir.Operation, cotangent: ir.Value) -> ir.Value:
    """Constant along the axes that are summed, so without them."""
    return cotangent


def _extremum(op: ir.Operation, cotangent: ir.Value) -> ir.Value:
    """All elements that are the extremum get the same share, as with `torch.amax`."""
    _store_products(op.operands[0])
    wires = {"x": op.operands[0], "m": op.results[0], "d": cotangent}
    hit = equal(symbol("x"), symbol("m"))
    wires["n"] = _counted(op, hit, wires)
    return _elements(op, select(hit, symbol("d") / symbol("n"), 0.0), wires)


def _store_products(value: ir.Value) -> None:
    """Leave products that make a wire to the library, which stores them.

    Kernels that compute them again may round otherwise; then no element would be the extremum. Sums
    have no such place.

    Raises:
        UnsupportedError: the wire is made of sums of another kind than products.
    """
    stack, seen = [value], set()
    while stack:
        producer = defining_op(stack.pop())
        if producer is None or producer in seen or producer.name in LEAVES:
            continue
        seen.add(producer)
        if producer.name == "diag.contract":
            producer.attributes[LIBRARY] = ir.UnitAttr.get()
        elif producer.name in _ELEMENTWISE:
            stack.extend(inputs(producer))
        else:
            reason = f"a kernel may round '{producer.name}' otherwise, and miss the extremum"
            raise UnsupportedError(
                "the gradient of an extremum", reason=reason, location=producer.location
            )


_ELEMENTWISE = ("diag.map", "diag.pad", *VIEWS)


def _multiplied(op: ir.Operation, cotangent: ir.Value) -> ir.Value:
    """The product of the others: apart for no zero, for the only zero, and for several."""
    x, zero = symbol("x"), equal(symbol("x"), 0.0)
    wires = {"x": op.operands[0], "p": op.results[0], "d": cotangent}
    wires["n"] = _counted(op, zero, wires)
    others = map_expr(select(zero, 1.0, x), wires, _wide(op))
    wires["o"] = diag.reduce(others, reduced_axes(op), "mul")
    only = select(equal(symbol("n"), 1.0), symbol("d") * symbol("o"), 0.0)
    return _elements(op, select(zero, only, symbol("d") * (symbol("p") / x)), wires)


def _counted(op: ir.Operation, condition: Expr, wires: Mapping[str, ir.Value]) -> ir.Value:
    """How many elements of each row meet a condition."""
    hits = map_expr(select(condition, 1.0, 0.0), wires, _wide(op), result=_sizes(op))
    return diag.reduce(hits, reduced_axes(op), "add")


def _elements(op: ir.Operation, expr: Expr, wires: Mapping[str, ir.Value]) -> ir.Value:
    dtype = diag.element_type(op.operands[0])
    return map_expr(expr, wires, _wide(op), dtype=dtype, result=_sizes(op))


def _sizes(op: ir.Operation) -> dict[str, int]:
    return diag.dims(op.operands[0])


def _wide(op: ir.Operation) -> ir.Type:
    return statistic_type(diag.element_type(op.operands[0]))


_REDUCTIONS: dict[str, Callable[[ir.Operation, ir.Value], ir.Value]] = {
    "add": _sum,
    "max": _extremum,
    "min": _extremum,
    "mul": _multiplied,
}

RULES: dict[str, Rule] = {
    "diag.contract": _contract,
    "diag.map": differentiate_map,
    "diag.reduce": _reduce,
    **VIEW_ADJOINTS,
}
"""The rule of each op by its name; constants and positions depend on nothing and have none."""
