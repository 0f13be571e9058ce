"""Identities of selections and conditions: one form for what is left out of a row.

    select(c, number, x) = select(not c, x, number)          c a mask of positions
    widen(select(c, x, number)) = select(c, widen x, number)
    not (a or b) = not a and not b                           and likewise of `and`

So scores that are masked for a softmax and for a sum of exponentials are one wire, in whichever way
each of them was written, and their statistics are computed once.
"""

from collections.abc import Callable

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.passes.cloning import Mapping, clone
from diagc.passes.kernels.kernel_axes import is_index_map

__all__ = ["distribute_not", "move_number_last", "widen_selected"]

Change = Callable[..., ir.Value | None]


def move_number_last(op: ir.Operation) -> ir.Value | None:
    """Where a mask of positions selects a number, the opposite mask selects the rest."""
    if is_index_map(op):
        return None
    found = next((inner for inner in _body(op) if _selects_number(inner)), None)
    if found is None:
        return None
    mask = _opposite(found.operands[0].owner.operation.operands[0])

    def change(inner: ir.Operation, mapping: Mapping, keep: ir.Value) -> ir.Value | None:
        if inner != found:
            return None
        _, number, other = (mapping.get(value, value) for value in found.operands)
        return arith.select(keep, other, number)

    return _rebuilt(op, change, mask)


def _selects_number(inner: ir.Operation) -> bool:
    """Whether an op selects between a number, where a mask of positions holds, and another."""
    if inner.name != "arith.select":
        return False
    condition, first, second = inner.operands
    element = _defining(condition)
    if element is None or element.name != "diag.element":
        return False
    mask = _defining(element.operands[0])
    wanted = _is_number(first) and not _is_number(second)
    return wanted and mask is not None and is_index_map(mask)


def _opposite(mask: ir.Value) -> ir.Value:
    """The map that holds where a mask does not."""
    source = mask.owner.operation

    def compute() -> ir.Value:
        mapping: Mapping = {}
        for inner in _body(source):
            if inner.name == "diag.yield":
                return _not(mapping.get(inner.operands[0], inner.operands[0]))
            clone(inner, mapping)
        raise AssertionError("a map body ends with its yield")

    type_ = diag.element_type(mask)
    with source.location:
        made = diag.map_([], compute, result=diag.dims(mask), dtype=type_, loc=source.location)
    return _finished(made, source)


def _finished(made: ir.Value, source: ir.Operation) -> ir.Value:
    """What takes an op's place has its attributes, and a body in the order of `sink_constants`.

    What the body does not need is erased; its constants stand in front, the last used one first.
    """
    op = made.owner.operation
    for inner in reversed(_body(op)):
        if inner.name != "diag.yield" and not any(True for _ in inner.results[0].uses):
            inner.erase()
    for value in dict.fromkeys(operand for inner in _body(op) for operand in inner.operands):
        number = _defining(value)
        if number is not None and number.name == "arith.constant" and number.parent == op:
            number.move_before(_body(op)[0])
    for name in source.attributes:
        op.attributes[name] = source.attributes[name]
    return made


def _not(condition: ir.Value) -> ir.Value:
    """The opposite of a condition: of comparisons the opposite ones, and where one fails."""
    op = _defining(condition)
    if op is not None and op.name in _JOINS:
        return _JOINS[op.name](*map(_not, op.operands))
    if op is not None and op.name == "arith.cmpi":
        predicate = ir.IntegerAttr(op.attributes["predicate"]).value
        return arith.cmpi(_OPPOSITES[arith.CmpIPredicate(predicate)], *op.operands)
    one = arith.constant(condition.type, ir.IntegerAttr.get(condition.type, 1))
    return arith.xori(condition, one)


_JOINS = {"arith.andi": arith.ori, "arith.ori": arith.andi}
"""What joins the opposites of what each of these joins."""

_PAIRS = (("eq", "ne"), ("slt", "sge"), ("sgt", "sle"), ("ult", "uge"), ("ugt", "ule"))
_OPPOSITES = {
    arith.CmpIPredicate[one]: arith.CmpIPredicate[other]
    for pair in _PAIRS
    for one, other in (pair, pair[::-1])
}


