"""`diagc import FILE.py:NAME -o FILE.mlir`: the program as the front end reads it; weights apart."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from diagc.commands.load import load_program
from diagc.commands.program import TorchProgram
from diagc.commands.progress import progress
from diagc.errors import UserError
from diagc.files import write_text
from diagc.options import CompileOptions

if TYPE_CHECKING:
    import torch

    from diagc.api import CompiledFunction

__all__ = ["WEIGHTS", "import_program", "write_weights"]

WEIGHTS = ".safetensors"


def import_program(args: argparse.Namespace, options: CompileOptions) -> int:
    """Write the diagram of a Python program; its weights are arguments, never numbers in the text.

    Raises:
        UserError: no Python program, or weights that cannot be written.
        UnsupportedError: the program cannot be imported.
    """
    program = load_program(args.program)
    if not isinstance(program, TorchProgram):
        expected = "a function or torch.nn.Module of a Python file"
        raise UserError("only programs of torch are imported", expected=expected)
    if hasattr(program.function, "eval"):
        program.function.eval()
    with progress(f"importing {program.name}"):
        compiled = program.imported(options, dynamic=args.dynamic or None)
    if args.weights:
        write_weights(Path(args.weights), _captured(compiled))
    text = compiled.source_ir
    write_text(args.output, text if text.endswith("\n") else f"{text}\n")
    return 0


def _captured(compiled: "CompiledFunction") -> dict[str, "torch.Tensor"]:
    """Parameters, buffers and constants under the names that `diag.name` of the arguments has."""
    current = compiled.latest
    pairs = zip(current.program.inputs, current.sources, strict=True)
    return {entry.name: source.get() for entry, source in pairs if not isinstance(source, int)}


def write_weights(path: Path, tensors: Mapping[str, "torch.Tensor"]) -> None:
    """Write tensors to a file of safetensors; those that share memory are written apart.

    Raises:
        UserError: another suffix, no library for such files, or a path that cannot be written.
    """
    if path.suffix != WEIGHTS:
        raise UserError("weights go to another kind of file", expected=f"FILE{WEIGHTS}", found=path)
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        remedy = "pip install safetensors"
        raise UserError(
            "weights cannot be written", found="no safetensors", remedy=remedy
        ) from error
    apart = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        save_file(apart, path)
    except OSError as error:
        raise UserError(f"cannot write {path}", found=error.strerror) from error
