"""Write a package from a compiled program and the call that it was compiled for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from diagc.errors import UnsupportedError
from diagc.files import as_path
from diagc.runtime.arguments import Arguments
from diagc.runtime.captured import CapturedTensor
from diagc.runtime.package.conditions import check_condition
from diagc.runtime.package.kernels import kernel_entry
from diagc.runtime.package.manifest import Manifest, TensorEntry, write_package
from diagc.runtime.package.structure import describe
from diagc.runtime.package.variants import VariantEntry, Variants
from diagc.runtime.plan_scope import Kernel
from diagc.runtime.program import Program
from diagc.runtime.specialization import ProgramResult, Specialization
from diagc.runtime.steps import HostProgram
from diagc.runtime.torch_call import TorchCall
from diagc.runtime.torch_launch import dtype_name

__all__ = [
    "Contents",
    "ProgramVariant",
    "ProgramVariants",
    "of_program",
    "of_specialization",
    "save",
]


@dataclass(frozen=True)
class ProgramVariant:
    """A program, its name in words, and its predicted seconds for each of the shapes."""

    name: str
    program: Program
    predicted: tuple[float, ...]


@dataclass(frozen=True)
class ProgramVariants:
    """What becomes `Variants` of the manifest; the first entry leads."""

    family: str
    device: str
    shapes: tuple[Mapping[str, int], ...]
    entries: tuple[ProgramVariant, ...]


@dataclass(frozen=True)
class Contents:
    """What a package is made of.

    Args:
        program: compiled for its target.
        sources: for each input: number of a tensor of the call, or the tensor itself.
        arguments: structure of the call.
        results: structure of its value.
        conditions: on sizes.
        variants: programs that do the same; the first is `program`.
    """

    program: Program
    sources: tuple[int | torch.Tensor, ...]
    arguments: dict[str, Any]
    results: dict[str, Any]
    conditions: tuple[str, ...] = ()
    variants: ProgramVariants | None = None


def of_program(program: Program) -> Contents:
    """A program that takes its inputs in order and gives the list of its results."""
    inputs = [{"tensor": i} for i in range(len(program.inputs))]
    results = {"list": [{"tensor": i} for i in range(len(program.outputs))]}
    call = {"tuple": [{"tuple": inputs}, {"dict": []}]}
    return Contents(program, tuple(range(len(program.inputs))), call, results)


def of_specialization(arguments: Arguments, specialization: Specialization) -> Contents:
    """A function that was compiled for one kind of call.

    Raises:
        UnsupportedError: arguments or results that a package cannot describe.
    """
    users = [_Place(i) for i in range(len(specialization.shapes))]
    args, kwargs = arguments.rebuild(users)
    value = pytree.tree_unflatten(list(specialization.outputs), specialization.output_spec)
    return Contents(
        specialization.program,
        tuple(s.get() if isinstance(s, CapturedTensor) else s for s in specialization.sources),
        describe((tuple(args), dict(kwargs)), _place, "arguments"),
        describe(value, _result, "results"),
        specialization.conditions,
    )


@dataclass(frozen=True)
class _Place:
    index: int


def _place(leaf: Any) -> int | None:
    return leaf.index if isinstance(leaf, _Place) else None


def _result(leaf: Any) -> int | None:
    return leaf.index if isinstance(leaf, ProgramResult) else None


def save(
    path: str | Path,
    contents: Contents,
    *,
    target: str,
    version: str,
    outside: frozenset[str] = frozenset(),
) -> None:
    """Write a package, in one step.

    Args:
        path: of the file.
        contents: what goes in.
        target: for which it was compiled.
        version: of diagc.
        outside: names of tensors that the user will give to `load`; all others go in.

    Raises:
        UnsupportedError: something of the program has no code, or cannot be stored.
        PackageError: the file cannot be written.
        UserError: `path` is no path.
    """
    path = as_path(path, "a package")  # before anything that takes long
    program, report = contents.program, contents.program.report
    if program.float64:
        raise UnsupportedError("a package for the target interp", remedy="choose another target")
    entries, members, variants = _kernels(contents)
    sources, tensors, data = _sources(contents, outside)
    for condition in contents.conditions:
        _check_condition(condition)
    manifest = Manifest(
        name=report.name,
        target=target,
        device=program.device,
        diagc=version,
        program=HostProgram(program.inputs, program.steps, program.outputs),
        sources=sources,
        arguments=contents.arguments,
        results=contents.results,
        conditions=contents.conditions,
        kernels=entries,
        externs=_externs(program),
        tensors=tensors,
        report=report.to_json(),
        variants=variants,
    )
    try:
        write_package(path, manifest, {**members, **data})
    except TypeError as error:
        raise UnsupportedError("a package of this program", reason=str(error)) from None


def _kernels(
    contents: Contents,
) -> tuple[tuple[dict[str, Any], ...], dict[str, bytes], Variants | None]:
    """Kernels of all programs, and who uses which; variants share those that are equal."""
    entries: list[dict[str, Any]] = []
    members: dict[str, bytes] = {}
    known: dict[object, int] = {}

    def add(kernel: Kernel, shares: bool) -> int:
        code = getattr(kernel, "kernel", kernel)  # of one for GPUs the plain data
        if not (shares and code in known):
            known[code] = len(entries)
            entry, data = kernel_entry(kernel, len(entries))
            entries.append(entry)
            members.update(data)
        return known[code]

    def entry_of(each: ProgramVariant) -> VariantEntry:
        host = HostProgram(each.program.inputs, each.program.steps, each.program.outputs)
        kernels = (add(kernel, True) for kernel in each.program.kernels)
        return VariantEntry(each.name, host, tuple(kernels), each.predicted)

    for kernel in contents.program.kernels:  # in their order, for run times that know no variants
        add(kernel, False)
    found, variants = contents.variants, None
    if found is not None:
        described = tuple(entry_of(each) for each in found.entries)
        variants = Variants(found.family, found.device, found.shapes, described)
    return tuple(entries), members, variants


def _externs(program: Program) -> Mapping[str, TorchCall]:
    for symbol, call in program.externs.items():
        if not isinstance(call, TorchCall):
            reason = f"'{symbol}' is a Python function, not an op of torch"
            raise UnsupportedError("a package with calls of Python", reason=reason)
    return program.externs  # type: ignore[return-value]


def _sources(
    contents: Contents, outside: frozenset[str]
) -> tuple[tuple[Any, ...], tuple[TensorEntry, ...], dict[str, bytes]]:
    """Where inputs come from; the tensors that go in, each once, with their bytes."""
    sources: list[Any] = []
    tensors: list[TensorEntry] = []
    data: dict[str, bytes] = {}
    numbers: dict[int, int] = {}
    for source, entry in zip(contents.sources, contents.program.inputs, strict=True):
        if isinstance(source, int):
            sources.append(source)
        elif entry.name in outside:
            sources.append(entry.name)
        else:
            if id(source) not in numbers:
                numbers[id(source)] = len(tensors)
                member = f"tensors/{len(tensors)}.bin"
                shape, dtype = tuple(source.shape), dtype_name(source.dtype)
                tensors.append(TensorEntry(entry.name, dtype, shape, member))
                data[member] = _bytes(source)
            sources.append(("tensor", numbers[id(source)]))
    return tuple(sources), tuple(tensors), data


def _bytes(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _check_condition(condition: str) -> None:
    try:
        check_condition(condition)
    except ValueError as error:
        remedy = "compile it with fixed sizes"
        raise UnsupportedError("a package of it", reason=str(error), remedy=remedy) from None
