"""Hand the large products of streams to the library, a block of the streamed axis at a time.

Before (log-sum-exp of a linear layer; 32768 classes, 512 features):

    %y = "diag.stream"() {axis = "c"}
      init:  m = -inf, z = 0
      body:  s = contract(x, chunk w),  m' = ...,  z' = ...
      tail:  y = m + log z

After:

    %m, %z = map -inf, map 0
    %m1, %z1 = call @blocks_c(%m, %z, %w, %x)
    %y = map m1 + log z1
    func.func private @blocks_c(%m, %z, %w, %x)
        attributes {diag.blocks = {axis = "c", states = 2}} {
      %s = "diag.contract"(%x, %w) {over = ["d"], diag.library}
      %m', %z' = a stream over the block, and maps
      return %m', %z'
    }

The function is called once for each block of positions, with the states of the block before: what
carries the axis is cut, the rest is given whole. The run time chooses how long blocks are from the
sizes, so that a block's wires fit a budget. In the function, reductions of the block are derived
again as streams, now of wires that the library wrote.

Requires: streams are derived; run on the module.

Declines: a stream whose products are small, shallow or batched, which one kernel computes as fast;
streams in streams; one with a `where`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from diagc.algebra.dataflow import reduced_axes
from diagc.cost import stream_size
from diagc.dialects import diag
from diagc.mlir import builtin, func, ir
from diagc.options import current
from diagc.passes.base import Pass
from diagc.passes.cloning import Mapping, clone, used_values
from diagc.passes.contractions.product_times import DTYPES, blocks_seconds, kernel_seconds
from diagc.passes.kernels.kernel_axes import is_leaf
from diagc.passes.kernels.library_products import LIBRARY, WALKED, is_library_product
from diagc.passes.kernels.outlining import unique_symbol
from diagc.passes.remarks import counted, declined, done
from diagc.passes.streams.derive_streams import DeriveStreamsPass

__all__ = ["BlockStreamsPass"]

_INIT, _BODY, _TAIL = 0, 1, 3


@dataclass(frozen=True)
class BlockStreamsPass(Pass):
    """hand the large products of streams to the library, a block of the axis at a time."""

    name: ClassVar[str] = "block-streams"
    anchor: ClassVar[str] = "builtin.module"
    library: str = "auto"
    products: bool = False
    """Whether kernels of the target have products on tensor cores that walk long sums in pieces."""

    def run(self, op: ir.Operation) -> None:
        """Visit every stream of every function that is no kernel; `library=none` leaves all."""
        if self.library == "none":
            return
        functions = [f.operation for f in op.regions[0].blocks[0].operations]
        for function in functions:
            if function.name != "func.func" or not len(function.regions[0].blocks):
                continue
            if diag.is_kernel(function) or diag.is_blocks(function):
                continue
            for stream in [o.operation for o in diag.function_body(function).operations]:
                if stream.name != "diag.stream" or not _is_blocked(stream):
                    continue
                if not self.products or not _stays(function, stream):
                    _block(stream)


def _body(stream: ir.Operation, region: int) -> list[ir.Operation]:
    return [op.operation for op in stream.regions[region].blocks[0].operations]


def _is_blocked(stream: ir.Operation) -> bool:
    ops = _body(stream, _BODY)
    if len(stream.operands) or stream.opview.emitted:
        return False
    if any(op.name == "diag.stream" for op in ops):
        return False
    return bool(_library_products(stream))


def _stays(function: ir.Operation, stream: ir.Operation) -> bool:
    """Whether one kernel of its own is estimated to be faster, which walks the product's sum."""
    contractions = [op for op in _body(stream, _BODY) if op.name == "diag.contract"]
    if len(contractions) != 1 or not current().target.endswith("sm_90a"):
        return False
    (op,), sizes = contractions, stream_size(stream)
    types = {str(diag.element_type(value)) for value in op.operands}
    if len(types) != 1 or not types <= set(DTYPES) or not _rows_stay(stream, op):
        return False
    axis = str(ir.StringAttr(stream.attributes["axis"]).value)
    rows, columns = sorted(op.operands, key=lambda value: axis in diag.labels(value))
    own, blocks = kernel_seconds([op], [rows], [columns], sizes), blocks_seconds(op, sizes)
    text = (
        f"one kernel, whose product walks what it sums over, is estimated at {1e6 * own:.3g} µs, "
        f"the library's products of blocks, and a kernel that takes them in, at {1e6 * blocks:.3g} "
        "µs"
    )
    if own >= blocks:
        declined(function, stream, text, stays=False)
        return False
    done(stream, text)
    stream.attributes[WALKED] = ir.UnitAttr.get()
    return True


def _rows_stay(stream: ir.Operation, op: ir.Operation) -> bool:
    """Whether one operand does not stream, and nothing else of the body reads it."""
    axis = str(ir.StringAttr(stream.attributes["axis"]).value)
    rows = [value for value in op.operands if axis not in diag.labels(value)]
    readers = [x for x in diag.walk_ops(stream.regions[1]) if set(rows) & set(x.operands)]
    summed = [diag.dims(value)[x] for value in rows for x in reduced_axes(op)]
    return len(rows) == 1 and len(readers) == 1 and len(summed) == 1 and summed[0] != diag.DYNAMIC


