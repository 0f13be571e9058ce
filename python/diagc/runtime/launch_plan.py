"""Check the arrays of one launch against a kernel's signature.

Nothing here knows torch or numpy: an array is described by an `ArrayInfo`. A plan depends on shapes
and strides only, so launches that differ in data pointers alone share it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from diagc.errors import LaunchError
from diagc.runtime.signature import DTYPES, STORAGE, KernelSignature, Wire

__all__ = ["ArrayInfo", "LaunchPlan", "check_overlap", "make_plan", "row_major"]


class ArrayInfo(NamedTuple):
    """What a launch must know of an array: strides in elements, `dtype` as in a signature.

    `device` is as torch writes it: "cpu", "cuda:1".
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    device: str = "cpu"


@dataclass(frozen=True)
class LaunchPlan:
    """A checked launch; kernels add their own encoding of it.

    Args:
        sizes: of every axis of the signature.
        strides: of every argument as the kernel gets it, then of every result, in elements.
        copies: arguments that must be copied to a contiguous array first.
        results: shape, strides, dtype and device of every result that is allocated for the launch.
        empty: whether no result has elements, so that there is nothing to run.
    """

    sizes: Mapping[str, int]
    strides: tuple[tuple[int, ...], ...]
    copies: tuple[int, ...]
    results: tuple[ArrayInfo, ...]
    empty: bool


def make_plan(
    signature: KernelSignature,
    args: Sequence[ArrayInfo],
    outs: Sequence[ArrayInfo] = (),
    device: str = "cpu",
) -> LaunchPlan:
    """Check arrays.

    Args:
        signature: of the kernel.
        args: the arguments.
        outs: the results when the caller has allocated them; else they are fresh.
        device: where all of them must be.

    Raises:
        LaunchError: wrong number, device, dtype, rank or size of an argument or result.
    """
    _check_count(signature, "arguments", signature.args, args)
    if outs:
        _check_count(signature, "results", signature.results, outs)
    for wire, info in zip(signature.wires, (*args, *outs), strict=False):
        _check_kind(signature, wire, info, device)
    sizes = _sizes(signature, args)
    for wire, info in zip(signature.results, outs, strict=False):
        _check_result(signature, wire, info, sizes)
    copies = tuple(i for i, wire in enumerate(signature.args) if _needs_copy(wire, args[i]))
    results = tuple(_fresh(wire, sizes, device) for wire in signature.results)
    strides = [
        row_major(info.shape) if i in copies else info.strides for i, info in enumerate(args)
    ]
    strides += [info.strides for info in outs or results]
    empty = bool(results) and all(0 in info.shape for info in results)
    return LaunchPlan(sizes, tuple(strides), copies, results, empty)


def _fresh(wire: Wire, sizes: Mapping[str, int], device: str) -> ArrayInfo:
    shape = tuple(sizes[label] for label in wire.labels)
    return ArrayInfo(shape, row_major(shape), wire.dtype, device)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a contiguous array."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def check_overlap(
    signature: KernelSignature,
    arrays: Sequence[ArrayInfo],
    pointers: Sequence[int],
) -> None:
    """Refuse given results that may share memory with another array or with themselves.

    Address ranges are compared, so interleaved views count as overlapping too.

    Raises:
        LaunchError: naming both wires.
    """
    ranges = [_byte_range(info, at) for info, at in zip(arrays, pointers, strict=True)]
    for i in range(len(signature.args), len(arrays)):
        if _repeats(arrays[i]):
            raise _refuse(signature, signature.wires[i], "has several elements at one address")
        for j in range(i):
            if max(ranges[i][0], ranges[j][0]) < min(ranges[i][1], ranges[j][1]):
                other = signature.wires[j].name
                raise _refuse(signature, signature.wires[i], f"may overlap '{other}' in memory")


