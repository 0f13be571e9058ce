"""The steps by which a random diagram grows: each adds one op, or a few that belong together."""

from collections.abc import Callable, Sequence
from math import log2

from diagc.dialects import diag
from diagc.mlir import arith, ir, math_dialect
from diagc.testing.random_canvas import LARGEST_CONTRACTION, Canvas, Wire
from diagc.testing.random_scalars import CONSTANTS, Term, expression, widen

__all__ = ["STEPS", "compute_type", "contract", "float_type", "keep_mask", "map_of", "scale"]

_FLOATS = ("f32", "f32", "f32", "f32", "bf16", "bf16", "f16", "f64")


def float_type(canvas: Canvas) -> ir.Type:
    """A random float type: f32 half the time."""
    return ir.Type.parse(canvas.rng.choice(_FLOATS))


def compute_type(wires: Sequence[Wire]) -> ir.Type:
    """The type that maps compute in: f64 when an operand has it, else f32."""
    wide = any(wire.element == "f64" for wire in wires)
    return ir.F64Type.get() if wide else ir.F32Type.get()


def scale(canvas: Canvas, wire: Wire, factor: float) -> Wire:
    """Multiply by a constant."""

    def body(x: ir.Value) -> ir.Value:
        return arith.mulf(x, arith.constant(x.type, factor))

    return canvas.add(diag.map_([wire.value], body), wire.bound * factor)


def contract(canvas: Canvas, lhs: Wire, rhs: Wire, over: Sequence[str]) -> Wire:
    """Contract, then often scale by a power of two near 1 / sqrt(n)."""
    n = max(1, canvas.size(over))
    dtype = None
    if {lhs.element, rhs.element} <= {"f16", "bf16"} and canvas.chance(0.5):
        dtype = ir.F32Type.get()
    free = [label for label in dict.fromkeys((*lhs.labels, *rhs.labels)) if label not in over]
    value = diag.contract(lhs.value, rhs.value, over, dtype=dtype, order=canvas.shuffled(free))
    # typical size, not the worst: products of tame numbers have random signs
    bound = lhs.bound * rhs.bound * n**0.5
    wire = canvas.add(value, bound)
    if bound > 4 or canvas.chance(0.3):
        factor = 2.0 ** -round(log2(max(1.0, bound / 3)))
        wire = scale(canvas, wire, factor)
    return wire


def map_of(canvas: Canvas, wires: Sequence[Wire], labels: Sequence[str] | None = None) -> Wire:
    """A map of a random expression of these wires."""
    type_ = compute_type(wires)
    elements = {wire.element for wire in wires}
    native = len(elements) == 1 and canvas.chance(0.15)  # arithmetic in bf16 or f16 itself
    if native:
        type_ = diag.element_type(wires[0].value)
    result = type_ if native or canvas.chance(0.7) else diag.element_type(wires[0].value)
    found: list[Term] = []

    def body(*scalars: ir.Value) -> ir.Value:
        terms = [
            Term(widen(scalar, type_), wire.bound)
            for scalar, wire in zip(scalars, wires, strict=True)
        ]
        found.append(expression(canvas.rng, terms, canvas.rng.randint(1, 3)))
        return widen(found[0].value, result)

    union = list(dict.fromkeys(label for wire in wires for label in wire.labels))
    dims = canvas.dims(canvas.shuffled(labels if labels is not None else union))
    value = diag.map_([wire.value for wire in wires], body, result=dims)
    return canvas.add(value, found[0].bound)


def _fitting(canvas: Canvas, labels: Sequence[str]) -> Callable[[Wire], bool]:
    return lambda wire: canvas.fits(labels, wire.labels)


def _step_map(canvas: Canvas) -> bool:
    first = canvas.pick()
    if first is None:
        return False
    wires, labels = [first], list(first.labels)
    for _ in range(canvas.rng.choice((0, 1, 1, 2))):
        other = canvas.pick(_fitting(canvas, tuple(labels)))
        if other is None and first.labels:  # a bias over some of the axes
            count = canvas.rng.randint(1, len(first.labels))
            other = canvas.input(canvas.rng.sample(first.labels, count), float_type(canvas))
        if other is not None and other not in wires:
            wires.append(other)
            labels = list(dict.fromkeys([*labels, *other.labels]))
    map_of(canvas, wires)
    return True


