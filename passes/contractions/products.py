"""Takes the factors that lack some axes out of the product that a map's body computes.

Taken apart are `e * c`, `e / c`, negation, casts and `select(keep, e * c, 0)`. Maps that are read
in such a place are inlined first, so that a cast in a map of its own hides nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from diagc.algebra.dataflow import (
    carries,
    defining_op,
    elements,
    is_constant,
    rounds_coarsely,
    scalar_result,
)
from diagc.algebra.maps import convert, statistic_type
from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.passes.cloning import clone, clone_all

__all__ = ["Factor", "Product", "take_factors"]

_CASTS = ("arith.extf", "arith.truncf")


@dataclass(frozen=True)
class Factor:
    """A wire that multiplies (or, `inverse`, divides) the rest of a product."""

    wire: ir.Value
    inverse: bool


@dataclass(frozen=True)
class Product:
    """What a map computes, as `rest` times `factors`; the ops stand before the map."""

    rest: ir.Value
    factors: list[Factor]


@dataclass(frozen=True)
class _Place:
    """A scalar in a product, and the op that multiplies or divides by it or, for all, yields it."""

    value: ir.Value
    user: ir.Operation
    operand: int
    inverse: bool


def take_factors(op: ir.Operation, over: Sequence[str]) -> Product | None:
    """Split map `op` into factors without the axes `over` and a rest, both as new ops before it.

    The rest keeps the element type of the map, but for f16 where only the product is known to be
    in range: then it is f32; of a map that varies along none of `over` it is ones. None when there
    is no factor.
    """
    with ir.InsertionPoint(op), op.location:
        scratch = _inlined(op, over)
        places = _places(scratch, over)
        if not places:
            scratch.erase()
            return None
        factors = [Factor(_wire(scratch, place.value), place.inverse) for place in places]
        _remove(scratch, places)
        return Product(_finish(scratch, over), factors)


# ---- the positions of a product -----------------------------------------------------------------


def _product_operands(op: ir.Operation) -> list[tuple[int, bool]]:
    """Operands in which `op` is linear, and those that it divides by (True)."""
    if op.name == "arith.mulf":
        return [(0, False), (1, False)]
    if op.name == "arith.divf":
        return [(0, False), (1, True)]
    if op.name == "arith.negf" or (op.name in _CASTS and not rounds_coarsely(op)):
        return [(0, False)]
    if op.name == "arith.select" and is_constant(op.operands[2], 0.0):
        return [(1, False)]
    return []


def _walk(user: ir.Operation, number: int, inverse: bool) -> Iterator[_Place]:
    """The places of the product under an operand, outermost first.

    A scalar that is used twice is not looked into: elsewhere it may not be in a product.
    """
    value = user.operands[number]
    yield _Place(value, user, number, inverse)
    if inverse or len(list(value.uses)) > 1:
        return
    for inner, divides in _product_operands(value.owner.operation):
        yield from _walk(value.owner.operation, inner, divides)


def _root(op: ir.Operation) -> ir.Operation:
    """The yield of a map."""
    return list(op.regions[0].blocks[0].operations)[-1].operation


def _places(op: ir.Operation, over: Sequence[str]) -> list[_Place]:
    """The factors of the body of `op`, none inside another."""
    root = _root(op)
    if _is_free(root.operands[0], over):  # then no operand of a product is the rest
        return [_Place(root.operands[0], root, 0, False)]
    found: list[_Place] = []
    for place in _walk(root, 0, False):
        whole = place.user.name not in ("arith.mulf", "arith.divf")
        if whole or not _is_free(place.value, over):
            continue
        inside = any(place.user.results[0] in _cone(other.value) for other in found)
        if not inside:
            found.append(place)
    return found


def _cone(value: ir.Value) -> dict[ir.Value, None]:
    """A scalar and all that it depends on, users first."""
    found: dict[ir.Value, None] = {}
    stack = [value]
    while stack:
        current = stack.pop()
        found[current] = None
        stack.extend(current.owner.operation.operands if not _is_element(current) else [])
    return found


def _is_element(value: ir.Value) -> bool:
    return value.owner.operation.name == "diag.element"


def _is_free(value: ir.Value, over: Sequence[str]) -> bool:
    """Whether a scalar reads wires, none of which has an axis of `over`."""
    wires = [v.owner.operation.operands[0] for v in _cone(value) if _is_element(v)]
    return bool(wires) and not any(carries(wire, axis) for wire in wires for axis in over)


# ---- inlining -----------------------------------------------------------------------------------


def _inlined(op: ir.Operation, over: Sequence[str]) -> ir.Operation:
    """A copy of map `op` with the products that it reads inlined."""
    scratch = clone(op, {})
    while (element := _inlinable(scratch, over)) is not None:
        producer = defining_op(element.operands[0])
        assert producer is not None
        body = [o.operation for o in producer.regions[0].blocks[0].operations]
        mapping: dict[ir.Value, ir.Value] = {}
        clone_all(body[:-1], mapping, ir.InsertionPoint(element))
        element.results[0].replace_all_uses_with(mapping[body[-1].operands[0]])
        element.erase()
    return scratch


def _inlinable(op: ir.Operation, over: Sequence[str]) -> ir.Operation | None:
    """An element in a product that reads another map's product with an axis of `over`."""
    for place in _walk(_root(op), 0, False):
        if place.inverse or not _is_element(place.value):
            continue
        element = place.value.owner.operation
        producer = defining_op(element.operands[0])
        if producer is None or producer.name != "diag.map":
            continue
        inner = scalar_result(producer).owner.operation
        if _product_operands(inner) and any(carries(element.operands[0], axis) for axis in over):
            return element
    return None


