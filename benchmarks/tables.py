"""Tables of results: a JSON file that keeps what is not measured again, and Markdown for people."""

import argparse
import json
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from harness import results_directory

__all__ = ["markdown", "options", "quartiles", "stored"]


def options(text: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """What every table can be asked.

    Args:
        text: of the script, whose first line describes it.
        rounds: at least, if nobody says how many.
    """
    parser = argparse.ArgumentParser(description=(text or "").splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose name matches this expression")
    parser.add_argument("--stored", action="store_true", help="measure nothing, judge the results")
    parser.add_argument("--gate", action="store_true", help="exit with 1 when the gate is missed")
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds, at least")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-save", action="store_true", help="leave the results as they are")
    return parser


def stored(name: str) -> list[dict[str, Any]]:
    """The entries of the last file of a table on this machine; empty where there is none."""
    paths = sorted(results_directory().glob(f"*-{name}.json"))
    if not paths:
        return []
    entries: list[dict[str, Any]] = json.loads(paths[-1].read_text(encoding="utf-8"))["entries"]
    return entries


def markdown(text: Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table below lines of text, the first of which is the title."""
    title, *rest = text
    lines = [f"# {title}", "", *rest, "", _line(columns), _line(["---"] * len(columns))]
    return "\n".join([*lines, *(_line(row) for row in rows)]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def quartiles(ratio: Sequence[float]) -> str:
    """A median with its quartiles."""
    middle, low, high = ratio
    return f"{middle:.2f} ({low:.2f} .. {high:.2f})"
