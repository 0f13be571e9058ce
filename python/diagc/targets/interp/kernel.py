"""Kernels for programs on the target `interp`: evaluated in float64, not compiled."""

from collections.abc import Sequence

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.runtime.host_kernel import HostKernel
from diagc.runtime.signature import Axis, KernelSignature, Wire
from diagc.targets.interp.evaluate import evaluate_function
from diagc.targets.interp.rounding import Array

__all__ = ["lower_kernel"]


def lower_kernel(kernel: ir.Operation, options: CompileOptions) -> HostKernel:
    """Wrap a kernel function; the module that holds it is kept alive."""
    module = kernel.parent

    def run(arrays: Sequence[Array]) -> Sequence[Array]:
        assert module is not None
        with kernel.context:
            return evaluate_function(kernel, arrays)

    return HostKernel(_signature(kernel), run)


def _signature(kernel: ir.Operation) -> KernelSignature:
    body = diag.function_body(kernel)
    returned = list(body.operations[len(body.operations) - 1].operation.operands)
    args = tuple(_wire(f"arg{i}", value) for i, value in enumerate(body.arguments))
    results = tuple(_wire(f"result{i}", value) for i, value in enumerate(returned))
    sizes: dict[str, int] = {}
    for value in (*body.arguments, *returned):
        for label, size in diag.dims(value).items():
            sizes[label] = max(size, sizes.get(label, diag.DYNAMIC))
    axes = tuple(Axis(x, None if size == diag.DYNAMIC else size) for x, size in sizes.items())
    symbol = str(ir.StringAttr(kernel.attributes["sym_name"]).value)
    return KernelSignature(symbol, args, results, axes)


def _wire(name: str, value: ir.Value) -> Wire:
    return Wire(name, str(diag.element_type(value)), diag.labels(value), unit_stride=False)
