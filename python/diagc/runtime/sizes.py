"""Sizes of all arrays of a program from the shapes of its inputs; also over symbolic sizes.

Only sums, products and quotients are formed and nothing is compared, so that torch's symbolic
integers pass through without becoming constants.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from diagc.errors import InternalError
from diagc.runtime.steps import Dims, Input, Size, Step

__all__ = ["Sizes", "array_sizes", "evaluate_size", "label_sizes", "tensor_shape"]

Sizes = tuple[Any, ...]  # of ints or torch.SymInt


def tensor_shape(labels: Sequence[str], sizes: Sizes, dims: Dims) -> Sizes:
    """Shape of the tensor whose dims group labels as `dims` says."""
    known = dict(zip(labels, sizes, strict=True))
    return tuple(_product(known[label] for label in group) for group in dims)


def label_sizes(inputs: Sequence[Input], shapes: Sequence[Sizes]) -> dict[str, Any]:
    """Size of every label of the inputs, from the shapes of the tensors.

    A dim of several labels tells the size of one of them when the others are known.

    Raises:
        InternalError: a size stays open.
    """
    known: dict[str, Any] = {}
    for entry in inputs:
        static = zip(entry.type.labels, entry.sizes, strict=True)
        known.update({label: size for label, size in static if size is not None})
    wanted = {label for entry in inputs for label in entry.type.labels}
    while not wanted <= known.keys():
        before = len(known)
        for entry, shape in zip(inputs, shapes, strict=True):
            for group, size in zip(entry.dims, shape, strict=True):
                _solve(group, size, known)
        if len(known) == before:
            missing = sorted(wanted - known.keys())
            raise InternalError(f"no input tells the sizes of the axes {missing}")
    return known


def _solve(group: Sequence[str], size: Any, known: dict[str, Any]) -> None:
    """Conclude the size of the one unknown label of a dim."""
    unknown = [label for label in group if label not in known]
    if len(unknown) != 1:
        return
    others = [known[label] for label in group if label in known]
    known[unknown[0]] = size // _product(others) if others else size


def array_sizes(inputs: Sequence[Sizes], steps: Sequence[Step]) -> list[Sizes]:
    """Sizes of all arrays, from those of the labelled inputs."""
    arrays = list(inputs)
    for step in steps:
        arrays += [tuple(evaluate_size(size, arrays) for size in sizes) for sizes in step.sizes]
    return arrays


def evaluate_size(size: Size, arrays: Sequence[Sizes]) -> Any:
    """A size, from those of the arrays that it asks for."""
    if isinstance(size, int):
        return size
    if size[0] == "axis":
        return arrays[size[1]][size[2]]
    left, right = (evaluate_size(part, arrays) for part in size[1:])
    return _OPERATORS[size[0]](left, right)


_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
}


def _product(sizes: Iterable[Any]) -> Any:
    total: Any = None
    for size in sizes:
        total = size if total is None else total * size
    return 1 if total is None else total
