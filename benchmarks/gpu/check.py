"""Check and time a folder of packages: needs torch, the run time and the folder, no compiler.

    PYTHONPATH=python:benchmarks python -m gpu.check packages --only=^table- --out result.json

Every package is compared with the float64 meaning of its function, in poisoned memory, on two sets
of random inputs; then it takes turns with eager torch, torch.compile where the variant says so, and
the back ends of `scaled_dot_product_attention` by name. All this happens in a worker process: where
a kernel crashes the GPU or never ends, that is its outcome, and another worker goes on. What there
is no time for is said.
"""

import argparse
import json
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from gpu.catalog import VARIANTS
from gpu.measure import OURS
from gpu.supervisor import Supervisor
from gpu.worker import Job

__all__ = ["main"]

_RESERVE_SECONDS = 10.0  # to end a worker and to write the result
_STATES = ("ok", "wrong", "failed", "skipped")

Outcome = Mapping[str, Any]
"""A `worker.Outcome` as it comes through JSON."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check all packages; gives 1 when one is wrong or failed, or with --gate misses a gate."""
    args = _parser().parse_args(arguments)
    index = json.loads((args.folder / "index.json").read_text(encoding="utf-8"))
    supervisor = Supervisor(args.stall_seconds, perf_counter() + args.seconds - _RESERVE_SECONDS)
    job = Job(
        str(args.folder),
        args.device,
        index["small"],
        not args.no_time,
        args.seconds,
        [entry for entry in index["built"] if re.search(args.only, entry["variant"])],
    )
    outcomes = []
    for outcome in supervisor.run(job):
        outcomes.append(outcome)
        print(_line(outcome, supervisor.ceilings), flush=True)
    _write(args, index, supervisor.ceilings, outcomes)
    print("\n".join(_gate_lines(outcomes)))
    counts = {state: sum(o["status"] == state for o in outcomes) for state in _STATES}
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    missed = [gate for outcome in outcomes for gate in outcome["gates"] if not gate["met"]]
    return 1 if counts["wrong"] or counts["failed"] or (args.gate and missed) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="check and time packages on this machine")
    parser.add_argument("folder", type=Path, help="what gpu.build has made")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--out", type=Path, help="result file, JSON")
    parser.add_argument("--seconds", type=float, default=450.0, help="for everything; default 450")
    text = "for one variant, before its worker is ended; default 120"
    parser.add_argument("--stall-seconds", type=float, default=120.0, help=text)
    parser.add_argument("--only", default="", help="variants whose name matches this expression")
    parser.add_argument("--no-time", action="store_true", help="check only")
    parser.add_argument("--gate", action="store_true", help="exit with 1 when a gate is missed")
    return parser


# ---- showing -------------------------------------------------------------------------------------


def _gate_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """What was asked and what was measured, gate by gate; gates that nothing decided, too."""
    lines = []
    for outcome in outcomes:
        found = {(gate["peer"], gate["ratio"]): gate for gate in outcome["gates"]}
        for gate in VARIANTS[outcome["variant"]].gates if outcome["variant"] in VARIANTS else ():
            known = found.get((gate.peer, gate.ratio))
            result = "not decided" if known is None else f"{known['measured']:.2f}"
            state = "" if known is None else (", met" if known["met"] else ", MISSED")
            name = outcome["variant"]
            lines.append(f"gate {name}: {gate.ratio:g} x {gate.peer}: {result}{state}")
    return lines


def _line(outcome: Outcome, ceilings: Mapping[str, float]) -> str:
    text = f"{outcome['variant']:30} {outcome['status']:7}"
    check, times = outcome["check"], outcome["times"]
    if check is not None:
        text += f" error {check['error']:.1e} (eager {check['eager_error']:.1e})"
    if times is not None:
        text += f" {times['milliseconds'][OURS]:9.4f} ms"
        text += f" {outcome['bandwidth'] / ceilings['copy_bytes_per_second']:4.0%} of copy"
        if outcome["operations"] is not None:
            text += f" {outcome['operations'] / 1e12:6.1f} TFLOP/s"
        text += "".join(f"  {name} x{ratio[0]:.2f}" for name, ratio in times["ratios"].items())
        text += "".join(f"  without {name}: {why[:60]}" for name, why in times["absent"].items())
    text += "".join(f"  MISSED {g['peer']} {g['ratio']}" for g in outcome["gates"] if not g["met"])
    return text if outcome["why"] is None else f"{text}  {outcome['why']}"


def _write(
    args: argparse.Namespace,
    index: Mapping[str, Any],
    ceilings: Mapping[str, float],
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
        "ceilings": ceilings,
        "outcomes": outcomes,
    }
    print(json.dumps(ceilings))
    if args.out is not None:
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