def _library_products(stream: ir.Operation) -> list[ir.Operation]:
    """Contractions of the body that are faster in the library, without regard to the rest."""
    known = stream_size(stream)
    ops = _body(stream, _BODY)
    return [op for op in ops if op.name == "diag.contract" and is_library_product(op, known)]


def _block(stream: ir.Operation) -> None:
    """Replace a stream by its init, a call of the function of its body, and its tail."""
    axis = str(ir.StringAttr(stream.attributes["axis"]).value)
    products = _library_products(stream)
    for op in products:
        op.attributes[LIBRARY] = ir.UnitAttr.get()
    with ir.InsertionPoint(stream), stream.location:
        states = _inline(stream, _INIT, [])
        outer, function = _make_function(stream, axis)
        operands = [*states, *(_opened(value, axis) for value in outer)]
        types = [value.type for value in states]
        symbol = ir.FlatSymbolRefAttr.get(diag.symbol_of(function))
        call = func.CallOp(types, symbol, operands)
        results = _inline(stream, _TAIL, list(call.results))
    done(stream, _told(axis, len(products)))
    for old, new in zip(stream.results, results, strict=True):
        old.replace_all_uses_with(new)
    stream.erase()
    DeriveStreamsPass().run(function)


def _told(axis: str, products: int) -> str:
    return (
        f'axis "{axis}" goes by in blocks: the library multiplies each block '
        f"({counted(products, 'product')} deep enough to be faster there), kernels take it in, and "
        "no more than a block exists at a time"
    )


def _inline(stream: ir.Operation, region: int, arguments: Sequence[ir.Value]) -> list[ir.Value]:
    """Clone a region in front of the stream; gives what it yields."""
    block = stream.regions[region].blocks[0]
    mapping: Mapping = dict(zip(block.arguments, arguments, strict=True))
    return _clone_region(_body(stream, region), mapping)


def _clone_region(ops: Sequence[ir.Operation], mapping: Mapping) -> list[ir.Value]:
    found: list[ir.Value] = []
    for op in ops:
        if op.name == "diag.yield":
            found += [mapping.get(value, value) for value in op.operands]
        elif op.name != "diag.chunk":
            clone(op, mapping)
    return found


def _opened(value: ir.Value, axis: str) -> ir.Value:
    """`value` with an open size along the axis: a function of blocks takes any length."""
    if not diag.is_wire(value.type) or diag.dims(value).get(axis, diag.DYNAMIC) == diag.DYNAMIC:
        return value
    return builtin.UnrealizedConversionCastOp([_open_type(value, axis)], [value]).results[0]


def _open_type(value: ir.Value, axis: str) -> ir.Type:
    if not diag.is_wire(value.type):
        return value.type
    dims = {k: diag.DYNAMIC if k == axis else n for k, n in diag.dims(value).items()}
    return diag.wire(dims, diag.element_type(value))


def _outer_values(stream: ir.Operation) -> list[ir.Value]:
    """What the body reads from outside, but literals, each once."""
    block = stream.regions[_BODY].blocks[0]
    inside = {result for op in _body(stream, _BODY) for result in op.results}
    inside.update(block.arguments)
    used = dict.fromkeys(v for op in _body(stream, _BODY) for v in used_values(op))
    return [value for value in used if value not in inside and not _is_literal(value)]


def _is_literal(value: ir.Value) -> bool:
    if isinstance(value.owner, ir.Block) or value.owner.operation.name == "diag.index":
        return False
    return is_leaf(value.owner.operation)


def _make_function(stream: ir.Operation, axis: str) -> tuple[list[ir.Value], ir.Operation]:
    """The function of one block, and the outer values that it takes behind the states."""
    outer = _outer_values(stream)
    body = stream.regions[_BODY].blocks[0]
    states = [argument.type for argument in body.arguments]
    inputs = [*states, *(_open_type(value, axis) for value in outer)]
    module = stream.parent.operation.parent.operation
    with ir.InsertionPoint(module.regions[0].blocks[0]):
        made = func.FuncOp("blocks", (inputs, states), visibility="private").operation
    made.attributes["sym_name"] = ir.StringAttr.get(unique_symbol(f"blocks_{axis}", made))
    made.attributes[diag.BLOCKS] = diag.blocks_attr(axis, len(states))
    locations = [value.location for value in (*body.arguments, *outer)]
    block = made.regions[0].blocks.append(*inputs, arg_locs=locations)
    mapping: Mapping = dict(zip((*body.arguments, *outer), block.arguments, strict=True))
    with ir.InsertionPoint(block):
        _clone_body(_body(stream, _BODY), mapping)
    return outer, made


def _clone_body(ops: Sequence[ir.Operation], mapping: Mapping) -> None:
    """Clone the body of a stream as that of the function of one of its blocks."""
    for op in ops:
        for value in used_values(op):
            if value not in mapping and _is_literal(value):
                clone(value.owner.operation, mapping)
        if op.name == "diag.chunk":
            mapping[op.results[0]] = mapping[op.operands[0]]
    results = _clone_region(ops, mapping)
    func.ReturnOp(results)
