"""Checks a whole module: what MLIR checks op by op, and the rules that span a function."""

from diagc.dialects import diag
from diagc.errors import VerificationError
from diagc.mlir import ir

__all__ = ["verify_module", "verify_module_labels"]


def verify_module(module: ir.Module) -> None:
    """Check every op, and that a label has one size in each function.

    Raises:
        ir.MLIRError: an op does not verify.
        VerificationError: a label has two sizes; carries the location of the second.
    """
    module.operation.verify()
    verify_module_labels(module)


def verify_module_labels(module: ir.Module) -> None:
    """Check only the rule that spans a function, on a module whose ops verify.

    Raises:
        VerificationError: a label has two sizes; carries the location of the second.
    """
    try:
        diag.verify_labels(module)
    except diag.VerifyError as error:
        raise VerificationError(str(error), location=error.loc) from None
