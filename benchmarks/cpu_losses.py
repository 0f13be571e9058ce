"""Losses over many classes: time beside torch.compile, and by how much memory grows at its peak.

    python benchmarks/cpu_losses.py --gate            # 8192 tokens, 512 features, 32768 classes
    python benchmarks/cpu_losses.py --quick           # an eighth of the tokens and classes

A linear layer with cross entropy, with and without RMSNorm in front, and RMSNorm with a linear
layer alone, in f32. Eager writes all logits: 1 GiB. Ours may grow, beside its results, by a tenth
of that, and must be as fast as torch.compile: the median over rounds of t(torch.compile) /
t(diagc), both measured in turns. Growth is that of the resident set at its peak.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from algebra.norms import linear_cross_entropy, norm_linear_cross_entropy, rms_norm_linear
from harness import measure, save_json

import diagc
from diagc.testing.memory import peak_of

OURS, COMPILED = "diagc", "torch.compile"
MB = 1024 * 1024


@dataclass
class Outcome:
    """What was found for one function; megabytes beside the results, medians of seconds."""

    name: str
    threads: int
    ratio: float
    seconds: dict[str, float]
    grown_mb: dict[str, float]
    limit_mb: float
    error: float
    rounds: int

    @property
    def passes(self) -> bool:
        """Whether the gate is reached."""
        return self.ratio >= 1.0 and self.grown_mb[OURS] <= self.limit_mb and self.error <= 1e-5


def run(
    function: Callable[..., torch.Tensor],
    arguments: tuple[torch.Tensor, ...],
    logits_mb: float,
    rounds: int,
) -> Outcome:
    torch._dynamo.reset()
    ours = diagc.compile(function, *arguments)
    calls: dict[str, Callable[[], Any]] = {
        OURS: partial(ours, *arguments),
        COMPILED: partial(torch.compile(function, dynamic=False), *arguments),
    }
    grown = {}
    for name, call in calls.items():
        call()  # compiles
        peak, result = peak_of(call)
        grown[name] = peak - result
    error = _error(function, arguments, calls[OURS]())
    times = measure(calls, rounds)
    pairs = zip(times[COMPILED], times[OURS], strict=True)
    return Outcome(
        function.__name__,
        torch.get_num_threads(),
        median(theirs / mine for theirs, mine in pairs),
        {name: median(values) for name, values in times.items()},
        grown,
        logits_mb / 10,
        error,
        len(times[OURS]),
    )


def _error(
    function: Callable[..., torch.Tensor],
    arguments: tuple[torch.Tensor, ...],
    result: torch.Tensor,
) -> float:
    """Largest difference from float64 over its largest value; of many rows the first 256."""
    x, *rest = (a.double() if a.is_floating_point() else a for a in arguments)
    if result.dim():
        x, result = x[:256], result[:256]
        exact = function(x, *rest)
        return float((result - exact).abs().max() / exact.abs().max())
    parts = zip(x.split(256), rest[-1].split(256), strict=True)
    losses = [function(part, *rest[:-1], labels) * len(part) for part, labels in parts]
    exact = torch.stack(losses).sum() / len(x)
    return float((result - exact).abs() / exact.abs())


def _arguments(tokens: int, width: int, classes: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, width, generator=generator)
    w = torch.randn(classes, width, generator=generator) * width**-0.5
    gain = torch.randn(width, generator=generator)
    return x, gain, w, torch.randint(0, classes, (tokens,), generator=generator)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gate", action="store_true", help="exit with 1 when the gate is missed")
    parser.add_argument("--quick", action="store_true", help="an eighth of tokens and classes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", default="", help="the function of this name only")
    args = parser.parse_args()
    if args.gate and args.quick:
        parser.error("small sizes fit one block, so the gate is for the full ones")
    torch.set_num_threads(args.threads)
    tokens, classes = (1024, 4096) if args.quick else (8192, 32768)
    x, gain, w, labels = _arguments(tokens, 512, classes)
    cases: list[tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]] = [
        (linear_cross_entropy, (x, w, labels)),
        (norm_linear_cross_entropy, (x, gain, w, labels)),
        (rms_norm_linear, (x, gain, w)),
    ]
    outcomes = []
    for function, arguments in cases:
        if args.only in ("", function.__name__):
            with torch.no_grad():
                outcomes.append(run(function, arguments, tokens * classes * 4 / MB, args.rounds))
            _print(outcomes[-1], gated=not args.quick)
            if not args.quick:
                name = f"cpu_{function.__name__}_{args.threads}"
                save_json(name, asdict(outcomes[-1]), vars(args))
    return 1 if args.gate and not all(outcome.passes for outcome in outcomes) else 0


def _print(outcome: Outcome, gated: bool) -> None:
    times = ", ".join(f"{name} {value:.3f} s" for name, value in outcome.seconds.items())
    grown = ", ".join(f"{name} {value:.0f} MB" for name, value in outcome.grown_mb.items())
    print(
        f"{outcome.name:26} {outcome.threads} threads: {outcome.ratio:.2f} x {COMPILED} ({times}); "
        f"grows by {grown} (a tenth of logits: {outcome.limit_mb:.0f}); error {outcome.error:.1e}"
        + ("  MISSED" if gated and not outcome.passes else ""),
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
