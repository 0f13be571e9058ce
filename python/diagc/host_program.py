"""Turn an entry function, with kernels formed, into the steps that the run time performs.

Ops of the entry are calls of kernels and of the host framework, contractions left to the library,
and ops that move or make data. A map, reduction, normalisation or stream that no kernel took is an
error of ours on a target that has code for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from diagc.algebra.elementwise import library_operations
from diagc.dialects import diag
from diagc.errors import InternalError
from diagc.mlir import ir
from diagc.runtime.steps import (
    Affine,
    ArrayType,
    Concat,
    Constant,
    Contract,
    Dims,
    Elementwise,
    ExternCall,
    Index,
    Input,
    KernelCall,
    Output,
    Pad,
    Size,
    Step,
    View,
)

__all__ = ["HostProgram", "translate_entry"]

Sizes: TypeAlias = tuple[Size, ...]


@dataclass(frozen=True)
class HostProgram:
    """Inputs, steps and outputs of an entry function."""

    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Output, ...]


def translate_entry(entry: ir.Operation, kernels: Mapping[str, int]) -> HostProgram:
    """Translate a public function.

    Args:
        entry: a func.func whose kernels have been formed.
        kernels: number of each kernel, by symbol.

    Raises:
        InternalError: an op that the host cannot run, or a size that nothing tells.
    """
    return _Translator(entry, kernels).translate()


@dataclass
class _Translator:
    """State while a function is translated: numbers of values, and where labels have sizes."""

    entry: ir.Operation
    kernels: Mapping[str, int]
    steps: list[Step] = field(default_factory=list)
    numbers: dict[ir.Value, int] = field(default_factory=dict)
    homes: dict[str, Size] = field(default_factory=dict)
    functions: dict[str, ir.Operation] = field(default_factory=dict)
    count: int = 0

    def translate(self) -> HostProgram:
        module = self.entry.parent.operation
        self.functions = {
            _symbol(op.operation): op.operation
            for op in module.regions[0].blocks[0].operations
            if op.operation.name == "func.func"
        }
        block = diag.function_body(self.entry)
        inputs = tuple(self._input(argument) for argument in block.arguments)
        outputs: tuple[Output, ...] = ()
        for view in block.operations:
            op = view.operation
            if op.name == "func.return":
                outputs = self._outputs(op)
            elif op.name not in _RULES:
                raise InternalError(f"the host cannot run '{op.name}'", location=op.location)
            else:
                self._add(op)
        return HostProgram(inputs, tuple(self.steps), outputs)

    def _add(self, op: ir.Operation) -> None:
        step = _RULES[op.name](self, op)
        if step is None:
            return
        self.steps.append(step)
        for result in op.results:
            self._define(result, named=self._keeps_names(op))

    def _keeps_names(self, op: ir.Operation) -> bool:
        """Whether results have the labels of this function, not those of a kernel."""
        if op.name == "func.call":
            return str(ir.FlatSymbolRefAttr(op.attributes["callee"]).value) not in self.kernels
        if op.name != "builtin.unrealized_conversion_cast":
            return True
        owner = op.operands[0].owner
        return not isinstance(owner, ir.Block) and owner.operation.name == "func.call"

    def extra(self) -> int:
        """The next number of an array."""
        self.count += 1
        return self.count - 1

    def _define(self, value: ir.Value, named: bool) -> None:
        """Number a value; `named`: its labels are the function's own, not those of a kernel."""
        number = self.numbers[value] = self.extra()
        if not named:
            return
        for position, label in enumerate(diag.labels(value)):
            self.homes.setdefault(label, ("axis", number, position))

    # ---- interface ---------------------------------------------------------------------------

    def _input(self, argument: ir.Value) -> Input:
        attributes = _nth(self.entry, "arg_attrs", argument.arg_number)
        labels = diag.labels(argument)
        sizes = tuple(None if s == diag.DYNAMIC else s for s in diag.dims(argument).values())
        self._define(argument, named=True)
        return Input(
            _text(attributes, "diag.name", f"argument {argument.arg_number}"),
            _text(attributes, "diag.kind", "user"),
            array_type(argument),
            sizes,
            _dims(attributes, labels),
        )

    def _outputs(self, op: ir.Operation) -> tuple[Output, ...]:
        return tuple(
            self._output(value, _nth(self.entry, "res_attrs", i))
            for i, value in enumerate(op.operands)
        )

    def _output(self, value: ir.Value, attributes: Mapping[str, Any]) -> Output:
        dims = _dims(attributes, diag.labels(value))
        order = tuple(range(len(dims)))
        if "diag.order" in attributes:
            order = tuple(int(i.value) for i in ir.ArrayAttr(attributes["diag.order"]))
        return Output(self.numbers[value], dims, order)

    def arranged(self, value: ir.Value, result: ir.Value, names: Mapping[str, str]) -> int:
        """Number of `value` with its axes in the places that a result, under other names, has."""
        labels = diag.labels(value)
        renamed = [names.get(label, label) for label in labels]
        if tuple(renamed) == diag.labels(result):
            return self.numbers[value]
        order = [renamed.index(label) for label in diag.labels(result)]
        type_ = ArrayType(tuple(labels[i] for i in order), str(diag.element_type(value)))
        sizes = tuple(self.axis(value, label) for label in type_.labels)
        places = tuple(("dim", order.index(i)) for i in range(len(labels)))
        self.steps.append(View((type_,), (sizes,), self.numbers[value], places))
        return self.extra()

    # ---- sizes -------------------------------------------------------------------------------

    def axis(self, value: ir.Value, label: str) -> Size:
        """Size of an axis of a value: static, or where it is found at the call."""
        position = diag.labels(value).index(label)
        size = list(diag.dims(value).values())[position]
        return size if size != diag.DYNAMIC else ("axis", self.numbers[value], position)

    def sizes(self, value: ir.Value, known: Mapping[str, Size]) -> Sizes:
        """Sizes of a result; `known` says those that its op determines."""
        return tuple(
            self._size(value, label, size, known) for label, size in diag.dims(value).items()
        )

    def _size(self, value: ir.Value, label: str, size: int, known: Mapping[str, Size]) -> Size:
        if size != diag.DYNAMIC:
            return size
        found = known.get(label, self.homes.get(label))
        if found is None:
            raise InternalError(
                f'nothing tells the size of axis "{label}"', location=value.location
            )
        return found

    def joined(self, values: Sequence[ir.Value]) -> dict[str, Size]:
        """Sizes of all labels of some values."""
        return {label: self.axis(value, label) for value in values for label in diag.labels(value)}


