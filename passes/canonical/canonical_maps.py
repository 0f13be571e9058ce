"""Identities of maps: literals in bodies, identity maps, maps of maps, chunks of masks.

Each pattern gives the value that replaces the op's result, or None when it does not apply.
"""

from collections.abc import Callable, Iterator, Sequence

from diagc.algebra.expressions import Expr, fold, symbols
from diagc.algebra.maps import map_expr
from diagc.algebra.scalars import is_exact
from diagc.algebra.simplification import simplified
from diagc.algebra.wire_terms import WireTerms
from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.passes.canonical.canonical_selections import (
    distribute_not,
    move_number_last,
    widen_selected,
)
from diagc.passes.canonical.position_forms import (
    Linear,
    mask_conditions,
    read_conditions,
    unequal_form,
)
from diagc.passes.cloning import Mapping, clone
from diagc.passes.kernels.kernel_axes import is_index_map

__all__ = ["MAP_PATTERNS", "sink_constants"]

Pattern = Callable[[ir.Operation], ir.Value | None]


CHUNKED = "diag.chunked"
"""Marks an op in the body of a stream that makes the streamed axis from nothing: a chunk of it. An
equal op outside makes the whole axis, and CSE would take that one for it."""


def _elements(op: ir.Operation) -> list[ir.Operation]:
    body = op.regions[0].blocks[0]
    return [e.operation for e in body.operations if e.operation.name == "diag.element"]


def _defining(value: ir.Value) -> ir.Operation | None:
    return None if isinstance(value.owner, ir.Block) else value.owner.operation


def _rebuild(op: ir.Operation, inline: Callable[[ir.Operation], bool]) -> ir.Value:
    """The map with the producers of all elements that `inline` accepts computed in its body."""
    sizes, dtype = diag.dims(op.results[0]), diag.element_type(op.results[0])

    def body() -> ir.Value:
        return _copy_body(op, inline)

    made = diag.map_([], body, result=sizes, dtype=dtype, loc=op.location)
    for name in op.attributes:
        made.owner.operation.attributes[name] = op.attributes[name]
    if any(inline(e) and CHUNKED in _attributes(e.operands[0]) for e in _elements(op)):
        made.owner.operation.attributes[CHUNKED] = ir.UnitAttr.get()
    return made


def _attributes(value: ir.Value) -> list[str]:
    producer = _defining(value)
    return [] if producer is None else list(producer.attributes)


def _copy_body(op: ir.Operation, inline: Callable[[ir.Operation], bool]) -> ir.Value:
    """Clone the body of `op` at the insertion point; gives what it yields."""
    mapping: Mapping = {}
    for nested in op.regions[0].blocks[0].operations:
        inner = nested.operation
        if inner.name == "diag.yield":
            value = inner.operands[0]
            return mapping.get(value, value)
        if inner.name == "diag.element" and inline(inner):
            producer = _defining(inner.operands[0])
            assert producer is not None
            mapping[inner.results[0]] = _scalar_of(producer)
        else:
            clone(inner, mapping)
    raise AssertionError("a map body ends with its yield")


def _scalar_of(producer: ir.Operation) -> ir.Value:
    """What `producer`, a map or a constant of one value, holds at the current position."""
    if producer.name == "diag.map":
        return _copy_body(producer, lambda _: False)
    value = ir.DenseElementsAttr(producer.attributes["value"])
    with producer.location:
        return arith.constant(value.type.element_type, value.get_splat_value())


# ---- patterns ----------------------------------------------------------------------------------


def inline_literals(op: ir.Operation) -> ir.Value | None:
    """Elements of constants of one value, and of maps without elements, become scalars."""

    def is_literal(element: ir.Operation) -> bool:
        producer = _defining(element.operands[0])
        if producer is None:
            return False
        if producer.name == "diag.constant":
            return bool(ir.DenseElementsAttr(producer.attributes["value"]).is_splat)
        return producer.name == "diag.map" and not _elements(producer)

    if not any(is_literal(element) for element in _elements(op)):
        return None
    return _rebuild(op, is_literal)


def drop_identity_map(op: ir.Operation) -> ir.Value | None:
    """A map that yields one element as it is, with the same axes in the same order, is its wire."""
    last = list(op.regions[0].blocks[0].operations)[-1].operation
    source = _defining(last.operands[0])
    if source is None or source.name != "diag.element":
        return None
    wire = source.operands[0]
    return wire if wire.type == op.results[0].type else None


