"""Random affine gathers: permute, slice, stride, flip, diagonal, split, merge, windows."""

from collections.abc import Callable, Sequence

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.testing.random_canvas import Canvas, Wire

__all__ = ["REINDEXINGS", "step_reindex"]

Gather = tuple[list[str], list[ir.AffineExpr]]


def _dims(count: int) -> list[ir.AffineExpr]:
    return [ir.AffineDimExpr.get(position) for position in range(count)]


def _constant(number: int) -> ir.AffineExpr:
    return ir.AffineConstantExpr.get(number)


def _static(canvas: Canvas, wire: Wire, least: int) -> list[str]:
    axes = (canvas.axes[label] for label in wire.labels)
    return [axis.label for axis in axes if not axis.dynamic and axis.size >= least]


def _permute(canvas: Canvas, wire: Wire) -> Gather | None:
    """Also of dynamic axes, which keep their labels."""
    order = list(wire.labels)
    canvas.rng.shuffle(order)
    dims = _dims(len(order))
    return order, [dims[order.index(label)] for label in wire.labels]


def _slice(canvas: Canvas, wire: Wire) -> Gather | None:
    """Positions start, start + step, … of one axis; a negative step runs backwards."""
    candidates = _static(canvas, wire, 2)
    if not candidates:
        return None
    axis = canvas.rng.choice(candidates)
    size = canvas.axes[axis].size
    step = canvas.rng.choice((1, 1, 2, 3, -1))
    start = canvas.rng.randrange(size)
    count = (size - 1 - start) // step + 1 if step > 0 else start + 1
    new = canvas.axis("long", count, False)
    dims = _dims(len(wire.labels))
    place = wire.labels.index(axis)
    dims[place] = dims[place] * step + start
    return [new if label == axis else label for label in wire.labels], dims


def _diagonal(canvas: Canvas, wire: Wire) -> Gather | None:
    pairs = [
        (first, second)
        for first in wire.labels
        for second in wire.labels
        if first < second and canvas.axes[first] and _same_size(canvas, first, second)
    ]
    if not pairs:
        return None
    first, second = canvas.rng.choice(pairs)
    labels = [label for label in wire.labels if label != second]
    dims = _dims(len(labels))
    return labels, [dims[labels.index(first if x == second else x)] for x in wire.labels]


def _same_size(canvas: Canvas, first: str, second: str) -> bool:
    one, two = canvas.axes[first], canvas.axes[second]
    return one.size == two.size and not one.dynamic and not two.dynamic


def _split(canvas: Canvas, wire: Wire) -> Gather | None:
    candidates = [x for x in _static(canvas, wire, 4) if canvas.axes[x].size % 2 == 0]
    if not candidates or len(wire.labels) > 3:
        return None
    axis = canvas.rng.choice(candidates)
    size = canvas.axes[axis].size
    inner = canvas.rng.choice([n for n in (2, 4, 8) if size % n == 0])
    major, minor = canvas.axis("long", size // inner, False), canvas.axis("long", inner, False)
    labels = [label for label in wire.labels if label != axis]
    labels += [major, minor]
    dims = _dims(len(labels))
    merged = dims[-2] * inner + dims[-1]
    return labels, [merged if x == axis else dims[labels.index(x)] for x in wire.labels]


def _merge(canvas: Canvas, wire: Wire) -> Gather | None:
    candidates = _static(canvas, wire, 1)
    if len(candidates) < 2:
        return None
    major, minor = canvas.rng.sample(candidates, 2)
    inner = canvas.axes[minor].size
    new = canvas.axis("long", canvas.axes[major].size * inner, False)
    labels = [label for label in wire.labels if label not in (major, minor)] + [new]
    dims = _dims(len(labels))
    outer = ir.AffineExpr.get_floor_div(dims[-1], _constant(inner))
    rest = ir.AffineExpr.get_mod(dims[-1], _constant(inner))
    parts = {major: outer, minor: rest}
    return labels, [parts[x] if x in parts else dims[labels.index(x)] for x in wire.labels]


def _windows(canvas: Canvas, wire: Wire) -> Gather | None:
    """Shifted views of one axis, as a convolution reads it."""
    candidates = _static(canvas, wire, 3)
    if not candidates or len(wire.labels) > 3:
        return None
    axis = canvas.rng.choice(candidates)
    size = canvas.axes[axis].size
    width, stride = canvas.rng.choice((2, 3)), canvas.rng.choice((1, 2))
    places = canvas.axis("long", (size - width) // stride + 1, False)
    taps = canvas.axis("feature", width, False)
    labels = [places if label == axis else label for label in wire.labels] + [taps]
    dims = _dims(len(labels))
    read = dims[labels.index(places)] * stride + dims[-1]
    return labels, [read if x == axis else dims[labels.index(x)] for x in wire.labels]


REINDEXINGS: Sequence[Callable[[Canvas, Wire], Gather | None]] = (
    _permute,
    _slice,
    _slice,
    _diagonal,
    _split,
    _merge,
    _windows,
)


def step_reindex(canvas: Canvas) -> bool:
    """Add one gather of a random kind."""
    wire = canvas.pick(lambda wire: len(wire.labels) > 0)
    if wire is None:
        return False
    gather = canvas.rng.choice(REINDEXINGS)(canvas, wire)
    if gather is None or not canvas.fits(gather[0]):
        return False
    labels, exprs = gather
    map_ = ir.AffineMap.get(len(labels), 0, exprs)
    value = diag.reindex(wire.value, canvas.dims(labels), map_)
    canvas.add(value, wire.bound, wire.exact)
    return True
