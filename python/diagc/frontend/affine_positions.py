"""Positions inside a wire, `[n = 2 * m + 1]`, as affine maps and `diag.reindex`."""

from collections.abc import Callable, Mapping, Sequence

from diagc.dialects import diag
from diagc.frontend.scalars import Scalar, postorder
from diagc.mlir import ir

__all__ = ["emit_reindex"]


def emit_reindex(
    src: ir.Value,
    positions: Mapping[str, Scalar],
    sizes: Mapping[str, int],
    result: Mapping[str, int] | None = None,
    loc: ir.Location | None = None,
) -> ir.Value:
    """Gather `result[p] = src[positions(p)]`.

    Args:
        src: the source wire.
        positions: for some labels of `src` the position in it; a leaf's payload is a label of the
            result. A label that is not mentioned keeps its own position.
        sizes: sizes of the labels that positions name.
        result: labelled sizes of the result in memory order; by default the axes of `src`, each
            replaced by the axes that stand in its position and did not stand before.
        loc: the place of the op.

    Raises:
        VerifyError: a position that is not affine.
    """
    dims = diag.dims(src)
    used = {label: _labels(positions[label]) if label in positions else [label] for label in dims}
    known = {**sizes, **dims}
    inferred = {label: known[label] for names in used.values() for label in names}
    shape = dict(inferred if result is None else result)
    missing = [label for label in inferred if label not in shape]
    if missing:
        raise diag.VerifyError(f'axis "{missing[0]}" of a position is missing in the result')
    order = {label: ir.AffineExpr.get_dim(i) for i, label in enumerate(shape)}
    exprs = [
        _affine(positions[label], order) if label in positions else order[label] for label in dims
    ]
    return diag.reindex(src, shape, ir.AffineMap.get(len(shape), 0, exprs), loc=loc)


def _labels(position: Scalar) -> list[str]:
    return [node.payload for node in postorder(position) if node.name == "leaf"]


def _floor_div(lhs: ir.AffineExpr, rhs: ir.AffineExpr) -> ir.AffineExpr:
    return ir.AffineExpr.get_floor_div(lhs, rhs)


_OPERATIONS: dict[str, Callable[..., ir.AffineExpr]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "neg": lambda a: a * -1,
    "*": lambda a, b: a * b,
    "/": _floor_div,
    "%": lambda a, b: a % b,
}


def _affine(position: Scalar, order: Mapping[str, ir.AffineExpr]) -> ir.AffineExpr:
    """Convert a position; `/` is floor division, as positions count from 0."""
    done: dict[int, ir.AffineExpr] = {}
    for node in postorder(position):
        done[id(node)] = _node(node, [done[id(arg)] for arg in node.args], order)
    return done[id(position)]


def _node(
    node: Scalar, args: Sequence[ir.AffineExpr], order: Mapping[str, ir.AffineExpr]
) -> ir.AffineExpr:
    if node.name == "leaf":
        return order[node.payload]
    if node.name == "literal":
        if type(node.payload) is not int:
            raise diag.VerifyError(f"a position is a whole number, found {node.payload}", node.loc)
        return ir.AffineExpr.get_constant(node.payload)
    if node.name not in _OPERATIONS:
        raise diag.VerifyError(f"'{node.name}' may not stand in a position", node.loc)
    constant = [isinstance(arg, ir.AffineConstantExpr) for arg in args]
    if node.name == "*" and not any(constant):
        raise diag.VerifyError("a position is affine: no product of two axes", node.loc)
    if node.name in ("/", "%"):
        divisor = args[1]
        if not constant[1] or ir.AffineConstantExpr(divisor).value <= 0:
            raise diag.VerifyError("a position is divided by a positive number only", node.loc)
    return _OPERATIONS[node.name](*args)
