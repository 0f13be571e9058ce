"""Checks and times packages one after the other, in a process that a bad kernel may take along.

Started by `gpu.check`. Every line on standard output is JSON: the ceilings first, then an outcome
for each variant; an event before each says which one is next. What a kernel did to the GPU cannot
be undone in a process, so after an error of the GPU the worker ends.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from diagc.errors import DiagcError
from diagc.runtime import load
from gpu import measure
from gpu.catalog import VARIANTS
from gpu.correctness import Check, check, graph_replays, peer_error, results_of
from gpu.measure import OURS, Ceilings, Times
from gpu.peers import dry
from gpu.variants import Gate, Variant

__all__ = ["Job", "Outcome", "main"]

_READING_SHARE = 0.5  # of a variant's time, at least
_GPU_LOST = 3  # exit status
_PEER_FACTOR = 4.0
"""A peer whose error is so many times what ours may be computes something else."""


@dataclass(frozen=True)
class Job:
    """What a worker is to do.

    Args:
        folder: with the packages.
        device: "cuda" or "cpu".
        small: whether packages are for small sizes.
        timed: whether to time.
        seconds: for all entries.
        entries: of the index.
        ceilings: of an earlier worker; None to measure them.
    """

    folder: str
    device: str
    small: bool
    timed: bool
    seconds: float
    entries: list[dict[str, Any]]
    ceilings: dict[str, float] | None = None


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
        shapes: of the arguments.
        moved: bytes of arguments and results.
        flops: multiplications and additions of a call, where they are the limit.
        peer_errors: of peers that give the same, over the largest value; one that is wrong does not
            take part.
        choice: of the programs of the package, and who says so; where there are several.
    """

    variant: str
    status: str
    why: str | None = None
    check: Check | None = None
    times: Times | None = None
    bandwidth: float | None = None
    operations: float | None = None
    gates: list[dict[str, Any]] = field(default_factory=list)
    shapes: list[list[int]] = field(default_factory=list)
    moved: int | None = None
    flops: int | None = None
    peer_errors: dict[str, float] = field(default_factory=dict)
    choice: dict[str, str] | None = None


def main() -> int:
    """Do the job on standard input."""
    job = Job(**json.load(sys.stdin))
    end = perf_counter() + job.seconds
    with torch.no_grad():
        if job.ceilings is None:
            ceilings = measure.ceilings(job.device, job.small)
            _say({"ceilings": asdict(ceilings)})
        else:
            ceilings = Ceilings(**job.ceilings)
        for number, entry in enumerate(job.entries):
            _say({"next": entry["variant"]})
            seconds = (end - perf_counter()) / (len(job.entries) - number)
            _say({"outcome": asdict(_outcome(entry, job, ceilings, seconds))})
            if job.device == "cuda" and not _gpu_works():
                return _GPU_LOST
    return 0


def _say(event: Mapping[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def _gpu_works() -> bool:
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True


# ---- one variant ---------------------------------------------------------------------------------


def _outcome(entry: Mapping[str, Any], job: Job, ceilings: Ceilings, seconds: float) -> Outcome:
    """Check and time a variant; whatever goes wrong with it, the others still run."""
    name = entry["variant"]
    if entry["package"] is None:
        return Outcome(name, "failed", f"not built: {entry['error']}")
    if seconds <= 0:
        return Outcome(name, "skipped", "no time was left")
    start = perf_counter()
    try:
        variant = VARIANTS[name]
        ours = load(Path(job.folder) / entry["package"], autotune=variant.programs > 1)
        outcome = _checked(variant, ours, job.device, job.small)
        outcome.shapes = [list(s) for s in (variant.small if job.small else variant.shapes)]
        if outcome.status == "ok" and len(ours.variants) > 1:
            outcome.choice = vars(ours.choice(*variant.inputs(1, job.device, job.small)))
        left = max(seconds - (perf_counter() - start), seconds * _READING_SHARE)
        if outcome.status == "ok" and job.timed:
            _time(outcome, variant, ours, job.device, job.small, left)
            outcome.gates = [] if job.small else _gates(outcome, variant.gates, ceilings)
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
    peers: dict[str, Any] = {"eager": variant.function, **variant.peers}
    if device == "cpu":
        peers = {name: dry(name, peer) for name, peer in peers.items()}
    wrong = _wrong_peers(outcome, variant, peers, sets[0])
    calls = {OURS: ours, **{name: peer for name, peer in peers.items() if name not in wrong}}
    if variant.compare and device == "cuda":
        torch._dynamo.reset()
        calls["torch.compile"] = torch.compile(variant.function, dynamic=False)
    outcome.times = measure.measure(calls, sets, device, seconds)
    outcome.times.absent.update(wrong)
    duration = outcome.times.milliseconds[OURS] * 1e-3
    moved = [*sets[0], *results_of(ours(*sets[0]))]
    outcome.moved = sum(t.numel() * t.element_size() for t in moved)
    outcome.bandwidth = outcome.moved / duration
    if variant.operations is not None and not small:
        outcome.flops = variant.operations
        outcome.operations = variant.operations / duration


def _wrong_peers(
    outcome: Outcome, variant: Variant, peers: Mapping[str, Any], inputs: Any
) -> dict[str, str]:
    """Peers that give something else, with why; those that do not run show it when timed.

    Those named "... (softmax)" give something else by design; by eager's errors ours are judged.
    """
    assert outcome.check is not None
    wrong: dict[str, str] = {}
    equal = {n: p for n, p in peers.items() if n != "eager" and not n.endswith(")")}
    reference = variant.reference(variant.few(inputs)) if equal else []
    for name, peer in equal.items():
        try:
            error = peer_error(variant, peer, inputs, reference)
        except Exception:  # Triton's errors, and a missing compiler's, have no base in common
            continue
        outcome.peer_errors[name] = error
        if not error <= _PEER_FACTOR * outcome.check.allowed:
            wrong[name] = f"wrong: error {error:.1e}, allowed to us {outcome.check.allowed:.1e}"
    return wrong


def _gates(outcome: Outcome, gates: Sequence[Gate], ceilings: Ceilings) -> list[dict[str, Any]]:
    """Each gate with what was measured; a peer that is absent misses nothing and meets nothing.

    That holds for each of which the fastest counts: the better of one is not the better of two.
    """
    assert outcome.times is not None
    found: list[dict[str, Any]] = []
    for gate in gates:
        if gate.peer == "copy":
            value = (outcome.bandwidth or 0.0) / ceilings.copy_bytes_per_second
        elif gate.peer == "matmul":
            value = (outcome.operations or 0.0) / ceilings.bf16_operations_per_second
        elif gate.better_of:
            if not outcome.times.ratios.keys() >= set(gate.better_of):
                continue
            value = min(outcome.times.ratios[name][0] for name in gate.better_of)
        elif gate.peer in outcome.times.ratios:
            value = outcome.times.ratios[gate.peer][0]
        else:
            continue
        found.append({**asdict(gate), "measured": value, "met": value >= gate.ratio})
    return found


if __name__ == "__main__":
    sys.exit(main())
