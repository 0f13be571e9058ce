"""Kernels in a package: entries of the manifest with the members that hold their code."""

import json
import lzma
import platform
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diagc.errors import CacheError, PackageError, UnsupportedError
from diagc.runtime.cpu_features import ISA_LEVELS, host_features
from diagc.runtime.cpu_kernel import CpuKernel
from diagc.runtime.cuda import torch_streams
from diagc.runtime.cuda.device import find_device
from diagc.runtime.cuda.driver import default_driver
from diagc.runtime.cuda.kernel import CudaKernel
from diagc.runtime.cuda.module import fits_cubin, fits_ptx
from diagc.runtime.gpu_kernel import GpuKernel
from diagc.runtime.plan_scope import Kernel
from diagc.runtime.signature import KernelSignature

__all__ = ["check_machine", "gpu_kernel", "kernel_entry", "load_kernel", "requirements"]

Entry = dict[str, Any]

_CODE_BYTES, _DECODER_BYTES = 1 << 27, 1 << 26
"""Of the code of a kernel, and of memory that it takes to decompress it, at most."""


def kernel_entry(kernel: Kernel, number: int) -> tuple[Entry, dict[str, bytes]]:
    """A kernel as an entry, and the members that it names.

    Args:
        kernel: of a program.
        number: in the program's list.

    Raises:
        UnsupportedError: the kernel is no code: the target could not lower it.
    """
    stem = f"kernels/{number}"
    if isinstance(kernel, CpuKernel):
        entry = {"kind": "cpu", "signature": kernel.signature.to_json(), "object": f"{stem}.o"}
        return {**entry, **_cpu_needs(kernel)}, {entry["object"]: kernel.object_code}
    if isinstance(kernel, CudaKernel):
        return _gpu_entry(kernel.kernel, stem)
    raise UnsupportedError(
        "a package with an interpreted kernel",
        reason=f"the target has no code for kernel '{kernel.signature.symbol}'",
        remedy="'diagc explain' says why",
    )


def load_kernel(entry: Entry, members: Mapping[str, bytes]) -> Kernel:
    """The kernel of an entry; `check_machine` must have accepted it.

    Raises:
        PackageError: its code cannot be loaded.
        KeyError, TypeError: the entry is malformed.
    """
    try:
        if entry["kind"] == "cpu":
            signature = KernelSignature.from_json(entry["signature"])
            return CpuKernel(signature, members[entry["object"]])
        return CudaKernel(gpu_kernel(entry, members))
    except CacheError as error:
        raise PackageError(f"a kernel of the package is damaged: {error}") from None


# ---- what a machine must have --------------------------------------------------------------------


def requirements(entry: Entry) -> str:
    """What an entry needs, in words."""
    if entry["kind"] == "cpu":
        return f"{entry['machine']} with {entry['isa']}"
    return f"an NVIDIA GPU, {entry['arch']}{'' if entry['cubin'] else ' or later'}"


def check_machine(entry: Entry) -> None:
    """See that this machine can run an entry.

    Raises:
        PackageError: it is another kind of processor or GPU, or lacks instructions.
        TargetError: there is no GPU, or no driver.
    """
    if entry["kind"] == "cpu":
        _check_cpu(entry)
    elif entry["kind"] == "gpu":
        _check_gpu(entry)
    else:
        raise ValueError(f"unknown kind of kernel {entry['kind']!r}")


def _cpu_needs(kernel: CpuKernel) -> Entry:
    features = kernel.features or host_features()
    return {
        "machine": platform.machine(),
        "isa": features.isa,
        "native": features.native,
        "cpu": features.name if features.native else "",
        "flags": sorted(features.flags),
    }


def _check_cpu(entry: Entry) -> None:
    if entry["machine"] != platform.machine():
        raise PackageError(
            "the package is for another processor",
            expected=entry["machine"],
            found=platform.machine(),
            remedy="compile it there",
        )
    host = host_features()
    missing = sorted(set(entry["flags"]) - host.flags)
    if missing or not ISA_LEVELS[entry["isa"]].needs <= host.flags:
        levels = ", ".join(isa for isa, level in ISA_LEVELS.items() if level.needs <= host.flags)
        raise PackageError(
            "the package needs instructions that this processor does not have",
            expected=f"{entry['cpu'] or entry['isa']}",
            found=f"{host.name}, without {' '.join(missing)}",
            remedy=f"compile it with DIAGC_CPU_ISA set to one of {levels}",
        )


def _check_gpu(entry: Entry) -> None:
    default_driver()  # says best what is missing
    device = find_device(torch_streams.device_index("cuda", "of the package"))
    arch = entry["arch"]
    if not fits_ptx(arch, device.capability) and not fits_cubin(arch, device.capability):
        raise PackageError(
            "the package is for another GPU",
            expected=requirements(entry),
            found=f"{device.name}, {device.arch}",
            remedy=f"compile it with --target=nvptx:{device.arch}",
        )


# ---- GPU kernels: code in members of its own, the rest in the entry ------------------------------
# xz leaves two thirds of what deflate leaves of PTX, which numbers registers one after the other.


def _gpu_entry(kernel: GpuKernel, stem: str) -> tuple[Entry, dict[str, bytes]]:
    bare = json.loads(replace(kernel, ptx="", cubin=None).to_json())
    entry = {"kind": "gpu", **bare, "ptx": f"{stem}.ptx.xz", "cubin": None}
    members = {entry["ptx"]: lzma.compress(kernel.ptx.encode())}
    if kernel.cubin is not None:
        entry["cubin"] = f"{stem}.cubin.xz"
        members[entry["cubin"]] = lzma.compress(kernel.cubin)
    return entry, members


def gpu_kernel(entry: Entry, members: Mapping[str, bytes]) -> GpuKernel:
    """The data of an entry of the kind "gpu".

    Raises:
        CacheError: it is none, or its code is damaged.
        KeyError: a field or member is missing.
    """
    bare = {**entry, "ptx": "", "cubin": None}
    kernel = GpuKernel.from_json(json.dumps(bare))
    cubin = None if entry["cubin"] is None else _code(entry["cubin"], members)
    return replace(kernel, ptx=_code(entry["ptx"], members).decode(), cubin=cubin)


def _code(name: str, members: Mapping[str, bytes]) -> bytes:
    """A member without its compression, which must not cost much memory.

    Raises:
        CacheError: it is damaged, or larger than code is.
    """
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_DECODER_BYTES)
    try:
        code = decoder.decompress(members[name], max_length=_CODE_BYTES)
    except lzma.LZMAError as error:
        raise CacheError(f"member '{name}' cannot be decompressed: {error}") from None
    if not decoder.eof or decoder.unused_data:
        raise CacheError(f"member '{name}' is cut short, or more than {_CODE_BYTES} bytes of code")
    return code
