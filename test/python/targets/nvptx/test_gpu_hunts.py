"""Mutants of every class of kernels: the simulator sees what goes wrong, and nothing on clean ones.

A sample of each class; `python -m diagc.testing.gpu_hunts` judges all; docs/gpu_mutants.md has what
that gave.
"""

import pytest

from diagc.testing.gpu_hunts import HUNTS, explain, verdicts
from diagc.testing.gpu_mutants import BOUND, SWIZZLE, SYNC, table
from diagc.testing.seed import SEED

SAMPLE = 16
CAUGHT = 0.95


@pytest.mark.parametrize("name", HUNTS)
def test_a_sample_of_mutants_is_caught(name: str) -> None:
    found = verdicts(name, sample=(SEED, SAMPLE))
    judged = [v for v in found if v.reached and not v.equivalent]
    harmless = [v for v in judged if v.survives and explain(v.mutant) is not None]
    caught = [v for v in judged if v.caught]
    report = table(found, explain)
    print(f"{name}\n{report}")
    # one in a sample of few may be left
    assert len(caught) >= CAUGHT * (len(judged) - len(harmless)) - 1, report
    # where nobody arrives, the simulator shows who waits; where nobody waits, who has arrived
    shown = {"deadlock", "barrier-count"}
    assert all(v.named or shown & {*v.by} for v in caught if v.mutant.area == SYNC), report


@pytest.mark.slow
def test_all_waits_barriers_and_swizzles_of_a_streamed_kernel_are_caught() -> None:
    found = verdicts("streamed", (SYNC, SWIZZLE))
    assert len(found) >= 30
    assert all(v.caught for v in found), table(found, explain)
    assert all(v.named for v in found if v.mutant.area == SYNC), table(found, explain)


def test_bounds_of_a_map_are_all_caught() -> None:
    found = verdicts("map", (BOUND,))
    assert len(found) >= 20
    assert all(v.caught and v.named for v in found), table(found, explain)
