"""The calling convention of CPU kernels: one block of 64-bit slots, laid out by a signature.

A kernel exports one function `void <symbol>(int64_t *ctx)`. The slots of `ctx`, in order:

| slots | what |
|---|---|
| 0 | where the task counters are, one for each thread: written by the kernel's entry |
| 1 | number of tasks: written by the kernel's entry, from the sizes |
| 2 | number of threads to use, at least 1; the entry makes it no larger than the number of tasks |
| 3..7 | unused |
| 8.. | the size of every axis, in the order of `axes` |
| then | of every argument, then of every result: the data pointer, one stride per label |

Strides are in elements.

The code generator and the launcher both ask this class for slot numbers, so they cannot disagree.
This module needs nothing but the standard library: packages are loaded without a compiler.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

from diagc.errors import CacheError, InternalError

__all__ = [
    "DTYPES",
    "FIRST_SIZE_SLOT",
    "KINDS",
    "STORAGE",
    "Axis",
    "KernelSignature",
    "Slot",
    "Wire",
]

FORMAT_VERSION = 1
FIRST_SIZE_SLOT = 8
KINDS = ("user", "param", "buffer")

# element type -> bytes in memory; `i1` is a byte that holds 0 or 1, `index` a 64-bit integer
DTYPES: Mapping[str, int] = {
    "i1": 1,
    "i8": 1,
    "ui8": 1,
    "i16": 2,
    "i32": 4,
    "i64": 8,
    "index": 8,
    "f8E4M3FN": 1,
    "f16": 2,
    "bf16": 2,
    "f32": 4,
    "f64": 8,
}

# dtypes that arrays have under another name
STORAGE: Mapping[str, str] = {"index": "i64"}


class Slot:
    """The fixed slots."""

    COUNTERS, TASKS, THREADS = 0, 1, 2


@dataclass(frozen=True)
class Axis:
    """A labelled axis; `size` is None when it is known at the launch only."""

    label: str
    size: int | None = None


@dataclass(frozen=True)
class Wire:
    """One array argument or result of a kernel.

    Args:
        name: for messages.
        dtype: element type, a key of `DTYPES`.
        labels: axes in memory order; a fresh result is row major in it.
        kind: "user", "param" or "buffer": where an argument comes from.
        unit_stride: whether the kernel relies on stride 1 along the last label.
    """

    name: str
    dtype: str
    labels: tuple[str, ...]
    kind: str = "user"
    unit_stride: bool = True

    def __post_init__(self) -> None:
        """Check the dtype, the kind, and that no label comes twice."""
        object.__setattr__(self, "labels", tuple(self.labels))
        if self.dtype not in DTYPES:
            raise InternalError(f"wire '{self.name}' has the unknown dtype '{self.dtype}'")
        if self.kind not in KINDS:
            raise InternalError(f"wire '{self.name}' is of the unknown kind '{self.kind}'")
        _refuse_duplicates(f"labels of wire '{self.name}'", self.labels)


@dataclass(frozen=True)
class KernelSignature:
    """The interface of one kernel; hashable, and the same after `from_json(to_json())`.

    Args:
        symbol: the exported function.
        args: what the kernel reads.
        results: what it writes; their labels occur in arguments or are static axes.
        axes: every label of the kernel, each once.
    """

    symbol: str
    args: tuple[Wire, ...]
    results: tuple[Wire, ...]
    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        """Check that axes, labels and names fit together."""
        for field in ("args", "results", "axes"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        _refuse_duplicates("axes", tuple(axis.label for axis in self.axes))
        _refuse_duplicates("wire names", tuple(wire.name for wire in self.wires))
        known = {axis.label for axis in self.axes}
        for wire in self.wires:
            unknown = [label for label in wire.labels if label not in known]
            if unknown:
                raise InternalError(f"wire '{wire.name}' has labels without an axis: {unknown}")
        unbound = [axis.label for axis in self.axes if axis.size is None and not self._binds(axis)]
        if unbound:
            raise InternalError(f"no argument of kernel '{self.symbol}' has the axes {unbound}")

    def _binds(self, axis: Axis) -> bool:
        return any(axis.label in wire.labels for wire in self.args)

    @cached_property
    def wires(self) -> tuple[Wire, ...]:
        """Arguments, then results."""
        return self.args + self.results

    @cached_property
    def static_sizes(self) -> Mapping[str, int | None]:
        """The size of each axis, None for dynamic ones, in the order of `axes`."""
        return {axis.label: axis.size for axis in self.axes}

    @cached_property
    def _size_slots(self) -> Mapping[str, int]:
        return {axis.label: FIRST_SIZE_SLOT + i for i, axis in enumerate(self.axes)}

    @cached_property
    def _pointer_slots(self) -> tuple[int, ...]:
        slot = FIRST_SIZE_SLOT + len(self.axes)
        slots = []
        for wire in self.wires:
            slots.append(slot)
            slot += 1 + len(wire.labels)
        return (*slots, slot)

    @property
    def slot_count(self) -> int:
        """Number of slots of the whole block."""
        return self._pointer_slots[-1]

    def slot_of_size(self, label: str) -> int:
        """Slot of an axis' size."""
        return self._size_slots[label]

    def slot_of_pointer(self, wire: int) -> int:
        """Slot of the data pointer of wire number `wire` (arguments first, then results)."""
        return self._pointer_slots[wire]

    def slot_of_stride(self, wire: int, label: str) -> int:
        """Slot of the stride, in elements, of wire number `wire` along `label`."""
        return self._pointer_slots[wire] + 1 + self.wires[wire].labels.index(label)

    def to_json(self) -> str:
        """Give a JSON text that depends on nothing but the signature."""
        return json.dumps({"version": FORMAT_VERSION, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "KernelSignature":
        """Read what `to_json` wrote.

        Raises:
            CacheError: the text is not a signature of this version.
        """
        try:
            fields = json.loads(text)
            if fields["version"] != FORMAT_VERSION:
                raise ValueError(f"version {fields['version']}")
            args, results = ([Wire(**wire) for wire in fields[key]] for key in ("args", "results"))
            axes = [Axis(**axis) for axis in fields["axes"]]
            return cls(str(fields["symbol"]), tuple(args), tuple(results), tuple(axes))
        except (ValueError, TypeError, KeyError, AttributeError, InternalError) as error:
            raise CacheError(f"a kernel's signature cannot be read: {error}") from None


def _refuse_duplicates(what: str, names: tuple[str, ...]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InternalError(f"{what} repeat: {repeated}")
