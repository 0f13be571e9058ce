"""One function for each op of the dialect: what it looks like."""

from collections.abc import Callable, Iterable, Sequence

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.viz.formulas import (
    constant_text,
    fold_text,
    formula,
    map_reads,
    position_text,
    with_letters,
)
from diagc.viz.model import Array, Kind, Operation
from diagc.viz.scope import Scope

__all__ = ["BOXES", "outline"]


def _numbers(array: Array, labels: Iterable[str]) -> list[int]:
    """Which axes of an array have these labels."""
    names = [axis.label for axis in array.axes]
    return [names.index(label) for label in labels if label in names]


def _woven(
    inputs: Sequence[Array], output: Array, fresh: Sequence[str] = ()
) -> list[tuple[int, int] | None]:
    """For each axis of the output, the first input that has it, unless it is made there."""
    found: list[tuple[int, int] | None] = []
    for axis in output.axes:
        places = (
            (number, place)
            for number, array in enumerate(inputs)
            for place in _numbers(array, [axis.label])
        )
        found.append(None if axis.label in fresh else next(places, None))
    return found


def _shared(first: Array, second: Array) -> list[tuple[int, int]]:
    labels = [axis.label for axis in second.axes]
    return [(n, labels.index(a.label)) for n, a in enumerate(first.axes) if a.label in labels]


def _contract(op: ir.Operation, scope: Scope) -> Operation:
    inputs = [scope.use(value) for value in op.operands]
    output = scope.define(op.results[0])
    over = diag.strings(op.attributes["over"])
    made = Operation(Kind.CONTRACT, inputs, [output], pairs=_shared(*inputs))
    made.over = [_numbers(array, over) for array in inputs]
    made.sources = [_woven(inputs, output)]
    made.title = f"contraction: multiply, sum over {', '.join(over)}" if over else "outer product"
    return made


def _map(op: ir.Operation, scope: Scope) -> Operation:
    inputs = [scope.use(value) for value in map_reads(op)]
    output = scope.define(op.results[0])
    text = formula(op)
    if not inputs:
        return Operation(Kind.CONSTANT, [], [output], text)
    if len(text) == 1:
        text = f"as {output.dtype}"  # a conversion and nothing else
    missing = [
        [axis.label for axis in output.axes if not _numbers(array, [axis.label])]
        for array in inputs
    ]
    made = Operation(Kind.MAP, inputs, [output], text, missing=missing)
    made.title = with_letters(text, [array.name for array in inputs])
    made.sources = [_woven(inputs, output)]
    return made


def _reduce(op: ir.Operation, scope: Scope) -> Operation:
    kind = ir.StringAttr(op.attributes["kind"]).value
    over = diag.strings(op.attributes["over"])
    made = _along(op, scope, Kind.REDUCE, fold_text(kind), over)
    made.title = f"{kind} over {', '.join(over)}"
    return made


def _normalize(op: ir.Operation, scope: Scope) -> Operation:
    kind = ir.StringAttr(op.attributes["kind"]).value
    along = diag.strings(op.attributes["along"])
    made = _along(op, scope, Kind.NORMALIZE, kind, along)
    made.title = f"{kind} along {', '.join(along)}"
    if len(made.inputs) > 1:
        made.title += ", where the mask is true"
    return made


def _along(
    op: ir.Operation, scope: Scope, kind: Kind, text: str, labels: Sequence[str]
) -> Operation:
    inputs = [scope.use(value) for value in op.operands]
    output = scope.define(op.results[0])
    made = Operation(kind, inputs, [output], text, sources=[_woven(inputs[:1], output)])
    made.over = [_numbers(inputs[0], labels), *(range(len(a.axes)) for a in inputs[1:])]
    return made


def _relabel(op: ir.Operation, scope: Scope) -> Operation:
    source = scope.use(op.operands[0])
    output = scope.define(op.results[0])
    old, new = diag.strings(op.attributes["from"]), diag.strings(op.attributes["to"])
    made = Operation(Kind.RELABEL, [source], [output], over=[_numbers(source, old)])
    made.text = "\n".join(f"{a}→{b}" for a, b in zip(old, new, strict=True))
    made.title = f"the same array, {made.text}"
    made.sources = [[(0, number) for number in range(len(source.axes))]]
    return made


def _reindex(op: ir.Operation, scope: Scope) -> Operation:
    source = scope.use(op.operands[0])
    output = scope.define(op.results[0])
    names = [axis.label for axis in output.axes]
    results = list(ir.AffineMapAttr(op.attributes["map"]).value.results)
    texts = [position_text(expression, names) for expression in results]
    old = [axis.label for axis in source.axes]
    kept = [n for n, (label, text) in enumerate(zip(old, texts, strict=True)) if label == text]
    acted = [number for number in range(len(old)) if number not in kept]
    made = Operation(Kind.REINDEX, [source], [output], over=[acted])
    made.text = "\n".join(f"{old[n]} = {texts[n]}" for n in acted) or "as"
    places = {old[number]: (0, number) for number in kept}
    made.sources = [[places.get(name) for name in names]]
    return made


def _concat(op: ir.Operation, scope: Scope) -> Operation:
    inputs = [scope.use(value) for value in op.operands]
    output = scope.define(op.results[0])
    axes, to = diag.strings(op.attributes["axes"]), ir.StringAttr(op.attributes["to"]).value
    over = [_numbers(array, [axis]) for array, axis in zip(inputs, axes, strict=True)]
    made = Operation(Kind.CONCAT, inputs, [output], "join", over=over)
    made.pairs = [(a, b) for a, b in _shared(*inputs) if a not in over[0] and b not in over[1]]
    made.title = f"{axes[0]}, then {axes[1]}, as {to}"
    made.sources = [_woven(inputs, output, [to])]
    return made


def _pad(op: ir.Operation, scope: Scope) -> Operation:
    source = scope.use(op.operands[0])
    output = scope.define(op.results[0])
    axis, to = (ir.StringAttr(op.attributes[name]).value for name in ("axis", "to"))
    low, high = (ir.IntegerAttr(op.attributes[name]).value for name in ("low", "high"))
    made = Operation(Kind.REINDEX, [source], [output], over=[_numbers(source, [axis])])
    made.text = f"pad {low}, {high}"
    made.title = f"{axis} padded by {low} before and {high} behind, as {to}"
    made.sources = [_woven([source], output, [to])]
    return made


def _index(op: ir.Operation, scope: Scope) -> Operation:
    output = scope.define(op.results[0])
    title = f"positions along {output.axes[0].label}"
    return Operation(Kind.CONSTANT, [], [output], "0, 1, 2 …", title)


def _constant(op: ir.Operation, scope: Scope) -> Operation:
    return Operation(Kind.CONSTANT, [], [scope.define(op.results[0])], constant_text(op))


def outline(op: ir.Operation, scope: Scope) -> Operation:
    """Any other op: a box with its name."""
    inputs = [scope.use(value) for value in op.operands]
    outputs = [scope.define(value) for value in op.results]
    return Operation(Kind.CALL, inputs, outputs, op.name)


BOXES: dict[str, Callable[[ir.Operation, Scope], Operation]] = {
    "diag.concat": _concat,
    "diag.constant": _constant,
    "diag.contract": _contract,
    "diag.index": _index,
    "diag.map": _map,
    "diag.normalize": _normalize,
    "diag.pad": _pad,
    "diag.reduce": _reduce,
    "diag.reindex": _reindex,
    "diag.relabel": _relabel,
}
