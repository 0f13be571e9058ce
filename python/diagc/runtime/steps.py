"""What a compiled program does, as plain data: inputs, steps on numbered arrays, outputs.

Nothing here needs MLIR or torch. Arrays are numbered: the inputs first, then the results of the
steps in order. An array has one axis per label, in the order of its type, and any strides.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = [
    "Affine",
    "ArrayType",
    "Blocks",
    "Concat",
    "Constant",
    "Contract",
    "Dims",
    "Elementwise",
    "ExternCall",
    "HostProgram",
    "Index",
    "Input",
    "KernelCall",
    "Output",
    "Pad",
    "Size",
    "Step",
    "View",
]

# An affine expression over the positions of a result: an int, or ("dim", i), or one of
# ("+", a, b), ("*", a, b), ("//", a, b), ("%", a, b).
Affine: TypeAlias = int | tuple[Any, ...]

# The size of an axis: an int, or ("axis", array, position), or an operation as in `Affine`.
Size: TypeAlias = int | tuple[Any, ...]

# How the dims of a tensor group labels; () is a dim of size 1.
Dims: TypeAlias = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ArrayType:
    """Labels in the order of the axes, and the element type as in `signature.DTYPES`."""

    labels: tuple[str, ...]
    dtype: str


@dataclass(frozen=True)
class Input:
    """One argument of the program.

    Args:
        name: the user's name, or the qualified name of a parameter or buffer.
        kind: "user", "param" or "buffer".
        type: of the labelled array.
        sizes: static sizes of the axes; None where a size is known at the call only.
        dims: of the user's tensor.
    """

    name: str
    kind: str
    type: ArrayType
    sizes: tuple[int | None, ...]
    dims: Dims


@dataclass(frozen=True)
class Output:
    """One result of the program.

    Args:
        source: number of the array.
        dims: of the user's tensor.
        order: dims of the user's tensor from the slowest to the fastest in memory.
    """

    source: int
    dims: Dims
    order: tuple[int, ...]


@dataclass(frozen=True)
class _Step:
    """What all steps have: the types and the sizes of their results."""

    types: tuple[ArrayType, ...]
    sizes: tuple[tuple[Size, ...], ...]


@dataclass(frozen=True)
class View(_Step):
    """result[p] = source[map(p)], without a copy where strides can say it.

    Relabelling and permutation are views too.
    """

    source: int
    map: tuple[Affine, ...]


@dataclass(frozen=True)
class Contract(_Step):
    """A contraction that no kernel took: the library's matrix product runs it.

    `bias`, when there is one, is an array that is added, broadcast by label; its labels are those
    of the result that only one operand has.
    """

    lhs: int
    rhs: int
    over: tuple[str, ...]
    bias: int | None = None


@dataclass(frozen=True)
class Elementwise(_Step):
    """A few operations of the library on arrays that are broadcast by label.

    Args:
        operations: names of `algebra.elementwise.LIBRARY_OPERATIONS` with their operands:
            ("array", number), ("number", value), or ("result", number of an earlier operation).
    """

    operations: tuple[tuple[str, tuple[tuple[str, int | float], ...]], ...]

    def arrays(self) -> list[int]:
        """Numbers of the arrays that are read."""
        operands = [operand for _, operands in self.operations for operand in operands]
        return [int(value) for kind, value in operands if kind == "array"]


@dataclass(frozen=True)
class KernelCall(_Step):
    """One launch; `kernel` is a number in the program's list of kernels."""

    kernel: int
    args: tuple[int, ...]


@dataclass(frozen=True)
class ExternCall(_Step):
    """An operation of the host framework.

    Args:
        symbol: key among the program's callables.
        args: numbers of the arrays.
        arg_dims: of the tensors that the callable takes.
        result_dims: of the tensors that it gives.
    """

    symbol: str
    args: tuple[int, ...]
    arg_dims: tuple[Dims, ...]
    result_dims: tuple[Dims, ...]


@dataclass(frozen=True)
class Constant(_Step):
    """A literal; `value`: its elements as f64, i64 or bool, row major, one if all are equal."""

    value: bytes


@dataclass(frozen=True)
class Index(_Step):
    """Positions along one axis."""


@dataclass(frozen=True)
class Concat(_Step):
    """Two arrays joined along `axis`; all other axes stand in the same places in all three."""

    lhs: int
    rhs: int
    axis: int


@dataclass(frozen=True)
class Pad(_Step):
    """An array extended along `axis` by `low` and `high` positions that hold `value`."""

    source: int
    axis: int
    low: int
    high: int
    value: float


@dataclass(frozen=True)
class Blocks(_Step):
    """A program that is run once for each block of an axis, with the states of the block before.

    Args:
        states: numbers of the initial states, which lead the program's inputs; its outputs are the
            states after the block, the last ones the results of the step.
        args: numbers of the arrays behind them.
        cut: for each of `args` its axis that is cut into blocks, None where it is given whole.
        body: what is done with one block; its inputs have an open size along the axis.
    """

    states: tuple[int, ...]
    args: tuple[int, ...]
    cut: tuple[int | None, ...]
    body: "HostProgram"


Step: TypeAlias = (
    View
    | Contract
    | Elementwise
    | KernelCall
    | ExternCall
    | Constant
    | Index
    | Concat
    | Pad
    | Blocks
)


@dataclass(frozen=True)
class HostProgram:
    """Inputs, steps and outputs of an entry function."""

    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Output, ...]
