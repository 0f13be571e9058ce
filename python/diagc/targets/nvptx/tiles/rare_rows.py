"""Analysis: results that few rows have from a stream, which runs where a condition holds for them.

    w    = rows that may have lost accuracy
    s    = diag.stream(w) ...                       runs where a row of the block is in w
    out  = select(w, f(s), g(fast))                 s is read under w alone

All rows are written first as if w held for none, from what is fast; if it holds for one, the block
runs the stream, and writes the rows in w again. So the states of the stream never stand in
registers beside products that are fast, nor does a number of a row that is not in w depend on it.
"""

from collections.abc import Iterator

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.targets.nvptx.tiles.plan import Plan, Staged, stage_of, trace

__all__ = ["rare_stream", "read_again"]


def rare_stream(plan: Plan) -> ir.Operation | None:
    """The stream of a kernel all of whose results are written so; None where they are not."""
    streams = plan.streams()
    if len(streams) != 1 or len(streams[0].operands) != 1 or plan.tiled is not None:
        return None
    (op,) = streams
    (condition,) = op.operands
    (*_, end) = diag.function_body(plan.kernel).operations
    by_rows = plan.shape(condition) == (True, None) and plan.sum_over_rows is None
    written = all(plan.shape(value)[0] for value in end.operands)
    guarded = all(_is_guarded(use.owner, condition) for value in op.results for use in value.uses)
    return op if by_rows and written and guarded else None


def _is_guarded(reader: ir.OpView, condition: ir.Value) -> bool:
    """Whether an op is an element of a map that is selected under a condition alone."""
    op = reader.operation
    if op.name != "diag.element":
        return False
    uses = list(op.results[0].uses)
    return all(
        use.owner.operation.name == "arith.select"
        and use.operand_number == 1
        and _is_element(use.owner.operation.operands[0], condition)
        for use in uses
    )


def _is_element(scalar: ir.Value, wire: ir.Value) -> bool:
    if isinstance(scalar.owner, ir.Block):
        return False
    op = scalar.owner.operation
    return bool(op.name == "diag.element" and op.operands[0] == wire)


def read_again(plan: Plan, stream: ir.Operation) -> set[Staged]:
    """What stays in shared memory and is read when rows are written again."""
    (*_, end) = diag.function_body(plan.kernel).operations
    stack, seen = list(end.operands), set(end.operands)
    found = set[Staged]()
    while stack:
        value = stack.pop()
        if trace(value) is not None:
            staged = stage_of(plan, value)
            found |= {staged} if staged in plan.staged else set()
            continue
        wires = set(_read_by(value, stream)) - seen if not isinstance(value.owner, ir.Block) else ()
        seen |= set(wires)
        stack += wires
    return {staged for staged in found if staged.streamed is None}


def _read_by(value: ir.Value, stream: ir.Operation) -> Iterator[ir.Value]:
    """The wires that an op reads where the condition of a stream holds."""
    op = value.owner.operation
    if op.name == "diag.map":
        *_, end = op.regions[0].blocks[0].operations
        yield from _read_scalars(end.operation.operands[0], stream.operands[0])
    elif op.name == "diag.stream":
        for inner in (x for region in op.regions for x in diag.walk_ops(region)):
            yield from (x for x in inner.operands if diag.is_wire(x.type))
    else:
        yield from op.operands


def _read_scalars(scalar: ir.Value, condition: ir.Value) -> Iterator[ir.Value]:
    if isinstance(scalar.owner, ir.Block):
        return
    op = scalar.owner.operation
    if op.name == "diag.element":
        yield op.operands[0]
        return
    known = op.name == "arith.select" and _is_element(op.operands[0], condition)
    for operand in [op.operands[1]] if known else op.operands:
        yield from _read_scalars(operand, condition)
