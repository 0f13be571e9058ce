"""The dialects of diagc; `load(context)` makes them known to an MLIR context."""

if __name__ != "diagc.dialects":
    raise ImportError(
        "import diagc.dialects, not dialects: a second copy would define the dialect twice"
    )

import sys
import threading

from diagc.mlir import bindings, ir

__all__ = ["load"]

# Loading an IRDL dialect from two threads at once crashes the process (recipes: rule 4).
_LOAD_LOCK = threading.Lock()


def load(context: ir.Context) -> None:
    """Load every diagc dialect into `context`; loading twice is harmless."""
    from diagc.dialects import diag
    from diagc.dialects.diag import Diag

    # For every op they hand out the bindings import `<bindings>.dialects.diag`; a failing import
    # costs 25 µs, so that with a module of that name walking the IR is six times faster.
    sys.modules.setdefault(f"{bindings()}.dialects.diag", diag)
    with _LOAD_LOCK, context:
        if not context.is_dialect_loaded("diag"):
            Diag.load()