Rule = Callable[[_Translator, ir.Operation], Step | None]


def array_type(value: ir.Value) -> ArrayType:
    """Labels and element type of a wire."""
    return ArrayType(diag.labels(value), str(diag.element_type(value)))


def _symbol(function: ir.Operation) -> str:
    return str(ir.StringAttr(function.attributes["sym_name"]).value)


def _nth(function: ir.Operation, name: str, number: int) -> Mapping[str, Any]:
    """Attributes of one argument or result of a function, by name."""
    if name not in function.attributes:
        return {}
    attributes = ir.DictAttr(ir.ArrayAttr(function.attributes[name])[number])
    return {entry.name: entry.attr for entry in attributes}


def _text(attributes: Mapping[str, Any], name: str, default: str) -> str:
    return str(ir.StringAttr(attributes[name]).value) if name in attributes else default


def _dims(attributes: Mapping[str, Any], labels: Sequence[str]) -> Dims:
    """How a tensor's dims group labels; without the attribute each label is a dim."""
    if "diag.dims" not in attributes:
        return tuple((label,) for label in labels)
    return tuple(tuple(diag.strings(group)) for group in ir.ArrayAttr(attributes["diag.dims"]))


def _one(value: ir.Value) -> tuple[ArrayType, ...]:
    return (array_type(value),)


# ---- rules -----------------------------------------------------------------------------------


