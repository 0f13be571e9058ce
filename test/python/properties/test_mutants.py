"""The property suite finds every seeded mistake; else it would not find ours either."""

import pytest

from diagc.errors import InternalError
from diagc.testing.mutants import MUTANTS, Mutant, hunt


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_mutant_is_caught(mutant: Mutant, seed: int) -> None:
    catch = hunt(mutant, seed)
    assert catch.complaint is not None, f"{catch.diagrams} diagrams did not tell it apart"


def test_there_are_ten_mutants_of_different_functions_and_texts() -> None:
    assert len(MUTANTS) >= 10
    assert len({(mutant.place, mutant.changes) for mutant in MUTANTS}) == len(MUTANTS)


def test_a_mutant_is_gone_after_its_block() -> None:
    function = MUTANTS[0].function()
    original = function.__code__
    with MUTANTS[0].applied():
        assert function.__code__ is not original
    assert function.__code__ is original


def test_a_mutant_that_no_longer_fits_the_source_says_so() -> None:
    stale = Mutant("stale", "diagc.algebra.laws:scale", (("no such text", ""),))
    with pytest.raises(InternalError, match=r"'stale' is out of date: diagc\.algebra\.laws:scale"):
        stale.source()
