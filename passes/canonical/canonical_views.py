"""Identities of views and of ops along axes of size 1: relabel, reindex, pad, reduce, contract.

Each pattern gives the value that replaces the op's result, or None when it does not apply.
"""

from collections.abc import Callable

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.passes.canonical.affine_ranges import simplify_map

__all__ = ["VIEW_PATTERNS"]

Pattern = Callable[[ir.Operation], ir.Value | None]


def _producer(value: ir.Value, name: str) -> ir.Operation | None:
    """The op called `name` that defines `value`, or None."""
    if isinstance(value.owner, ir.Block) or value.owner.operation.name != name:
        return None
    op: ir.Operation = value.owner.operation
    return op


def _like(op: ir.Operation, value: ir.Value) -> ir.Value | None:
    """`value` if it may stand for the result of `op`: same type, memory order included."""
    return value if value.type == op.results[0].type else None


# ---- relabel -----------------------------------------------------------------------------------


def _names(op: ir.Operation) -> dict[str, str]:
    old, new = (diag.strings(op.attributes[name]) for name in ("from", "to"))
    return dict(zip(old, new, strict=True))


def drop_identity_relabel(op: ir.Operation) -> ir.Value | None:
    """Relabel(x) to the labels it has is x."""
    if any(old != new for old, new in _names(op).items()):
        return None
    return _like(op, op.operands[0])


def compose_relabels(op: ir.Operation) -> ir.Value | None:
    """Relabel(relabel(x)) is one relabel."""
    inner = _producer(op.operands[0], "diag.relabel")
    if inner is None:
        return None
    first, second = _names(inner), _names(op)
    source = inner.operands[0]
    names = {}
    for label in diag.labels(source):
        middle = first.get(label, label)
        names[label] = second.get(middle, middle)
    changed = {old: new for old, new in names.items() if old != new}
    return _like(op, diag.relabel(source, changed, loc=op.location))


def relabel_leaf(op: ir.Operation) -> ir.Value | None:
    """Relabel of an index or a constant is one with other labels."""
    names, result = _names(op), diag.dims(op.results[0])
    index = _producer(op.operands[0], "diag.index")
    if index is not None:
        (label,) = result
        return diag.index(label, result[label], loc=op.location)
    literal = _producer(op.operands[0], "diag.constant")
    if literal is None:
        return None
    labels = [names.get(label, label) for label in diag.labels(op.operands[0])]
    value = ir.DenseElementsAttr(literal.attributes["value"])
    return _like(op, diag.constant(value, labels, loc=op.location))


# ---- reindex -----------------------------------------------------------------------------------


def _map(op: ir.Operation) -> ir.AffineMap:
    return ir.AffineMapAttr(op.attributes["map"]).value


def _sizes(op: ir.Operation) -> list[int]:
    return list(diag.dims(op.results[0]).values())


def simplify_reindex(op: ir.Operation) -> ir.Value | None:
    """Divisions that the sizes decide fall away."""
    found = _map(op)
    simple = simplify_map(found, _sizes(op))
    if simple == found:
        return None
    return diag.reindex(op.operands[0], diag.dims(op.results[0]), simple, loc=op.location)


def drop_identity_reindex(op: ir.Operation) -> ir.Value | None:
    """Reindex by the identity is x, or a relabel of it."""
    source = op.operands[0]
    same = list(diag.dims(source).values()) == _sizes(op)
    if not same or _map(op) != ir.AffineMap.get_identity(len(_sizes(op))):
        return None
    pairs = zip(diag.labels(source), diag.labels(op.results[0]), strict=True)
    names = {old: new for old, new in pairs if old != new}
    return diag.relabel(source, names, loc=op.location) if names else _like(op, source)


def compose_reindexes(op: ir.Operation) -> ir.Value | None:
    """Reindex(reindex(x)) is one gather along the composed map."""
    inner = _producer(op.operands[0], "diag.reindex")
    if inner is None:
        return None
    outer = _map(op)
    results = [expr.compose(outer) for expr in _map(inner).results]
    composed = simplify_map(ir.AffineMap.get(outer.n_dims, 0, results), _sizes(op))
    return diag.reindex(inner.operands[0], diag.dims(op.results[0]), composed, loc=op.location)


def skip_relabel_under_reindex(op: ir.Operation) -> ir.Value | None:
    """Reindex goes by position, so a relabel below it says nothing."""
    inner = _producer(op.operands[0], "diag.relabel")
    if inner is None or _sizes(inner) != list(diag.dims(inner.operands[0]).values()):
        return None
    names = _names(inner)
    if [names.get(x, x) for x in diag.labels(inner.operands[0])] != [
        *diag.labels(inner.results[0])
    ]:
        return None
    return diag.reindex(inner.operands[0], diag.dims(op.results[0]), _map(op), loc=op.location)


