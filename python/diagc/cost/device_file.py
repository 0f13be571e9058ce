"""Reads and writes descriptions of devices: TOML, every figure with the name of its source.

name = "h200"
summary = "NVIDIA H200 SXM, 141 GB"
kind = "gpu"                      # or "cpu"
architecture = "sm_90"            # of a GPU
units = 132

[sources]                         # title and address, by name
datasheet = "..."

[launch]
seconds = 4e-6
call_seconds = 30e-6              # may be left out
source = "datasheet"

[[level]]                         # the fastest first, the last one is "memory"
name = "memory"
bytes = 141e9
bandwidth = 4.8e12                # bytes per second of all instances
shared_by = "device"              # or "unit"
latency = 228e-9                  # seconds; may be left out
source = "datasheet"

[[rate]]
pipe = "tensor"                   # or "mma", "fma", "special", "library", "tiles"
dtype = "bf16"
per_second = 989.4e12             # of all units
source = "datasheet"

[limits]                          # see `Device`
source = "datasheet"
registers = 65536
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagc.cost.device import Device, Level, Rate
from diagc.errors import UserError

__all__ = ["device_text", "parse_device", "read_device"]

KINDS = ("cpu", "gpu")
SHARED_BY = ("unit", "device")
LEVEL = ("name", "bytes", "bandwidth", "shared_by", "latency", "source")
PIPES = ("tensor", "mma", "fma", "special", "library", "tiles")
LIMITS = {
    "cpu": ("vector_bytes", "vector_registers", "fma_in_flight"),
    "gpu": ("registers", "registers_per_thread", "shared_per_block", "threads", "blocks"),
}
_REMEDY = "see the files in diagc/cost/devices for examples"


def read_device(path: Path) -> Device:
    """The device that a file describes.

    Raises:
        UserError: the file cannot be read, is no TOML, or a field is missing or wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"cannot read the device file {path}: {reason}") from None
    return parse_device(text, str(path))


