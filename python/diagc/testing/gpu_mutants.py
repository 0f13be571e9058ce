"""Mutants of a GPU kernel: does the simulator see each missing wait, barrier, swizzle and bound?

A mutant changes one instruction of the kernel's LLVM IR. It is *caught* when the simulator reports
something, when results are wrong, or (swizzles and bounds, which may change speed only) when bank
conflicts appear or global traffic is more than 2 % from what it was, and so from what the compiler
predicts. A mutant that no thread can tell from the original on these inputs is *equivalent*: the
changed instruction never gives another value.

All mutants that change a value are compiled together: both values are computed, and the special
register `envreg0` chooses one. While it is `PROBE` the kernel runs as it is, and a division by zero
is reported wherever the two values differ; a mutant runs only on inputs where they do.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diagc.simulator import Report
from diagc.simulator.findings import Finding

__all__ = ["FINDING_LIMIT", "Mutant", "Outcome", "Verdict", "find_mutants", "hunt", "table"]

_SYNC = re.compile(
    r"^\s*(?:%[\w.]+ = )?(?:tail )?call (?:void|i64) @llvm\.nvvm\.(?P<op>barrier[\w.]*"
    r"|bar\.warp\.sync|membar[\w.]*|fence[\w.]*|cp\.async\.(?:bulk\.)?(?:wait|commit)[\w.]*"
    r"|mbarrier[\w.]*|wgmma\.(?:fence|commit)[\w.]*)\((?P<args>.*?)\)"
)
_SPIN = re.compile(r'^\s*(?:tail )?call void asm sideeffect "[^"]*(?P<op>mbarrier\.try_wait)')
_PENDING = re.compile(r"(wgmma\.wait_group\.sync\.aligned )(\d+);")
_WAIT = re.compile(r"(cp\.async\.wait\.group\(i32 )(\d+)\)")
_VALUE = re.compile(r"^\s*(?P<name>%[\w.]+) = (?P<rest>.*)$")
_XOR = re.compile(r"^(?P<head>\s*%[\w.]+ = )xor (?P<type>i32|i64) (?P<left>%[\w.]+), (?P<rest>.*)$")
_COMPARE = re.compile(r"^\s*%[\w.]+ = icmp (?P<predicate>[us][lg][te]) i\d+ ")
_CLAMP = re.compile(
    r"^(?P<head>\s*%[\w.]+ = )(?:tail )?call (?P<type>i\d+) @llvm\."
    r"[us](?:min|max)\.i\d+\(i\d+ (?P<left>[%\w.-]+), i\d+ (?P<right>[%\w.-]+)\)"
)
_OFF_BY_ONE = {
    **{"ult": "ule", "ule": "ult", "ugt": "uge", "uge": "ugt"},
    **{"slt": "sle", "sle": "slt", "sgt": "sge", "sge": "sgt"},
}

SYNC, SWIZZLE, BOUND = "sync", "swizzle", "bound"
TRAFFIC = 0.02  # the accuracy of predicted traffic

FINDING_LIMIT = 1024
"""How many findings runs keep; more than a kernel has mutants, each of which may be one."""

PROBE = -1
_NUMBER = "call i32 @llvm.nvvm.read.ptx.sreg.envreg0()"


@dataclass(frozen=True)
class Mutant:
    """One change.

    Args:
        area: `SYNC`, `SWIZZLE` or `BOUND`.
        op: what was changed.
        change: how.
        line: number in the text, from 1.
        new: what stands in the place of that line.
        type: of the value that the line defines; empty where it defines none.
    """

    area: str
    op: str
    change: str
    line: int
    new: str
    type: str = ""

    @property
    def pattern(self) -> str:
        """The operation without the names of values, and the change."""
        op = re.sub(r"%[\w.]+", "%", self.op.split(" = ")[-1])
        return f"{op}: {self.change}"


@dataclass(frozen=True)
class Outcome:
    """What a run gave."""

    results: Sequence[np.ndarray[Any, Any]]
    report: Report


Runner = Callable[[str, int], Outcome]
"""Simulates a text, with a number in the register `envreg0`, and keeps `FINDING_LIMIT` findings."""


@dataclass(frozen=True)
class Verdict:
    """How a mutant fared.

    Args:
        mutant: the change.
        by: kinds of findings, "wrong numbers", "bank conflicts", "traffic"; empty for a survivor.
        named: whether a finding shows the place: two instructions that the changed one lies
            between, or itself; for numbers and conflicts there is nothing to show.
        equivalent: whether the probe says that it makes no difference on these inputs.
        reached: whether a thread comes there on these inputs at all.
    """

    mutant: Mutant
    by: tuple[str, ...]
    named: bool
    equivalent: bool = False
    reached: bool = True

    @property
    def caught(self) -> bool:
        """Whether anything was seen."""
        return bool(self.by)

    @property
    def survives(self) -> bool:
        """Whether nothing was seen, though it might have been."""
        return self.reached and not self.caught and not self.equivalent


def find_mutants(text: str) -> Iterator[Mutant]:
    """All mutants of a kernel's LLVM IR; at most one of those that change a value in each line."""
    for number, line in enumerate(text.split("\n"), 1):
        for area, op, change, new, kind in _changes(line):
            yield Mutant(area, op, change, number, new, kind)