def _step_new_axis(canvas: Canvas) -> bool:
    """A map whose result has an axis that no operand has."""
    wire = canvas.pick()
    if wire is None:
        return False
    known = [label for other in canvas.wires if other.exact for label in other.labels]
    label = canvas.rng.choice(known) if known and canvas.chance(0.5) else None
    if label is None:  # nothing but its type says how long it is
        label = canvas.axis("batch", dynamic=False)
    if label in wire.labels or not canvas.fits(wire.labels, [label]):
        return False
    map_of(canvas, [wire], [*wire.labels, label])
    return True


def _step_contract(canvas: Canvas) -> bool:
    lhs = canvas.pick(lambda wire: len(wire.labels) > 0)
    if lhs is None:
        return False
    over = canvas.rng.sample(lhs.labels, 2 if len(lhs.labels) > 2 and canvas.chance(0.25) else 1)

    def fits(rhs: Wire) -> bool:
        free = set(lhs.labels) | set(rhs.labels)
        small = canvas.size(list(free)) <= LARGEST_CONTRACTION
        return small and canvas.fits(list(free - set(over))) and set(over) <= set(rhs.labels)

    rhs = canvas.pick(lambda wire: wire is not lhs and fits(wire)) if canvas.chance(0.5) else None
    if rhs is None:
        woven = [label for label in lhs.labels if label not in over and canvas.chance(0.2)]
        rhs = canvas.input([*over, *woven, canvas.axis("feature")], float_type(canvas))
        if not fits(rhs):
            return False
    contract(canvas, lhs, rhs, over)
    return True


def _step_reduce(canvas: Canvas) -> bool:
    wire = canvas.pick(lambda wire: len(wire.labels) > 0)
    if wire is None:
        return False
    over = canvas.rng.sample(wire.labels, 2 if len(wire.labels) > 1 and canvas.chance(0.2) else 1)
    n = canvas.size(over)
    if canvas.chance(0.2) and n <= 16:
        bounded = diag.map_([wire.value], lambda x: math_dialect.tanh(x))
        canvas.add(diag.reduce(bounded, over, "mul"), 1.0)
        return True
    kind = canvas.rng.choice(("add", "add", "add", "max", "min"))
    if kind != "add" and n == 0:
        return False  # an infinite wire hides what comes after it
    reduced = canvas.add(diag.reduce(wire.value, over, kind), wire.bound)
    if kind == "add" and n > 3:
        scale(canvas, reduced, 2.0 ** -round(log2(n) / 2))
    return True


# kind -> places of eps that make sense for it
_KINDS: dict[str, tuple[str | None, ...]] = {
    "softmax": (None,),
    "l2": (None, "inside", "outside"),
    "l1": (None, "outside"),
    "relu-sum": (None, "outside"),
    "sigmoid": (None,),
    "none": (None,),
    "rms": (None, "inside", "inside"),
    "layer": ("inside", "inside", "outside"),
}


def normalize(canvas: Canvas, wire: Wire, along: Sequence[str], keep: ir.Value | None) -> Wire:
    """A normaliser of random kind, with eps where the kind has a place for it."""
    kind = canvas.rng.choice(list(_KINDS))
    place = canvas.rng.choice(_KINDS[kind])
    eps = None if place is None else canvas.rng.choice((2.0**-6, 2.0**-10, 2.0**-17))
    value = diag.normalize(wire.value, along, kind, keep=keep, eps=eps, eps_place=place)
    grown = {"rms": 4.0, "layer": 4.0, "none": wire.bound}.get(kind, 1.0)
    return canvas.add(value, grown)


def _step_normalize(canvas: Canvas) -> bool:
    wire = canvas.pick(lambda wire: len(wire.labels) > 0)
    if wire is None:
        return False
    along = canvas.rng.sample(wire.labels, 2 if len(wire.labels) > 2 and canvas.chance(0.1) else 1)
    keep = keep_mask(canvas, wire.labels) if canvas.chance(0.35) else None
    normalize(canvas, wire, along, keep)
    return True


