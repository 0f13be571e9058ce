"""The walk over an entry function: numbers values, finds sizes, asks one rule per op."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diagc.dialects import diag
from diagc.errors import InternalError
from diagc.host_program.attributes import (
    array_type,
    nth_attributes,
    open_sizes,
    tensor_dims,
    text_attribute,
)
from diagc.host_program.rules import RULES
from diagc.mlir import ir
from diagc.runtime.steps import ArrayType, HostProgram, Input, Output, Size, Step, View
from diagc.size_texts import parse_size

__all__ = ["Translator", "translate_entry"]


def translate_entry(entry: ir.Operation, kernels: Mapping[str, int]) -> HostProgram:
    """Translate a public function.

    Args:
        entry: a func.func whose kernels have been formed.
        kernels: number of each kernel, by symbol.

    Raises:
        InternalError: an op that the host cannot run, or a size that nothing tells.
    """
    return Translator(entry, kernels).translate()


@dataclass
class Translator:
    """State while a function is translated: numbers of values, and where labels have sizes."""

    entry: ir.Operation
    kernels: Mapping[str, int]
    steps: list[Step] = field(default_factory=list)
    numbers: dict[ir.Value, int] = field(default_factory=dict)
    homes: dict[str, Size] = field(default_factory=dict)
    functions: dict[str, ir.Operation] = field(default_factory=dict)
    products: dict[ir.Operation, ir.Operation] = field(default_factory=dict)
    """Contractions by the map that adds their bias."""
    texts: dict[str, str] = field(default_factory=dict)
    """Open sizes that the importer wrote down, by label."""
    told: dict[str, Size] = field(default_factory=dict)
    """Where sizes of arguments that have such a text are found, by that text."""
    count: int = 0

    def translate(self) -> HostProgram:
        """Walk the function once."""
        module = self.entry.parent.operation
        self.functions = {
            diag.symbol_of(op.operation): op.operation
            for op in module.regions[0].blocks[0].operations
            if op.operation.name == "func.func"
        }
        block = diag.function_body(self.entry)
        self.texts = open_sizes(self.entry)
        inputs = tuple(self._input(argument) for argument in block.arguments)
        outputs: tuple[Output, ...] = ()
        for view in block.operations:
            op = view.operation
            if op.name == "func.return":
                outputs = self._outputs(op)
            elif op.name not in RULES:
                raise InternalError(f"the host cannot run '{op.name}'", location=op.location)
            else:
                self._add(op)
        return HostProgram(inputs, tuple(self.steps), outputs)

    def _add(self, op: ir.Operation) -> None:
        step = RULES[op.name](self, op)
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

    def nested(self, function: ir.Operation) -> HostProgram:
        """The program of another function of the module."""
        return Translator(function, self.kernels).translate()

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
        attributes = nth_attributes(self.entry, "arg_attrs", argument.arg_number)
        labels = diag.labels(argument)
        sizes = tuple(None if s == diag.DYNAMIC else s for s in diag.dims(argument).values())
        self._define(argument, named=True)
        for label, size in zip(labels, sizes, strict=True):
            if size is None and label in self.texts:
                self.told.setdefault(self.texts[label], self.axis(argument, label))
        return Input(
            text_attribute(attributes, "diag.name", f"argument {argument.arg_number}"),
            text_attribute(attributes, "diag.kind", "user"),
            array_type(argument),
            sizes,
            tensor_dims(attributes, labels),
        )

    def _outputs(self, op: ir.Operation) -> tuple[Output, ...]:
        return tuple(
            self._output(value, nth_attributes(self.entry, "res_attrs", i))
            for i, value in enumerate(op.operands)
        )

    def _output(self, value: ir.Value, attributes: Mapping[str, Any]) -> Output:
        dims = tensor_dims(attributes, diag.labels(value))
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

    def sizes(self, value: ir.Value, known: Mapping[str, Size]) -> tuple[Size, ...]:
        """tuple[Size, ...] of a result; `known` says those that its op determines."""
        return tuple(
            self._size(value, label, size, known) for label, size in diag.dims(value).items()
        )

    def _size(self, value: ir.Value, label: str, size: int, known: Mapping[str, Size]) -> Size:
        if size != diag.DYNAMIC:
            return size
        found = known.get(label, self.homes.get(label))
        found = self.told_size(label) if found is None else found
        if found is None:
            raise InternalError(
                f'nothing tells the size of axis "{label}"', location=value.location
            )
        return found

    def told_size(self, label: str) -> Size | None:
        """The size that the importer wrote down, where arguments tell it."""
        return parse_size(self.texts[label], self.told) if label in self.texts else None

    def joined(self, values: Sequence[ir.Value]) -> dict[str, Size]:
        """tuple[Size, ...] of all labels of some values."""
        return {label: self.axis(value, label) for value in values for label in diag.labels(value)}