def _changes(line: str) -> Iterator[tuple[str, str, str, str, str]]:
    """Area, operation, what is done, the new line, and the type of its value."""
    sync = _SYNC.match(line)
    if sync is not None:
        yield SYNC, f"{sync['op']}({sync['args']})", "deleted", "", ""
        wait = _WAIT.search(line)
        if wait is not None:
            more = int(wait[2]) + 1
            weak = _WAIT.sub(rf"\g<1>{more})", line)
            yield SYNC, f"{sync['op']}({sync['args']})", f"waits for all but {more}", weak, ""
    spin = _SPIN.match(line)
    if spin is not None:
        yield SYNC, spin["op"], "deleted", "", ""
    pending = _PENDING.search(line)
    if pending is not None:
        more = int(pending[2]) + 1
        weak = _PENDING.sub(rf"\g<1>{more};", line)
        yield SYNC, pending[0], f"waits for all but {more}", weak, ""
    mixed = _XOR.match(line)
    if mixed is not None and not mixed["rest"].startswith("-1"):
        plain = f"{mixed['head']}add {mixed['type']} {mixed['left']}, 0"
        yield SWIZZLE, line.strip(), "left out", plain, mixed["type"]
    compare = _COMPARE.match(line)
    if compare is not None:
        predicate = _OFF_BY_ONE[compare["predicate"]]
        new = line.replace(f"icmp {compare['predicate']}", f"icmp {predicate}", 1)
        yield BOUND, line.strip(), predicate, new, "i1"
    clamp = _CLAMP.match(line)
    if clamp is not None:
        kept = clamp["left" if clamp["left"].startswith("%") else "right"]
        plain = f"{clamp['head']}add {clamp['type']} {kept}, 0"
        yield BOUND, line.strip(), "left out", plain, clamp["type"]


@dataclass(frozen=True)
class _Schema:
    """A text with mutants that change a value, of which the one runs whose line is `envreg0`.

    Args:
        text: LLVM IR.
        origin: by line of it, from 0, the kernel's line that it belongs to.
    """

    text: str
    origin: Sequence[int]


def _schema(text: str, mutants: Sequence[Mutant]) -> _Schema:
    changed = {mutant.line: mutant for mutant in mutants if mutant.type}
    lines: list[str] = []
    origin = [0]
    begins = False  # a function, whose first instruction is still to come
    for number, line in enumerate(text.split("\n"), 1):
        if begins and line.startswith(" "):
            lines += [f"  %mutant = {_NUMBER}", f"  %mutant.off = icmp ne i32 %mutant, {PROBE}"]
            begins = False
        begins = begins or line.startswith("define ")
        lines += _choice(line, changed[number]) if number in changed else [line]
        origin += [number] * (len(lines) + 1 - len(origin))
    return _Schema("\n".join(lines), origin)


