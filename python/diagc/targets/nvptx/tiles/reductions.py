"""Reductions of tiles: in the thread, over the lanes that share a row, over the rows of a block."""

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.layouts import Slot, Tile

__all__ = ["combine", "over_block", "over_lanes", "reduce_columns", "reduce_rows"]

_ROW_LANES = (4, 8, 16)
_QUAD_LANES = (1, 2)


def combine(kind: str, a: ir.Value, b: ir.Value) -> ir.Value:
    """Two elements by a monoid of the dialect's table."""
    if isinstance(a.type, ir.FloatType):
        contract = ir.Attribute.parse("#arith.fastmath<contract>")
        if kind == "add":
            return arith.addf(a, b, fastmath=contract)
        return {"mul": arith.mulf, "max": arith.maximumf, "min": arith.minimumf}[kind](a, b)
    table = {
        "add": arith.addi,
        "mul": arith.muli,
        "max": arith.maxsi,
        "min": arith.minsi,
        "or": arith.ori,
        "and": arith.andi,
    }
    return table[kind](a, b)


def reduce_columns(frame: Frame, kind: str, tile: Tile, element: ir.Type) -> Tile:
    """Fold the columns of a tile; the result has its rows, if any."""
    label = tile.column
    assert label is not None, "there are columns to reduce"

    def make(slot: Slot) -> ir.Value:
        found: ir.Value | None = None
        for column in range(frame.columns(label)):
            for pair in (0, 1):
                at = slot._replace(column=column, pair=pair)
                value = _existing(frame, kind, tile.at(at), element, frame.exists(label, at))
                found = value if found is None else combine(kind, found, value)
        return over_lanes(frame, kind, found, _QUAD_LANES)

    return Tile(frame.code, tile.rows, None, tile.element, make)


def reduce_rows(frame: Frame, kind: str, tile: Tile, element: ir.Type) -> Tile:
    """Fold the rows of a tile that has no columns, over all warps of the block."""
    made: list[ir.Value] = []

    def make(_slot: Slot) -> ir.Value:
        if not made:
            made.append(over_block(frame, kind, _thread_rows(frame, kind, tile, element)))
        return made[0]

    return Tile(frame.code, False, None, tile.element, make)


def _thread_rows(frame: Frame, kind: str, tile: Tile, element: ir.Type) -> ir.Value:
    found: ir.Value | None = None
    for slot in tile.slots(frame.blocks, 1):
        exists = frame.exists(frame.row, slot)
        value = _existing(frame, kind, tile.at(slot), element, exists)
        found = value if found is None else combine(kind, found, value)
    return over_lanes(frame, kind, found, _ROW_LANES)


def over_block(frame: Frame, kind: str, value: ir.Value) -> ir.Value:
    """Every thread gets the fold of all warps' values, through shared memory."""
    code, warps = frame.code, frame.schedule.warps
    if warps == 1:
        return value
    offset, size = frame.scratch, 4
    code.barrier()
    place = code.address(code.address(frame.smem, code.mul(frame.warp, size)), offset)
    first = arith.cmpi(arith.CmpIPredicate.eq, frame.lane, code.index(0))
    code.when(first, lambda: code.store(value, place, size))
    code.barrier()
    found: ir.Value | None = None
    for warp in range(warps):
        part = code.load(value.type, code.address(frame.smem, offset + warp * size), size)
        found = part if found is None else combine(kind, found, part)
    assert found is not None
    return found


def _existing(
    frame: Frame, kind: str, value: ir.Value, element: ir.Type, exists: ir.Value | None
) -> ir.Value:
    """The value, or the monoid's identity where the position does not exist."""
    if exists is None:
        return value
    identity = diag.identity_attr(kind, element).value
    return arith.select(exists, value, frame.code.scalar(value.type, identity))


def over_lanes(
    frame: Frame, kind: str, value: ir.Value | None, distances: tuple[int, ...]
) -> ir.Value:
    """Fold over lanes by exchanges; conditions travel as i32."""
    code = frame.code
    assert value is not None, "tiles are not empty"
    narrow = value.type == code.i1
    found = arith.extui(code.i32, value) if narrow else value
    for distance in distances:
        found = combine(kind, found, code.exchange(found, distance))
    return arith.trunci(code.i1, found) if narrow else found
