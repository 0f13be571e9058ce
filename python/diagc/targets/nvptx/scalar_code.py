"""Scalars of a GPU thread, for both lowerings: rules of functions, signs without libdevice."""

from diagc.mlir import ir
from diagc.targets.elementwise.code import ScalarCode
from diagc.targets.nvptx.functions import RULES, absolute

__all__ = ["GpuScalarCode"]


class GpuScalarCode(ScalarCode):
    """Emits scalars; positions are i32."""

    def __init__(self) -> None:
        super().__init__(1, ir.IntegerType.get_signless(32))
        self.rules = RULES
        self.i64 = ir.IntegerType.get_signless(64)
        self.f64 = ir.F64Type.get()

    def absolute(self, value: ir.Value) -> ir.Value:
        """|value|: MLIR's own op has no lowering here but by libdevice."""
        return absolute(self, value)

    def copysign(self, value: ir.Value, sign: ir.Value) -> ir.Value:
        """The size of one float with the sign of another; see `absolute`."""
        return self.intrinsic("llvm.copysign", value.type, [value, sign])