# ---- rewriting ----------------------------------------------------------------------------------


def _wire(scratch: ir.Operation, value: ir.Value) -> ir.Value:
    """A scalar of the scratch map as a wire of its own, in the type of statistics."""
    cone = _cone(value)
    ops = [o.operation for o in scratch.regions[0].blocks[0].operations]
    needed = [o for o in ops if len(o.results) and o.results[0] in cone]
    if _is_element(value) and value.type == statistic_type(value.type):
        return value.owner.operation.operands[0]
    read = [o.operands[0] for o in needed if o.name == "diag.element"]
    dims = diag.join_dims(diag.dims(wire) for wire in read)

    def body() -> ir.Value:
        mapping: dict[ir.Value, ir.Value] = {}
        clone_all(needed, mapping)
        return convert(mapping[value], statistic_type(value.type))

    return diag.map_([], body, result=dims, dtype=statistic_type(value.type))


def _remove(scratch: ir.Operation, places: Sequence[_Place]) -> None:
    """Take the factors out of the body of `scratch`."""
    for place in places:
        user = place.user
        if user.name != "arith.mulf" and not place.inverse:
            with ir.InsertionPoint(user):
                one = arith.constant(place.value.type, 1.0)
            user.operands[place.operand] = one
        else:
            user.results[0].replace_all_uses_with(user.operands[1 - place.operand])
    body = [o.operation for o in scratch.regions[0].blocks[0].operations]
    for op in reversed(body[:-1]):
        if not len(list(op.results[0].uses)):
            op.erase()


def _finish(scratch: ir.Operation, over: Sequence[str]) -> ir.Value:
    """Fit the type of the scratch map to what is left; a map that only reads is its operand."""
    root = _root(scratch)
    _keep_range(root)
    value = root.operands[0]
    element = value.owner.operation
    if element.name == "diag.element" and all(carries(element.operands[0], axis) for axis in over):
        wire = element.operands[0]
        scratch.erase()
        return wire
    read = [diag.labels(e.operands[0]) for e in elements(scratch)]
    kept = {
        label: size
        for label, size in diag.dims(scratch.results[0]).items()
        if label in over or any(label in names for names in read)
    }
    scratch.results[0].set_type(diag.wire(kept, value.type))
    return scratch.results[0]


def _keep_range(root: ir.Operation) -> None:
    """Drop the rounding to f16 of what was not f16 before: without its factor it may overflow."""
    cast = root.operands[0].owner.operation
    if cast.name != "arith.truncf" or not isinstance(cast.results[0].type, ir.F16Type):
        return
    inner = cast.operands[0].owner.operation
    if inner.name == "arith.extf" and isinstance(inner.operands[0].type, ir.F16Type):
        return
    root.operands[0] = cast.operands[0]
    cast.erase()