def distribute_not(op: ir.Operation) -> ir.Value | None:
    """The opposite of several conditions is made of the opposites of each."""

    def change(inner: ir.Operation, mapping: Mapping) -> ir.Value | None:
        negated = _negated(inner)
        return None if negated is None else _not(mapping[negated])

    return _rebuilt(op, change) if any(_negated(inner) for inner in _body(op)) else None


def _negated(inner: ir.Operation) -> ir.Value | None:
    """The conditions joined by `and` or `or` that an op negates."""
    if inner.name != "arith.xori" or str(inner.results[0].type) != "i1":
        return None
    joined, one = (_defining(value) for value in inner.operands)
    if (
        one is None
        or one.name != "arith.constant"
        or not ir.IntegerAttr(one.attributes["value"]).value
    ):
        return None
    return inner.operands[0] if joined is not None and joined.name in _JOINS else None


def widen_selected(op: ir.Operation) -> ir.Value | None:
    """A selected number that is widened was a wide one, as widening is exact."""

    def source(inner: ir.Operation) -> ir.Operation | None:
        found = _defining(inner.operands[0]) if inner.name == "arith.extf" else None
        alone = found is not None and len(list(found.results[0].uses)) == 1
        if found is None or not alone or found.name != "arith.select":
            return None
        return found if any(_is_number(arm) for arm in list(found.operands)[1:]) else None

    if not any(source(inner) for inner in _body(op)):
        return None

    def change(inner: ir.Operation, mapping: Mapping) -> ir.Value | None:
        found = source(inner)
        if found is None:
            return None
        condition, *arms = (mapping.get(value, value) for value in found.operands)
        wide = inner.results[0].type
        return arith.select(condition, *(_widened(arm, wide) for arm in arms))

    return _rebuilt(op, change)


def _widened(value: ir.Value, type_: ir.Type) -> ir.Value:
    owner = _defining(value)
    if owner is None or owner.name != "arith.constant":
        return arith.extf(type_, value)
    number = ir.FloatAttr(owner.attributes["value"]).value
    return arith.constant(type_, ir.FloatAttr.get(type_, number))


def _rebuilt(op: ir.Operation, change: Change, *wires: ir.Value) -> ir.Value:
    """The map with other scalars in the place of those for which `change` gives some.

    It gets an op of the body, what was made of those before, and the elements of further wires.
    All elements come first, those of further wires last, as where a normaliser is expanded.
    """
    ops = sorted(_body(op), key=lambda inner: inner.name != "diag.element")
    read = [inner for inner in ops if inner.name == "diag.element"]

    def body(*elements: ir.Value) -> ir.Value:
        own, more = elements[: len(read)], elements[len(read) :]
        mapping: Mapping = {i.results[0]: e for i, e in zip(read, own, strict=True)}
        for inner in ops[len(read) :]:
            if inner.name == "diag.yield":
                return mapping.get(inner.operands[0], inner.operands[0])
            with inner.location:
                made = change(inner, mapping, *more)
            if made is None:
                clone(inner, mapping)
            else:
                mapping[inner.results[0]] = made
        raise AssertionError("a map body ends with its yield")

    sizes, dtype = diag.dims(op.results[0]), diag.element_type(op.results[0])
    all_wires = [*(inner.operands[0] for inner in read), *wires]
    made = diag.map_(all_wires, body, result=sizes, dtype=dtype, loc=op.location)
    return _finished(made, op)


def _body(op: ir.Operation) -> list[ir.Operation]:
    return [view.operation for view in op.regions[0].blocks[0].operations]


def _defining(value: ir.Value) -> ir.Operation | None:
    return None if isinstance(value.owner, ir.Block) else value.owner.operation


def _is_number(value: ir.Value) -> bool:
    owner = _defining(value)
    return owner is not None and owner.name == "arith.constant" and diag.is_float(value.type)
