"""Fair comparison of functions in one process: interleaved rounds, ratios first, errors beside.

A ratio is the median over rounds of t(peer) / t(ours); above 1 ours is faster. Both run right after
each other in every round, so that a slow spell of the machine hits both. Errors are the largest
difference from a float64 reference over its largest value.
"""

import argparse
import json
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import torch
from torch._inductor.cpu_vec_isa import pick_vec_isa
from torch.utils import _pytree as pytree

from diagc.errors import DiagcError
from diagc.runtime.cpu_features import host_features

__all__ = [
    "ERROR_FACTOR",
    "Case",
    "Gate",
    "Outcome",
    "errors",
    "main",
    "measure",
    "require_vector_peer",
    "results_directory",
    "run_case",
    "save",
    "save_json",
]

RESULTS = Path(__file__).parent / "results"
OURS = "diagc"

Call = Callable[[], Any]


@dataclass(frozen=True)
class Gate:
    """The ratio to `peer` that must be reached; None to report only."""

    peer: str
    ratio: float | None


@dataclass(frozen=True)
class Case:
    """One comparison.

    Args:
        ours: our call.
        peers: the calls that it is compared with.
        gates: what must be reached.
        reference: the exact result, in float64; None when errors do not matter.
        exact_peer: the peer whose error ours may exceed 1.5 times at most.
    """

    ours: Call
    peers: Mapping[str, Call]
    gates: Sequence[Gate] = ()
    reference: Call | None = None
    exact_peer: str | None = None


@dataclass
class Outcome:
    """What was measured for a case.

    Args:
        case: name.
        threads: of torch and of our kernels.
        milliseconds: median time by name of the contender.
        ratios: by peer: median, lower and upper quartile of t(peer) / t(ours).
        errors: by contender.
        rounds: how many were measured.
        missed: gates that were not reached, in words.
    """

    case: str
    threads: int
    milliseconds: dict[str, float]
    ratios: dict[str, tuple[float, float, float]]
    errors: dict[str, float]
    rounds: int = 0
    missed: list[str] = field(default_factory=list)


ERROR_FACTOR = 1.5


# Short calls get more rounds, up to this many, until about this many seconds are spent: on a shared
# machine a round of a millisecond is disturbed or not, as a whole.
MOST_ROUNDS = 300
SECONDS = 2.0


def measure(calls: Mapping[str, Call], rounds: int) -> dict[str, list[float]]:
    """Seconds of every call in every round, in turns, after a round that warms up.

    Each round starts with the next call, because what ran before leaves its data in the caches: of
    two equal calls the first after a third one took 2 to 8 % longer.

    Args:
        calls: by name.
        rounds: at least.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    _round(calls, {name: [] for name in calls}, 0)
    start = perf_counter()
    done = 0
    while done < rounds or (done < MOST_ROUNDS and perf_counter() - start < SECONDS):
        _round(calls, times, done)
        done += 1
    return times


def _round(calls: Mapping[str, Call], times: Mapping[str, list[float]], number: int) -> None:
    names = list(calls)
    first = number % len(names)
    for name in names[first:] + names[:first]:
        start = perf_counter()
        calls[name]()
        times[name].append(perf_counter() - start)


def run_case(name: str, case: Case, rounds: int) -> Outcome:
    """Check errors, then measure all contenders of a case in turns."""
    calls = {OURS: case.ours, **case.peers}
    with torch.no_grad():
        found = errors(calls, case.reference)
        times = measure(calls, rounds)
    ratios = {name: _ratio(times[name], times[OURS]) for name in case.peers}
    outcome = Outcome(
        name,
        torch.get_num_threads(),
        {name: median(seconds) * 1e3 for name, seconds in times.items()},
        ratios,
        found,
        len(times[OURS]),
    )
    outcome.missed += [m for gate in case.gates if (m := _missed(gate, ratios)) is not None]
    if case.exact_peer is not None and found[OURS] > ERROR_FACTOR * found[case.exact_peer]:
        limit = ERROR_FACTOR * found[case.exact_peer]
        outcome.missed.append(f"error {found[OURS]:.2e}, allowed {limit:.2e}")
    return outcome


def _missed(gate: Gate, ratios: Mapping[str, tuple[float, float, float]]) -> str | None:
    if gate.ratio is None or ratios[gate.peer][0] >= gate.ratio:
        return None
    return f"{ratios[gate.peer][0]:.2f} x {gate.peer}, wanted {gate.ratio:.2f}"


def _ratio(peer: Sequence[float], ours: Sequence[float]) -> tuple[float, float, float]:
    rounds = [p / o for p, o in zip(peer, ours, strict=True)]
    if len(rounds) < 2:
        return rounds[0], rounds[0], rounds[0]
    low, _, high = quantiles(rounds, n=4)
    return median(rounds), low, high


def errors(calls: Mapping[str, Call], reference: Call | None) -> dict[str, float]:
    """The largest difference of each call's results from the reference, over its largest value."""
    if reference is None:
        return {}
    exact = [leaf.double() for leaf in pytree.tree_leaves(reference())]
    return {name: _error(call(), exact) for name, call in calls.items()}


