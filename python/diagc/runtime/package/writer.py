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
from diagc.runtime.program import Program
from diagc.runtime.specialization import ProgramResult, Specialization
from diagc.runtime.steps import HostProgram
from diagc.runtime.torch_call import TorchCall
from diagc.runtime.torch_launch import dtype_name

__all__ = ["Contents", "of_program", "of_specialization", "save"]


@dataclass(frozen=True)
class Contents:
    """What a package is made of.

    Args:
        program: compiled for its target.
        sources: for each input: number of a tensor of the call, or the tensor itself.
        arguments: structure of the call.
        results: structure of its value.
        conditions: on sizes.
    """

    program: Program
    sources: tuple[int | torch.Tensor, ...]
    arguments: dict[str, Any]
    results: dict[str, Any]
    conditions: tuple[str, ...] = ()


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
    entries, members = _kernels(program)
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
    )
    try:
        write_package(path, manifest, {**members, **data})
    except TypeError as error:
        raise UnsupportedError("a package of this program", reason=str(error)) from None


def _kernels(program: Program) -> tuple[tuple[dict[str, Any], ...], dict[str, bytes]]:
    entries, members = [], {}
    for number, kernel in enumerate(program.kernels):
        entry, code = kernel_entry(kernel, number)
        entries.append(entry)
        members.update(code)
    return tuple(entries), members


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
