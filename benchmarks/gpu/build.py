"""Compile the matrix of variants into packages: where the compiler is, without a GPU.

    PYTHONPATH=python:benchmarks python -m gpu.build packages --target=nvptx:sm_90

The folder is then copied to the machine with the GPU, for `gpu.check`. A variant that does not
compile is recorded in `index.json`, with the reason; it counts as failed there too.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import diagc
from diagc.debug import CACHE
from diagc.errors import DiagcError
from diagc.targets import get_target
from gpu.variants import VARIANTS, Variant

__all__ = ["INDEX", "Built", "main"]

INDEX = "index.json"
LIMIT = 64 << 20
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
        chosen = [v for v in chosen if "target" not in v.options]
    with CACHE.override(False):  # by the compiler as it is, not as it was
        built = [_build(variant, args) for variant in chosen]
    index = {
        "target": get_target(args.target).spec,
        "diagc": diagc.__version__,
        "small": args.small,
        "built": [asdict(entry) for entry in built],
    }
    (args.folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    total = sum(entry.bytes for entry in built)
    failed = [entry for entry in built if entry.error]
    print(f"{len(built) - len(failed)} of {len(built)} packages, {total / 2**20:.1f} MiB")
    if total > LIMIT:
        print(f"too large: {LIMIT >> 20} MiB is the limit", file=sys.stderr)
    return 1 if failed or total > LIMIT else 0


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
    path = args.folder / f"{variant.name}.diagpkg"
    path.unlink(missing_ok=True)
    start = time.perf_counter()
    try:
        inputs = variant.inputs(0, "cpu", args.small)
        with torch.no_grad():
            options: dict[str, Any] = {"target": args.target, **variant.options}
            compiled = diagc.compile(variant.function, *inputs, **options)
        compiled.save(path)
    except DiagcError as error:
        print(f"{variant.name}: {error}", file=sys.stderr, flush=True)
        return Built(variant.name, None, 0, time.perf_counter() - start, str(error))
    seconds, size = time.perf_counter() - start, path.stat().st_size
    print(f"{variant.name}: {seconds:.1f} s, {size} bytes", flush=True)
    return Built(variant.name, path.name, size, seconds)


if __name__ == "__main__":
    sys.exit(main())
