"""Tables of choices for a GPU that come along with diagc, one JSON file for each device.

    {"format": "diagc-tuned", "version": 1, "device": "NVIDIA H200", "entries": [
        {"family": "5f...", "name": "causal", "shape": "b=32 n=4096 d=128",
         "variant": "128 rows by 8 warps, ...", "source": "measured", "seconds": 0.0011,
         "driver": "CUDA 13.0", "diagc": "0.1.0"}]}

An entry says whether it was measured on that device or is what the cost model predicted for it:
only measured ones decide anything. `python -m diagc.runtime.tune` fills a table.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from secrets import token_hex
from sys import float_info
from typing import Any

from diagc.debug import logger
from diagc.errors import UserError

__all__ = ["MEASURED", "PREDICTED", "TunedEntry", "TunedTable", "read_table", "table_of"]

FOLDER = Path(__file__).with_name("tuned")
FORMAT, VERSION = "diagc-tuned", 1
MEASURED, PREDICTED = "measured", "predicted"
_TOO_MUCH = (OverflowError, RecursionError)
_FAMILY = re.compile(r"[0-9a-f]{64}")
_SHAPE = re.compile(r"\S+=\d+( \S+=\d+)*")


@dataclass(frozen=True)
class TunedEntry:
    """What is best for one shape class of one function.

    Args:
        family: digest of the function, `Variants.family`.
        name: of the function, for people.
        shape: `shape_class` of the inputs.
        variant: its name.
        source: "measured" on the table's device, or "predicted" by the cost model for it.
        seconds: of a call, as measured or predicted.
        driver: the CUDA version of the driver with which it was measured, "CUDA 13.0"; None if it
            was not.
        diagc: version of the compiler that made the code.
    """

    family: str
    name: str
    shape: str
    variant: str
    source: str
    seconds: float
    driver: str | None
    diagc: str

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: which one is wrong, in words.
        """
        texts = (self.family, self.name, self.shape, self.variant, self.source, self.diagc)
        if not all(isinstance(text, str) and text for text in texts):
            raise ValueError("a field that should be text is not")
        if not _FAMILY.fullmatch(self.family):
            raise ValueError(f"the family {self.family!r} is no SHA-256")
        if not _SHAPE.fullmatch(self.shape):
            raise ValueError(f"the shape {self.shape!r} is no list of sizes")
        if self.source not in (MEASURED, PREDICTED):
            raise ValueError(f"the source {self.source!r} is neither measured nor predicted")
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, (int, float)):
            raise ValueError(f"the time {self.seconds!r} is no number")
        if not 0 < self.seconds <= float_info.max:  # an integer of JSON may be larger
            raise ValueError("the time is none")
        if (self.source == MEASURED) != isinstance(self.driver, str):
            raise ValueError("what is measured names a driver, what is predicted names none")

    @property
    def place(self) -> tuple[str, str]:
        """What it is the choice for: one entry each."""
        return self.family, self.shape


@dataclass(frozen=True)
class TunedTable:
    """Choices for one device, as the driver calls it."""

    device: str
    entries: tuple[TunedEntry, ...] = ()

    def measured(self, family: str, shape: str) -> str | None:
        """The variant that was measured to be best; None where nothing was measured."""
        for entry in self.entries:
            if entry.place == (family, shape) and entry.source == MEASURED:
                return entry.variant
        return None

    def merged(self, entries: Iterable[TunedEntry]) -> "TunedTable":
        """With these in place of others for the same; no prediction replaces a measurement."""
        found = {entry.place: entry for entry in self.entries}
        for entry in entries:
            old = found.get(entry.place)
            if old is None or entry.source == MEASURED or old.source == PREDICTED:
                found[entry.place] = entry
        ordered = sorted(found.values(), key=lambda e: (e.name, e.family, e.shape))
        return TunedTable(self.device, tuple(ordered))

    def write(self, path: Path) -> None:
        """Replace a file, in one step.

        Raises:
            OSError: it cannot be written.
        """
        head = {"format": FORMAT, "version": VERSION, "device": self.device}
        text = json.dumps({**head, "entries": [asdict(e) for e in self.entries]}, indent=1)
        temporary = path.with_name(f".{path.name}-{os.getpid()}-{token_hex(8)}.tmp")
        try:
            temporary.write_text(text + "\n", encoding="utf-8")
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def read_table(path: Path) -> TunedTable:
    """Read and check a table.

    Raises:
        UserError: it cannot be read, or is none; the message names the entry.
    """
    try:
        plain = json.loads(path.read_bytes())
        head = [plain[key] for key in ("format", "version", "device")]
        if head[:2] != [FORMAT, VERSION] or not isinstance(head[2], str) or not head[2]:
            raise ValueError(f"it begins with {head}")
        entries = tuple(_entry(number, item) for number, item in enumerate(plain["entries"]))
    except OSError as error:
        raise UserError(f"cannot read {path}", found=error.strerror) from None
    except (ValueError, KeyError, TypeError, AttributeError, *_TOO_MUCH) as error:
        raise UserError(f"{path} is no table of choices: {error}") from None
    places = [entry.place for entry in entries]
    if len(set(places)) != len(places):
        raise UserError(f"{path} has two entries for the same function and shape")
    return TunedTable(head[2], entries)


def _entry(number: int, item: Any) -> TunedEntry:
    names = {field.name for field in fields(TunedEntry)}
    if not isinstance(item, dict) or item.keys() != names:
        raise ValueError(f"entry {number} does not have the fields {sorted(names)}")
    try:
        return TunedEntry(**item)
    except ValueError as error:
        raise ValueError(f"entry {number}: {error}") from None


def table_of(device: str) -> TunedTable:
    """What comes along for a device; an empty table for one that nobody has tuned for."""
    return _tables(FOLDER).get(device) or TunedTable(device)


@cache
def _tables(folder: Path) -> dict[str, TunedTable]:
    """All tables by device; one that is damaged is left out, with a warning."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            table = read_table(path)
            found[table.device] = table
        except UserError as error:
            logger("tuned").warning("%s", error)
    return found