def _check_count(
    signature: KernelSignature, what: str, wires: Sequence[Wire], infos: Sequence[ArrayInfo]
) -> None:
    if len(infos) != len(wires):
        names = ", ".join(wire.name for wire in wires)
        raise LaunchError(
            f"kernel '{signature.symbol}' got the wrong number of {what}",
            expected=f"{len(wires)} ({names})",
            found=len(infos),
        )


def _sizes(signature: KernelSignature, args: Sequence[ArrayInfo]) -> Mapping[str, int]:
    """Size of every axis: static, or of the first argument that has it; all others must agree."""
    sizes = {label: size for label, size in signature.static_sizes.items() if size is not None}
    origins = dict.fromkeys(sizes, "as the kernel was compiled for")
    for wire, info in zip(signature.args, args, strict=True):
        for label, size in zip(wire.labels, info.shape, strict=True):
            expected = sizes.setdefault(label, size)
            origin = origins.setdefault(label, f"as in '{wire.name}'")
            if size != expected:
                raise _refuse(
                    signature,
                    wire,
                    f"has the wrong size along '{label}'",
                    expected=f"{expected}, {origin}",
                    found=size,
                )
    return sizes


def _check_kind(signature: KernelSignature, wire: Wire, info: ArrayInfo, device: str) -> None:
    if info.device != device:
        raise _refuse(
            signature,
            wire,
            "is on the wrong device",
            expected=device,
            found=info.device,
            remedy=f'move it with .to("{device}"), or compile for that device',
        )
    dtype = STORAGE.get(wire.dtype, wire.dtype)
    if info.dtype != dtype:
        raise _refuse(signature, wire, "has the wrong dtype", expected=dtype, found=info.dtype)
    if len(info.shape) != len(wire.labels):
        raise _refuse(
            signature,
            wire,
            "has the wrong rank",
            expected=f"{len(wire.labels)} dimensions ({', '.join(wire.labels)})",
            found=f"{len(info.shape)}, shape {tuple(info.shape)}",
        )


def _check_result(
    signature: KernelSignature, wire: Wire, info: ArrayInfo, sizes: Mapping[str, int]
) -> None:
    shape = tuple(sizes[label] for label in wire.labels)
    if tuple(info.shape) != shape:
        raise _refuse(signature, wire, "has the wrong shape", expected=shape, found=info.shape)
    if _needs_copy(wire, info):
        raise _refuse(
            signature,
            wire,
            f"has gaps along '{wire.labels[-1]}'",
            expected="stride 1",
            found=info.strides[-1],
        )


def _needs_copy(wire: Wire, info: ArrayInfo) -> bool:
    """Whether the kernel relies on stride 1 along the last label and the array does not have it."""
    return wire.unit_stride and bool(info.shape) and info.strides[-1] != 1 and info.shape[-1] > 1


def _byte_range(info: ArrayInfo, pointer: int) -> tuple[int, int]:
    """First and past-the-last byte; an empty array has an empty range."""
    if 0 in info.shape:
        return pointer, pointer
    spans = [step * (size - 1) for size, step in zip(info.shape, info.strides, strict=True)]
    width = DTYPES[info.dtype]
    low = sum(span for span in spans if span < 0)
    high = sum(span for span in spans if span > 0) + 1
    return pointer + low * width, pointer + high * width


def _repeats(info: ArrayInfo) -> bool:
    """Whether two positions may share an address (sufficient test: sorted strides do not nest)."""
    if 0 in info.shape:
        return False
    reach = 0
    dims = zip(info.strides, info.shape, strict=True)
    for step, size in sorted((abs(step), size) for step, size in dims if size > 1):
        if step <= reach:
            return True
        reach += step * (size - 1)
    return False


def _refuse(
    signature: KernelSignature,
    wire: Wire,
    problem: str,
    *,
    expected: object = None,
    found: object = None,
    remedy: str | None = None,
) -> LaunchError:
    role = "result" if wire in signature.results else "argument"
    return LaunchError(
        f"{role} '{wire.name}' of kernel '{signature.symbol}' {problem}",
        expected=expected,
        found=found,
        remedy=remedy,
    )