def _choice(line: str, mutant: Mutant) -> list[str]:
    """Both values, a division by zero where they differ while probing, and the chosen one."""
    old, new = _VALUE.match(line), _VALUE.match(mutant.new)
    assert old is not None
    assert new is not None
    name, kind = f"%mutant.{mutant.line}", mutant.type
    return [
        f"  {name}.old = {old['rest']}",
        f"  {name}.new = {new['rest']}",
        f"  {name}.same = icmp eq {kind} {name}.old, {name}.new",
        f"  {name}.quiet = or i1 {name}.same, %mutant.off",
        f"  {name}.divisor = zext i1 {name}.quiet to i32",
        f"  {name}.quotient = udiv i32 1, {name}.divisor",
        f"  {name}.on = icmp eq i32 %mutant, {mutant.line}",
        f"  {old['name']} = select i1 {name}.on, {kind} {name}.new, {kind} {name}.old",
    ]


def _replaced(text: str, mutant: Mutant) -> str:
    lines = text.split("\n")
    lines[mutant.line - 1] = mutant.new
    return "\n".join(lines)


def hunt(
    text: str,
    runs: Sequence[Runner],
    *,
    tolerance: float = 0.0,
    areas: Sequence[str] = (SYNC, SWIZZLE, BOUND),
    sample: tuple[int, int] | None = None,
) -> list[Verdict]:
    """Judge every mutant of a kernel.

    Args:
        text: LLVM IR of a kernel on which the simulator finds nothing.
        runs: each on inputs of its own; a mutant is caught if one of them sees it.
        tolerance: largest difference of results that still counts as equal.
        areas: which mutants.
        sample: a seed and how many mutants are drawn; None for all.

    Raises:
        AssertionError: the kernel as it is has findings.
    """
    mutants = [mutant for mutant in find_mutants(text) if mutant.area in areas]
    if sample is not None and sample[1] < len(mutants):
        mutants = random.Random(sample[0]).sample(mutants, sample[1])
    schema = _schema(text, mutants)
    trials = [_Trial(text, schema, run, tolerance) for run in runs]
    return [_judge(mutant, trials) for mutant in mutants]


class _Trial:
    """One run of the kernel as it is, which mutants are compared with."""

    def __init__(self, text: str, schema: _Schema, run: Runner, tolerance: float) -> None:
        self.text, self.schema, self.run, self.tolerance = text, schema, run, tolerance
        self.clean = run(text, 0)
        assert self.clean.report.clean, str(self.clean.report)
        self.reached = _reached_lines(text, self.clean.report)
        self.different = self._lines_that_differ()

    def _lines_that_differ(self) -> set[int]:
        """Lines of mutants that would give another value; nothing else is seen of the schema."""
        probed = self.run(self.schema.text, PROBE)
        findings = probed.report.findings
        assert len(findings) < FINDING_LIMIT
        assert all(finding.kind == "division-by-zero" for finding in findings)
        assert not self._complaints(replace(probed, report=replace(probed.report, findings=())))
        return {self.schema.origin[finding.site.line] for finding in findings if finding.site}

    def reaches(self, mutant: Mutant) -> bool:
        """Whether a thread comes to the change."""
        return mutant.line in self.reached

    def may_tell(self, mutant: Mutant) -> bool:
        """Whether the change can make a difference in this run."""
        return self.reaches(mutant) and (not mutant.type or mutant.line in self.different)

    def judge(self, mutant: Mutant) -> Verdict:
        if mutant.type:
            outcome, origin = self.run(self.schema.text, mutant.line), self.schema.origin
        else:
            outcome, origin = self.run(_replaced(self.text, mutant), 0), None
        named = any(_names(finding, mutant, origin) for finding in outcome.report.findings)
        return Verdict(mutant, tuple(self._complaints(outcome)), named)

    def _complaints(self, outcome: Outcome) -> Sequence[str]:
        """What tells a run from that of the kernel as it is."""
        if outcome.report.findings:
            return sorted({finding.kind for finding in outcome.report.findings})
        if _differs(outcome.results, self.clean.results, self.tolerance):
            return ["wrong numbers"]
        before, after = (o.report.counters.bank_conflicts for o in (self.clean, outcome))
        if after > before:
            return ["bank conflicts"]
        return ["traffic"] if _moves_more(outcome.report, self.clean.report) else []