def fuse_maps(op: ir.Operation) -> ir.Value | None:
    """A map over the same axes that only this map reads is computed in its body.

    Masks of positions stay apart from what they mask, so that they can become bounds of loops.
    """
    mask = _is_mask(op)

    def fits(element: ir.Operation) -> bool:
        producer = _defining(element.operands[0])
        if producer is None or producer.name != "diag.map" or producer.parent != op.parent:
            return False
        same = set(diag.labels(producer.results[0])) == set(diag.labels(op.results[0]))
        return same and _is_only_reader(op, producer) and (mask or not _is_mask(producer))

    return _rebuild(op, fits) if any(fits(element) for element in _elements(op)) else None


def _is_mask(op: ir.Operation) -> bool:
    return is_index_map(op) or bool(read_conditions(op))


def _is_only_reader(op: ir.Operation, producer: ir.Operation) -> bool:
    owners = [use.owner.operation for use in producer.results[0].uses]
    return all(owner.name == "diag.element" and owner.parent.operation == op for owner in owners)


def separate_mask(op: ir.Operation) -> ir.Value | None:
    """A condition of positions inside a map of other wires becomes a mask of its own.

    So a mask has one form, however it was written: one that can become a bound of a loop.
    """
    if is_index_map(op):
        return None
    for nested in op.regions[0].blocks[0].operations:
        select = nested.operation
        if select.name != "arith.select":
            continue
        body = _condition_of_positions(select.operands[0])
        if body is not None:
            return _with_mask(op, select.operands[0], body)
    return None


def _condition_of_positions(value: ir.Value) -> list[ir.Operation] | None:
    """The ops of a map's body that compare positions and nothing else, in order."""
    compare = _defining(value)
    if compare is None or compare.name not in ("arith.cmpi", "arith.andi", "arith.ori"):
        return None
    wanted = {value}
    found: list[ir.Operation] = []
    for view in reversed(list(compare.block.operations)):
        inner = view.operation
        if not wanted & set(inner.results):
            continue
        if inner.name == "diag.element":
            index = _defining(inner.operands[0])
            if index is None or index.name != "diag.index":
                return None
        found.append(inner)
        wanted.update(inner.operands)
    return found[::-1] if any(inner.name == "diag.element" for inner in found) else None


def _with_mask(op: ir.Operation, condition: ir.Value, body: list[ir.Operation]) -> ir.Value:
    """The map with a condition read from a mask, a map of the ops `body`, in front of it."""
    sources = [inner.operands[0] for inner in body if inner.name == "diag.element"]
    axes = {label for source in sources for label in diag.labels(source)}
    sizes = {label: size for label, size in diag.dims(op.results[0]).items() if label in axes}

    def compute() -> ir.Value:
        mapping: Mapping = {}
        for inner in body:
            clone(inner, mapping)
        return mapping[condition]

    i1 = ir.IntegerType.get_signless(1)
    mask = diag.map_([], compute, result=sizes, dtype=i1, loc=op.location)

    def masked(keep: ir.Value) -> ir.Value:
        mapping: Mapping = {condition: keep}
        for view in op.regions[0].blocks[0].operations:
            inner = view.operation
            if inner.name == "diag.yield":
                return mapping.get(inner.operands[0], inner.operands[0])
            if condition not in inner.results:
                clone(inner, mapping)
        raise AssertionError("a map body ends with its yield")

    dims, dtype = diag.dims(op.results[0]), diag.element_type(op.results[0])
    return diag.map_([mask], masked, result=dims, dtype=dtype, loc=op.location)


def decided_mask(op: ir.Operation) -> ir.Value | None:
    """A condition of positions that holds nowhere, or everywhere, is a constant."""
    decided = _decided(op)
    if decided is None:
        return None
    i1 = ir.IntegerType.get_signless(1)
    result = diag.dims(op.results[0])
    return diag.map_([], lambda: arith.constant(i1, decided), result=result, dtype=i1)


