"""Remarks: what a pass did and what it left as it is, and why, kept in the IR for `explain`.

They stand in two lists of the function, where they outlive the ops that they are about: `diag.done`
and `diag.remarks`, with the op's name, the user's line and the text of each. Of what was declined
the text stands on the op, too, as the attribute `diag.declined`.
"""

from diagc.errors import SourceLocation
from diagc.mlir import ir

__all__ = ["DECLINED", "DONE", "REMARKS", "counted", "declined", "done"]

DECLINED = "diag.declined"
REMARKS = "diag.remarks"
DONE = "diag.done"


def declined(function: ir.Operation, op: ir.Operation, text: str, *, stays: bool = True) -> None:
    """Note on `op`, if it stays, and on its function what was not done, and why."""
    _note(function, REMARKS, op, text)
    if stays:
        op.attributes[DECLINED] = ir.StringAttr.get(text)


def done(op: ir.Operation, text: str) -> None:
    """Note on the function around `op`, which may go, what was done with it."""
    parent = op.parent
    while parent is not None and parent.name != "func.func":
        parent = parent.parent
    if parent is not None:
        _note(parent.operation, DONE, op, text)


def _note(function: ir.Operation, name: str, op: ir.Operation, text: str) -> None:
    place = SourceLocation.of(op.location)
    facts = {"op": op.name, "text": text, "at": "" if place is None else str(place)}
    entry = ir.DictAttr.get({key: ir.StringAttr.get(value) for key, value in facts.items()})
    known = list(function.attributes.get(name, ()))
    function.attributes[name] = ir.ArrayAttr.get([*known, entry])


def counted(number: int, noun: str) -> str:
    """`1 map`, `3 maps`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
