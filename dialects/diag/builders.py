"""Builder functions of the diag ops: result types are inferred, bad operands raise `VerifyError`.

All builders insert at the ambient insertion point and take an optional `loc`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diagc.dialects.diag.array_ops import (
    ConcatOp,
    ContractOp,
    ReduceOp,
    check_has,
    is_float,
    is_stored_float,
)
from diagc.dialects.diag.region_ops import STREAM_RESULTS
from diagc.dialects.diag.types import (
    DYNAMIC,
    VerifyError,
    dims,
    element_type,
    join_dims,
    labels,
    string_array,
    wire,
)
from diagc.mlir import arith, ir

__all__ = [
    "chunk",
    "concat",
    "constant",
    "contract",
    "index",
    "map_",
    "normalize",
    "pad",
    "reduce",
    "reindex",
    "relabel",
    "stream",
    "yield_",
]

Values = Sequence[ir.Value]


def _create(
    name: str,
    result: ir.Type | None,
    operands: Values,
    attributes: Mapping[str, ir.Attribute],
    loc: ir.Location | None,
    regions: int = 0,
) -> ir.Operation:
    results = [] if result is None else [result]
    return ir.Operation.create(
        f"diag.{name}",
        results=results,
        operands=list(operands),
        attributes=dict(attributes),
        regions=regions,
        loc=loc,
    )


def _wider(lhs: ir.Type, rhs: ir.Type) -> ir.Type:
    """The wider of two float types; f32 for a mix of bf16 and f16, and for f8 with a narrow one."""
    for element in (lhs, rhs):
        if not is_float(element):
            raise VerifyError(f"a contraction takes floats, found {element}")
    if lhs == rhs and not is_stored_float(lhs):
        return lhs
    width = {"f8E4M3FN": 16, "f16": 16, "bf16": 16, "f32": 32, "f64": 64}
    first, second = width[str(lhs)], width[str(rhs)]
    if first == second:
        return ir.F32Type.get()
    return lhs if first > second else rhs


def contract(
    lhs: ir.Value,
    rhs: ir.Value,
    over: Sequence[str],
    *,
    dtype: ir.Type | None = None,
    acc: ir.Type | None = None,
    order: Sequence[str] | None = None,
    loc: ir.Location | None = None,
) -> ir.Value:
    """Multiply and sum over the labels `over`; `order` permutes the axes of the result."""
    sizes = ContractOp.infer(lhs.type, rhs.type, over)
    element = dtype or _wider(element_type(lhs), element_type(rhs))
    attributes: dict[str, ir.Attribute] = {"over": string_array(over)}
    if acc is not None:
        attributes["acc"] = ir.TypeAttr.get(acc)
    result = wire(_ordered(sizes, order), element)
    return _create("contract", result, (lhs, rhs), attributes, loc).results[0]


def _ordered(sizes: Mapping[str, int], order: Sequence[str] | None) -> dict[str, int]:
    if order is None:
        return dict(sizes)
    if set(order) != set(sizes):
        raise VerifyError(f"result order {list(order)} must permute the axes {list(sizes)}")
    return {label: sizes[label] for label in order}


def reduce(
    src: ir.Value, over: Sequence[str], kind: str = "add", *, loc: ir.Location | None = None
) -> ir.Value:
    """Reduce the axes `over` with monoid `kind`."""
    result = wire(ReduceOp.infer(src.type, over), element_type(src))
    attributes = {"over": string_array(over), "kind": ir.StringAttr.get(kind)}
    return _create("reduce", result, (src,), attributes, loc).results[0]


def normalize(
    src: ir.Value,
    along: Sequence[str],
    kind: str,
    *,
    keep: ir.Value | None = None,
    parameters: Values = (),
    eps: float | None = None,
    eps_place: str | None = None,
    dtype: ir.Type | None = None,
    loc: ir.Location | None = None,
) -> ir.Value:
    """Normalise `src` along axes; `keep` (i1) excludes positions; `eps_place` is where `eps` is.

    `parameters` are those of the kind, in its order.
    """
    attributes: dict[str, ir.Attribute] = {
        "along": string_array(along),
        "kind": ir.StringAttr.get(kind),
    }
    if eps is not None:
        attributes["eps"] = ir.FloatAttr.get(ir.F64Type.get(), eps)
    if eps_place is not None:
        attributes["eps_place"] = ir.StringAttr.get(eps_place)
    operands = (src, *(() if keep is None else (keep,)))
    result = wire(dims(src), dtype or element_type(src))
    if not parameters:
        return _create("normalize", result, operands, attributes, loc).results[0]
    sizes = [1, len(operands) - 1, len(parameters)]
    attributes["operandSegmentSizes"] = ir.DenseI32ArrayAttr.get(sizes)
    operands = (*operands, *_alike(parameters, loc))
    return _create("normalize_with", result, operands, attributes, loc).results[0]


def _alike(values: Values, loc: ir.Location | None) -> Values:
    """Float wires with the axes that any of them has, in the widest type among them."""
    if len({value.type for value in values}) == 1:
        return values
    axes = {label: size for value in values for label, size in dims(value).items()}
    widest = max((ir.FloatType(element_type(v)) for v in values), key=lambda t: t.width)

    def widened(x: ir.Value) -> ir.Value:
        return arith.extf(widest, x) if ir.FloatType(x.type).width < widest.width else x

    return [map_([value], widened, result=axes, dtype=widest, loc=loc) for value in values]


def relabel(src: ir.Value, names: Mapping[str, str], *, loc: ir.Location | None = None) -> ir.Value:
    """The same array with axes renamed, `{old: new}`."""
    for label in names:
        if label not in labels(src):
            raise VerifyError(f'axis "{label}" is missing in the operand ({src.type})')
    renamed = [(names.get(label, label), size) for label, size in dims(src).items()]
    attributes = {"from": string_array(names), "to": string_array(names.values())}
    return _create("relabel", wire(renamed, element_type(src)), (src,), attributes, loc).results[0]


def reindex(
    src: ir.Value, result: Mapping[str, int], map_: ir.AffineMap, *, loc: ir.Location | None = None
) -> ir.Value:
    """Affine gather: `map_` goes from positions of the result axes to positions of the source."""
    attributes = {"map": ir.AffineMapAttr.get(map_)}
    return _create("reindex", wire(result, element_type(src)), (src,), attributes, loc).results[0]


def index(axis: str, size: int = DYNAMIC, *, loc: ir.Location | None = None) -> ir.Value:
    """Positions along `axis`, a wire of index elements."""
    result = wire({axis: size}, ir.IndexType.get())
    return _create("index", result, (), {"axis": ir.StringAttr.get(axis)}, loc).results[0]


def constant(
    value: ir.DenseElementsAttr | float,
    names: Sequence[str] = (),
    *,
    dtype: ir.Type | None = None,
    loc: ir.Location | None = None,
) -> ir.Value:
    """A literal: dense elements labelled `names`, or a number as a rank 0 wire (f32 by default)."""
    if isinstance(value, (bool, int, float)):
        element = dtype or ir.F32Type.get()
        shaped = ir.RankedTensorType.get([], element)
        scalar = (
            ir.IntegerAttr.get(element, int(value))
            if isinstance(element, (ir.IntegerType, ir.IndexType))
            else ir.FloatAttr.get(element, float(value))
        )
        value = ir.DenseElementsAttr.get_splat(shaped, scalar)
    shaped = ir.RankedTensorType(value.type)
    result = wire(list(zip(names, shaped.shape, strict=True)), shaped.element_type)
    return _create("constant", result, (), {"value": value}, loc).results[0]


def concat(
    lhs: ir.Value, rhs: ir.Value, axes: Sequence[str], to: str, *, loc: ir.Location | None = None
) -> ir.Value:
    """Join `lhs` along `axes[0]` and `rhs` along `axes[1]` into the new axis `to`."""
    result = wire(ConcatOp.infer(lhs.type, rhs.type, axes, to), element_type(lhs))
    attributes = {"axes": string_array(axes), "to": ir.StringAttr.get(to)}
    return _create("concat", result, (lhs, rhs), attributes, loc).results[0]


def pad(
    src: ir.Value,
    axis: str,
    to: str,
    low: int,
    high: int,
    value: float = 0.0,
    *,
    loc: ir.Location | None = None,
) -> ir.Value:
    """Extend `axis` by `low` and `high` positions that hold `value`; the new axis is `to`."""
    sizes = dims(src)
    check_has(tuple(sizes), axis, "operand", src.type)
    grown = DYNAMIC if sizes[axis] == DYNAMIC else sizes[axis] + low + high
    result = [(to, grown) if label == axis else (label, size) for label, size in sizes.items()]
    element = element_type(src)
    i64 = ir.IntegerType.get_signless(64)
    fill = (
        ir.FloatAttr.get(element, value)
        if not isinstance(element, (ir.IntegerType, ir.IndexType))
        else ir.IntegerAttr.get(element, int(value))
    )
    attributes = {
        "axis": ir.StringAttr.get(axis),
        "to": ir.StringAttr.get(to),
        "low": ir.IntegerAttr.get(i64, low),
        "high": ir.IntegerAttr.get(i64, high),
        "value": fill,
    }
    return _create("pad", wire(result, element), (src,), attributes, loc).results[0]


def map_(
    wires: Values,
    body: Callable[..., ir.Value],
    *,
    result: Mapping[str, int] | None = None,
    dtype: ir.Type | None = None,
    loc: ir.Location | None = None,
) -> ir.Value:
    """Elementwise `body(scalars…) -> scalar` over the union of the wires' labels.

    `result` gives the labelled sizes of the result when the union in order of appearance is not
    wanted. `dtype` is checked against what the body yields; by default it is taken from it.
    """
    sizes = dict(result) if result is not None else join_dims(dims(w) for w in wires)
    region_loc = loc or ir.Location.current
    # The element type is known once the body is built; a wrong guess is corrected in place.
    element = dtype or (element_type(wires[0]) if wires else ir.F32Type.get())
    op = _create("map", wire(sizes, element), (), {}, loc, regions=1)
    block = op.regions[0].blocks.append()
    with ir.InsertionPoint(block), region_loc:
        scalars = [_element(w, loc) for w in wires]
        value = body(*scalars)
        yield_(value, loc=loc)
    if value.type != element:
        if dtype is not None:
            message = f"map body yields {value.type}, expected {dtype}"
            op.erase()  # `value` is gone with it
            raise VerifyError(message)
        op.results[0].set_type(wire(sizes, value.type))
    return op.results[0]


def _element(src: ir.Value, loc: ir.Location | None) -> ir.Value:
    return _create("element", element_type(src), (src,), {}, loc).results[0]


def yield_(value: ir.Value, *, loc: ir.Location | None = None) -> None:
    """Give one result of the enclosing region."""
    _create("yield", None, (value,), {}, loc)


def chunk(src: ir.Value, axis: str, *, loc: ir.Location | None = None) -> ir.Value:
    """The current chunk along the stream's `axis` of an outer wire."""
    sizes = {label: DYNAMIC if label == axis else size for label, size in dims(src).items()}
    return _create("chunk", wire(sizes, element_type(src)), (src,), {}, loc).results[0]