def _decided(op: ir.Operation) -> bool | None:
    """What sizes say of a map that yields a condition, None where they leave it open."""
    found, unequal = mask_conditions(op), unequal_form(op)
    if found is None and unequal is None:
        return None
    sizes = dict(size for e in _elements(op) for size in diag.dims(e.operands[0]).items())
    if unequal is not None:
        low, high = _range(unequal, sizes)
        if low is None or high is None:
            return None
        return False if low == high == 0 else (True if low > 0 or high < 0 else None)
    assert found is not None
    ranges = [_range(form, sizes) for form in found.forms]
    if any(high is not None and high < 0 for _, high in ranges):
        return False
    always = found.exact and all(low is not None and low >= 0 for low, _ in ranges)
    return True if always else None


def _range(form: Linear, sizes: dict[str, int]) -> tuple[int | None, int | None]:
    """The least and the largest value of a form, None where a size is open."""
    ends = [(factor, sizes.get(label, diag.DYNAMIC)) for label, factor in form.factors]
    if any(size == diag.DYNAMIC for _, size in ends):
        return None, None
    far = [factor * (size - 1) for factor, size in ends]
    return form.constant + sum(min(0, x) for x in far), form.constant + sum(max(0, x) for x in far)


def chunk_of_mask(op: ir.Operation) -> ir.Value | None:
    """The chunk of a map of positions is that map of chunks: no mask is stored."""
    source = _defining(op.operands[0])
    if source is None or not is_index_map(source):
        return None
    stream = op.parent.operation
    axis = ir.StringAttr(stream.attributes["axis"]).value
    mapping: Mapping = {}
    for element in _elements(source):
        wire = element.operands[0]
        if axis in diag.labels(wire) and wire not in mapping:
            mapping[wire] = diag.chunk(wire, axis, loc=op.location)
    copy = clone(source, mapping)
    copy.results[0].set_type(op.results[0].type)
    return copy.results[0]


def relabel_of_condition(op: ir.Operation) -> ir.Value | None:
    """The relabel of a condition of smaller wires, which nobody else reads, is one of relabels.

    Else the condition would be stored under its old labels.
    """
    source = _defining(op.operands[0])
    if source is None or source.name != "diag.map" or len(list(source.results[0].uses)) > 1:
        return None
    labels = set(diag.labels(source.results[0]))
    wires = dict.fromkeys(element.operands[0] for element in _elements(source))
    if str(diag.element_type(op.results[0])) != "i1" or any(
        labels == set(diag.labels(wire)) for wire in wires
    ):
        return None
    mapping: Mapping = {}
    for wire in wires:
        names = {k: v for k, v in op.opview.names.items() if k in diag.labels(wire)}
        mapping[wire] = diag.relabel(wire, names, loc=op.location) if names else wire
    copy = clone(source, mapping)
    copy.results[0].set_type(op.results[0].type)
    return copy.results[0]


_SIMPLER = {
    *("math.absf", "math.sqrt", "arith.maximumf", "arith.select", "arith.mulf", "arith.divf")
}
"""Ops that some identity of scalars starts from."""


def simplify_body(op: ir.Operation) -> ir.Value | None:
    """The body of a map by the identities of `algebra/simplification.py`."""
    body = [view.operation for view in op.regions[0].blocks[0].operations]
    names = {nested.name for nested in body}
    if len(names & _SIMPLER) == 0 or not is_exact(op) or not _has_one_float_type(body):
        return None
    terms = WireTerms()
    old = terms.definition(op.results[0])
    if old is None:
        return None
    opened = fold(old, lambda leaf: _opened(leaf, terms))
    new = simplified(opened)
    new = simplified(old) if new == opened else new
    if new == old:
        return None
    type_ = diag.element_type(op.results[0])
    return map_expr(new, terms.wires, type_, result=diag.dims(op.results[0]), loc=op.location)


def _opened(leaf: Expr, terms: WireTerms) -> Expr:
    """An absolute value that another map computes; other wires as they are."""
    inner = terms.definition(terms.wire(leaf))
    return inner if inner is not None and inner.op == "abs" else leaf


def _has_one_float_type(body: list[ir.Operation]) -> bool:
    """Whether all floats are f32, or all f64, the result among them."""
    types = {str(op.results[0].type) for op in body if len(op.results)}
    return types - {"i1"} in ({"f32"}, {"f64"}) and str(body[-1].operands[0].type) != "i1"


