"""Measures one row at one shape: what explain() says, errors against float64, times in turns."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from harness import Case, run_case

import diagc
from diagc.errors import DiagcError

from .rows import Explained, Row, Shape

__all__ = ["COMPILED", "EAGER", "OURS", "Entry", "measure_row"]

OURS, EAGER, COMPILED = "diagc", "eager", "torch.compile"


@dataclass
class Entry:
    """What was found for a row at a shape.

    Args:
        row: its name.
        shape: sizes by name.
        threads: of torch and of our kernels.
        derived: whether the compiler found what the row is about.
        laws: of all streams, line by line.
        kernels: their names, with the number of calls where it is not 1.
        outside: what was left to torch, with the number of calls.
        declined: rewrites that were not made, and why.
        tolerance: the largest error allowed.
        errors: by contender: largest difference from float64 over its largest value.
        milliseconds: medians, by contender.
        ratios: by peer: median and quartiles of t(peer) / t(diagc).
        rounds: how many were measured.
        failure: why nothing was measured, or None.
    """

    row: str
    shape: Mapping[str, int]
    threads: int
    derived: bool = False
    laws: list[str] = field(default_factory=list)
    kernels: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    declined: list[str] = field(default_factory=list)
    tolerance: float = 0.0
    errors: dict[str, float] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    rounds: int = 0
    failure: str | None = None

    @property
    def correct(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return self.failure is None and self.errors[OURS] <= self.tolerance

    def reaches(self, peer: str, ratio: float) -> bool:
        """Whether t(peer) / t(diagc) is at least `ratio`."""
        return self.failure is None and self.ratios[peer][0] >= ratio


def measure_row(row: Row, shape: Shape, seed: int, rounds: int) -> Entry:
    """Compile, explain and measure a row at a shape."""
    entry = Entry(row.name, shape, torch.get_num_threads())
    torch._dynamo.reset()
    arguments = row.arguments(shape, seed)
    try:
        ours = diagc.compile(row.function, *arguments, **row.options)
    except DiagcError as error:
        entry.failure = str(error)
        return entry
    _explain(entry, row, json.loads(ours.explain("json")))
    entry.tolerance = row.tolerance(arguments)
    peers = {EAGER: row.function, COMPILED: torch.compile(row.function, dynamic=False)}
    calls = {name: partial(call, *arguments) for name, call in peers.items()}
    exact = partial(row.function, *(_in_f64(argument) for argument in arguments))
    outcome = run_case(row.name, Case(partial(ours, *arguments), calls, (), exact), rounds)
    entry.errors, entry.milliseconds = outcome.errors, outcome.milliseconds
    entry.ratios, entry.rounds = outcome.ratios, outcome.rounds
    return entry


def _in_f64(value: Any) -> Any:
    floating = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.double() if floating else value


def _explain(entry: Entry, row: Row, report: Explained) -> None:
    entry.derived = row.derived(report)
    streams = [stream for kernel in report["kernels"] for stream in kernel["streams"]]
    entry.laws = [line for stream in streams for line in stream["law"]]
    entry.kernels = [_counted(kernel["name"], kernel["calls"]) for kernel in report["kernels"]]
    entry.outside = [_counted(work["what"], work["calls"]) for work in report["outside"]]
    entry.declined = [f"{note['op']}: {note['text']}" for note in report["declined"]]


def _counted(name: str, calls: int) -> str:
    return name if calls == 1 else f"{calls} x {name}"
