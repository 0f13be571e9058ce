"""Counts what the compiler makes of random cascades: `python -m diagc.testing.cascade_report 1000`.

A second number is that of processes, which share the seeds; what stands behind a figure is printed
as it is found.

Half are legal, half not. Counted are wrong accepts, wrong refusals, refusals without a witness,
cascades whose rank by numbers is not what their construction says, and wrong results.
"""

import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields

from diagc.algebra.finite_rank import MOST_SUMS
from diagc.testing.cascade_judge import ranks, run_errors, verdict
from diagc.testing.random_cascades import random_cascade

__all__ = ["Report", "report"]

_WITNESSES = ("singular values", "on the row", "moves by", "seen twice", "is no number where")

_KINDS = ("wrong_accepts", "wrong_refusals", "without_witness", "mislabelled", "wrong_results")


@dataclass
class Report:
    """Complaints by kind, each with its cascade, and how many there were of either sort."""

    legal: int = 0
    illegal: int = 0
    wrong_accepts: list[str] = field(default_factory=list)
    wrong_refusals: list[str] = field(default_factory=list)
    without_witness: list[str] = field(default_factory=list)
    mislabelled: list[str] = field(default_factory=list)
    wrong_results: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line a figure."""
        counts = [(kind, len(getattr(self, kind))) for kind in _KINDS]
        lines = [("legal", self.legal), ("illegal", self.illegal), *counts]
        return "\n".join(f"{kind.replace('_', ' '):<16} {count}" for kind, count in lines)

    def joined(self, other: "Report") -> "Report":
        """Both together."""
        names = [part.name for part in fields(self)]
        return Report(*(getattr(self, name) + getattr(other, name) for name in names))


def report(seeds: Iterable[int], numbers_every: int = 1) -> Report:
    """Judge the cascades of seeds, even ones legal, odd ones not.

    Args:
        seeds: one cascade each.
        numbers_every: of the cascades every so many is judged by numbers: the ranks that its
            construction promises, which no compiler changes, and its results if it is accepted.
    """
    found = Report()
    for seed in seeds:
        _judge(found, seed, legal=seed % 2 == 0, numbers=seed // 2 % numbers_every == 0)
    return found


def _judge(found: Report, seed: int, legal: bool, numbers: bool) -> None:
    cascade = random_cascade(seed, legal)
    made = verdict(cascade)
    facts = "\n".join((f"seed {seed}", cascade.text(), *made.remarks))
    found.legal += legal
    found.illegal += not legal
    if numbers and all(rank <= MOST_SUMS for rank in ranks(cascade)) != legal:
        found.mislabelled.append(facts)
    if made.accepted and not legal:
        found.wrong_accepts.append(facts)
    if legal and not made.accepted:
        found.wrong_refusals.append(facts)
    if not made.accepted and not any(w in text for text in made.remarks for w in _WITNESSES):
        found.without_witness.append(facts)
    if made.accepted and numbers and (errors := run_errors(cascade, seed)):
        found.wrong_results.append("\n".join((facts, *errors)))


def main(arguments: Sequence[str]) -> int:
    """Print the figures, and what stands behind those that should be 0."""
    count, processes = (int(text) for text in (*arguments, *("100", "1")[len(arguments) :]))
    pieces = [range(first, min(first + _PIECE, count)) for first in range(0, count, _PIECE)]
    found, seconds = Report(), 0.0
    with ProcessPoolExecutor(processes) as pool:
        for part, taken in pool.map(_timed, pieces):
            _print_complaints(part)
            found, seconds = found.joined(part), seconds + taken
    print(found)
    print(f"{'processor time':<16} {seconds:.0f} s")
    return bool(found.wrong_accepts or found.wrong_results or found.mislabelled)


_PIECE = 25  # seeds


def _timed(seeds: range) -> tuple[Report, float]:
    start = time.process_time()
    return report(seeds), time.process_time() - start


def _print_complaints(found: Report) -> None:
    for kind in _KINDS:
        for facts in getattr(found, kind):
            print(f"{kind.replace('_', ' ')}: {facts}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
