"""The interface of a kernel function, for every target: its wires and axes."""

from collections.abc import Mapping
from types import MappingProxyType

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.runtime.signature import Axis, KernelSignature, Wire

__all__ = ["kernel_signature", "with_aliases"]


def kernel_signature(kernel: ir.Operation, symbol: str = "kernel") -> KernelSignature:
    """The calling convention of a kernel function; its labels become axes."""
    body = diag.function_body(kernel)
    returned = list(body.operations[len(body.operations) - 1].operation.operands)
    sizes: dict[str, int] = {}
    args = [_wire(f"arg{i}", value, {}, sizes) for i, value in enumerate(body.arguments)]
    names = _bound_names(kernel, frozenset(sizes))
    results = [_wire(f"result{i}", value, names, sizes) for i, value in enumerate(returned)]
    bound = set(sizes)
    for op in diag.walk_ops(kernel.regions[0]):
        for value in op.results:
            if diag.is_wire(value.type):
                _collect(value, sizes)
    # a dynamic axis inside only is another name of one of the arguments': `_bound_names`
    sizes = {x: n for x, n in sizes.items() if x in bound or n != diag.DYNAMIC}
    axes = [Axis(label, None if size == diag.DYNAMIC else size) for label, size in sizes.items()]
    return KernelSignature(symbol, tuple(args), tuple(results), tuple(axes))


def _wire(name: str, value: ir.Value, names: Mapping[str, str], sizes: dict[str, int]) -> Wire:
    _collect(value, sizes, names)
    labels = tuple(names.get(label, label) for label in diag.labels(value))
    return Wire(name, str(diag.element_type(value)), labels)


def _collect(
    value: ir.Value, sizes: dict[str, int], names: Mapping[str, str] = MappingProxyType({})
) -> None:
    for inner, size in diag.dims(value).items():
        label = names.get(inner, inner)
        known = sizes.get(label, diag.DYNAMIC)
        sizes[label] = size if known == diag.DYNAMIC else known


def _bound_names(kernel: ir.Operation, bound: frozenset[str]) -> Mapping[str, str]:
    """For every label that only relabels make: the label of an argument that it renames.

    But for axes of static size: they need no other name, and a result may have both.
    """
    names: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for op in diag.walk_ops(kernel.regions[0]):
        for value in op.results:
            if diag.is_wire(value.type):
                _collect(value, sizes)
    for new, old in _aliases(kernel):
        if new not in bound and sizes.get(new, diag.DYNAMIC) == diag.DYNAMIC:
            names[new] = names.get(old, old)
    return names


def with_aliases(kernel: ir.Operation, sizes: Mapping[str, ir.Value]) -> Mapping[str, ir.Value]:
    """Sizes of all labels, those that relabels make too."""
    known = dict(sizes)
    for new, old in _aliases(kernel):
        known.setdefault(new, known[old])
    return known


def _aliases(kernel: ir.Operation) -> list[tuple[str, str]]:
    """(new label, old label) of every relabel, in order."""
    return [
        (new, old)
        for op in diag.walk_ops(kernel.regions[0])
        if op.name == "diag.relabel"
        for old, new in op.opview.names.items()
    ]