def stream(
    axis: str,
    init: Callable[[], Values],
    body: Callable[..., Values],
    tail: Callable[..., Values],
    *,
    combine: Callable[..., Values] | None = None,
    where: ir.Value | None = None,
    law: Sequence[str] = (),
    properties: Sequence[str] = (),
    size: int = DYNAMIC,
    loc: ir.Location | None = None,
) -> list[ir.Value]:
    """A streamed operation along `axis`; the callables build regions and return the yielded wires.

    `body` and `tail` take the states; `combine` takes two sets of states. What the body gives
    behind the states are chunks of results, which stand behind those of the tail; `size` is that of
    the axis there.

    Raises:
        VerifyError: more than 8 results.
    """
    attributes: dict[str, Any] = {"axis": ir.StringAttr.get(axis)}
    if law:
        attributes["law"] = string_array(law)
    if properties:
        attributes["properties"] = string_array(properties)
    # Result types come from the tail, so the regions are built in a scratch op and moved.
    scratch = _create("stream", None, (), {"axis": attributes["axis"]}, loc, regions=4)
    states = [v.type for v in _region(scratch, 0, [], init, loc)]
    chunks = _region(scratch, 1, states, body, loc)[len(states) :]
    if combine is not None:
        _region(scratch, 2, states + states, combine, loc)
    results = [v.type for v in _region(scratch, 3, states, tail, loc)]
    results += [wire({**dims(v), axis: size}, element_type(v)) for v in chunks]
    if len(results) > STREAM_RESULTS:
        scratch.erase()
        raise VerifyError(f"a stream has at most {STREAM_RESULTS} results, found {len(results)}")
    present = [1] * len(results) + [0] * (STREAM_RESULTS - len(results))
    attributes["resultSegmentSizes"] = ir.DenseI32ArrayAttr.get(present)
    op = ir.Operation.create(
        "diag.stream",
        results=results,
        operands=[] if where is None else [where],
        attributes=attributes,
        regions=4,
        loc=loc,
    )
    for source, target in zip(scratch.regions, op.regions, strict=True):
        for block in list(source.blocks):
            block.append_to(target)
    scratch.erase()
    return list(op.results)


def _region(
    op: ir.Operation,
    index: int,
    arguments: Sequence[ir.Type],
    build: Callable[..., Values],
    loc: ir.Location | None,
) -> Values:
    where = loc or ir.Location.current
    block = op.regions[index].blocks.append(*arguments, arg_locs=[where] * len(arguments))
    with ir.InsertionPoint(block), where:
        values = build(*block.arguments)
        for value in values:
            yield_(value, loc=loc)
    return values
