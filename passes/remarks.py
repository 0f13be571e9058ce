"""Remarks: why a pass left something as it is, kept in the IR for `explain`.

A remark stands on the op, as the attribute `diag.declined`, and in the list `diag.remarks` of its
function, where it outlives the op.
"""

from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["DECLINED", "REMARKS", "remark", "remarks"]

DECLINED = "diag.declined"
REMARKS = "diag.remarks"


def remark(function: ir.Operation, op: ir.Operation | None, text: str) -> None:
    """Note on `op`, if it stays, and on its function what was not done, and why."""
    if op is not None:
        op.attributes[DECLINED] = ir.StringAttr.get(text)
    known = remarks(function)
    if text not in known:
        function.attributes[REMARKS] = diag.string_array([*known, text])


def remarks(function: ir.Operation) -> list[str]:
    """All remarks on ops of `function`, in order."""
    return diag.strings(function.attributes[REMARKS]) if REMARKS in function.attributes else []
