"""Let products with f8 numbers be products of f8, where the user says that this is precise enough.

Before:

    %o = "diag.contract"(%p, %v) {over = ["x"]}                   // %p: f32, computed; %v: f8E4M3FN

After, with `float8_matmul_precision=high`:

    %o = "diag.contract"(%p, %v) {mul = f8E4M3FN, over = ["x"]}

What a target makes of it is its affair: it may round the rows of %p to f8, times a power of two for
each row and chunk that keeps them in range, and use instructions whose sums have fewer digits than
f32. Others ignore it.

Requires: nothing; run on functions, once contractions are what they stay.

Declines: everything, unless the option says `high`; contractions without an operand of f8.
"""

from dataclasses import dataclass
from typing import ClassVar

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.base import Pass
from diagc.passes.cloning import array_ops

__all__ = ["RoundOperandsPass"]


@dataclass(frozen=True)
class RoundOperandsPass(Pass):
    """let products with f8 numbers be products of f8, if the precision that is asked for allows."""

    name: ClassVar[str] = "round-operands"
    float8_matmul_precision: str = "highest"
    """`high`: computed operands of products with f8 numbers may be rounded to f8."""

    def run(self, op: ir.Operation) -> None:
        """Mark every contraction of the function, in streams too."""
        if self.float8_matmul_precision == "highest":
            return
        for inner in array_ops(op)[1:]:
            if inner.name != "diag.contract":
                continue
            types = [diag.element_type(operand) for operand in inner.operands]
            stored = [type_ for type_ in types if diag.is_stored_float(type_)]
            if stored:
                inner.attributes["mul"] = ir.TypeAttr.get(stored[0])
