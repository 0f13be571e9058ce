"""Seeds, counts and the printed histogram of the property suite.

A run draws a fresh seed and prints it; `DIAGC_TEST_SEED=<number>` repeats a run, and
`DIAGC_TEST_DIAGRAMS=<number>` asks for more or fewer diagrams than 200.
"""

import os
from collections import Counter

import pytest

from diagc.testing.random_diagrams import Diagram, histogram
from diagc.testing.seed import SEED

COUNT = int(os.environ.get("DIAGC_TEST_DIAGRAMS") or 200)


class Tally:
    """What was tried: in how many diagrams each feature occurs, and how often in all."""

    def __init__(self) -> None:
        self.diagrams = 0
        self.shares: Counter[str] = Counter()
        self.totals: Counter[str] = Counter()

    def add(self, diagram: Diagram, made: Counter[str]) -> None:
        """Count one diagram, and what the compiler made of it."""
        found = histogram(diagram) + made
        self.diagrams += 1
        self.totals += found
        self.shares.update(found.keys())

    def share(self, feature: str) -> float:
        """The part of all diagrams that has a feature."""
        return self.shares[feature] / max(1, self.diagrams)

    def lines(self) -> list[str]:
        """The histogram as text, three features a line."""
        cells = [
            f"{feature:<32}{self.share(feature):>5.0%}{total:>6}"
            for feature, total in sorted(self.totals.items())
        ]
        return ["  ".join(cells[start : start + 3]) for start in range(0, len(cells), 3)]


TALLY = Tally()


@pytest.fixture(scope="session")
def tally() -> Tally:
    return TALLY


@pytest.fixture(scope="session")
def seed() -> int:
    return SEED


@pytest.fixture(scope="session")
def count() -> int:
    return COUNT


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the seed, and the histogram when diagrams were counted."""
    terminalreporter.section("random diagrams")
    terminalreporter.line(f"seed {SEED} (DIAGC_TEST_SEED={SEED} repeats this run)")
    if TALLY.diagrams:
        terminalreporter.line(f"{TALLY.diagrams} diagrams: share of them, and number in all")
        for line in TALLY.lines():
            terminalreporter.line(line)
