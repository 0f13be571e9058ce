"""The table of what streams or fuses: for each row and shape what was derived, errors and times.

    python benchmarks/algebra_table.py --only 'softmax|l2' --gate

Rows stand in `algebra/`, one file per group; results go to `results/<device>/`, one JSON and one
markdown table per group, with the number of threads. What is not measured, for rows or for another
number of threads, keeps its last result.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from algebra import attention, contractions, norms
from algebra.measure import OURS, Entry, measure_row
from algebra.results import judge, read, write
from algebra.rows import Row
from harness import require_vector_peer
from tables import options

ROWS: Sequence[Row] = (*attention.ROWS, *norms.ROWS, *contractions.ROWS)
GROUPS = ("attention", "norms", "contractions")


def _arguments() -> argparse.Namespace:
    parser = options(__doc__, rounds=9)
    parser.add_argument("--group", choices=GROUPS, help="rows of this group only")
    parser.add_argument("--json", metavar="FILE", help="write what was measured, or judged, there")
    return parser.parse_args()


def main() -> int:
    """Measure the rows that are asked for; gives the exit status."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    if not args.stored:
        require_vector_peer()
    rows = [row for row in ROWS if _wanted(row, args)]
    entries = _stored(rows) if args.stored else _measured(rows, args)
    if args.json:
        text = json.dumps([asdict(entry) for entry in entries], indent=1)
        Path(args.json).write_text(text + "\n", encoding="utf-8")
    missed = judge(rows, entries)
    for text in missed:
        print(f"MISSED: {text}")
    return 1 if args.gate and missed else 0


def _wanted(row: Row, args: argparse.Namespace) -> bool:
    return args.group in (None, row.group) and re.search(args.only, row.name) is not None


def _stored(rows: Sequence[Row]) -> list[Entry]:
    return [entry for group in GROUPS for entry in read(rows, group)]


def _measured(rows: Sequence[Row], args: argparse.Namespace) -> list[Entry]:
    """Measure; the results are written as soon as a row is done."""
    entries = []
    for row in rows:
        new = _measure(row, args)
        if not args.no_save:
            print(f"written to {write(ROWS, row.group, new, vars(args))}", flush=True)
        entries += new
    return entries


def _measure(row: Row, args: argparse.Namespace) -> list[Entry]:
    entries = []
    for shape in row.shapes:
        entries.append(measure_row(row, shape, args.seed, args.rounds))
        _print(entries[-1])
    return entries


def _print(entry: Entry) -> None:
    print(entry.row, dict(entry.shape), "" if entry.derived else "NOT DERIVED", sep="  ")
    if entry.failure is not None:
        print(f"  {entry.failure}")
        return
    print(f"  kernels {', '.join(entry.kernels)}; left to torch: {', '.join(entry.outside) or '-'}")
    for name, time in entry.milliseconds.items():
        ratio = f"  ratio {entry.ratios[name][0]:6.2f}" if name != OURS else " " * 14
        print(f"  {name:14} {time:10.3f} ms  {ratio}  error {entry.errors[name]:.1e}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
