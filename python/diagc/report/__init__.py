"""Explains compiled programs: what was fused and why, by which law, and what stayed outside."""

import json

from diagc.errors import UserError
from diagc.report.data import (
    EstimateReport,
    KernelReport,
    LevelReport,
    Note,
    OutsideReport,
    RankedSchedule,
    Report,
    StreamReport,
)
from diagc.report.text import render_text

__all__ = [
    "EstimateReport",
    "KernelReport",
    "LevelReport",
    "Note",
    "OutsideReport",
    "RankedSchedule",
    "Report",
    "StreamReport",
    "render",
]

FORMATS = ("text", "json")


def render(report: Report, format_: str = "text") -> str:
    """Give a report as text or JSON.

    Raises:
        UserError: another format.
    """
    if format_ not in FORMATS:
        raise UserError("unknown format", expected=" or ".join(FORMATS), found=f"'{format_}'")
    return render_text(report) if format_ == "text" else json.dumps(report.to_json())
