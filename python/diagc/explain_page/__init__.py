"""Explains a program in the form that is asked for; a page shows every rewrite in pictures."""

from diagc.errors import UserError
from diagc.options import CompileOptions
from diagc.report import Report, render

__all__ = ["FORMATS", "explain"]

FORMATS = ("text", "json", "html")


def explain(report: Report, source: str, options: CompileOptions, format_: str = "text") -> str:
    """Say what was fused and why, by which law, and what stays outside.

    Args:
        report: of the compilation.
        source: text of the diag module that the front end made.
        options: with which it was compiled.
        format_: `text`, `json`, or `html`: one page that needs no other file and no script.

    Raises:
        UserError: another format.
    """
    if format_ not in FORMATS:
        expected = ", ".join(FORMATS[:-1]) + f" or {FORMATS[-1]}"
        raise UserError("unknown format", expected=expected, found=f"'{format_}'")
    if format_ != "html":
        return render(report, format_)
    from diagc.explain_page.page import make_page

    return make_page(report, source, options)