def _error(value: Any, exact: Sequence[torch.Tensor]) -> float:
    pairs = zip(pytree.tree_leaves(value), exact, strict=True)
    found = [(a.double() - b).abs().max() / b.abs().max() for a, b in pairs]
    return float(torch.stack(found).max())  # NaN if any is


def require_vector_peer() -> None:
    """End the process where torch.compile has no vector instructions: a crippled peer.

    Its probe of the compiler may fail on a loaded machine.
    """
    if not pick_vec_isa():
        sys.exit("torch.compile found no vector instructions in this process; run it again")


# ---- the command ---------------------------------------------------------------------------------


def main(name: str, cases: Mapping[str, Callable[[], Case]], gated_threads: Sequence[int]) -> int:
    """Run a benchmark from the command line; gives the exit status.

    Args:
        name: of the result file.
        cases: makers of the cases, by name.
        gated_threads: numbers of threads for which gates count; others are reported.
    """
    args = _arguments(name)
    torch.manual_seed(args.seed)
    outcomes = []
    for threads in args.threads:
        torch.set_num_threads(threads)
        for case_name, make in cases.items():
            if args.only and not re.search(args.only, case_name):
                continue
            outcome = _outcome(case_name, make, args.rounds)
            outcomes.append(outcome)
            _print(outcome, counts=threads in gated_threads)
    if not args.no_save:
        print(f"written to {save(name, outcomes, args)}")
    failed = [o for o in outcomes if o.missed and o.threads in gated_threads]
    return 1 if args.gate and failed else 0


def _outcome(name: str, make: Callable[[], Case], rounds: int) -> Outcome:
    """Run a case; one that fails has missed its gates, and the others still run."""
    torch._dynamo.reset()
    try:
        return run_case(name, make(), rounds)
    except DiagcError as error:
        return Outcome(name, torch.get_num_threads(), {}, {}, {}, missed=[str(error)])


def _arguments(name: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=name)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9, help="rounds, at least")
    parser.add_argument("--only", default="", help="cases whose name matches this expression")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gate", action="store_true", help="exit with 1 when a gate is missed")
    parser.add_argument("--no-save", action="store_true", help="write no result file")
    return parser.parse_args()


def _print(outcome: Outcome, counts: bool) -> None:
    print(f"{outcome.case}, {outcome.threads} thread{'s' if outcome.threads != 1 else ''}")
    for name, time in outcome.milliseconds.items():
        error = f"  error {outcome.errors[name]:.1e}" if name in outcome.errors else ""
        ratio = ""
        if name in outcome.ratios:
            middle, low, high = outcome.ratios[name]
            ratio = f"  ratio {middle:6.2f}  ({low:.2f} .. {high:.2f})"
        print(f"  {name:24} {time:10.3f} ms{error}{ratio}")
    for text in outcome.missed:
        print(f"  {'MISSED' if counts else 'below the gate'}: {text}")
    sys.stdout.flush()


def save(name: str, outcomes: Sequence[Outcome], args: argparse.Namespace) -> Path:
    """Write a result file and give its path."""
    return save_json(name, {"outcomes": [asdict(outcome) for outcome in outcomes]}, vars(args))


def results_directory() -> Path:
    """Where results of this machine stand; it is made where it is missing."""
    directory = RESULTS / re.sub(r"[^a-z0-9]+", "-", host_features().name.lower()).strip("-")
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def save_json(name: str, results: Mapping[str, Any], arguments: Mapping[str, Any]) -> Path:
    """Write results as `results/<device>/<date>-<name>.json`."""
    now = datetime.now(UTC)
    features = host_features()
    path = results_directory() / f"{now:%Y-%m-%d}-{name}.json"
    record = {
        "benchmark": name,
        "time": now.isoformat(timespec="seconds"),
        "device": features.name,
        "isa": features.isa,
        "bf16_dot": features.bf16_dot,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "arguments": dict(arguments),
        **results,
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path
