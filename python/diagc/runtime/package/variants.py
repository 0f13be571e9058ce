"""Several programs for one function: other tiles, other kinds of kernels, other forms.

The compiler stores with each how long the cost model says that it takes, at a few shapes; between
these the nearest counts. So the choice needs neither compiler nor cost model.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from sys import float_info
from typing import Any, TypeVar

from diagc.runtime.steps import HostProgram, Input

__all__ = [
    "VariantEntry",
    "Variants",
    "best_of",
    "check_variants",
    "shape_class",
]

Name = TypeVar("Name")

GAIN = 0.97
"""Another variant is taken only if it needs less than this of the preferred one's time."""


@dataclass(frozen=True)
class VariantEntry:
    """One program.

    Args:
        name: in words, unique in the package: "128 rows by 8 warps, chunks of 112, 2 stages".
        program: takes and gives what the package's program does.
        kernels: for each kernel of the program its number among those of the package.
        predicted: seconds, for each of `Variants.shapes`.
    """

    name: str
    program: HostProgram
    kernels: tuple[int, ...]
    predicted: tuple[float, ...]


@dataclass(frozen=True)
class Variants:
    """What a package may choose from.

    Args:
        family: digest of what is computed, whatever code does it.
        device: that times are predicted for.
        shapes: sizes of all axes of the inputs, by label, for which they are predicted.
        entries: the one that the compiler prefers first; it is the package's program, too.
    """

    family: str
    device: str
    shapes: tuple[Mapping[str, int], ...]
    entries: tuple[VariantEntry, ...]

    def predicted(self, sizes: Mapping[str, int], among: Iterable[str]) -> str:
        """The variant that is fastest at the nearest shape by prediction, if that is by much.

        Of variants that are about as fast it is the first: the compiler put it there.

        Args:
            sizes: of all axes of the inputs.
            among: names of those that may be chosen, one at least.
        """
        number = self.nearest(sizes)
        allowed = set(among)
        times = {e.name: e.predicted[number] for e in self.entries if e.name in allowed}
        return best_of(times, next(iter(times)))

    def nearest(self, sizes: Mapping[str, int]) -> int:
        """The number of the shape whose sizes have the least ratios to these."""
        distances = [
            sum((log2(max(size, 1)) - log2(max(sizes[label], 1))) ** 2 for label, size in s.items())
            for s in self.shapes
        ]
        return min(range(len(distances)), key=distances.__getitem__)


def best_of(seconds: Mapping[Name, float], preferred: Name) -> Name:
    """The fastest, or the preferred one where no other gains enough over it."""
    best = min(seconds, key=seconds.__getitem__)
    if preferred in seconds and seconds[best] >= GAIN * seconds[preferred]:
        return preferred
    return best


def shape_class(sizes: Mapping[str, int]) -> str:
    """Shapes that share a choice: every size rounded up to a power of two, "b=32 n=4096"."""
    return " ".join(
        f"{label}={1 << max(size - 1, 0).bit_length()}" for label, size in sizes.items()
    )


def check_variants(variants: Any, program: HostProgram, kernels: int) -> None:
    """See that variants fit the package's program.

    Args:
        variants: as decoded.
        program: of the package.
        kernels: number of kernels of the package.

    Raises:
        ValueError: they do not, in words.
    """
    if not isinstance(variants, Variants) or not variants.entries or not variants.shapes:
        raise ValueError("its variants are none")
    names = [entry.name for entry in variants.entries]
    if len(set(names)) != len(names):
        raise ValueError("two variants have the same name")
    labels = _labels(program.inputs)
    for shape in variants.shapes:
        sizes = shape.values()
        if shape.keys() != labels or not all(type(n) is int and 0 < n < 1 << 63 for n in sizes):
            raise ValueError(f"variants are predicted for the shape {dict(shape)}")
    for entry in variants.entries:
        _check_entry(entry, len(variants.shapes), program, kernels)


def _check_entry(entry: VariantEntry, shapes: int, program: HostProgram, kernels: int) -> None:
    times = entry.predicted
    if len(times) != shapes or not all(0 < t <= float_info.max for t in times):
        raise ValueError(f"variant {entry.name!r} has other predictions than {shapes} times")
    if not all(type(n) is int and 0 <= n < kernels for n in entry.kernels):
        raise ValueError(f"variant {entry.name!r} has the kernels {entry.kernels}")
    dims = [[output.dims for output in each.outputs] for each in (entry.program, program)]
    if entry.program.inputs != program.inputs or dims[0] != dims[1]:
        raise ValueError(f"variant {entry.name!r} takes or gives something else")


def _labels(inputs: Sequence[Input]) -> set[str]:
    return {label for entry in inputs for label in entry.type.labels}
