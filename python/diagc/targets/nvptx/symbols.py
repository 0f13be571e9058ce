"""Names of a kernel's functions in PTX: those that profilers show."""

import re

from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["BULK", "JOIN", "PARTS", "SUM", "entry_symbol", "numbered"]

PARTS, SUM, JOIN, BULK = "_parts", "_sum", "_join", "_bulk"
"""Behind the name: of parts of a stream that blocks share, of what adds them, of what joins them,
of copies by tensor maps."""

# with a `_`, so that it is no keyword of PTX (`add`), nor the module's array (`shared`)
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9]*_[A-Za-z0-9_]*")
_FOREIGN = re.compile(r"[^A-Za-z0-9_]")


def entry_symbol(kernel: ir.Operation) -> str:
    """The name of a kernel as an identifier of PTX, such as `stream_max_exp_d64_bf16`.

    It is the name that `explain` shows, for the compiler's own names are identifiers already.
    """
    text = _FOREIGN.sub("_", diag.symbol_of(kernel))
    return text if _PLAIN.fullmatch(text) else f"kernel_{text}"


def numbered(symbol: str, number: int) -> str:
    """The name of one of several functions, each of which makes some of the results."""
    return f"{symbol}_results{number}" if number else symbol
