"""The only place where an MLIR context is created and dialects are loaded."""

from diagc import dialects
from diagc.mlir import ir

__all__ = ["make_context"]


def make_context() -> ir.Context:
    """A fresh context with the diagc dialects loaded and multithreading off.

    Python callbacks and MLIR's thread pool deadlock on the GIL, so multithreading stays off.
    """
    context = ir.Context()
    context.enable_multithreading(False)
    dialects.load(context)
    return context
