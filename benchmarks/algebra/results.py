"""The table's files, one pair per group, and the judgement over all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import results_directory, save_json
from tables import markdown, quartiles, stored

from .measure import COMPILED, EAGER, OURS, Entry
from .rows import Row

__all__ = ["judge", "read", "write"]

FASTER_SHARE, LEAST_EAGER = 0.8, 0.9


def _name(group: str) -> str:
    return f"algebra_{group}"


def read(rows: Sequence[Row], group: str) -> list[Entry]:
    """What was measured last, of those rows and shapes of a group that there still are."""
    entries = [Entry(**entry) for entry in stored(_name(group))]
    return _in_order(rows, group, entries)


def _in_order(rows: Sequence[Row], group: str, entries: Sequence[Entry]) -> list[Entry]:
    """The entries of those rows and shapes, in their order, fewer threads first."""
    places = [(row.name, shape) for row in rows if row.group == group for shape in row.shapes]
    known = [entry for entry in entries if (entry.row, entry.shape) in places]
    return sorted(known, key=lambda e: (places.index((e.row, e.shape)), e.threads))


def _key(entry: Entry) -> Any:
    return entry.row, entry.shape, entry.threads


def write(
    rows: Sequence[Row], group: str, new: Sequence[Entry], arguments: Mapping[str, Any]
) -> Path:
    """Write a group's JSON and markdown; what was not measured again is kept.

    Returns:
        the path of the markdown.
    """
    found = {str(_key(entry)): entry for entry in [*read(rows, group), *new]}
    entries = _in_order(rows, group, list(found.values()))
    save_json(_name(group), {"entries": [asdict(entry) for entry in entries]}, arguments)
    path = results_directory() / f"{_name(group)}.md"
    path.write_text(_markdown(group, entries), encoding="utf-8")
    return path


def judge(rows: Sequence[Row], entries: Sequence[Entry]) -> list[str]:
    """What misses the gate, in words.

    The gate: every row is derived and correct at every shape, four of five are faster than
    torch.compile at every shape, none is slower than 0.9 x eager at any. Each number of threads
    that was measured counts as a shape does.
    """
    by_row = {row.name: [e for e in entries if e.row == row.name] for row in rows}
    missed = [f"{name}: not measured" for name, found in by_row.items() if not found]
    missed += [f"{_title(e)}: {e.failure or _error(e)}" for e in entries if not e.correct]
    missed += [f"{_title(e)}: not derived" for e in entries if not e.derived and not e.failure]
    slow = [e for e in entries if e.failure is None and not e.reaches(EAGER, LEAST_EAGER)]
    missed += [f"{_title(e)}: {e.ratios[EAGER][0]:.2f} x eager" for e in slow]
    faster = sum(_is_faster(found) for found in by_row.values())
    if faster < FASTER_SHARE * len(by_row):
        missed.append(f"{faster} of {len(by_row)} rows are faster than {COMPILED}")
    return missed


def _is_faster(found: Sequence[Entry]) -> bool:
    return bool(found) and all(entry.reaches(COMPILED, 1.0) for entry in found)


def _error(entry: Entry) -> str:
    return f"error {entry.errors[OURS]:.1e}, allowed {entry.tolerance:.1e}"


def _title(entry: Entry) -> str:
    return f"{entry.row} ({_sizes(entry)}, threads={entry.threads})"


def _sizes(entry: Entry) -> str:
    return " ".join(f"{name}={size}" for name, size in entry.shape.items())


# ---- markdown ------------------------------------------------------------------------------------

COLUMNS = (
    "row", "shape", "threads", "derived", "kernels", "left to torch", "error", "error of torch",
    "ms", "x eager", "x torch.compile",
)  # fmt: skip


def _markdown(group: str, entries: Sequence[Entry]) -> str:
    text = (
        group,
        "Made by `python benchmarks/algebra_table.py`. Errors are the largest difference from",
        "float64 over its largest value; times are medians of interleaved rounds; ratios are above",
        "1 where diagc is faster, with quartiles over rounds.",
    )
    return markdown(text, COLUMNS, (_cells(entry) for entry in entries))


def _cells(entry: Entry) -> list[str]:
    start = [entry.row, _sizes(entry), str(entry.threads)]
    if entry.failure is not None:
        return [*start, "no", entry.failure.splitlines()[0], *[""] * (len(COLUMNS) - 5)]
    return [
        *start,
        "yes" if entry.derived else "no",
        ", ".join(entry.kernels),
        ", ".join(entry.outside),
        f"{entry.errors[OURS]:.1e}" + ("" if entry.correct else " **wrong**"),
        f"{entry.errors[EAGER]:.1e}",
        f"{entry.milliseconds[OURS]:.2f}",
        *(quartiles(entry.ratios[peer]) for peer in (EAGER, COMPILED)),
    ]