def _judge(mutant: Mutant, trials: Sequence[_Trial]) -> Verdict:
    telling = [trial for trial in trials if trial.may_tell(mutant)]
    for trial in telling:
        verdict = trial.judge(mutant)
        if verdict.caught:
            return verdict
    reached = any(trial.reaches(mutant) for trial in trials)
    return Verdict(mutant, (), named=False, equivalent=reached and not telling, reached=reached)


def _moves_more(report: Report, clean: Report) -> bool:
    before, after = clean.counters, report.counters
    pairs = (
        (before.global_read_bytes, after.global_read_bytes),
        (before.global_write_bytes, after.global_write_bytes),
    )
    return any(abs(new - old) > TRAFFIC * old for old, new in pairs)


_BLOCK_END = re.compile(r"^\s+(?:br|ret|switch|unreachable)\b")


def _reached_lines(text: str, report: Report) -> set[int]:
    """Lines of all basic blocks that were entered; a block's line is its first after phis."""
    lines, reached = text.split("\n"), set()
    for first in report.reached:
        for number in range(first, len(lines) + 1):
            reached.add(number)
            if _BLOCK_END.match(lines[number - 1]):
                break
    return reached


def _names(finding: Finding, mutant: Mutant, origin: Sequence[int] | None) -> bool:
    """Whether a finding shows the changed place: the two instructions stand around it.

    Loops make the order cyclic: when the second stands before the first, the changed one lies
    outside of the two. A finding with one instruction shows it when that comes after the change.
    """
    if finding.site is None:
        return False
    sites = [site.line for site in (finding.site, finding.other) if site is not None]
    site, *others = sites if origin is None else [origin[line] for line in sites]
    line = mutant.line
    if site == line:
        return True
    if not others:
        return site > line
    first = others[0]
    return first <= line <= site if first < site else line <= site or line >= first


def _differs(
    a: Sequence[np.ndarray[Any, Any]], b: Sequence[np.ndarray[Any, Any]], tolerance: float
) -> bool:
    return any(
        not np.allclose(x.astype(np.float64), y.astype(np.float64), rtol=0, atol=tolerance)
        for x, y in zip(a, b, strict=True)
    )


def table(
    verdicts: Sequence[Verdict], explain: Callable[[Mutant], str | None] | None = None
) -> str:
    """Counts by area, then every survivor.

    Args:
        verdicts: of a kernel's mutants.
        explain: gives the reason why a survivor does no harm, None where there is none.
    """
    why = {id(v): explain(v.mutant) for v in verdicts} if explain is not None else {}
    head = ("mutants", "caught", "named", "equal", "unreached", "harmless", "survivors")
    lines = [f"{'area':8}" + "".join(f" {word:>9}" for word in head)]
    for area in (SYNC, SWIZZLE, BOUND):
        some = [verdict for verdict in verdicts if verdict.mutant.area == area]
        if some:
            numbers = _counts(some, why)
            lines.append(f"{area:8}" + "".join(f" {number:9}" for number in numbers))
    found = Counter(
        f"{v.mutant.pattern}: {why.get(id(v)) or 'SURVIVED'}" for v in verdicts if v.survives
    )
    lines += [f"  {count} x {text}" for text, count in found.items()]
    return "\n".join(lines)


def _counts(verdicts: Sequence[Verdict], why: Mapping[int, str | None]) -> tuple[int, ...]:
    left = [v for v in verdicts if v.survives]
    harmless = sum(why.get(id(v)) is not None for v in left)
    return (
        len(verdicts),
        sum(v.caught for v in verdicts),
        sum(v.named for v in verdicts),
        sum(v.equivalent for v in verdicts),
        sum(not v.reached for v in verdicts),
        harmless,
        len(left) - harmless,
    )