def keep_mask(canvas: Canvas, labels: Sequence[str]) -> ir.Value:
    """An i1 wire over some of `labels`: an input, or a condition on positions, or both."""
    chosen = canvas.rng.sample(labels, min(len(labels), canvas.rng.choice((1, 2))))
    masks = []
    if len(chosen) == 2 and canvas.chance(0.7):
        masks.append(_position_mask(canvas, *chosen))
    if not masks or canvas.chance(0.3):
        masks.append(canvas.input(chosen, ir.Type.parse("i1")).value)
    if len(masks) == 1:
        return masks[0]
    return diag.map_(masks, canvas.rng.choice((arith.andi, arith.ori)))


def _position_mask(canvas: Canvas, row: str, column: str) -> ir.Value:
    """Causal with an offset, a window, a stripe, or the bits of a hash, as dropout takes them."""
    offset = canvas.rng.choice((0, 0, 1, 3, 8))
    kind = canvas.rng.choice(("causal", "causal", "window", "stripe", "hash"))
    if kind == "hash":
        return diag.map_([canvas.position(row), canvas.position(column)], _hashed)

    def body(i: ir.Value, j: ir.Value) -> ir.Value:
        shift = arith.constant(i.type, offset)
        causal = arith.cmpi(arith.CmpIPredicate.sge, arith.addi(i, shift), j)
        if kind == "causal":
            return causal
        if kind == "window":
            reach = arith.addi(j, arith.constant(i.type, offset + 4))
            return arith.andi(causal, arith.cmpi(arith.CmpIPredicate.slt, i, reach))
        rest = arith.remui(arith.addi(i, j), arith.constant(i.type, 3))
        return arith.cmpi(arith.CmpIPredicate.ne, rest, arith.constant(i.type, 0))

    return diag.map_([canvas.position(row), canvas.position(column)], body)


def _hashed(i: ir.Value, j: ir.Value) -> ir.Value:
    """A bit of a mix of two positions."""
    i32 = ir.IntegerType.get_signless(32)
    first, second = (arith.index_cast(i32, position) for position in (i, j))
    mixed = arith.addi(arith.muli(first, arith.constant(i32, 73856093)), second)
    mixed = arith.xori(mixed, arith.shrui(mixed, arith.constant(i32, 13)))
    mixed = arith.muli(mixed, arith.constant(i32, 19349663))
    kept = arith.andi(arith.shrui(mixed, arith.constant(i32, 7)), arith.constant(i32, 3))
    return arith.cmpi(arith.CmpIPredicate.ne, kept, arith.constant(i32, 0))


def _step_select(canvas: Canvas) -> bool:
    """A map that selects by position or by the sign of an input."""
    wire = canvas.pick(lambda wire: len(wire.labels) > 0)
    if wire is None:
        return False
    if wire.exact and canvas.chance(0.3):
        masked = wire.value

        def sign(x: ir.Value) -> ir.Value:
            zero = arith.constant(x.type, 0.0)
            positive = arith.cmpf(arith.CmpFPredicate.OGT, x, zero)
            return arith.select(positive, x, zero)

        canvas.add(diag.map_([masked], sign), wire.bound)
        return True
    other = arith.constant(diag.element_type(wire.value), canvas.rng.choice((*CONSTANTS, 0.0)))
    mask = keep_mask(canvas, wire.labels)
    if canvas.chance(0.25):  # rows that have any, or only, true positions
        over = canvas.rng.sample(diag.labels(mask), 1)
        mask = diag.reduce(mask, over, canvas.rng.choice(("or", "and")))
    value = diag.map_([wire.value, mask], lambda x, keep: arith.select(keep, x, other))
    canvas.add(value, max(wire.bound, 2.0))
    return True


def _step_positions(canvas: Canvas) -> bool:
    """Add a multiple of a distance between positions, as ALiBi does."""
    wire = canvas.pick(lambda wire: len(wire.labels) > 0 and wire.element in ("f32", "f64"))
    if wire is None:
        return False
    labels = canvas.rng.sample(wire.labels, min(2, len(wire.labels)))
    slope = canvas.rng.choice((-(2.0**-4), 2.0**-6, -(2.0**-7)))
    i32 = ir.IntegerType.get_signless(32)

    def body(x: ir.Value, *positions: ir.Value) -> ir.Value:
        numbers = [arith.sitofp(x.type, arith.index_cast(i32, position)) for position in positions]
        far = numbers[0] if len(numbers) == 1 else arith.subf(numbers[0], numbers[1])
        return arith.addf(x, arith.mulf(far, arith.constant(x.type, slope)))

    wires = [wire.value, *(canvas.position(label) for label in labels)]
    value = diag.map_(wires, body, result=diag.dims(wire.value))
    canvas.add(value, wire.bound + abs(slope) * max(canvas.axes[label].size for label in labels))
    return True


