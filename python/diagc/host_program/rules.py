"""One rule per op of an entry function: what step of the host it becomes."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from diagc.dialects import diag
from diagc.host_program.affine import affine, longest
from diagc.host_program.attributes import array_type, nth_attributes, one_type, tensor_dims
from diagc.host_program.products import contract, elementwise
from diagc.mlir import ir
from diagc.runtime.steps import (
    Blocks,
    Concat,
    Constant,
    Dims,
    ExternCall,
    Index,
    KernelCall,
    Pad,
    Size,
    Step,
    View,
)

if TYPE_CHECKING:
    from diagc.host_program.translator import Translator

__all__ = ["RULES", "Rule"]

Rule: TypeAlias = Callable[["Translator", ir.Operation], Step | None]


def _relabel(state: "Translator", op: ir.Operation) -> Step:
    source, result = op.operands[0], op.results[0]
    old, new = (diag.strings(op.attributes[name]) for name in ("from", "to"))
    names = dict(zip(old, new, strict=True))
    labels = [names.get(label, label) for label in diag.labels(source)]
    known = {
        new: state.axis(source, old) for old, new in zip(diag.labels(source), labels, strict=True)
    }
    places = tuple(("dim", diag.labels(result).index(label)) for label in labels)
    return View(one_type(result), (state.sizes(result, known),), state.numbers[source], places)


def _cast(state: "Translator", op: ir.Operation) -> Step:
    """Casts between wires keep axes in their places."""
    source, result = op.operands[0], op.results[0]
    pairs = zip(diag.labels(result), diag.labels(source), strict=True)
    known = {new: state.axis(source, old) for new, old in pairs}
    places = tuple(("dim", i) for i in range(len(known)))
    return View(one_type(result), (state.sizes(result, known),), state.numbers[source], places)


def _reindex(state: "Translator", op: ir.Operation) -> Step:
    source, result = op.operands[0], op.results[0]
    map_ = ir.AffineMapAttr(op.attributes["map"]).value
    exprs = tuple(affine(expr) for expr in map_.results)
    extents = [state.axis(source, label) for label in diag.labels(source)]
    own = [None if s == diag.DYNAMIC else s for s in diag.dims(result).values()]
    known = {}
    for position, label in enumerate(diag.labels(result)):
        if own[position] is None and label not in state.homes:
            told = state.told_size(label)
            known[label] = longest(exprs, extents, own, position) if told is None else told
    return View(one_type(result), (state.sizes(result, known),), state.numbers[source], exprs)


def _call(state: "Translator", op: ir.Operation) -> Step:
    symbol = str(ir.FlatSymbolRefAttr(op.attributes["callee"]).value)
    function = state.functions[symbol]
    types = tuple(array_type(result) for result in op.results)
    args = tuple(state.numbers[value] for value in op.operands)
    if diag.is_blocks(function):
        return _blocks(state, op, function)
    if symbol in state.kernels:
        return KernelCall(types, _kernel_sizes(state, op), state.kernels[symbol], args)
    sizes = tuple(state.sizes(result, {}) for result in op.results)
    return ExternCall(
        types,
        sizes,
        symbol,
        args,
        tuple(_wire_dims(function, "arg_attrs", i, v) for i, v in enumerate(op.operands)),
        tuple(_wire_dims(function, "res_attrs", i, v) for i, v in enumerate(op.results)),
    )


def _blocks(state: "Translator", op: ir.Operation, function: ir.Operation) -> Step:
    """A function that is run block by block; states come first."""
    axis, count = diag.blocks_of(function)
    args = list(op.operands)[count:]
    cut = tuple(
        diag.labels(value).index(axis) if axis in diag.labels(value) else None for value in args
    )
    sizes = tuple(state.sizes(result, state.joined([start])) for result, start in _states(op))
    numbers = [state.numbers[value] for value in op.operands]
    return Blocks(
        tuple(array_type(result) for result in op.results),
        sizes,
        tuple(numbers[:count]),
        tuple(numbers[count:]),
        cut,
        state.nested(function),
    )


def _states(op: ir.Operation) -> list[tuple[ir.Value, ir.Value]]:
    """Each result of a call that runs block by block, with the state that it starts from."""
    return list(zip(op.results, list(op.operands)[: len(op.results)], strict=True))


def _wire_dims(function: ir.Operation, name: str, number: int, value: ir.Value) -> Dims:
    return tensor_dims(nth_attributes(function, name, number), diag.labels(value))


def _kernel_sizes(state: "Translator", op: ir.Operation) -> tuple[tuple[Size, ...], ...]:
    """An argument with the same label, or one that is renamed to it, tells a kernel's size."""
    known = state.joined(list(op.operands))
    kernel = state.functions[str(ir.FlatSymbolRefAttr(op.attributes["callee"]).value)]
    for inner in diag.walk_ops(kernel.regions[0]):
        if inner.name == "diag.relabel":
            old, new = (diag.strings(inner.attributes[name]) for name in ("from", "to"))
            for source, target in zip(old, new, strict=True):
                if source in known:
                    known.setdefault(target, known[source])
    return tuple(state.sizes(result, known) for result in op.results)


def _constant(state: "Translator", op: ir.Operation) -> Step:
    from diagc.targets.interp.array_rules import constant_elements  # numpy

    (result,) = op.results
    elements = constant_elements(op)
    value = elements.flat[:1].tobytes() if op.attributes["value"].is_splat else elements.tobytes()
    return Constant(one_type(result), (tuple(diag.dims(result).values()),), value)


def _index(state: "Translator", op: ir.Operation) -> Step:
    return Index(one_type(op.results[0]), (state.sizes(op.results[0], {}),))


def _concat(state: "Translator", op: ir.Operation) -> Step:
    (result,) = op.results
    to = str(ir.StringAttr(op.attributes["to"]).value)
    axes = diag.strings(op.attributes["axes"])
    lhs, rhs = (
        state.arranged(value, result, {axis: to})
        for value, axis in zip(op.operands, axes, strict=True)
    )
    known = state.joined(op.operands)
    known[to] = _sum(*(state.axis(v, axis) for v, axis in zip(op.operands, axes, strict=True)))
    sizes = (state.sizes(result, known),)
    return Concat(one_type(result), sizes, lhs, rhs, diag.labels(result).index(to))


def _pad(state: "Translator", op: ir.Operation) -> Step:
    (source,), (result,) = op.operands, op.results
    axis, to = (str(ir.StringAttr(op.attributes[name]).value) for name in ("axis", "to"))
    low, high = (int(ir.IntegerAttr(op.attributes[name]).value) for name in ("low", "high"))
    known = {**state.joined([source]), to: _sum(state.axis(source, axis), low + high)}
    return Pad(
        one_type(result),
        (state.sizes(result, known),),
        state.arranged(source, result, {axis: to}),
        diag.labels(result).index(to),
        low,
        high,
        float(op.attributes["value"].value),
    )


def _sum(left: Size, right: Size) -> Size:
    if isinstance(left, int) and isinstance(right, int):
        return left + right
    return ("+", left, right)


def _scalar(state: "Translator", op: ir.Operation) -> Step | None:
    """A scalar that canonicalisation moved out of a kernel's body; the kernels hold copies."""
    return None


RULES: Mapping[str, Rule] = {
    "arith.constant": _scalar,
    "builtin.unrealized_conversion_cast": _cast,
    "diag.concat": _concat,
    "diag.constant": _constant,
    "diag.contract": contract,
    "diag.index": _index,
    "diag.map": elementwise,
    "diag.pad": _pad,
    "diag.reindex": _reindex,
    "diag.relabel": _relabel,
    "func.call": _call,
}
