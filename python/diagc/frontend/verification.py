"""The last check of a front end: all rules of the dialect, reported where the user wrote it."""

from typing import Any

from diagc.dialects import diag
from diagc.errors import SourceLocation, VerificationError
from diagc.mlir import ir

__all__ = ["verify"]

Finding = tuple[str, SourceLocation | None]


def verify(module: ir.Module, source: str | None = None) -> None:
    """Verify every op of a fresh module, and that each label has one size in a function.

    Args:
        module: what the front end made.
        source: the text that locations point into, when it is not a readable file.

    Raises:
        VerificationError: the first broken rule.
    """
    emitted: list[Finding] = []  # a context may hand diagnostics to handlers instead of the error

    def keep(diagnostic: Any) -> bool:
        emitted.append((diagnostic.message, SourceLocation.of(diagnostic.location)))
        return True

    handler = module.context.attach_diagnostic_handler(keep)
    try:
        module.operation.verify()
        diag.verify_labels(module)
        return
    except diag.VerifyError as error:
        message, location = str(error), SourceLocation.of(error.loc)
    except ir.MLIRError as error:
        message, location = (_findings(error) or emitted or [(str(error), None)])[0]
    finally:
        handler.detach()
    raise VerificationError(message, location=location, source=source)


def _findings(error: ir.MLIRError) -> list[Finding]:
    return [(d.message, SourceLocation.of(d.location)) for d in error.error_diagnostics]
