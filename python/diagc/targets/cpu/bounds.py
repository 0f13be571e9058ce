"""The part of a streamed axis that a task visits: monotone masks are bounds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from diagc.algebra.bound_values import bound_value, read_bounds
from diagc.mlir import arith, ir
from diagc.targets.cpu.code import Code, Index
from diagc.targets.cpu.frame import Frame

__all__ = ["Fold", "Range", "StreamBounds", "stream_bounds"]

Fold = Callable[[ir.Value, str], ir.Value]
"""Of a wire, with a kind of reduction, over all positions of the task's tile."""


@dataclass(frozen=True)
class Range:
    """Positions low <= x < high: whether chunks are whole, whether masks are true everywhere."""

    low: Index
    high: Index
    whole: bool = False
    keeps: bool = False


@dataclass(frozen=True)
class StreamBounds:
    """Positions low <= x < high are visited; below `whole` every lane keeps every position."""

    code: Code
    high: Index
    whole: Index | None
    low: Index = 0

    def ranges(self, chunk: int, *, split: bool) -> Iterator[Range]:
        """The parts in order; with `split` whole chunks are a part, also where masks are not.

        Every part begins with a chunk of the whole axis.
        """
        code, keeps = self.code, self.whole is not None
        low = code.floor_to(self.low, chunk)
        if not keeps and not split:
            yield Range(low, self.high)
            return
        middle = code.floor_to(self.high if self.whole is None else self.whole, chunk)
        middle = middle if low == 0 else code.max(low, middle)
        yield Range(low, middle, whole=True, keeps=keeps)
        yield Range(middle, self.high)


def stream_bounds(frame: Frame, op: ir.Operation, axis: str, fold: Fold) -> StreamBounds:
    """Bounds from the attributes `diag.upper`, `diag.lower`, `diag.bound_axes`, `diag.bound_sizes`.

    `diag.upper` maps positions (symbols: sizes) to the first excluded position of `axis`; it grows
    with every position, so its value at the last lane bounds the tile, at the first lane the part
    without masks. `diag.lower` is the first position that is not excluded; it grows likewise.
    Of bounds that rows read, the largest and the smallest hold for the tile. Nothing is visited
    where no position of the tile has the op's condition.
    """
    code = frame.code
    size = frame.sizes[axis]
    high: Index = size
    whole: Index | None = None
    if "diag.upper" in op.attributes:
        at_last = _evaluate(frame, op, "diag.upper", last=True)
        at_first = _evaluate(frame, op, "diag.upper", last=False)
        high = code.max(code.min(size, at_last), 0)
        whole = code.max(code.min(high, at_first), 0)
    for wire, offset in read_bounds(op, "diag.upper").items():
        high = code.min(high, _read(code, fold(wire, "max"), offset, size))
        whole = None if whole is None else code.min(whole, high)
    low: Index = 0
    if "diag.lower" in op.attributes:
        low = code.max(code.min(high, _evaluate(frame, op, "diag.lower", last=False)), 0)
    for wire, offset in read_bounds(op, "diag.lower").items():
        low = code.max(low, code.min(high, _read(code, fold(wire, "min"), offset, size)))
    if len(op.operands):
        condition = fold(op.operands[0], "or")
        high = arith.select(condition, code.index(high), code.index(0))
        whole = None if whole is None else arith.select(condition, code.index(whole), code.index(0))
    return StreamBounds(code, high, whole, low)


def _read(code: Code, value: ir.Value, offset: int, size: Index) -> Index:
    """What was read plus a number, from 0 to the size: any integer may be read."""
    number = arith.index_cast(code.index_type, value)
    return code.add(code.max(code.min(number, code.sub(size, offset)), -offset), offset)


def _evaluate(frame: Frame, op: ir.Operation, name: str, *, last: bool) -> Index:
    """A bound at the first or last existing position of each of its axes in this task."""
    code = frame.code
    affine = ir.AffineMapAttr(op.attributes[name]).value
    axes = [ir.StringAttr(a).value for a in op.attributes["diag.bound_axes"]]
    positions = [_end(frame, label, last=last) for label in axes]
    sizes = []
    if "diag.bound_sizes" in op.attributes:
        sizes = [frame.sizes[ir.StringAttr(a).value] for a in op.attributes["diag.bound_sizes"]]
    return bound_value(code, affine.results[0], positions, sizes)


def _end(frame: Frame, label: str, *, last: bool) -> Index:
    code, base = frame.code, frame.base(label)
    if not last:
        return base
    if label in frame.grid:
        return base
    if label in frame.spans:
        span = frame.spans[label]
        return code.add(base, code.sub(code.min(span.count, span.tile), 1))
    return code.sub(frame.count(label), 1)
