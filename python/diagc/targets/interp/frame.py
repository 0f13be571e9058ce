"""The state of one function evaluation: values, sizes of axes, the current chunk of each stream."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.targets.interp.noise import Noise
from diagc.targets.interp.rounding import Array, numpy_dtype

__all__ = ["DEFAULT_CHUNK", "Externs", "Frame", "Options"]

DEFAULT_CHUNK = 16
"""Positions per chunk of a stream that names no size: small, so that tests take many steps."""

Externs = Mapping[str, Callable[..., Array | Sequence[Array]]]


@dataclass(frozen=True)
class Options:
    """How to evaluate; none of these changes what a correct module means.

    `chunk` overrides the chunk size of every stream. With `tree`, streams that have a combine
    region fold every chunk from the initial state and merge the states pairwise. With
    `round_casts`, results of narrower element types are rounded, else they are exact. `noise` adds
    random rounding errors.
    """

    module: ir.Module | None
    externs: Externs
    chunk: int | None = None
    tree: bool = False
    round_casts: bool = False
    noise: Noise | None = None


@dataclass
class Frame:
    """Values and sizes while one function is evaluated."""

    options: Options
    values: dict[ir.Value, Array] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    chunks: dict[str, slice] = field(default_factory=dict)

    def __getitem__(self, value: ir.Value) -> Array:
        return self.values[value]

    def operands(self, op: ir.Operation) -> list[Array]:
        """The arrays of the operands of `op`."""
        return [self.values[operand] for operand in op.operands]

    def size(self, label: str, static: int = diag.DYNAMIC) -> int:
        """Positions along axis `label` here: inside a stream, those of the current chunk.

        Raises:
            ValueError: no input and no op says how long the axis is.
        """
        if label in self.chunks:
            return self.chunks[label].stop - self.chunks[label].start
        if static != diag.DYNAMIC:
            return static
        if label not in self.sizes:
            raise ValueError(f'nothing says how long axis "{label}" is')
        return self.sizes[label]

    def define(self, value: ir.Value, array: Array, op: ir.Operation | None = None) -> None:
        """Give `value` its array, the result of `op` if any; the sizes must fit those known.

        Raises:
            ValueError: a wire whose array has the wrong rank, or a size that contradicts its axis.
        """
        type_ = value.type
        is_tensor = isinstance(type_, ir.RankedTensorType)
        element = type_.element_type if is_tensor else type_
        array = np.asarray(array, dtype=numpy_dtype(element))
        if self.options.noise is not None and op is not None:
            array = self.options.noise.result(op, array, element)
        self.values[value] = array
        if not is_tensor or not diag.is_wire(type_):
            return
        sizes = diag.dims(type_)
        if len(sizes) != array.ndim:
            raise ValueError(f"shape {array.shape} does not fit {value.type}")
        if op is not None and _has_labels_of_a_kernel(op):
            return
        for (label, static), found in zip(sizes.items(), array.shape, strict=True):
            self._bind(label, static, found)

    def _bind(self, label: str, static: int, found: int) -> None:
        known = self.sizes.get(label, found if static == diag.DYNAMIC else static)
        expected = [known] if label not in self.chunks else [self.size(label), known]
        if found not in expected:
            raise ValueError(f'axis "{label}" has size {found}, expected {expected[0]}')
        if label not in self.chunks:
            self.sizes[label] = found

    @contextmanager
    def noisy_operands(self, op: ir.Operation, noise: Noise) -> Iterator[None]:
        """Inside the block, the operands of `op` have the rounding errors of its sums."""
        exact = {operand: self.values[operand] for operand in op.operands}
        for number, operand in enumerate(op.operands):
            self.values[operand] = noise.operand(op, number, exact[operand])
        try:
            yield
        finally:
            self.values.update(exact)

    @contextmanager
    def chunk(self, axis: str, start: int, stop: int) -> Iterator[None]:
        """Inside the block, `axis` means its positions from `start` to `stop`."""
        self.chunks[axis] = slice(start, stop)
        try:
            yield
        finally:
            del self.chunks[axis]


def _has_labels_of_a_kernel(op: ir.Operation) -> bool:
    """Whether results are named as a kernel names them: what it returns, and casts to its types."""
    if op.name == "func.call":
        return any(_is_cast(use.owner) for result in op.results for use in result.uses)
    return _is_cast(op) and any(
        use.owner.operation.name == "func.call" for result in op.results for use in result.uses
    )


def _is_cast(op: ir.Operation) -> bool:
    return bool(op.operation.name == "builtin.unrealized_conversion_cast")
