"""Kernels for programs on the target `interp`: evaluated in float64, not compiled."""

from collections.abc import Collection, Mapping, Sequence

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.runtime.host_kernel import HostKernel
from diagc.runtime.signature import Axis, KernelSignature, Wire
from diagc.targets.interp.evaluate import evaluate_function
from diagc.targets.interp.rounding import Array

__all__ = ["lower_kernel"]


def lower_kernel(kernel: ir.Operation, options: CompileOptions) -> HostKernel:
    """Wrap a copy of a kernel function, in a module of its own that lives as long as it does."""
    with kernel.context, kernel.location:
        module = ir.Module.create()
        copy = kernel.clone(ir.InsertionPoint(module.body)).operation

    def run(arrays: Sequence[Array]) -> Sequence[Array]:
        with module.context:
            return evaluate_function(copy, arrays)

    return HostKernel(_signature(copy), run)


def _signature(kernel: ir.Operation) -> KernelSignature:
    body = diag.function_body(kernel)
    returned = list(body.operations[len(body.operations) - 1].operation.operands)
    args = tuple(_wire(f"arg{i}", value, {}) for i, value in enumerate(body.arguments))
    names = _renamed_axes(kernel, {label for wire in args for label in wire.labels})
    results = tuple(_wire(f"result{i}", value, names) for i, value in enumerate(returned))
    sizes: dict[str, int] = {}
    for value in (*body.arguments, *returned):
        for label, size in diag.dims(value).items():
            label = names.get(label, label)
            sizes[label] = max(size, sizes.get(label, diag.DYNAMIC))
    axes = tuple(Axis(x, None if size == diag.DYNAMIC else size) for x, size in sizes.items())
    symbol = diag.symbol_of(kernel)
    return KernelSignature(symbol, args, results, axes)


def _renamed_axes(kernel: ir.Operation, bound: Collection[str]) -> dict[str, str]:
    """The argument's label of every dynamic axis that a relabel inside gives another name."""
    names: dict[str, str] = {}
    for op in diag.walk_ops(kernel.regions[0]):
        if op.name == "diag.relabel":
            sizes = diag.dims(op.results[0])
            for old, new in op.opview.names.items():
                if new not in bound and sizes[new] == diag.DYNAMIC:
                    names[new] = names.get(old, old)
    return names


def _wire(name: str, value: ir.Value, names: Mapping[str, str]) -> Wire:
    labels = tuple(names.get(label, label) for label in diag.labels(value))
    return Wire(name, str(diag.element_type(value)), labels, unit_stride=False)
