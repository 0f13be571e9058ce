"""Emission of a scalar expression as one `diag.map`, each distinct operation once."""

from collections.abc import Mapping, Sequence

from diagc.dialects import diag
from diagc.frontend.scalar_types import Typed, typed
from diagc.frontend.scalars import Number, Scalar, postorder
from diagc.mlir import ir

__all__ = ["constant_attr", "emit_map", "predicate_number"]

_FLOAT_PREDICATES = {"oeq": 1, "ogt": 2, "oge": 3, "olt": 4, "ole": 5, "une": 13}
_INT_PREDICATES = {"eq": 0, "ne": 1, "slt": 2, "sle": 3, "sgt": 4, "sge": 5}


def constant_attr(value: Number, element: ir.Type) -> ir.Attribute:
    """Give `value` as an attribute of a scalar type."""
    if isinstance(element, (ir.IntegerType, ir.IndexType)):
        return ir.IntegerAttr.get(element, int(value))
    return ir.FloatAttr.get(element, float(value))


def predicate_number(op: str, predicate: str) -> int:
    """Give the number that `arith.cmpf` and `arith.cmpi` keep for a predicate."""
    return (_FLOAT_PREDICATES if op == "arith.cmpf" else _INT_PREDICATES)[predicate]


def emit_map(
    root: Scalar,
    *,
    result: Mapping[str, int] | None = None,
    dtype: ir.Type | None = None,
    loc: ir.Location | None = None,
) -> ir.Value:
    """Make the map that computes `root`; its labels are the union of those of its leaves.

    A wire that stays as it is gets no map.

    Args:
        root: the expression.
        result: labelled sizes of the result in memory order, where the union in order of
            appearance is not wanted; it may hold further labels.
        dtype: element type that the result is converted to.
        loc: the place of the map and of every scalar op that has none.

    Raises:
        VerifyError: operands that do not fit in type or size.
    """
    tree = typed(root if dtype is None else root.cast(dtype))
    order = list(postorder(tree))
    wires = _leaf_wires(order)
    sizes = diag.join_dims([] if result is None else [result])
    joined = diag.join_dims([sizes, *map(diag.dims, wires)])
    extra = [label for label in joined if label not in sizes]
    if result is not None and extra:
        raise diag.VerifyError(f'axis "{extra[0]}" of an operand is missing in the result')
    if tree.op == "leaf" and tuple(joined) == diag.labels(wires[0]):
        return wires[0]

    def body(*scalars: ir.Value) -> ir.Value:
        return _emit(order, dict(zip(wires, scalars, strict=True)), loc)

    return diag.map_(wires, body, result=joined, loc=loc)


def _leaf_wires(order: Sequence[Typed]) -> list[ir.Value]:
    wires: list[ir.Value] = []
    for node in order:
        if node.op == "leaf" and node.payload not in wires:
            wires.append(node.payload)
    return wires


def _emit(
    order: Sequence[Typed], scalars: Mapping[ir.Value, ir.Value], loc: ir.Location | None
) -> ir.Value:
    """Emit operands before users; an operation that was made already is used again."""
    values: dict[int, ir.Value] = {}
    known: dict[object, ir.Value] = {}
    for node in order:
        if node.op == "leaf":
            values[id(node)] = scalars[node.payload]
            continue
        operands = [values[id(arg)] for arg in node.args]
        key = (node.op, node.type, tuple(operands), _payload_key(node.payload))
        if key not in known:
            known[key] = _create(node, operands, node.loc or loc)
        values[id(node)] = known[key]
    return values[id(order[-1])]


def _payload_key(payload: object) -> object:
    """Equal literals are one constant; 0.0 and -0.0, or 1 and True, are not equal."""
    return repr(payload)


def _create(node: Typed, operands: Sequence[ir.Value], loc: ir.Location | None) -> ir.Value:
    element = ir.Type.parse(node.type)
    attributes: dict[str, ir.Attribute] = {}
    if node.op == "arith.constant":
        attributes["value"] = constant_attr(node.payload, element)  # type: ignore[arg-type]
    if node.op in ("arith.cmpf", "arith.cmpi"):
        number = predicate_number(node.op, str(node.payload))
        attributes["predicate"] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), number)
    return ir.Operation.create(
        node.op, results=[element], operands=list(operands), attributes=attributes, loc=loc
    ).results[0]
