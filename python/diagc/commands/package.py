"""`diagc compile FILE -o FILE.diagpkg`: one file that runs where there is no compiler."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from diagc import __version__
from diagc.commands.importing import write_weights
from diagc.commands.program import DiagramProgram, Program, TorchProgram
from diagc.commands.progress import progress
from diagc.errors import UserError
from diagc.options import CompileOptions

if TYPE_CHECKING:
    import torch

__all__ = ["SUFFIX", "write_package"]

SUFFIX = ".diagpkg"


def write_package(program: Program, args: argparse.Namespace, options: CompileOptions) -> int:
    """Compile a program and write it.

    Raises:
        UserError: arguments that do not go with packages.
        UnsupportedError: something of the program has no code.
    """
    if args.with_weights and args.weights:
        raise UserError("weights go into the package or beside it", expected="one of the options")
    if args.emit is not None:
        raise UserError(f"--emit does not go with -o FILE{SUFFIX}", expected="one of them")
    path = Path(args.output)
    with progress(f"compiling {program.name}"):
        if isinstance(program, TorchProgram):
            _write_torch(program, path, args, options)
        else:
            assert isinstance(program, DiagramProgram)
            if args.variants != 1:
                raise UserError("packages of diagrams hold one program", expected="--variants=1")
            _write_diagram(program, path, options)
    _summarize(path)
    return 0


def _summarize(path: Path) -> None:
    from diagc.runtime.package.kernels import requirements
    from diagc.runtime.package.manifest import read_package

    manifest, _ = read_package(path)
    print(f"{path}: {manifest.name} for {manifest.target}, {path.stat().st_size} bytes")
    if manifest.variants is not None:
        for entry in manifest.variants.entries:
            print(f"variant {entry.name}: {entry.predicted[0] * 1e3:.4g} ms by the cost model")
    for needs in sorted({requirements(entry) for entry in manifest.kernels}):
        print(f"needs {needs}")
    if manifest.weights:
        print(f"weights that load() is to be given: {', '.join(manifest.weights)}")


def _write_torch(
    program: TorchProgram, path: Path, args: argparse.Namespace, options: CompileOptions
) -> None:
    if hasattr(program.function, "eval"):
        program.function.eval()  # packages are for inference
    compiled = program.compile(options, dynamic=args.dynamic or None)
    compiled.save(path, with_weights=args.with_weights, variants=args.variants)
    if args.weights:
        from diagc.runtime.package.manifest import read_package

        state: dict[str, torch.Tensor] = getattr(program.function, "state_dict", dict)()
        names = read_package(path)[0].weights
        write_weights(Path(args.weights), {name: state[name] for name in names})


def _write_diagram(program: DiagramProgram, path: Path, options: CompileOptions) -> None:
    from diagc.runtime.package.writer import of_program, save
    from diagc.targets import get_target

    lowered = program.compile(options).program
    save(path, of_program(lowered), target=get_target(options.target).spec, version=__version__)
