"""The language of `.diag` files: text to diag IR and back; see docs/diag_language.md."""

from diagc.context import make_context
from diagc.frontend.text.lower import lower_file
from diagc.frontend.text.parser import parse_file
from diagc.frontend.text.source import Source
from diagc.mlir import ir

__all__ = ["parse"]


def parse(text: str, filename: str = "-", context: ir.Context | None = None) -> ir.Module:
    """Parse and lower a `.diag` text; each diagram becomes a public function.

    Every op has the location `loc("name"("file":line:column))`, so that errors of later passes
    point into the text.

    Args:
        text: the whole file.
        filename: the name that locations carry.
        context: where the module lives; by default the ambient context, or else a fresh one.

    Raises:
        DiagSyntaxError: text outside the language, unknown names.
        VerificationError: labels, sizes or element types that do not fit.
    """
    source = Source(text, filename)
    tree = parse_file(source)
    with context or _ambient_context() or make_context():
        return lower_file(tree, source)


def _ambient_context() -> ir.Context | None:
    try:
        return ir.Context.current
    except ValueError:
        return None
