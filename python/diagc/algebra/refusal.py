"""Why a rewrite was not made."""

from diagc.mlir import ir

__all__ = ["Refusal"]


class Refusal(Exception):
    """No law licenses the rewrite; the message starts in lower case and is shown by explain.

    Args:
        reason: what does not hold.
        op: the op that it does not hold for.
        by_law: whether a law was asked and fails; else nothing connects the ops in a way that
            a law could be asked for, which is not worth a remark.
    """

    def __init__(self, reason: str, op: ir.Operation, *, by_law: bool = True) -> None:
        super().__init__(reason)
        self.op = op
        self.by_law = by_law