def _step_relabel(canvas: Canvas) -> bool:
    wire = canvas.pick(lambda wire: len(wire.labels) > 0)
    if wire is None:
        return False
    old = canvas.rng.choice(wire.labels)
    new = canvas.like(old)
    canvas.add(diag.relabel(wire.value, {old: new}), wire.bound, wire.exact)
    return True


def _step_cast(canvas: Canvas) -> bool:
    wire = canvas.pick()
    if wire is None:
        return False
    type_ = float_type(canvas)
    if str(type_) == wire.element:
        return False
    canvas.add(diag.map_([wire.value], lambda x: widen(x, type_)), wire.bound)
    return True


def _step_constant(canvas: Canvas) -> bool:
    """A small table over a static axis of a wire, multiplied or added to it.

    Not a table of one number: passes may fold functions of that in f32.
    """
    static = [label for label, axis in canvas.axes.items() if not axis.dynamic and axis.size > 1]
    wire = canvas.pick(lambda wire: any(label in static for label in wire.labels))
    if wire is None:
        return False
    label = canvas.rng.choice([label for label in wire.labels if label in static])
    element = ir.Type.parse(canvas.rng.choice(("f32", "f32", "bf16")))
    size = canvas.axes[label].size
    numbers = [-1.0, *(canvas.rng.choice(CONSTANTS) for _ in range(size - 1))]
    attr = ir.DenseElementsAttr.get(
        [ir.FloatAttr.get(element, number) for number in numbers],
        type=ir.RankedTensorType.get([size], element),
    )
    table = canvas.add(diag.constant(attr, [label]), 2.0, exact=True)
    map_of(canvas, [wire, table])
    return True


def _step_concat(canvas: Canvas) -> bool:
    wire = canvas.pick(lambda wire: len(wire.labels) > 0)
    if wire is None:
        return False
    axis = canvas.rng.choice(wire.labels)
    other_axis = canvas.axis("long", canvas.rng.choice((1, 3, 4, 8)))
    labels = [other_axis if label == axis else label for label in wire.labels]
    other = canvas.input(labels, diag.element_type(wire.value))
    total = canvas.axes[axis].size + canvas.axes[other_axis].size
    dynamic = canvas.axes[axis].dynamic or canvas.axes[other_axis].dynamic
    joined = canvas.axis("long", total, dynamic)
    parts = [(wire, axis), (other, other_axis)]
    if canvas.chance(0.5):
        parts.reverse()
    value = diag.concat(parts[0][0].value, parts[1][0].value, [parts[0][1], parts[1][1]], joined)
    canvas.add(value, max(wire.bound, other.bound))
    return True


def _step_pad(canvas: Canvas) -> bool:
    wire = canvas.pick(lambda wire: len(wire.labels) > 0)
    if wire is None:
        return False
    axis = canvas.rng.choice(wire.labels)
    low, high = canvas.rng.choice((0, 1, 2)), canvas.rng.choice((0, 1, 5))
    old = canvas.axes[axis]
    padded = canvas.axis("long", old.size + low + high, old.dynamic)
    value = diag.pad(wire.value, axis, padded, low, high, canvas.rng.choice((0.0, 0.0, 1.0, -0.5)))
    canvas.add(value, max(wire.bound, 1.0))
    return True


STEPS: tuple[tuple[int, Callable[[Canvas], bool]], ...] = (
    (26, _step_map),
    (3, _step_new_axis),
    (14, _step_contract),
    (12, _step_reduce),
    (10, _step_normalize),
    (7, _step_select),
    (5, _step_positions),
    (5, _step_relabel),
    (8, _step_cast),
    (6, _step_constant),
    (4, _step_concat),
    (4, _step_pad),
)
"""Weight and step; a step says whether it found wires to work on."""
