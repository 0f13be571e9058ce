"""Programs in a `.diag` file: each diagram is one, with random inputs of a fixed seed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from diagc.commands.program import DiagramProgram
from diagc.dialects import diag
from diagc.errors import UserError
from diagc.files import read_text
from diagc.mlir import ir, passmanager

if TYPE_CHECKING:
    import torch

__all__ = ["load_diagrams"]


def load_diagrams(path: Path, name: str | None) -> list[DiagramProgram]:
    """Parse a `.diag` file and collect its diagrams, or the one called `name`.

    Raises:
        DiagSyntaxError: the file is no diagram.
        UserError: the file cannot be read or lacks the name.
    """
    from diagc.frontend.text import parse

    text = read_text(str(path))
    parse_anew = partial(parse, text, str(path))
    module = parse_anew()
    names = [diag.symbol_of(op) for op in _diagrams(module)]
    if name is not None and name not in names:
        raise UserError(f"{path} has no diagram '{name}'", expected=f"one of {', '.join(names)}")
    chosen = names if name is None else [name]
    if not chosen:
        raise UserError(f"nothing to compile in {path}", expected="a diagram")
    return [_program(n, partial(_only, parse_anew, n)) for n in chosen]


def _program(name: str, make_module: Callable[[], ir.Module]) -> DiagramProgram:
    return DiagramProgram(name, partial(_inputs, make_module), make_module)


def _inputs(make_module: Callable[[], ir.Module]) -> tuple["torch.Tensor", ...]:
    from diagc.commands.random_inputs import random_tensor  # torch, which few commands need

    module = make_module()  # its ops die with it
    (entry,) = _diagrams(module)
    arguments = diag.function_body(entry).arguments
    facts = entry.attributes["arg_attrs"] if len(arguments) else ()
    return tuple(
        random_tensor(
            diag.dims(argument.type),
            [diag.strings(group) for group in fact["diag.dims"]],
            str(diag.element_type(argument.type)),
            seed,
        )
        for seed, (argument, fact) in enumerate(zip(arguments, facts, strict=True))
    )


def _only(parse: Callable[[], ir.Module], name: str) -> ir.Module:
    """Parse and drop all diagrams but one, and what it does not call."""
    module = parse()
    with module.context:
        for op in _diagrams(module):
            if diag.symbol_of(op) != name:
                op.attributes["sym_visibility"] = ir.StringAttr.get("private")
        passmanager.PassManager.parse("builtin.module(symbol-dce)").run(module.operation)
    return module


def _diagrams(module: ir.Module) -> list[ir.Operation]:
    return [op for op in diag.functions(module) if "sym_visibility" not in op.attributes]
