"""Rules about whole functions: one label, one axis, one size; kernels and externs."""

from collections.abc import Iterator

from diagc.dialects.diag.region_ops import walk_ops
from diagc.dialects.diag.types import DYNAMIC, VerifyError, dims, is_wire
from diagc.mlir import ir

__all__ = [
    "EXTERN",
    "KERNEL",
    "function_body",
    "functions",
    "is_extern",
    "is_kernel",
    "verify_labels",
]

KERNEL = "diag.kernel"
EXTERN = "diag.extern"


def functions(module: ir.Module) -> list[ir.Operation]:
    """All func.func ops of a module, in order."""
    return [op.operation for op in module.body.operations if op.operation.name == "func.func"]


def is_kernel(function: ir.Operation) -> bool:
    """Whether a function becomes one launch."""
    return KERNEL in function.attributes


def is_extern(function: ir.Operation) -> bool:
    """Whether a function is run by the host framework."""
    return EXTERN in function.attributes


def function_body(function: ir.Operation) -> ir.Block:
    """The one block of a function that has a body."""
    return function.regions[0].blocks[0]


def _values(function: ir.Operation) -> Iterator[tuple[ir.Value, ir.Location]]:
    if not len(function.regions[0].blocks):
        return
    for argument in function_body(function).arguments:
        yield argument, argument.location
    for op in walk_ops(function.regions[0]):
        for result in op.results:
            yield result, op.location


def verify_labels(module: ir.Module) -> None:
    """Every label has one static size in each function.

    Raises:
        VerifyError: with the location of the second use, naming the label and both sizes.
    """
    for function in functions(module):
        seen: dict[str, int] = {}
        for value, loc in _values(function):
            if not is_wire(value.type):
                continue
            for label, size in dims(value).items():
                known = seen.setdefault(label, size)
                if DYNAMIC in (known, size):
                    seen[label] = max(known, size)
                elif known != size:
                    raise VerifyError(
                        f'axis "{label}" has size {size} here but size {known} elsewhere in the '
                        f"function; use diag.relabel to name a different axis",
                        loc,
                    )