def parse_device(text: str, file: str) -> Device:
    """The device that a text describes; `file` is named in errors.

    Raises:
        UserError: it is no TOML, or a field is missing, unknown or wrong.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{file}: not a TOML file: {error}", remedy=_REMEDY) from None
    return _Reader(file, table).device()


@dataclass(frozen=True)
class _Reader:
    """Takes fields out of a table; `where` is the path of the table inside the file."""

    file: str
    table: Mapping[str, Any]
    where: str = ""

    def device(self) -> Device:
        self.only("name", "summary", "kind", "architecture", "units", "sources", "launch")
        kind = self.choice("kind", KINDS)
        sources = self.inner("sources")
        for key in sources.table:
            sources.text(key)
        launch = self.inner("launch").only("seconds", "call_seconds", "source")
        launch.source(sources)
        return Device(
            name=self.text("name"),
            summary=self.text("summary"),
            kind=kind,
            units=self.integer("units"),
            levels=self.levels(sources),
            rates=self.rates(sources),
            launch_seconds=launch.number("seconds"),
            call_seconds=launch.number("call_seconds", Device.call_seconds),
            limits=self.limits(kind, sources),
            architecture=self.text("architecture") if kind == "gpu" else "",
        )

    def levels(self, sources: "_Reader") -> tuple[Level, ...]:
        found = [
            Level(
                entry.text("name"),
                entry.integer("bytes"),
                entry.number("bandwidth"),
                entry.choice("shared_by", SHARED_BY),
                entry.source(sources),
                entry.number("latency", 0.0),
            )
            for entry in self.entries("level", *LEVEL)
        ]
        if found[-1].name != "memory":
            raise self.error("level", 'a last level with the name "memory"', repr(found[-1].name))
        return tuple(found)

    def rates(self, sources: "_Reader") -> tuple[Rate, ...]:
        found = tuple(
            Rate(
                entry.choice("pipe", PIPES),
                entry.text("dtype"),
                entry.number("per_second"),
                entry.source(sources),
            )
            for entry in self.entries("rate", "pipe", "dtype", "per_second", "source")
        )
        for pipe in ("fma", "special"):
            if not any((rate.pipe, rate.dtype) == (pipe, "f32") for rate in found):
                raise self.error("rate", f'a rate of the pipe "{pipe}" for "f32"', "none")
        return found

    def limits(self, kind: str, sources: "_Reader") -> dict[str, int]:
        table = self.inner("limits").only("source", *LIMITS[kind])
        table.source(sources)
        return {name: table.integer(name) for name in LIMITS[kind]}

    # -- single fields ---------------------------------------------------------------------------
    def error(self, field: str, expected: object, found: object) -> UserError:
        path = f"{self.where}.{field}" if self.where else field
        message = f"{self.file}: field '{path}' of the device description"
        return UserError(message, expected=expected, found=found, remedy=_REMEDY)

    def only(self, *known: str) -> "_Reader":
        """Refuse fields that nothing reads, such as misspelt ones."""
        allowed = known if self.where else (*known, "level", "rate", "limits")
        for field in self.table:
            if field not in allowed:
                raise self.error(field, f"one of {', '.join(allowed)}", "an unknown field")
        return self

    def value(self, field: str, expected: str) -> Any:
        if field not in self.table:
            raise self.error(field, expected, "nothing: the field is missing")
        return self.table[field]

    def text(self, field: str) -> str:
        value = self.value(field, "a text")
        if not isinstance(value, str) or not value:
            raise self.error(field, "a text", repr(value))
        return value

    def choice(self, field: str, choices: tuple[str, ...]) -> str:
        expected = " or ".join(f'"{choice}"' for choice in choices)
        value = self.value(field, expected)
        if value not in choices:
            raise self.error(field, expected, repr(value))
        return str(value)

    def number(self, field: str, default: float | None = None) -> float:
        if default is not None and field not in self.table:
            return default
        expected = "a positive number"
        value = self.value(field, expected)
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not 0 < value < float("inf"):
            raise self.error(field, expected, repr(value))
        return float(value)

    def integer(self, field: str) -> int:
        value = self.number(field)
        if value != int(value):
            raise self.error(field, "a positive whole number", repr(value))
        return int(value)

    def source(self, sources: "_Reader") -> str:
        """The full text of the source that a table names."""
        name = self.text("source")
        if name not in sources.table:
            known = ", ".join(sources.table) or "nothing"
            raise self.error("source", f"a name from [sources]: {known}", repr(name))
        return sources.text(name)

    def inner(self, field: str) -> "_Reader":
        value = self.value(field, "a table")
        if not isinstance(value, dict):
            raise self.error(field, "a table", repr(value))
        return _Reader(self.file, value, field)

    def entries(self, field: str, *known: str) -> list["_Reader"]:
        value = self.value(field, f"tables [[{field}]]")
        if not isinstance(value, list) or not value or not all(isinstance(x, dict) for x in value):
            raise self.error(field, f"tables [[{field}]]", repr(value))
        readers = [_Reader(self.file, x, f"{field}[{i}]") for i, x in enumerate(value)]
        return [reader.only(*known) for reader in readers]


# ---- writing -----------------------------------------------------------------------------------


def device_text(device: Device, source: str) -> str:
    """A description as TOML whose figures all have one source."""
    head = {"name": device.name, "summary": device.summary, "kind": device.kind}
    if device.architecture:
        head["architecture"] = device.architecture
    blocks = [_table("", {**head, "units": device.units}), _table("[sources]", {"all": source})]
    seconds = {"seconds": device.launch_seconds, "call_seconds": device.call_seconds}
    blocks.append(_table("[launch]", {**seconds, "source": "all"}))
    for level in device.levels:
        fields = {"name": level.name, "bytes": level.size, "bandwidth": level.bandwidth}
        fields |= {"shared_by": level.shared_by, "source": "all"}
        if level.latency:
            fields["latency"] = level.latency
        blocks.append(_table("[[level]]", fields))
    for rate in device.rates:
        fields = {"pipe": rate.pipe, "dtype": rate.dtype, "per_second": rate.per_second}
        blocks.append(_table("[[rate]]", {**fields, "source": "all"}))
    blocks.append(_table("[limits]", {"source": "all", **device.limits}))
    return "\n\n".join(blocks) + "\n"


def _table(title: str, fields: Mapping[str, object]) -> str:
    lines = [f"{name} = {_literal(value)}" for name, value in fields.items()]
    return "\n".join([title, *lines] if title else lines)


def _literal(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4e}"
    if isinstance(value, int):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