def _relabel(state: _Translator, op: ir.Operation) -> Step:
    source, result = op.operands[0], op.results[0]
    old, new = (diag.strings(op.attributes[name]) for name in ("from", "to"))
    names = dict(zip(old, new, strict=True))
    labels = [names.get(label, label) for label in diag.labels(source)]
    known = {
        new: state.axis(source, old) for old, new in zip(diag.labels(source), labels, strict=True)
    }
    places = [("dim", diag.labels(result).index(label)) for label in labels]
    return View(_one(result), (state.sizes(result, known),), state.numbers[source], tuple(places))


def _cast(state: _Translator, op: ir.Operation) -> Step:
    """Casts between wires keep axes in their places."""
    source, result = op.operands[0], op.results[0]
    pairs = zip(diag.labels(result), diag.labels(source), strict=True)
    known = {new: state.axis(source, old) for new, old in pairs}
    places = tuple(("dim", i) for i in range(len(known)))
    return View(_one(result), (state.sizes(result, known),), state.numbers[source], places)


def _reindex(state: _Translator, op: ir.Operation) -> Step:
    source, result = op.operands[0], op.results[0]
    map_ = ir.AffineMapAttr(op.attributes["map"]).value
    exprs = tuple(affine(expr) for expr in map_.results)
    extents = [state.axis(source, label) for label in diag.labels(source)]
    own = [None if s == diag.DYNAMIC else s for s in diag.dims(result).values()]
    known = {
        label: longest(exprs, extents, own, position)
        for position, label in enumerate(diag.labels(result))
        if own[position] is None and label not in state.homes
    }
    return View(_one(result), (state.sizes(result, known),), state.numbers[source], exprs)


def longest(
    exprs: Sequence[Affine], extents: Sequence[Size], own: Sequence[int | None], position: int
) -> Size:
    """The largest size of one result axis for which a map stays inside its source.

    Args:
        exprs: one per source axis.
        extents: sizes of the source axes.
        own: static sizes of the result's axes, None where dynamic.
        position: of the result axis in question.
    """
    for expr, extent in zip(exprs, extents, strict=True):
        if _uses(expr, position):
            return _bound(expr, extent, own, position)
    raise InternalError(f"nothing bounds axis {position} of a reindexing")


def _uses(expr: Affine, position: int) -> bool:
    if isinstance(expr, int):
        return False
    return expr == ("dim", position) or any(_uses(part, position) for part in expr[1:])


def _bound(expr: Affine, extent: Size, own: Sequence[int | None], position: int) -> Size:
    """How far a dim may run so that `expr` stays below `extent`, one operation undone at a time."""
    if expr == ("dim", position):
        return extent
    kind, left, right = expr  # type: ignore[misc]
    if kind == "+":
        inside, other = (left, right) if _uses(left, position) else (right, left)
        return _bound(inside, _minus(extent, _last(other, own)), own, position)
    if kind == "*":  # f * d < n for d below ceil(n / f)
        inside, factor = (left, right) if _uses(left, position) else (right, left)
        return _bound(inside, ("//", ("+", extent, factor - 1), factor), own, position)
    if kind == "//":  # d // c < n for d below n * c
        return _bound(left, ("*", extent, right), own, position)
    raise InternalError("a remainder does not bound an axis")


def _minus(size: Size, amount: int) -> Size:
    return size - amount if isinstance(size, int) else ("-", size, amount) if amount else size


