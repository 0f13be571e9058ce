"""Readable names and origins of kernels, for profiles and for `explain`.

Names are made from what a kernel computes, never from what a user's layer is called, so that equal
kernels have equal names.
"""

import re
from collections.abc import Iterable

from diagc.dialects import diag
from diagc.errors import SourceLocation
from diagc.mlir import ir
from diagc.passes.cloning import nested_ops
from diagc.passes.kernels.kernel_axes import LEAVES, analyze_kernel

__all__ = ["BOUND_ATTRIBUTES", "ORIGIN", "describe_origin", "kernel_name", "origins"]

ORIGIN = "diag.origin"
"""Attribute of a kernel: strings that say which ops of the program it came from."""

BOUND_ATTRIBUTES = ("diag.lower", "diag.upper")
"""Attributes of a stream that bound it by affine maps of other positions."""

# The first of these that a kernel holds names it.
_KINDS = ("diag.stream", "diag.contract", "diag.reduce", "diag.map")
_MOST_WORDS = 3
_NAMED = re.compile(r'^loc\("(?P<name>[^"]+)"\(')


def kernel_name(kernel: ir.Operation) -> str:
    """Give a name such as `stream_max_exp_d64_f32`.

    Kind of the main op, reductions other than sums and functions in order of appearance, sizes of
    the axes that stay inside a task, element type of the first argument that holds floats, then
    what is special about it.
    """
    ops = [op for op in nested_ops(kernel) if op != kernel]
    names = [op.name for op in ops]
    kind = next((k for k in _KINDS if k in names), "diag.copy").removeprefix("diag.")
    words = list(dict.fromkeys(word for op in ops if (word := _word(op))))[:_MOST_WORDS]
    sizes = _local_sizes(kernel)
    parts = [kind, *words, *([f"d{'x'.join(sizes)}"] if sizes else []), _dtype(kernel)]
    return "_".join([*parts, *_special(ops, kernel)])


def _word(op: ir.Operation) -> str:
    if op.name == "diag.reduce":
        kind = ir.StringAttr(op.attributes["kind"]).value
        return "" if kind == "add" else kind
    return op.name.removeprefix("math.") if op.name.startswith("math.") else ""


def _local_sizes(kernel: ir.Operation) -> list[str]:
    axes = analyze_kernel(kernel)
    outside = {*axes.common, *axes.streamed}
    sizes = {label: size for label, size in axes.sizes if label not in outside}
    return list(dict.fromkeys(str(size) for size in sizes.values() if size != diag.DYNAMIC))[:3]


def _dtype(kernel: ir.Operation) -> str:
    block = diag.function_body(kernel)
    values = [*block.arguments, *list(block.operations)[-1].operands]
    types = [diag.element_type(value) for value in values]
    return next((str(t) for t in types if diag.is_float(t)), str(types[0]) if types else "none")


def _special(ops: list[ir.Operation], kernel: ir.Operation) -> list[str]:
    bounded = any(name in op.attributes for op in ops for name in BOUND_ATTRIBUTES)
    types = [diag.element_type(value) for value in diag.function_body(kernel).arguments]
    masked = any(str(t) == "i1" for t in types)
    return [word for word, holds in (("bounded", bounded), ("masked", masked)) if holds]


def describe_origin(op: ir.Operation) -> str:
    """Say where an op came from: `stream S at attn.diag:3:7`, with the parts that are known."""
    text = str(op.location)
    name = _NAMED.match(text)
    place = SourceLocation.of(op.location)
    words = [op.name.removeprefix("diag."), name["name"] if name else ""]
    words += [f"at {place}"] if place else []
    return " ".join(word for word in words if word)


def origins(ops: Iterable[ir.Operation]) -> list[str]:
    """Descriptions of ops, each once; literals left out."""
    return list(dict.fromkeys(describe_origin(op) for op in ops if op.name not in LEAVES))
