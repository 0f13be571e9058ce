"""Programs in a `.diag` file: each diagram is one, with random inputs of a fixed seed."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from diagc.commands.program import DiagramProgram
from diagc.dialects import diag
from diagc.errors import UserError
from diagc.files import read_text
from diagc.mlir import ir, passmanager

__all__ = ["load_diagrams"]

# Sizes for axes without one: no multiple of a vector or tile, so that tails are met too.
_OPEN_SIZE = 100

_DTYPES = {
    "f32": torch.float32,
    "f64": torch.float64,
    "f16": torch.float16,
    "f8E4M3FN": torch.float8_e4m3fn,
    "bf16": torch.bfloat16,
    "i1": torch.bool,
    "i8": torch.int8,
    "i16": torch.int16,
    "i32": torch.int32,
    "i64": torch.int64,
    "index": torch.int64,
}


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
    module = make_module()  # its ops die with it
    (entry,) = _diagrams(module)
    generator = torch.Generator().manual_seed(0)
    arguments = diag.function_body(entry).arguments
    facts = entry.attributes["arg_attrs"] if len(arguments) else ()
    inputs = tuple(
        _random(argument.type, [diag.strings(group) for group in fact["diag.dims"]], generator)
        for argument, fact in zip(arguments, facts, strict=True)
    )
    return DiagramProgram(name, inputs, make_module)


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


def _random(
    type_: ir.RankedTensorType, groups: Sequence[Sequence[str]], generator: torch.Generator
) -> torch.Tensor:
    """Make a tensor whose dimensions are the groups of axes: one, several merged, or none."""
    sizes = {a: _OPEN_SIZE if n == diag.DYNAMIC else n for a, n in diag.dims(type_).items()}
    shape = [math.prod(sizes[label] for label in group) for group in groups]
    dtype = _DTYPES[str(diag.element_type(type_))]
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)
