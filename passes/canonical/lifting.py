"""Let a function compute for one more axis of one position, as a batch of its calls."""

from collections.abc import Sequence

from diagc.algebra.dataflow import inputs
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["dims_of", "lift"]

_LIFTED = ("diag.contract", "diag.map", "diag.normalize", "diag.pad", "diag.reduce", "diag.relabel")


def lift(function: ir.Operation, arguments: Sequence[ir.Value], label: str, place: int) -> bool:
    """Give arguments, and all that is computed from them, an axis of one position, in front.

    Results keep their axes: they are what is at that position.

    Args:
        function: is changed in place.
        arguments: of it, each with `diag.dims` of which one is empty.
        label: of the new axis; no wire has it.
        place: which dim of the arguments it is, counted from the end.

    Returns:
        False, and nothing is changed, where an op has no such form, or there are no arguments.
    """
    body = [view.operation for view in diag.function_body(function).operations]
    carried = set(arguments)
    ops = []
    for op in body[:-1]:
        if carried.intersection(inputs(op)):
            carried.update(op.results)
            ops.append(op)
    if not arguments or not all(op.name in (*_LIFTED, "diag.reindex") for op in ops):
        return False
    for value in carried:
        value.set_type(diag.wire({label: 1, **diag.dims(value)}, diag.element_type(value)))
    for op in ops:
        if op.name == "diag.reindex":
            op.attributes["map"] = ir.AffineMapAttr.get(_lifted(op))
    _give_back(body[-1], carried, label)
    _rename_dims(function, arguments, label, place)
    return True


def _lifted(op: ir.Operation) -> ir.AffineMap:
    old = ir.AffineMapAttr(op.attributes["map"]).value
    dims = [ir.AffineExpr.get_dim(i) for i in range(old.n_dims + 1)]
    shift = ir.AffineMap.get(old.n_dims + 1, 0, dims[1:])
    exprs = [dims[0], *(expr.compose(shift) for expr in old.results)]
    return ir.AffineMap.get(old.n_dims + 1, 0, exprs)


def _give_back(end: ir.Operation, carried: set[ir.Value], label: str) -> None:
    """Results at the one position."""
    for number, value in enumerate(end.operands):
        if value not in carried:
            continue
        rest = {name: size for name, size in diag.dims(value).items() if name != label}
        places = [ir.AffineExpr.get_constant(0), *map(ir.AffineExpr.get_dim, range(len(rest)))]
        with ir.InsertionPoint(end), value.location:
            map_ = ir.AffineMap.get(len(rest), 0, places)
            end.operands[number] = diag.reindex(value, rest, map_)


def _rename_dims(
    function: ir.Operation, arguments: Sequence[ir.Value], label: str, place: int
) -> None:
    known = [ir.DictAttr(attributes) for attributes in function.attributes["arg_attrs"]]
    for argument in arguments:
        number = ir.BlockArgument(argument).arg_number
        entries = {entry.name: entry.attr for entry in known[number]}
        dims = [diag.strings(dim) for dim in entries["diag.dims"]]
        dims[-1 - place] = [label]
        entries["diag.dims"] = ir.ArrayAttr.get([diag.string_array(dim) for dim in dims])
        known[number] = ir.DictAttr.get(entries)
    function.attributes["arg_attrs"] = ir.ArrayAttr.get(known)
    block = diag.function_body(function)
    given = [value.type for value in list(block.operations)[-1].operands]
    type_ = ir.FunctionType.get([argument.type for argument in block.arguments], given)
    function.attributes["function_type"] = ir.TypeAttr.get(type_)


def dims_of(expr: ir.AffineExpr) -> set[int]:
    """Numbers of the dims in an affine expression."""
    if isinstance(expr, ir.AffineDimExpr):
        return {expr.position}
    if isinstance(expr, ir.AffineBinaryExpr):
        return dims_of(expr.lhs) | dims_of(expr.rhs)
    return set()
