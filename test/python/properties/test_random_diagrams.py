"""Every pass and every target on random diagrams, against the interpreter."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from diagc.compiler import compile_module
from diagc.context import make_context
from diagc.mlir import ir
from diagc.testing.properties import (
    passes_keep_meaning,
    pipeline_keeps_meaning,
    program_gives_meaning,
    target_gives_meaning,
)
from diagc.testing.random_diagrams import Diagram, diagrams, random_attention, random_diagram

FEW = 3  # failures that are shown


def sweep(seed: int, count: int, wrong: Callable[[Diagram, int], str | None]) -> None:
    """Try diagrams until some fail; the message tells how to repeat each failure."""
    failures = []
    for number in range(seed, seed + count):
        complaint = wrong(random_diagram(Random(number)), number)
        if complaint is not None:
            failures.append(f"diagram of seed {number}: {complaint}")
        if len(failures) == FEW:
            break
    if failures:
        text = random_diagram(Random(int(failures[0].split()[3].rstrip(":")))).text
        pytest.fail("\n".join([*failures, "the first is", text]), pytrace=False)


def test_passes_and_pipeline_keep_the_meaning(seed: int, count: int, tally: Any) -> None:
    def wrong(diagram: Diagram, number: int) -> str | None:
        made: Counter[str] = Counter()
        complaint = passes_keep_meaning(diagram, number)
        complaint = complaint or pipeline_keeps_meaning(diagram, number, seen=made)
        tally.add(diagram, made)
        return complaint

    sweep(seed, count, wrong)


def test_interpreted_programs_give_the_meaning(seed: int, count: int) -> None:
    sweep(seed, count // 4, lambda diagram, number: target_gives_meaning(diagram, number, "interp"))


def test_cpu_programs_give_the_meaning(
    seed: int, count: int, poisoned_memory: Counter[str]
) -> None:
    sweep(seed, count, target_gives_meaning)
    assert poisoned_memory["tensors"] >= count


@given(diagrams())
@settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_pipeline_keeps_the_meaning_of_shrunk_diagrams(diagram: Diagram) -> None:
    assert pipeline_keeps_meaning(diagram, 0) is None


def test_dynamic_attention_takes_any_shape(
    seed: int, count: int, poisoned_memory: Counter[str]
) -> None:
    """Ten diagrams, compiled once each, on many shapes with the same program."""
    rng = Random(seed)
    failures = []
    for _ in range(10):
        diagram = random_attention(rng)
        with make_context(), ir.Location.unknown():
            program = compile_module(diagram.parse(), "cpu")
            for number in range(max(1, count // 10)):
                sized = diagram.resized(rng)
                complaint = program_gives_meaning(program, sized, sized.inputs(number))
                if complaint is not None:
                    sizes = {axis.label: axis.size for axis in sized.axes}
                    failures.append(f"sizes {sizes}: {complaint}\n{sized.text}")
    assert not failures, f"{len(failures)} of {count} shapes\n" + "\n".join(failures[:FEW])


# The share of diagrams that must have a feature, some four standard deviations below the mean for
# 200 diagrams.
LEAST = {
    "op concat": 0.03,
    "op constant": 0.05,
    "op contract": 0.55,
    "op index": 0.15,
    "op map": 0.9,
    "op normalize": 0.4,
    "op pad": 0.03,
    "op reduce": 0.3,
    "op reindex": 0.03,
    "op relabel": 0.08,
    "normalize l1": 0.01,
    "normalize l2": 0.01,
    "normalize layer": 0.01,
    "normalize none": 0.01,
    "normalize relu-sum": 0.01,
    "normalize rms": 0.01,
    "normalize sigmoid": 0.01,
    "normalize softmax": 0.03,
    "normalize with keep": 0.1,
    "reduce add": 0.15,
    "reduce max": 0.04,
    "reduce min": 0.04,
    "scalar arith.select": 0.15,
    "scalar arith.cmpi": 0.08,
    "scalar arith.truncf": 0.08,
    "scalar math.exp": 0.25,
    "scalar math.sqrt": 0.08,
    "scalar math.tanh": 0.25,
    "dtype bf16": 0.15,
    "dtype f16": 0.08,
    "dtype f32": 0.5,
    "dtype f64": 0.06,
    "dtype i1": 0.2,
    "axis dynamic": 0.65,
    "axis static": 0.8,
    "axis of size 0": 0.015,
    "axis of size 1": 0.2,
    "made stream of 1 states": 0.2,
    "made stream of 2 states": 0.05,
    "made stream of 3 states": 0.01,
    "made library contraction": 0.1,
}


def test_diagrams_are_varied(count: int, tally: Any) -> None:
    if count < 200 or not tally.diagrams:
        pytest.skip("too few diagrams were tried to say")
    assert tally.diagrams == count, "the sweep stopped early"
    scarce = {name: tally.share(name) for name, least in LEAST.items() if tally.share(name) < least}
    assert not scarce


@pytest.fixture
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Fresh tensors hold NaN or large integers: what a kernel does not write shows."""
    made: Counter[str] = Counter()

    def poisoned(allocate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def allocate_and_fill(*args: Any, **kwargs: Any) -> torch.Tensor:
            made["tensors"] += 1
            tensor = allocate(*args, **kwargs)
            floats = tensor.is_floating_point()
            return tensor.fill_(float("nan") if floats else 77 if tensor.dtype != torch.bool else 1)

        return allocate_and_fill

    for name in ("empty", "empty_strided"):
        monkeypatch.setattr(torch, name, poisoned(getattr(torch, name)))
    return made