def contract_product(op: ir.Operation) -> ir.Value | None:
    """The sum of a product of two wires, none of which has all axes of the product, contracts.

    Else the product would be a wire of its own, larger than both.
    """
    source = _defining(op.operands[0])
    is_sum = op.attributes["kind"].value == "add" and source is not None
    if source is None or not is_sum or source.name != "diag.map" or not is_exact(source):
        return None
    body = [view.operation for view in source.regions[0].blocks[0].operations]
    if not _has_one_float_type(body) or len(list(source.results[0].uses)) > 1:
        return None
    terms = WireTerms()
    term = terms.definition(source.results[0])
    groups = None if term is None else _two_factors(term, terms, diag.labels(op.operands[0]))
    if groups is None:
        return None
    type_ = diag.element_type(op.results[0])
    over = diag.strings(op.attributes["over"])
    shared = [{a for n in symbols(f) for a in diag.labels(terms.wires[n])} for f in groups]
    if not all(set(over) <= labels for labels in shared):
        return None
    left, right = (map_expr(factor, terms.wires, type_, loc=source.location) for factor in groups)
    order = diag.labels(op.results[0])
    return diag.contract(left, right, over, dtype=type_, order=order, loc=op.location)


def sum_of_products(op: ir.Operation) -> ir.Value | None:
    """A contraction of two maps over the same axes is the sum of a map.

    It has no work for a matrix product, and a map may be simplified and streamed with its sum.
    """
    sources = [_defining(value) for value in op.operands]
    if not all(source is not None and source.name == "diag.map" for source in sources):
        return None
    wires = [*op.operands, op.results[0]]
    alike = len({str(diag.element_type(wire)) for wire in wires}) == 1
    wide = str(diag.element_type(op.results[0])) in ("f32", "f64")
    if not alike or not wide or len({frozenset(diag.labels(v)) for v in op.operands}) != 1:
        return None
    product = diag.map_(list(op.operands), arith.mulf, loc=op.location)
    found = diag.reduce(product, diag.strings(op.attributes["over"]), "add", loc=op.location)
    return found if found.type == op.results[0].type else None


def _two_factors(term: Expr, terms: WireTerms, axes: Sequence[str]) -> tuple[Expr, Expr] | None:
    """A product as two factors, each without some of `axes`; all that fits goes to the first."""
    factors = list(_factors_of(term))
    labels = [{a for name in symbols(f) for a in diag.labels(terms.wires[name])} for f in factors]
    largest = max(labels, key=len)
    first = [f for f, own in zip(factors, labels, strict=True) if own <= largest]
    rest = [f for f in factors if f not in first]
    others = {a for f, own in zip(factors, labels, strict=True) if f in rest for a in own}
    if not rest or largest >= set(axes) or others >= set(axes) or largest | others != set(axes):
        return None
    return _multiplied(first), _multiplied(rest)


def _factors_of(expr: Expr) -> Iterator[Expr]:
    if expr.op == "mul":
        for arg in expr.args:
            yield from _factors_of(arg)
    else:
        yield expr


def _multiplied(factors: list[Expr]) -> Expr:
    total = factors[0]
    for factor in factors[1:]:
        total = total * factor
    return total


MAP_PATTERNS: dict[str, tuple[Pattern, ...]] = {
    "diag.chunk": (chunk_of_mask,),
    "diag.map": (
        *(inline_literals, drop_identity_map, fuse_maps, separate_mask, decided_mask),
        *(distribute_not, move_number_last, widen_selected, simplify_body),
    ),
    "diag.reduce": (contract_product,),
    "diag.relabel": (relabel_of_condition,),
    "diag.contract": (sum_of_products,),
}


# ---- constants that upstream passes hoisted ----------------------------------------------------


def sink_constants(op: ir.Operation) -> None:
    """Give the body of map `op` its own copies of the scalar constants that it captures."""
    block = op.regions[0].blocks[0]
    inside: set[ir.Value] = set()
    copies: dict[ir.Value, ir.Value] = {}
    for view in list(block.operations):
        nested = view.operation
        for number, value in enumerate(nested.operands):
            if value in inside or (value not in copies and not _is_hoisted(value)):
                continue
            if value not in copies:
                at = ir.InsertionPoint.at_block_begin(block)
                copies[value] = clone(value.owner.operation, {}, at).results[0]
            nested.operands[number] = copies[value]
        inside.update(nested.results)


def _is_hoisted(value: ir.Value) -> bool:
    producer = _defining(value)
    return producer is not None and producer.name == "arith.constant"
