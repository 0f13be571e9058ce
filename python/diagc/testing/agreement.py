"""Compares a diagram compiled for a target with the interpreter, on fresh random arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from diagc.compiler import compile_module
from diagc.context import make_context
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.targets.interp import round_to

if TYPE_CHECKING:
    from diagc.runtime.program import Program

__all__ = ["Agreement", "agreement", "ir_agreement"]

Array = Any
Sizes = Mapping[str, int]
KERNELS_ONLY = CompileOptions(library="none")


@dataclass(frozen=True)
class Agreement:
    """One diagram, compiled for a target and interpreted in float64."""

    program: "Program"
    reference: "Program"

    @property
    def kernels(self) -> list[Any]:
        """What the report of the program tells of each kernel."""
        return list(self.program.report.kernels)

    @property
    def fall_backs(self) -> list[str]:
        """Why kernels are interpreted, for those that are."""
        return [kernel.fall_back for kernel in self.kernels if kernel.fall_back is not None]

    def random(
        self, sizes: Sizes, seed: int = 0, scale: float = 1.0, mean: float = 0.0
    ) -> list[Array]:
        """An array for every input, with elements that its type holds exactly.

        Args:
            sizes: of the open axes.
            seed: of the numbers.
            scale: standard deviation of floats; integers are between -9 and 9.
            mean: of floats; around 0 a long sum is small, and its rounding errors look large.
        """
        rng = np.random.default_rng(seed)
        return [_random(entry, sizes, rng, scale, mean) for entry in self.program.inputs]

    def error(self, arrays: Sequence[Array]) -> float:
        """The largest error, relative to the largest element of the result it occurs in.

        Infinite where shapes, NaN, infinities, integers or truth values differ.
        """
        found, exact = self.program.run(arrays), self.reference.run(arrays)
        return max((_error(f, e) for f, e in zip(found, exact, strict=True)), default=0.0)

    def worst(self, shapes: Sequence[Sizes], scale: float = 1.0, mean: float = 0.0) -> float:
        """The largest error over some sizes."""
        return max(self.error(self.random(s, i, scale, mean)) for i, s in enumerate(shapes))


def agreement(
    source: str, options: CompileOptions = KERNELS_ONLY, target: str = "cpu"
) -> Agreement:
    """Compile a `.diag` text; by default nothing is left to the library."""
    programs = (
        compile_module(parse(source, "test.diag"), name, options) for name in (target, "interp")
    )
    return Agreement(*programs)


def ir_agreement(
    source: str, options: CompileOptions = KERNELS_ONLY, target: str = "cpu"
) -> Agreement:
    """Compile the text of a module."""
    with make_context(), ir.Location.unknown():
        return Agreement(
            compile_module(ir.Module.parse(source), target, options),
            compile_module(ir.Module.parse(source), "interp", options),
        )


_INTEGERS = {"i8": np.int8, "i16": np.int16, "i32": np.int32}


def _random(entry: Any, sizes: Sizes, rng: np.random.Generator, scale: float, mean: float) -> Array:
    known = dict(zip(entry.type.labels, entry.sizes, strict=True))
    lengths = {label: sizes[label] if size is None else size for label, size in known.items()}
    shape = [prod(lengths[label] for label in group) for group in entry.dims]
    dtype = entry.type.dtype
    if dtype == "i1":
        return rng.random(shape) < 0.6
    if dtype.startswith("i"):
        return rng.integers(-9, 10, shape).astype(_INTEGERS.get(dtype, np.int64))
    return round_to(np.asarray(mean + scale * rng.standard_normal(shape)), dtype)


def _error(found: Array, exact: Array) -> float:
    if found.shape != exact.shape:
        return inf
    if not np.issubdtype(found.dtype, np.floating):
        return 0.0 if np.array_equal(found, exact) else inf
    finite = np.isfinite(exact)
    if not np.array_equal(found[~finite], exact[~finite], equal_nan=True):
        return inf
    if not finite.any():
        return 0.0
    difference = np.abs(found[finite] - exact[finite]).max()
    largest = max(np.abs(exact[finite]).max(), 1e-30)
    return inf if np.isnan(difference) else float(difference / largest)
