"""Larger starts of random diagrams: attention of every kind, chains, several statistics."""

from collections.abc import Callable, Sequence

from diagc.dialects import diag
from diagc.mlir import arith, ir, math_dialect
from diagc.testing.random_canvas import Canvas, Wire
from diagc.testing.random_scalars import widen
from diagc.testing.random_steps import contract, float_type, keep_mask, map_of, normalize

__all__ = ["CORES", "attention"]


def attention(canvas: Canvas) -> None:
    """Scores, a bias or cap, a mask, a normaliser, a product with values; groups share keys."""
    batch = [canvas.axis("batch") for _ in range(canvas.rng.choice((0, 0, 1, 1, 2)))]
    shared = batch[: canvas.rng.randint(0, len(batch))] if canvas.chance(0.3) else batch
    q, x = canvas.axis("long"), canvas.axis("long")
    d, e = canvas.axis("feature"), canvas.axis("feature")
    type_ = float_type(canvas)
    queries = canvas.input([*batch, q, d], type_)
    keys, values = _keys_and_values(canvas, shared, x, (d, e), type_)
    scores = contract(canvas, queries, keys, [d])
    if not canvas.fits([*batch, q, x]):
        return
    _attend(canvas, scores, values, x)


def _keys_and_values(
    canvas: Canvas, batch: Sequence[str], x: str, features: tuple[str, str], type_: ir.Type
) -> tuple[Wire, Wire]:
    """Two inputs, or, as in self-attention, projections of one."""
    d, e = features
    if canvas.chance(0.75):
        return canvas.input([*batch, x, d], type_), canvas.input([*batch, x, e], type_)
    f = canvas.axis("feature")
    source = canvas.input([*batch, x, f], type_)
    weights = [canvas.input([f, label], type_) for label in (d, e)]
    keys, values = (contract(canvas, source, weight, [f]) for weight in weights)
    return keys, values


def _attend(canvas: Canvas, scores: Wire, values: Wire, x: str) -> None:
    if canvas.chance(0.35):
        others = [label for label in scores.labels if label != x]
        bias = canvas.input([x, *others[: canvas.rng.randint(0, 2)]], float_type(canvas))
        scores = map_of(canvas, [scores, bias])
    keep = _mask_along(canvas, scores, x) if canvas.chance(0.4) else None
    weights = normalize(canvas, scores, [x], keep)
    if canvas.chance(0.25):  # the statistic is an output of its own
        canvas.add(diag.reduce(scores.value, [x], "add"), scores.bound * 10)
    element = diag.element_type(values.value)
    if weights.element != values.element and canvas.chance(0.5):
        cast = diag.map_([weights.value], lambda p: widen(p, element))
        weights = canvas.add(cast, weights.bound)
    contract(canvas, weights, values, [x])


def _mask_along(canvas: Canvas, scores: Wire, x: str) -> ir.Value:
    """A mask that has the axis `x`, and often another."""
    others = [label for label in scores.labels if label != x]
    labels = [x, *canvas.rng.sample(others, min(1, len(others)))]
    return keep_mask(canvas, labels)


def chain(canvas: Canvas) -> None:
    """Three contractions in a row, with maps between them half the time."""
    labels = [canvas.axis(role) for role in ("long", "feature", "long", "feature", "feature")]
    type_ = float_type(canvas)
    wires = [canvas.input(labels[i : i + 2], type_) for i in range(4)]
    if canvas.chance(0.5):  # from the right: as written, not as one would want it
        wires.reverse()
        labels.reverse()
    value = wires[0]
    for label, wire in zip(labels[1:-1], wires[1:], strict=True):
        value = contract(canvas, value, wire, [label])
        if canvas.chance(0.3):
            value = map_of(canvas, [value])


def masked_softmax(canvas: Canvas) -> None:
    """A mask that adds minus infinity, then exp, sum and division as a model would write them."""
    q, x, e = canvas.axis("long"), canvas.axis("long"), canvas.axis("feature")
    scores = canvas.input([q, x], ir.F32Type.get())
    keep = _mask_along(canvas, scores, x)
    element = diag.element_type(scores.value)
    lowest = arith.constant(element, float("-inf"))
    hidden = diag.map_([scores.value, keep], lambda s, k: arith.select(k, s, lowest))
    weights = diag.normalize(hidden, [x], "softmax")
    values = canvas.input([x, e], element)
    contract(canvas, canvas.add(weights, 1.0), values, [x])


def handwritten(canvas: Canvas) -> None:
    """A normaliser as a model spells it: a map, a sum of its row, a division, a product."""
    q, x = canvas.axis("long"), canvas.axis("long")
    scores = canvas.input([q, x], float_type(canvas))
    value = scores.value
    if canvas.chance(0.4) and canvas.axes[x].size:  # shifted by the maximum, as softmax is
        largest = diag.reduce(value, [x], "max")
        value = diag.map_([value, largest], lambda s, m: _exp(arith.subf(s, m)))
        terms = value
    elif canvas.chance(0.5):
        value = terms = map_of(canvas, [scores]).value
        terms = diag.map_([terms], lambda t: math_dialect.absf(t))
    else:
        terms = diag.map_([value], lambda s: arith.mulf(s, s))
    total = diag.reduce(terms, [x], "add")

    def divided(term: ir.Value, row: ir.Value) -> ir.Value:
        below = arith.addf(row, arith.constant(row.type, 2.0**-6))
        return arith.divf(term, math_dialect.sqrt(below))

    weights = canvas.add(diag.map_([value, total], divided), 2.0)
    contract(canvas, weights, canvas.input([x, canvas.axis("feature")], float_type(canvas)), [x])


def _exp(x: ir.Value) -> ir.Value:
    return math_dialect.exp(x)


def statistics(canvas: Canvas) -> None:
    """Several statistics of one computed wire: streams with more than one sum, no contraction."""
    q, x = canvas.axis("long"), canvas.axis("long")
    operands = [canvas.input(labels, float_type(canvas)) for labels in ([q, x], [x])]
    wire = map_of(canvas, operands)
    for kind in canvas.rng.sample(("add", "max", "min", "add"), canvas.rng.randint(2, 3)):
        if kind != "add" and canvas.axes[x].size == 0:
            continue
        part = map_of(canvas, [wire])
        canvas.add(diag.reduce(part.value, [x], kind), part.bound * 10)


CORES: tuple[tuple[int, Callable[[Canvas], None]], ...] = (
    (5, attention),
    (2, chain),
    (1, masked_softmax),
    (2, handwritten),
    (2, statistics),
)
"""Weight and start."""
