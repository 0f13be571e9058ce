"""Targets by name; what a target needs is imported only when it is asked for."""

import platform

from diagc.errors import TargetError
from diagc.targets.base import Target, TargetInfo

__all__ = ["DEFAULT_TARGET", "Target", "TargetInfo", "get_target", "list_targets", "target_for"]

DEFAULT_TARGET = "cpu"
"""The target that `auto` stands for."""

_ARCHITECTURES = ("x86_64", "AMD64", "aarch64", "arm64")


def _always() -> str | None:
    return None


def _cpu_obstacle() -> str | None:
    if platform.machine() not in _ARCHITECTURES:
        return f"no code generator for the processor '{platform.machine()}'"
    return None


def _nvptx_arch(name: str) -> str:
    from diagc.targets.nvptx.arch import parse_arch

    return parse_arch(name).name


_TARGETS = {
    target.name: target
    for target in (
        Target("cpu", "vector code for this machine's processor", _cpu_obstacle),
        Target("interp", "reference meaning of every op in float64, for tests", _always),
        Target(
            *("nvptx", "kernels for NVIDIA GPUs: nvptx, nvptx:sm_90", _always),
            check_arch=_nvptx_arch,
            device="cuda",
        ),
    )
}


def list_targets() -> list[TargetInfo]:
    """All targets, with the reason why one cannot be used on this machine."""
    return [target.info() for target in _TARGETS.values()]


def get_target(name: str) -> Target:
    """The target called `name`, such as `cpu` or `nvptx:sm_90`; `auto` is the default target.

    Raises:
        TargetError: no such target or architecture, or this machine does not have it.
    """
    base, _, arch = name.partition(":")
    target = _TARGETS.get(DEFAULT_TARGET if base == "auto" else base)
    if target is None:
        raise TargetError(
            "unknown target",
            expected=f"one of auto, {', '.join(_TARGETS)}",
            found=f"'{name}'",
            remedy="'diagc targets' lists what this machine has",
        )
    why_not = target.info().why_not
    if why_not is not None:
        raise TargetError(
            f"target '{target.name}' is not available on this machine: {why_not}",
            remedy=f"use --target={DEFAULT_TARGET}, or run it where the target is available",
        )
    return target.with_arch(arch)


def target_for(name: str, device: str) -> str:
    """The target that makes code for a device, where `name` leaves that open.

    Args:
        name: of a target, `auto`, or `nvptx` without an architecture.
        device: name or file of a description, or empty.

    Raises:
        UserError: no such device, or a malformed file.
        TargetError: the target makes no code for it.
    """
    if not device:
        return name
    from diagc.cost import find_device

    found = find_device(device)
    if found.kind == "gpu" and name in ("auto", "nvptx"):
        name = f"nvptx:{found.architecture}"
    get_target(name).describe(device)
    return name
