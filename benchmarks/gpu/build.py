"""Compile variants into packages: where the compiler is, without a GPU.

    PYTHONPATH=python:benchmarks python -m gpu.build packages                  # all
    PYTHONPATH=python:benchmarks python -m gpu.build packages --only=^table-   # performance table

The folder is then copied to the machine with the GPU, for `gpu.check`. A variant that does not
compile is recorded in `index.json`, with the reason; it counts as failed there too.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import diagc
from diagc.debug import CACHE
from diagc.errors import DiagcError, UnsupportedError
from diagc.runtime.package.writer import of_program, save
from diagc.targets import get_target
from gpu.catalog import VARIANTS
from gpu.table import PREFIX
from gpu.variants import Variant

__all__ = ["INDEX", "Built", "main"]

INDEX = "index.json"
LIMIT, TABLE_LIMIT = 64 << 20, 2 << 20
"""Bytes of all packages, and of those of the performance table."""

HOPPER = "nvptx:sm_90"
"""Targets for whose GPUs the variants on warpgroups are built, too."""


@dataclass(frozen=True)
class Built:
    """What became of a variant: the name of its package, or an error."""

    variant: str
    package: str | None
    bytes: int
    seconds: float
    error: str | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Build all; gives 1 when a variant failed or the folder is too large."""
    args = _parser().parse_args(arguments)
    args.folder.mkdir(parents=True, exist_ok=True)
    chosen = [v for v in VARIANTS.values() if re.search(args.only, v.name)]
    if not args.target.startswith(HOPPER):
        chosen = [_elsewhere(v) for v in chosen if v.name.startswith(PREFIX) or _fits_all(v)]
    made: dict[str, Built] = {}
    with CACHE.override(False):  # by the compiler as it is, not as it was
        for variant in chosen:
            if variant.package_name not in made:
                made[variant.package_name] = _build(variant, args)
    built = [replace(made[v.package_name], variant=v.name) for v in chosen]
    index = {
        "target": get_target(args.target).spec,
        "diagc": diagc.__version__,
        "small": args.small,
        "built": [asdict(entry) for entry in built],
    }
    (args.folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    failed = [name for name, entry in made.items() if entry.error]
    print(f"{len(made) - len(failed)} of {len(made)} packages for {len(built)} variants")
    return 1 if failed or not _is_small(made) else 0


def _is_small(made: Mapping[str, Built]) -> bool:
    """Whether all fit into what is carried to the machine with the GPU."""
    table = sum(entry.bytes for name, entry in made.items() if name.startswith(PREFIX))
    total = sum(entry.bytes for entry in made.values())
    print(f"{total / 2**20:.2f} MiB, of the table {table / 2**20:.2f} MiB")
    if total <= LIMIT and table <= TABLE_LIMIT:
        return True
    print(f"too large: the limits are {LIMIT >> 20} and {TABLE_LIMIT >> 20} MiB", file=sys.stderr)
    return False


def _fits_all(variant: Variant) -> bool:
    return "target" not in variant.options


def _elsewhere(variant: Variant) -> Variant:
    """A variant for the target of the command line, where that has no warpgroups."""
    kept = {k: v for k, v in variant.options.items() if k not in ("target", "device")}
    return replace(variant, options=kept)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="compile the variants of the GPU benchmark")
    parser.add_argument("folder", type=Path, help="where the packages go")
    parser.add_argument("--target", default="nvptx:sm_90")
    parser.add_argument("--only", default="", help="variants whose name matches this expression")
    parser.add_argument(
        "--small", action="store_true", help="small sizes, for machines without GPU"
    )
    return parser


def _build(variant: Variant, args: argparse.Namespace) -> Built:
    path = args.folder / f"{variant.package_name}.diagpkg"
    path.unlink(missing_ok=True)
    start = time.perf_counter()
    try:
        _save(variant, args, path)
    except DiagcError as error:
        print(f"{variant.package_name}: {error}", file=sys.stderr, flush=True)
        return Built(variant.name, None, 0, time.perf_counter() - start, str(error))
    seconds, size = time.perf_counter() - start, path.stat().st_size
    print(f"{variant.package_name}: {seconds:.1f} s, {size} bytes", flush=True)
    return Built(variant.name, path.name, size, seconds)


def _save(variant: Variant, args: argparse.Namespace, path: Path) -> None:
    inputs = variant.inputs(0, "cpu", args.small)
    options: dict[str, Any] = {"target": args.target, **variant.options}
    options["dynamic"] = True if variant.is_open and not variant.other else None
    first = (
        replace(variant, shapes=variant.other, small=variant.other) if variant.other else variant
    )
    programs = 1 if get_target(options["target"]).name == "cpu" else variant.programs
    if variant.forward is None:
        with torch.no_grad():
            compiled = diagc.compile(
                variant.function, *first.inputs(0, "cpu", args.small), **options
            )
            compiled.prepare(*inputs)
        compiled.save(path, variants=programs)
        return
    _save_gradients(diagc.compile(variant.forward, *inputs[:-1], **options), path)


def _save_gradients(compiled: diagc.CompiledFunction, path: Path) -> None:
    """Write the program of the gradients by all inputs, which takes a cotangent behind them.

    Raises:
        UnsupportedError: there is none.
    """
    current = compiled.latest
    group = next(g for g in compiled._calls.groups if current in g.specializations)
    made = group.backward(current, tuple(range(len(current.program.inputs))), False)
    if made.program is None:
        raise UnsupportedError("gradients in a package", reason=made.reason)
    target = get_target(compiled.options.target).spec
    save(path, of_program(made.program), target=target, version=diagc.__version__)


if __name__ == "__main__":
    sys.exit(main())
