"""Measures one model: regions taken, errors against float64, times of calls in turns."""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from harness import Case, Outcome, errors, run_case

from diagc.torch_backend.report import GraphReport, RegionReport, collecting

from .rows import Row

__all__ = ["COMPILED", "EAGER", "KINDS", "OURS", "Entry", "Found", "measure_row"]

OURS, EAGER, COMPILED = "diagc", "eager", "torch.compile"


@dataclass
class Found:
    """What was found for one kind of call.

    Args:
        regions: that stream: attention.
        products: regions of linear layers.
        outcome: times, and errors of the result, or of all gradients together.
        shared: whether other work ran on the machine, so that times are no more than a hint.
    """

    regions: int
    products: int
    outcome: Outcome
    shared: bool = False


@dataclass
class Entry:
    """What was found for a row.

    Args:
        row: its title.
        size: in words.
        threads: of torch and of our kernels.
        attentions: layers of attention in the model.
        found: by kind of call.
        failures: why a kind of call could not be measured, by kind.
    """

    row: str
    size: str
    threads: int
    attentions: int
    found: dict[str, Found] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def measure_row(row: Row, kinds: Iterable[str], seed: int, rounds: int) -> Entry:
    """Build, compile and measure a model; what fails is told in the entry."""
    entry = Entry(row.title, row.size, torch.get_num_threads(), row.model.attentions)
    for kind in kinds:
        torch._dynamo.reset()
        torch.manual_seed(seed)
        try:
            module, arguments = row.model.build(row.way, row.scale)
            entry.found[kind] = KINDS[kind](row.title, module, arguments, rounds)
        except Exception as error:  # whatever fails is a result of the table
            text = str(error).strip() or "no message"
            entry.failures[kind] = f"{type(error).__name__}: {text.splitlines()[0]}"
    return entry


Arguments = tuple[Any, ...]


def _forward(title: str, module: Any, arguments: Arguments, rounds: int) -> Found:
    calls = {n: partial(_result, f, arguments) for n, f in _contenders(module.eval()).items()}
    with torch.no_grad(), collecting() as reports:
        calls[OURS]()
    exact = partial(_result, _in_f64(module), tuple(_in_f64(a) for a in arguments))
    ours, peers = calls[OURS], {name: calls[name] for name in (EAGER, COMPILED)}
    return _found(reports, run_case(title, Case(ours, peers, reference=exact), rounds))


def _step(title: str, module: Any, arguments: Arguments, rounds: int) -> Found:
    """The loss is the result times a fixed random tensor, summed."""
    cotangent = torch.randn_like(_result(module, arguments))
    parameters = [p for p in module.parameters() if p.requires_grad]
    calls = {
        name: partial(_gradients, contender, arguments, cotangent, parameters)
        for name, contender in _contenders(module).items()
    }
    with collecting() as reports:
        calls[OURS]()
    ours, peers = calls[OURS], {name: calls[name] for name in (EAGER, COMPILED)}
    outcome = run_case(title, Case(ours, peers), rounds)
    double = _in_f64(module)
    inputs = tuple(_in_f64(argument) for argument in arguments)
    exact_parameters = [p for p in double.parameters() if p.requires_grad]
    exact = partial(_gradients, double, inputs, cotangent.double(), exact_parameters)
    joined = {name: partial(_joined, call) for name, call in calls.items()}
    outcome.errors = errors(joined, partial(_joined, exact))
    return _found(reports, outcome)


def _contenders(module: Any) -> dict[str, Any]:
    """What diagc does not take runs in Inductor, as all does for torch.compile."""
    ours = torch.compile(module, backend="diagc", options={"rest": "inductor"})
    return {OURS: ours, EAGER: module, COMPILED: torch.compile(module)}


def _result(module: Any, arguments: Arguments) -> torch.Tensor:
    """The main result of a model's call."""
    value = module(*arguments)
    found: torch.Tensor = value if isinstance(value, torch.Tensor) else value[0]
    return found


@torch.enable_grad()
def _gradients(
    module: Any, arguments: Arguments, cotangent: torch.Tensor, parameters: list[torch.Tensor]
) -> list[torch.Tensor]:
    loss = (_result(module, arguments) * cotangent).sum()
    return list(torch.autograd.grad(loss, parameters, materialize_grads=True))


def _joined(call: Callable[[], list[torch.Tensor]]) -> torch.Tensor:
    """All gradients in one: those that are zero but for rounding have no relative error."""
    return torch.cat([gradient.flatten() for gradient in call()])


def _in_f64(value: Any) -> Any:
    if isinstance(value, torch.nn.Module):
        return copy.deepcopy(value).double()
    floating = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.double() if floating else value


def _found(reports: list[GraphReport], outcome: Outcome) -> Found:
    regions = [region for report in reports for region in report.regions]
    streaming = sum(_streams(region) for region in regions)
    return Found(streaming, len(regions) - streaming, outcome)


KINDS: Mapping[str, Callable[..., Found]] = {"forward": _forward, "training step": _step}


def _streams(region: RegionReport) -> bool:
    return any(kernel.streams for kernel in region.compiled.kernels)
