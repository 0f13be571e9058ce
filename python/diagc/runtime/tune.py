"""Measure the variants of packages on this machine's GPU, and fill a table that comes along.

    python -m diagc.runtime.tune block.diagpkg                       # for this machine
    python -m diagc.runtime.tune *.diagpkg --table=nvidia-h200.json  # and for all who have such one
    python -m diagc.runtime.tune *.diagpkg --table=FILE --predicted="NVIDIA H200"  # without a GPU

Every class of shapes for which the package has predictions is measured on random data. What was
measured is kept in the cache, where `diagc.runtime.load` finds it. With --predicted nothing runs:
the table gets what the cost model says, marked so; such entries decide nothing.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from diagc.errors import DiagcError, UserError

if TYPE_CHECKING:
    import torch

    from diagc.runtime.package.manifest import Manifest
    from diagc.runtime.package.tuned_table import TunedEntry
    from diagc.runtime.package.variants import Variants

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives 1 when a package cannot be used."""
    args = _parser().parse_args(arguments)
    try:
        return _run(args)
    except DiagcError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="measure the variants of packages")
    parser.add_argument("packages", nargs="+", type=Path, help="FILE.diagpkg")
    parser.add_argument("--table", type=Path, help="file that gets the choices; kept ones stay")
    text = "measure nothing: the table of this DEVICE gets what the cost model says"
    parser.add_argument("--predicted", metavar="DEVICE", help=text)
    text = "begin no further shape after so many; default 300"
    parser.add_argument("--seconds", type=float, default=300.0, help=text)
    return parser


def _run(args: argparse.Namespace) -> int:
    if args.predicted and not args.table:
        raise UserError("--predicted only writes a table", expected="--table=FILE")
    end = perf_counter() + args.seconds
    for path in args.packages:
        found: dict[str, list[TunedEntry]] = {}
        for device, entry in _predict(path, args.predicted) if args.predicted else _tune(path, end):
            print(f"{path.stem} {entry.shape}: {entry.variant}, {entry.seconds * 1e3:.4g} ms")
            found.setdefault(device, []).append(entry)
        for device, entries in found.items():
            if args.table:  # at once: a later package may be damaged
                _write(device, entries, args.table)
    return 0


def _write(device: str, entries: "Sequence[TunedEntry]", path: Path) -> None:
    from diagc.runtime.package.tuned_table import TunedTable, read_table

    table = read_table(path) if path.exists() else TunedTable(device)
    if table.device != device:
        raise UserError(f"{path} is of another device", expected=device, found=table.device)
    merged = table.merged(entries)
    try:
        merged.write(path)
    except OSError as error:
        raise UserError(f"cannot write {path}", found=error.strerror) from None
    measured = sum(entry.driver is not None for entry in merged.entries)
    print(f"{path}: {len(merged.entries)} entries, {measured} of them measured")


def _read(path: Path) -> "tuple[Manifest, Variants, Mapping[str, bytes]] | None":
    """The manifest, its variants, and the members; None where nothing can be chosen."""
    from diagc.runtime.package.manifest import read_package

    manifest, members = read_package(path)
    if manifest.variants is None or len(manifest.variants.entries) < 2:
        print(f"{path} has no variants")
        return None
    return manifest, manifest.variants, members


def _predict(path: Path, device: str) -> "Iterator[tuple[str, TunedEntry]]":
    """What the cost model says for every class of shapes; the first shape of a class counts.

    Raises:
        UserError: it says so of another device.
    """
    from diagc.runtime.package.tuned_table import PREDICTED, TunedEntry

    read = _read(path)
    if read is None:
        return
    manifest, variants, _ = read
    if not _describes(variants.device, device):
        message = f"{path} has predictions for another device"
        remedy = "compile it with --device for that one"
        raise UserError(message, expected=device, found=variants.device, remedy=remedy)
    for shape, sizes in _classes(variants):
        times = {e.name: e.predicted[variants.nearest(sizes)] for e in variants.entries}
        best = variants.predicted(sizes, times)
        fields = (manifest.name, shape, best, PREDICTED, times[best], None, manifest.diagc)
        yield device, TunedEntry(variants.family, *fields)


def _describes(description: str, device: str) -> bool:
    """Whether a description's name, "h100-sxm", fits a driver's, "NVIDIA H100 80GB HBM3".

    The first word decides: what stands behind it is not told in one way.
    """
    first, *_ = _words(description) or [""]
    return first in _words(device)


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower())


def _tune(path: Path, end: float) -> "Iterator[tuple[str, TunedEntry]]":
    """What is fastest here for every class of shapes that there is time and memory for."""
    import torch

    from diagc.runtime.package.chooser import Chooser
    from diagc.runtime.package.manifest import consistent
    from diagc.runtime.package.tuned_table import MEASURED, TunedEntry

    read = _read(path)
    if read is None:
        return
    manifest, variants, members = read
    with consistent(path):
        chooser = Chooser(manifest, members)
    for shape, sizes in _classes(variants):
        if perf_counter() > end:
            print(f"{path.stem} {shape}: no time was left")
            continue
        try:
            tensors = _tensors(manifest, sizes)
            with torch.no_grad():
                seconds = chooser.measure(tensors)
        except torch.OutOfMemoryError:
            print(f"{path.stem} {shape}: too little memory")
            continue
        if not seconds:
            print(f"{path.stem} {shape}: no variant ran")
            continue
        best, machine = next(iter(seconds)), chooser.record(tensors).machine
        fields = (manifest.name, shape, best, MEASURED, seconds[best], machine.driver)
        yield machine.device, TunedEntry(variants.family, *fields, manifest.diagc)


def _classes(variants: "Variants") -> Iterator[tuple[str, Mapping[str, int]]]:
    """Each class of shapes, with the first shape of it for which there are predictions."""
    from diagc.runtime.package.variants import shape_class

    seen: set[str] = set()
    for sizes in variants.shapes:
        shape = shape_class(sizes)
        if shape not in seen:
            seen.add(shape)
            yield shape, sizes


def _tensors(manifest: "Manifest", sizes: Mapping[str, int]) -> "list[torch.Tensor]":
    """Normal numbers for floats, ones for others, on the package's kind of device."""
    import torch

    from diagc.runtime.torch_launch import TORCH_DTYPES

    tensors = []
    for entry in manifest.program.inputs:
        shape = [prod(sizes[label] for label in group) for group in entry.dims]
        dtype = TORCH_DTYPES[entry.type.dtype]
        make = torch.randn if dtype.is_floating_point else torch.ones
        tensors.append(make(shape, device=manifest.device).to(dtype))
    return tensors


if __name__ == "__main__":
    sys.exit(main())
