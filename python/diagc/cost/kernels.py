"""The least a kernel does, however it is cut: its FLOPs, every array moved once."""

from dataclasses import dataclass

from diagc.cost.ops import Sizes, op_flops, value_bytes
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["Cost", "kernel_cost", "sizes_of_call"]


@dataclass(frozen=True)
class Cost:
    """FLOPs (exp and the like weighted) and bytes that must cross the memory boundary."""

    flops: int
    bytes: int

    @property
    def intensity(self) -> float:
        """FLOPs per byte."""
        return self.flops / max(self.bytes, 1)

    def __add__(self, other: "Cost") -> "Cost":
        """The cost of both."""
        return Cost(self.flops + other.flops, self.bytes + other.bytes)


def kernel_cost(kernel: ir.Operation, sizes: Sizes | None = None) -> Cost:
    """The cost of a kernel function: its ops' FLOPs, each argument read and result written once.

    Open sizes come from `sizes` (see `sizes_of_call`), else `UNKNOWN_SIZE`.
    """
    block = diag.function_body(kernel)
    ops = [op.operation for op in block.operations]
    returned = list(ops[-1].operands)
    moved = [*block.arguments, *returned]
    flops = sum(op_flops(op, sizes) for op in ops)
    return Cost(flops, sum(value_bytes(value, sizes) for value in moved))


def sizes_of_call(call: ir.Operation, kernel: ir.Operation) -> dict[str, int]:
    """Run-time sizes of a kernel's axes at one call, by the kernel's labels.

    The types at the call say them, seen through the casts that kernels with open sizes are called
    with; axes that are open there too stay out.
    """
    found: dict[str, int] = {}
    for value, argument in zip(call.operands, diag.function_body(kernel).arguments, strict=True):
        outer = _before_cast(value)
        pairs = zip(diag.labels(argument), diag.dims(outer).values(), strict=True)
        found |= {label: size for label, size in pairs if size != diag.DYNAMIC}
    return found


def _before_cast(value: ir.Value) -> ir.Value:
    owner = value.owner
    if isinstance(owner, ir.Block) or owner.operation.name != "builtin.unrealized_conversion_cast":
        return value
    return owner.operation.operands[0]
