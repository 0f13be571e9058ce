"""Modules as `.diag` text: plain diagrams parse again, streams and kernels are for reading."""

import textwrap
from collections.abc import Iterable

from diagc.dialects import diag
from diagc.frontend.text.print_names import Names
from diagc.frontend.text.print_ops import (
    WIDTH,
    BodyPrinter,
    dtype_text,
    remark_lines,
    type_text,
    wrapped,
)
from diagc.mlir import ir

__all__ = ["print_module", "print_operation"]


def print_module(module: ir.Module) -> str:
    """Give all functions of a module as text, each after the sizes of its axes.

    The text of a module that came from `parse` parses to an equal module.
    """
    with module.context, ir.Location.unknown():
        return _print_functions(module)


def _print_functions(module: ir.Module) -> str:
    printed: list[str] = []
    declared: dict[str, int] = {}
    for op in module.body.operations:
        if op.operation.name != "func.func":
            printed.append(op.operation.get_asm(assume_verified=True).rstrip("\n"))
            continue
        printer = _FunctionPrinter(op.operation)
        new = {
            a: s for a, s in printer.axes.items() if declared.get(a, 0) != s or a not in declared
        }
        declared |= new
        printed += [*_axis_lines(new), *printer.lines(), ""]
    return "\n".join(printed).rstrip("\n") + "\n"


def print_operation(op: ir.Operation) -> str:
    """Give one op as a statement of the language."""
    names = Names({axis for value in (*op.operands, *op.results) for axis in _labels(value)})
    with op.context, ir.Location.unknown():
        return "\n".join(BodyPrinter(names).operation(op))


def _labels(value: ir.Value) -> tuple[str, ...]:
    return diag.labels(value) if diag.is_wire(value.type) else ()


def _axis_lines(axes: dict[str, int]) -> list[str]:
    texts = [a if size == diag.DYNAMIC else f"{a} = {size}" for a, size in axes.items()]
    line = f"axis {', '.join(texts)}"
    indent = " " * len("axis ")
    # a number never stands at the start of a line: breaks are put at commas only
    unbroken = line.replace(" = ", "\0=\0")
    wrapped_lines = textwrap.wrap(unbroken, WIDTH, subsequent_indent=indent)
    return [text.replace("\0", " ") for text in wrapped_lines] if texts else []


class _FunctionPrinter:
    """One function: header, schedule, body."""

    def __init__(self, function: ir.Operation) -> None:
        self._function = function
        self._is_declaration = not len(function.regions[0].blocks)
        self.axes: dict[str, int] = {}
        for value in self._values():
            for label, size in diag.dims(value).items() if diag.is_wire(value.type) else ():
                known = self.axes.setdefault(label, size)
                self.axes[label] = size if known == diag.DYNAMIC else known
        self._names = Names(set(self.axes))

    def _values(self) -> Iterable[ir.Value]:
        for region in self._function.regions:
            for block in region.blocks:
                yield from block.arguments
            for op in diag.walk_ops(region):
                yield from op.results
                for inner in op.regions:
                    for block in inner.blocks:
                        yield from block.arguments

    def lines(self) -> list[str]:
        if self._is_declaration:
            return [self._declaration()]
        block = diag.function_body(self._function)
        params = [
            f"{self._names.of(argument)}: {self._type('arg_attrs', i, argument.type)}"
            for i, argument in enumerate(block.arguments)
        ]
        kind = "kernel" if diag.is_kernel(self._function) else "diagram"
        head = f"{kind} {self._symbol()}("
        body = BodyPrinter(self._names)
        lines = [line for op in block.operations for line in body.operation(op.operation)]
        return [
            *wrapped(head, params, f"){self._result_types()} {{"),
            *(f"  {line}" for line in [*self._facts(), *lines]),
            "}",
        ]

    def _symbol(self) -> str:
        return ir.StringAttr(self._function.attributes["sym_name"]).value

    def _declaration(self) -> str:
        type_ = ir.FunctionType(ir.TypeAttr(self._function.attributes["function_type"]).value)
        inputs = ", ".join(type_text(t) for t in type_.inputs)
        results = ", ".join(type_text(t) for t in type_.results)
        extern = self._function.attributes
        meaning = f" = {extern[diag.EXTERN]}" if diag.EXTERN in extern else ""
        return f"extern {self._symbol()}({inputs}) -> {results}{meaning}"

    def _facts(self) -> list[str]:
        """Give what is known about a function: its schedule and further attributes."""
        attributes = self._function.attributes
        shown = {name: attributes[name] for name in attributes if name.startswith("diag.")}
        shown.pop(diag.KERNEL, None)
        return [
            line
            for name, value in shown.items()
            for line in remark_lines(name.removeprefix("diag."), value)
        ]

    def _type(self, attribute: str, number: int, type_: ir.Type) -> str:
        """Give a wire type, its axes grouped as in the user's tensor."""
        attributes = self._function.attributes
        facts = attributes[attribute][number] if attribute in attributes else None
        if facts is None or "diag.dims" not in facts or not diag.is_wire(type_):
            return type_text(type_)
        groups = [diag.strings(group) for group in facts["diag.dims"]]
        if tuple(label for group in groups for label in group) != diag.labels(type_):
            return type_text(type_)
        texts = [g[0] if len(g) == 1 else f"({' '.join(g)})" for g in groups]
        return " ".join([*texts, *dtype_text(type_)])

    def _result_types(self) -> str:
        """Give the types of results only where they say more than the body."""
        block = diag.function_body(self._function)
        results = list(block.operations)[-1].operation.operands
        grouped = [self._type("res_attrs", i, value.type) for i, value in enumerate(results)]
        if not any("(" in text for text in grouped):
            return ""
        return f" -> {', '.join(grouped)}"