def skip_reindex_under_relabel(op: ir.Operation) -> ir.Value | None:
    """Relabel(reindex(x)) is a reindex whose result has the new labels."""
    inner = _producer(op.operands[0], "diag.reindex")
    if inner is None:
        return None
    names = _names(op)
    result = {names.get(k, k): size for k, size in diag.dims(inner.results[0]).items()}
    return _like(op, diag.reindex(inner.operands[0], result, _map(inner), loc=op.location))


def drop_empty_pad(op: ir.Operation) -> ir.Value | None:
    """Padding by nothing only renames the axis."""
    if any(ir.IntegerAttr(op.attributes[name]).value for name in ("low", "high")):
        return None
    names = {ir.StringAttr(op.attributes[n]).value for n in ("axis", "to")}
    old, new = (ir.StringAttr(op.attributes[n]).value for n in ("axis", "to"))
    return _like(op, diag.relabel(op.operands[0], {old: new} if len(names) > 1 else {}))


# ---- axes of size 1, and no axes ---------------------------------------------------------------


def _at_zero(value: ir.Value, dropped: list[str], loc: ir.Location) -> ir.Value:
    """The wire at position 0 of the axes `dropped`."""
    rest = {label: size for label, size in diag.dims(value).items() if label not in dropped}
    places = {label: ir.AffineExpr.get_dim(n) for n, label in enumerate(rest)}
    zero = ir.AffineExpr.get_constant(0)
    results = [places.get(label, zero) for label in diag.labels(value)]
    return diag.reindex(value, rest, ir.AffineMap.get(len(rest), 0, results), loc=loc)


def _units(op: ir.Operation) -> list[str]:
    sizes = diag.dims(op.operands[0])
    return [label for label in diag.strings(op.attributes["over"]) if sizes[label] == 1]


def drop_unit_reduction(op: ir.Operation) -> ir.Value | None:
    """Reduce over an axis of size 1 is the wire at position 0; over no axis, the wire."""
    over, units = diag.strings(op.attributes["over"]), _units(op)
    if over and not units:
        return None
    source = _at_zero(op.operands[0], units, op.location) if units else op.operands[0]
    rest = [label for label in over if label not in units]
    if not rest:
        return _like(op, source)
    return diag.reduce(source, rest, ir.StringAttr(op.attributes["kind"]).value, loc=op.location)


def merge_reductions(op: ir.Operation) -> ir.Value | None:
    """Reduce(reduce(x)) of one kind is one reduction, when the inner has no other reader."""
    inner = _producer(op.operands[0], "diag.reduce")
    if inner is None or inner.attributes["kind"] != op.attributes["kind"]:
        return None
    if len(list(inner.results[0].uses)) > 1:
        return None
    over = diag.strings(inner.attributes["over"]) + diag.strings(op.attributes["over"])
    kind = ir.StringAttr(op.attributes["kind"]).value
    return _like(op, diag.reduce(inner.operands[0], over, kind, loc=op.location))


def drop_unit_contraction(op: ir.Operation) -> ir.Value | None:
    """Contract over an axis of size 1 is a contraction at position 0."""
    units = _units(op)
    if not units:
        return None
    over = [label for label in diag.strings(op.attributes["over"]) if label not in units]
    lhs, rhs = (_at_zero(value, units, op.location) for value in op.operands)
    return _contract(op, lhs, rhs, over)


def _contract(op: ir.Operation, lhs: ir.Value, rhs: ir.Value, over: list[str]) -> ir.Value:
    acc = op.attributes.get("acc")
    return diag.contract(
        lhs,
        rhs,
        over,
        dtype=diag.element_type(op.results[0]),
        acc=None if acc is None else ir.TypeAttr(acc).value,
        order=diag.labels(op.results[0]),
        loc=op.location,
    )


def contraction_as_product(op: ir.Operation) -> ir.Value | None:
    """Contract over nothing is an elementwise product, in the accumulation type."""
    if diag.strings(op.attributes["over"]):
        return None
    wide = op.opview.acc_type
    narrow = diag.element_type(op.results[0])

    def product(lhs: ir.Value, rhs: ir.Value) -> ir.Value:
        return _convert(arith.mulf(_convert(lhs, wide), _convert(rhs, wide)), narrow)

    sizes = diag.dims(op.results[0])
    return diag.map_([*op.operands], product, result=sizes, dtype=narrow, loc=op.location)


def _convert(value: ir.Value, type_: ir.Type) -> ir.Value:
    if value.type == type_:
        return value
    return (
        arith.extf(type_, value) if value.type.width < type_.width else arith.truncf(type_, value)
    )


VIEW_PATTERNS: dict[str, tuple[Pattern, ...]] = {
    "diag.contract": (drop_unit_contraction, contraction_as_product),
    "diag.pad": (drop_empty_pad,),
    "diag.reduce": (drop_unit_reduction, merge_reductions),
    "diag.reindex": (
        skip_relabel_under_reindex,
        compose_reindexes,
        simplify_reindex,
        drop_identity_reindex,
    ),
    "diag.relabel": (
        drop_identity_relabel,
        relabel_leaf,
        compose_relabels,
        skip_reindex_under_relabel,
    ),
}
