"""Explains compiled programs: what was fused and why, by which law, and what stayed outside."""

from diagc.explain.report import KernelReport, Note, OutsideReport, Report, StreamReport
from diagc.explain.text import render_text

__all__ = [
    "KernelReport",
    "Note",
    "OutsideReport",
    "Report",
    "StreamReport",
    "render_text",
]
