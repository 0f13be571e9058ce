"""Counts what the compiler makes of random cascades: `python -m diagc.testing.cascade_report 1000`.

Half are legal, half not. Counted are wrong accepts, wrong refusals, refusals without a witness,
cascades whose rank by numbers is not what their construction says, and wrong results.
"""

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from diagc.algebra.finite_rank import MOST_SUMS
from diagc.testing.cascade_judge import ranks, run_errors, verdict
from diagc.testing.random_cascades import random_cascade

__all__ = ["Report", "report"]

_WITNESSES = ("singular values", "on the row", "moves by", "seen twice", "is no number where")


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
        kinds = ("wrong_accepts", "wrong_refusals", "without_witness", "mislabelled")
        counts = [(kind, len(getattr(self, kind))) for kind in (*kinds, "wrong_results")]
        lines = [("legal", self.legal), ("illegal", self.illegal), *counts]
        return "\n".join(f"{kind.replace('_', ' '):<16} {count}" for kind, count in lines)


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
    count = int(arguments[0]) if arguments else 100
    start = time.process_time()
    found = report(range(count))
    for kind in ("wrong_accepts", "wrong_refusals", "without_witness", "mislabelled"):
        for facts in getattr(found, kind):
            print(f"{kind}: {facts}\n")
    for facts in found.wrong_results:
        print(f"wrong result: {facts}\n")
    print(found)
    print(f"{'processor time':<16} {time.process_time() - start:.0f} s")
    return bool(found.wrong_accepts or found.wrong_results or found.mislabelled)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
