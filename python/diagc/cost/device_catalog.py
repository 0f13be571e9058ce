"""Finds descriptions of devices: those that come along, that of this machine, a user's file."""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path

from diagc import debug
from diagc.cost.device import Device
from diagc.cost.device_file import device_text, parse_device, read_device
from diagc.debug import logger
from diagc.errors import UserError

__all__ = [
    "THIS_CPU",
    "cpu_device",
    "device_of_architecture",
    "find_device",
    "known_devices",
    "machine_device",
    "measured_device",
    "store_measured",
]

THIS_CPU = "this-cpu"
"""Name of the description that `diagc targets --measure` makes."""

_CPUS = {64: "cpu-avx512", 32: "cpu-avx2", 16: "cpu-128"}
_GPUS = {
    **dict.fromkeys(("sm_80", "sm_86"), "a100-80"),
    "sm_89": "l4",
    **dict.fromkeys(("sm_90", "sm_90a"), "h100-sxm"),
}
"""The device that stands for an architecture when only that is known."""

_SUFFIX = ".toml"


def known_devices() -> list[Device]:
    """All descriptions that come along, by name, then that of this machine."""
    folder = files("diagc.cost").joinpath("devices")
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(_SUFFIX))
    return [*(_shipped(name.removesuffix(_SUFFIX)) for name in names), machine_device()]


def find_device(spec: str) -> Device:
    """The device of a name (`h200`, `this-cpu`) or of a file (`my.toml`).

    Raises:
        UserError: there is none, or the file is malformed.
    """
    if spec.endswith(_SUFFIX) or os.sep in spec:
        return read_device(Path(spec))
    if spec == THIS_CPU:
        return machine_device()
    if files("diagc.cost").joinpath("devices", spec + _SUFFIX).is_file():
        return _shipped(spec)
    names = ", ".join(device.name for device in known_devices())
    remedy = "'diagc targets' lists them"
    raise UserError(
        "unknown device", expected=f"one of {names}, or FILE.toml", found=f"'{spec}'", remedy=remedy
    )


@cache
def _shipped(name: str) -> Device:
    path = files("diagc.cost").joinpath("devices", name + _SUFFIX)
    return parse_device(path.read_text(encoding="utf-8"), str(path))


def cpu_device(vector_bytes: int = 64) -> Device:
    """The generic description of one core whose vector registers have this many bytes.

    Raises:
        KeyError: no such width; there are 64, 32 and 16.
    """
    return _shipped(_CPUS[vector_bytes])


def device_of_architecture(architecture: str) -> Device:
    """A GPU of an architecture such as "sm_90".

    Raises:
        KeyError: no such architecture.
    """
    return _shipped(_GPUS[architecture])


def machine_device() -> Device:
    """This machine, `this-cpu`: as it was measured, else as a generic CPU with its cores."""
    return measured_device() or _generic(_machine_vector_bytes())


@cache
def _generic(vector_bytes: int) -> Device:
    device = cpu_device(vector_bytes).with_units(os.cpu_count() or 1)
    summary = f"this machine, not measured yet, taken for {device.name}"
    return replace(device, name=THIS_CPU, summary=summary)


# ---- what was measured -------------------------------------------------------------------------


def _measured_file() -> Path:
    return debug.CACHE_DIR.get() / "devices" / f"{THIS_CPU}{_SUFFIX}"


def measured_device() -> Device | None:
    """This machine as `diagc targets --measure` found it; None before, or on another machine."""
    path = _measured_file()
    try:
        stamp = path.stat()
    except OSError:
        return None
    return _measured(path, stamp.st_mtime_ns)


@cache
def _measured(path: Path, _changed: int) -> Device | None:
    try:
        device = read_device(path)
    except UserError as error:
        logger("cost").warning("the measured description is not used: %s", error)
        return None
    same = device.kind == "cpu" and device.summary == processor_name()
    return device if same and device.vector_bytes in _CPUS else None


def store_measured(device: Device) -> Path:
    """Keep the description of this machine.

    Raises:
        UserError: the cache directory is not writable.
    """
    path = _measured_file()
    text = device_text(device, "measured by diagc targets --measure")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{os.getpid()}{_SUFFIX}")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        message = f"cannot keep the measured description in {path.parent}: {error.strerror}"
        raise UserError(message, remedy="set DIAGC_CACHE_DIR to a directory of yours") from None
    return path


def _cpuinfo() -> Iterator[tuple[str, str]]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return
    for line in text.splitlines():
        name, _, value = line.partition(":")
        yield name.strip(), value.strip()


@cache
def processor_name() -> str:
    """Name, number of cores, as "AMD EPYC, 2 cores"; measurements hold for it alone."""
    names = [value for name, value in _cpuinfo() if name in ("model name", "CPU implementer")]
    cores = os.cpu_count() or 1
    return f"{names[0] if names else 'unknown CPU'}, {cores} core{'s' if cores > 1 else ''}"


@cache
def _machine_vector_bytes() -> int:
    flags = {flag for name, value in _cpuinfo() if name == "flags" for flag in value.split()}
    if "avx512f" in flags:
        return 64
    return 32 if "avx2" in flags else 16