def _last(expr: Affine, own: Sequence[int | None]) -> int:
    """Value of an increasing expression at the last positions of the other axes."""
    if isinstance(expr, int):
        return expr
    if expr[0] == "dim":
        size = own[expr[1]]
        if size is None:
            raise InternalError("two axes of a reindexing have sizes that nothing tells")
        return size - 1
    left, right = (_last(part, own) for part in expr[1:])
    return {"+": left + right, "*": left * right, "//": left // max(right, 1), "%": left}[expr[0]]


def affine(expr: ir.AffineExpr) -> Affine:
    """An affine expression as plain data."""
    if isinstance(expr, ir.AffineConstantExpr):
        return int(expr.value)
    if isinstance(expr, ir.AffineDimExpr):
        return ("dim", int(expr.position))
    if type(expr) not in _AFFINE:
        raise InternalError(f"affine expression {expr} has no value on the host")
    return (_AFFINE[type(expr)], affine(expr.lhs), affine(expr.rhs))


_AFFINE: Mapping[type, str] = {
    ir.AffineAddExpr: "+",
    ir.AffineMulExpr: "*",
    ir.AffineFloorDivExpr: "//",
    ir.AffineModExpr: "%",
}


def _contract(state: _Translator, op: ir.Operation) -> Step:
    lhs, rhs = op.operands
    result = op.results[0]
    known = {**state.joined([lhs]), **state.joined([rhs])}
    return Contract(
        _one(result),
        (state.sizes(result, known),),
        state.numbers[lhs],
        state.numbers[rhs],
        tuple(diag.strings(op.attributes["over"])),
    )


def _elementwise(state: _Translator, op: ir.Operation) -> Step:
    """A map that form-kernels left to the library."""
    operations = library_operations(op)
    if operations is None:
        raise InternalError("a map that no kernel took reached the host", location=op.location)
    wires = [x for o in operations for x in o.operands if isinstance(x, ir.Value)]
    sizes = state.sizes(op.results[0], state.joined(wires))
    steps = tuple((o.name, tuple(_operand(state, x) for x in o.operands)) for o in operations)
    return Elementwise(_one(op.results[0]), (sizes,), steps)


def _operand(state: _Translator, operand: ir.Value | float) -> tuple[str, float]:
    if isinstance(operand, ir.Value):
        return "array", state.numbers[operand]
    return ("number" if isinstance(operand, float) else "result"), operand


def _call(state: _Translator, op: ir.Operation) -> Step:
    symbol = str(ir.FlatSymbolRefAttr(op.attributes["callee"]).value)
    function = state.functions[symbol]
    types = tuple(array_type(result) for result in op.results)
    args = tuple(state.numbers[value] for value in op.operands)
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


def _wire_dims(function: ir.Operation, name: str, number: int, value: ir.Value) -> Dims:
    return _dims(_nth(function, name, number), diag.labels(value))


def _kernel_sizes(state: _Translator, op: ir.Operation) -> tuple[Sizes, ...]:
    """An argument with the same label tells the size of a kernel's axis."""
    known = state.joined(list(op.operands))
    return tuple(state.sizes(result, known) for result in op.results)


def _constant(state: _Translator, op: ir.Operation) -> Step:
    from diagc.targets.interp.array_rules import constant_elements  # numpy

    (result,) = op.results
    elements = constant_elements(op)
    value = elements.flat[:1].tobytes() if op.attributes["value"].is_splat else elements.tobytes()
    return Constant(_one(result), (tuple(diag.dims(result).values()),), value)


def _index(state: _Translator, op: ir.Operation) -> Step:
    return Index(_one(op.results[0]), (state.sizes(op.results[0], {}),))


def _concat(state: _Translator, op: ir.Operation) -> Step:
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
    return Concat(_one(result), sizes, lhs, rhs, diag.labels(result).index(to))


def _pad(state: _Translator, op: ir.Operation) -> Step:
    (source,), (result,) = op.operands, op.results
    axis, to = (str(ir.StringAttr(op.attributes[name]).value) for name in ("axis", "to"))
    low, high = (int(ir.IntegerAttr(op.attributes[name]).value) for name in ("low", "high"))
    known = {**state.joined([source]), to: _sum(state.axis(source, axis), low + high)}
    return Pad(
        _one(result),
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


def _scalar(state: _Translator, op: ir.Operation) -> Step | None:
    """A scalar that canonicalisation moved out of a kernel's body; the kernels hold copies."""
    return None


_RULES: dict[str, Rule] = {
    "arith.constant": _scalar,
    "builtin.unrealized_conversion_cast": _cast,
    "diag.concat": _concat,
    "diag.constant": _constant,
    "diag.contract": _contract,
    "diag.index": _index,
    "diag.map": _elementwise,
    "diag.pad": _pad,
    "diag.reindex": _reindex,
    "diag.relabel": _relabel,
    "func.call": _call,
}
