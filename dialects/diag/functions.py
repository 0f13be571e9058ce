"""Rules about whole functions: one label, one axis, one size; kernels and externs."""

from collections.abc import Iterator

from diagc.dialects.diag.region_ops import walk_ops
from diagc.dialects.diag.types import DYNAMIC, VerifyError, dims, is_wire
from diagc.mlir import ir

__all__ = [
    "BLOCKS",
    "EXTERN",
    "KERNEL",
    "blocks_attr",
    "blocks_of",
    "callee_of",
    "function_body",
    "functions",
    "is_blocks",
    "is_extern",
    "is_kernel",
    "symbol_of",
    "verify_labels",
]

KERNEL = "diag.kernel"
EXTERN = "diag.extern"
BLOCKS = "diag.blocks"
"""Marks a function that a call runs once for each block of an axis: `axis`, and how many `states`
lead its arguments and are its results. Arguments with the axis are cut, all others given whole."""


def functions(module: ir.Module) -> list[ir.Operation]:
    """All func.func ops of a module, in order."""
    return [op.operation for op in module.body.operations if op.operation.name == "func.func"]


def symbol_of(function: ir.Operation) -> str:
    """The name of a function."""
    return str(ir.StringAttr(function.attributes["sym_name"]).value)


def callee_of(call: ir.Operation) -> str:
    """The name of the function that a `func.call` calls."""
    return str(ir.FlatSymbolRefAttr(call.attributes["callee"]).value)


def is_kernel(function: ir.Operation) -> bool:
    """Whether a function becomes one launch."""
    return KERNEL in function.attributes


def is_extern(function: ir.Operation) -> bool:
    """Whether a function is run by the host framework."""
    return EXTERN in function.attributes


def is_blocks(function: ir.Operation) -> bool:
    """Whether a call of a function runs it block by block."""
    return BLOCKS in function.attributes


def blocks_attr(axis: str, states: int) -> ir.Attribute:
    """The attribute `BLOCKS` of a function."""
    count = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), states)
    return ir.DictAttr.get({"axis": ir.StringAttr.get(axis), "states": count})


def blocks_of(function: ir.Operation) -> tuple[str, int]:
    """Axis and number of states of a function that is run block by block."""
    found = ir.DictAttr(function.attributes[BLOCKS])
    return str(ir.StringAttr(found["axis"]).value), int(ir.IntegerAttr(found["states"]).value)


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
