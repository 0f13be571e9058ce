"""Check and time a folder of packages: needs torch, the run time and the folder, no compiler.

    PYTHONPATH=python:benchmarks python -m gpu.check packages --out result.json

Every package is compared with the float64 meaning of its function, in poisoned memory, on two sets
of random inputs; then it takes turns with eager torch, torch.compile where the variant says so, and
the back ends of `scaled_dot_product_attention` by name. What there is no time for is said.
"""

import argparse
import json
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from diagc.errors import DiagcError
from diagc.runtime import load
from gpu import measure
from gpu.correctness import Check, check, graph_replays, results_of
from gpu.measure import OURS, Ceilings, Times
from gpu.variants import VARIANTS, Gate, Variant

__all__ = ["Outcome", "main"]

_RESERVE_SECONDS = 5.0  # to write the result
_READING_SHARE = 0.5  # of a variant's time, at least


@dataclass
class Outcome:
    """What was found for a variant.

    Args:
        variant: name.
        status: "ok", "wrong", "failed" (there is no package, or it does not run) or "skipped".
        why: in words, unless "ok".
        check: errors.
        times: None where nothing was timed.
        bandwidth: bytes of arguments and results a second.
        operations: multiplications and additions a second, where they are the limit.
        gates: each with its measured value and whether it is met; on full sizes of a GPU only.
    """

    variant: str
    status: str
    why: str | None = None
    check: Check | None = None
    times: Times | None = None
    bandwidth: float | None = None
    operations: float | None = None
    gates: list[dict[str, Any]] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check all packages; gives 1 when one is wrong or failed, or with --gate misses a gate."""
    args = _parser().parse_args(arguments)
    end = perf_counter() + args.seconds - _RESERVE_SECONDS
    index = json.loads((args.folder / "index.json").read_text(encoding="utf-8"))
    built = [e for e in index["built"] if re.search(args.only, e["variant"])]
    with torch.no_grad():
        ceilings = measure.ceilings(args.device, index["small"])
        outcomes = []
        for number, entry in enumerate(built):
            seconds = (end - perf_counter()) / (len(built) - number)
            outcome = _outcome(entry, args, index["small"], ceilings, seconds)
            outcomes.append(outcome)
            print(_line(outcome, ceilings), flush=True)
    _write(args, index, ceilings, outcomes)
    counts = {s: sum(o.status == s for o in outcomes) for s in ("ok", "wrong", "failed", "skipped")}
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    missed = [g for o in outcomes for g in o.gates if not g["met"]]
    return 1 if counts["wrong"] or counts["failed"] or (args.gate and missed) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="check and time packages on this machine")
    parser.add_argument("folder", type=Path, help="what gpu.build has made")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--out", type=Path, help="result file, JSON")
    parser.add_argument("--seconds", type=float, default=450.0, help="for everything; default 450")
    parser.add_argument("--only", default="", help="variants whose name matches this expression")
    parser.add_argument("--no-time", action="store_true", help="check only")
    parser.add_argument("--gate", action="store_true", help="exit with 1 when a gate is missed")
    return parser


# ---- one variant ---------------------------------------------------------------------------------


def _outcome(
    entry: Mapping[str, Any],
    args: argparse.Namespace,
    small: bool,
    ceilings: Ceilings,
    seconds: float,
) -> Outcome:
    """Check and time a variant; whatever goes wrong with it, the others still run."""
    name = entry["variant"]
    if entry["package"] is None:
        return Outcome(name, "failed", f"not built: {entry['error']}")
    if seconds <= 0:
        return Outcome(name, "skipped", "no time was left")
    start = perf_counter()
    try:
        variant = VARIANTS[name]
        ours = load(args.folder / entry["package"])
        outcome = _checked(variant, ours, args.device, small)
        left = max(seconds - (perf_counter() - start), seconds * _READING_SHARE)
        if outcome.status == "ok" and not args.no_time:
            _time(outcome, variant, ours, args.device, small, left)
            outcome.gates = [] if small else _gates(outcome, variant.gates, ceilings)
        return outcome
    except (DiagcError, RuntimeError, KeyError) as error:
        return Outcome(name, "failed", f"{type(error).__name__}: {' '.join(str(error).split())}")


def _checked(variant: Variant, ours: Any, device: str, small: bool) -> Outcome:
    found = check(variant, ours, device, small)
    problem = found.problem
    if problem is None and device == "cuda":
        problem = graph_replays(variant, ours, small)
    return Outcome(variant.name, "wrong" if problem else "ok", problem, found)


def _time(
    outcome: Outcome, variant: Variant, ours: Any, device: str, small: bool, seconds: float
) -> None:
    sets = measure.input_sets(variant, device, small)
    calls = {OURS: ours, "eager": variant.function, **variant.peers}
    if variant.compare and device == "cuda":
        torch._dynamo.reset()
        calls["torch.compile"] = torch.compile(variant.function, dynamic=False)
    outcome.times = measure.measure(calls, sets, device, seconds)
    duration = outcome.times.milliseconds[OURS] * 1e-3
    moved = [*sets[0], *results_of(ours(*sets[0]))]
    outcome.bandwidth = sum(t.numel() * t.element_size() for t in moved) / duration
    if variant.operations is not None and not small:
        outcome.operations = variant.operations / duration


def _gates(outcome: Outcome, gates: Sequence[Gate], ceilings: Ceilings) -> list[dict[str, Any]]:
    """Each gate with what was measured; a peer that is absent misses nothing and meets nothing."""
    assert outcome.times is not None
    found: list[dict[str, Any]] = []
    for gate in gates:
        if gate.peer == "copy":
            value = (outcome.bandwidth or 0.0) / ceilings.copy_bytes_per_second
        elif gate.peer in outcome.times.ratios:
            value = outcome.times.ratios[gate.peer][0]
        else:
            continue
        found.append({**asdict(gate), "measured": value, "met": value >= gate.ratio})
    return found


# ---- showing -------------------------------------------------------------------------------------


def _line(outcome: Outcome, ceilings: Ceilings) -> str:
    text = f"{outcome.variant:30} {outcome.status:7}"
    if outcome.check is not None:
        text += f" error {outcome.check.error:.1e} (eager {outcome.check.eager_error:.1e})"
    if outcome.times is not None:
        text += f" {outcome.times.milliseconds[OURS]:9.4f} ms"
        share = (outcome.bandwidth or 0.0) / ceilings.copy_bytes_per_second
        text += f" {share:4.0%} of copy"
        if outcome.operations is not None:
            text += f" {outcome.operations / 1e12:6.1f} TFLOP/s"
        ratios = outcome.times.ratios.items()
        text += "".join(f"  {name} x{ratio[0]:.2f}" for name, ratio in ratios)
    text += "".join(f"  MISSED {g['peer']} {g['ratio']}" for g in outcome.gates if not g["met"])
    return text if outcome.why is None else f"{text}  {outcome.why}"


def _write(
    args: argparse.Namespace,
    index: Mapping[str, Any],
    ceilings: Ceilings,
    outcomes: Sequence[Outcome],
) -> None:
    cuda = args.device == "cuda"
    record = {
        "benchmark": "gpu",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "cpu",
        "capability": torch.cuda.get_device_capability() if cuda else None,
        "target": index["target"],
        "small": index["small"],
        "diagc": index["diagc"],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "ceilings": asdict(ceilings),
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    print(json.dumps(record["ceilings"]))
    if args.out is not None:
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
