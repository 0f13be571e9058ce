"""The table of models: regions, errors, time of inference and of training steps on the CPU.

    python benchmarks/model_table.py --only 'BERT|llama' --gate

Every model of `diagc.testing.models` at width 256, and BERT, ViT and GPT-2 of published widths,
against eager mode and torch.compile. What is not measured keeps its last result.
"""

import argparse
import re
import sys

import torch
from harness import require_vector_peer
from models.measure import KINDS, OURS, Entry, measure_row
from models.results import judge, read, write
from models.rows import ROWS
from tables import options


def _arguments() -> argparse.Namespace:
    parser = options(__doc__, rounds=7)
    parser.add_argument("--calls", choices=KINDS, nargs="+", default=[*KINDS])
    parser.add_argument("--shared", action="store_true", help="mark times: other work runs here")
    return parser.parse_args()


def main() -> int:
    """Measure the rows that are asked for; gives the exit status."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    rows = [row for row in ROWS if re.search(args.only, row.title)]
    if args.stored:
        entries = [entry for entry in read(rows) if entry.threads == args.threads]
    else:
        require_vector_peer()
        entries = []
        for row in rows:
            entries.append(measure_row(row, args.calls, args.seed, args.rounds))
            for found in entries[-1].found.values():
                found.shared = args.shared
            _print(entries[-1])
            if not args.no_save:
                write(ROWS, entries[-1:], vars(args))
    missed = judge(rows, entries)
    for text in missed:
        print(f"MISSED: {text}")
    return 1 if args.gate and missed else 0


def _print(entry: Entry) -> None:
    for kind, found in entry.found.items():
        regions = f"{found.regions} of {entry.attentions} regions, {found.products} products"
        print(f"{entry.row}, {kind}: {regions}")
        for name, time in found.outcome.milliseconds.items():
            ratio = f"ratio {found.outcome.ratios[name][0]:6.2f}" if name != OURS else " " * 12
            error = found.outcome.errors[name]
            print(f"  {name:14} {time:10.3f} ms  {ratio}  error {error:.1e}")
    for kind, why in entry.failures.items():
        print(f"{entry.row}, {kind}: FAILED: {why}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
