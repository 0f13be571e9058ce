"""A report as plain text for people."""

from collections.abc import Iterator
from itertools import chain

from diagc.report.data import (
    EstimateReport,
    GradientReport,
    KernelReport,
    LevelReport,
    Note,
    OutsideReport,
    Report,
    StreamReport,
)

__all__ = ["render_text", "si"]


def render_text(report: Report) -> str:
    """Give the report as lines of plain text."""
    lines = chain(
        [_headline(report)],
        *(_kernel(kernel) for kernel in report.kernels),
        _outside(report.outside),
        _notes("rewrites", report.done),
        _notes("declined", report.declined),
        _times(report),
        *(_gradients(item) for item in report.gradients),
    )
    return "\n".join(lines)


def _headline(report: Report) -> str:
    text = f"{report.name} on {report.target}: {_counts(report)}"
    return text + (" (FALL BACK: not all regions are kernels)" if report.fall_back else "")


def _counts(report: Report) -> str:
    launches = sum(kernel.calls for kernel in report.kernels)
    outside = sum(item.calls for item in report.outside)
    kinds = _count(len(report.kernels), "kernel")
    return f"{kinds}, {_count(launches, 'launch', 'launches')}, {_count(outside, 'op')} outside"


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def _kernel(kernel: KernelReport) -> Iterator[str]:
    times = f" x {kernel.calls}" if kernel.calls != 1 else ""
    yield ""
    yield f"kernel {kernel.name}{times}"
    for stream in kernel.streams:
        yield from _stream(stream)
    if kernel.origins:
        yield f"  from     {'; '.join(kernel.origins)}"
    yield f"  ops      {', '.join(f'{n} {name}' for name, n in kernel.ops.items())}"
    if kernel.schedule:
        yield f"  schedule {_schedule(kernel)}"
    if kernel.flops is not None and kernel.bytes:
        intensity = kernel.flops / kernel.bytes
        yield f"  cost     {si(kernel.flops)}FLOP, {si(kernel.bytes)}B, {intensity:.1f} FLOP/B"
    if kernel.read_bytes is not None and kernel.written_bytes is not None:
        yield f"  traffic  {_traffic(kernel.read_bytes, kernel.written_bytes, kernel.flops)}"
    if kernel.estimate is not None:
        yield from _estimate(kernel.estimate, kernel.measured_seconds)
    yield from _ranking(kernel)
    yield from _forms(kernel)
    yield f"  compile  {kernel.seconds * 1e3:.1f} ms, cache {kernel.cache}"
    if kernel.fall_back:
        yield f"  FALL BACK: {kernel.fall_back}"


def _traffic(read: int, written: int, flops: int | None) -> str:
    """What is predicted of a GPU's global memory."""
    text = f"reads {si(read)}B, writes {si(written)}B of global memory"
    return text + (f", {flops / (read + written):.1f} FLOP/B" if flops and read + written else "")


def _estimate(estimate: EstimateReport, measured: float | None) -> Iterator[str]:
    """Predicted time and what bounds it; H and M of every level."""
    text = f"{si(estimate.seconds)}s on {estimate.device} at least, bound by {estimate.bound}"
    if measured is not None:
        text += f"; measured {si(measured)}s, {measured / estimate.seconds:.2f} times that"
    pipes = [f"{name} {si(seconds)}s" for name, seconds in estimate.pipes.items()]
    yield f"  model    {text}"
    if estimate.assumed:
        sizes = ", ".join(f"{label} = {size}" for label, size in estimate.assumed.items())
        yield f"           for {sizes}, open until it runs"
    yield f"           {', '.join(pipes)}; {estimate.intensity:.1f} FLOP/B of memory"
    for level in estimate.levels:
        yield f"  {level.name:8} {_level(level)}"


def _ranking(kernel: KernelReport) -> Iterator[str]:
    """Schedules that were compared, the chosen one first."""
    for number, item in enumerate(kernel.ranking):
        head = "  ranking " if number == 0 else "          "
        yield f"{head} {si(item.seconds)}s, {item.bound}: {item.text}"


def _forms(kernel: KernelReport) -> Iterator[str]:
    """Forms of the code, and when each runs."""
    for number, form in enumerate(kernel.forms):
        yield f"  {'form' if number == 0 else '':8} {form}"


def _level(level: LevelReport) -> str:
    held = "M open" if level.held is None else f"M {si(level.held)}B of {si(level.capacity)}B"
    if level.read is None or level.written is None:
        return held
    moved = f"H {si(level.read)}B out, {si(level.written)}B in, {si(level.seconds)}s"
    return f"{moved}; {held}"


def _stream(stream: StreamReport) -> Iterator[str]:
    properties = f" ({', '.join(stream.properties)})" if stream.properties else ""
    yield f"  stream   along {stream.axis}{properties}"
    for line in stream.law:
        yield f"           {line}"


def _schedule(kernel: KernelReport) -> str:
    return ", ".join(f"{key}={_value(value)}" for key, value in kernel.schedule.items())


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return " ".join(str(item) for item in value) or "-"
    return str(value)


def si(number: float) -> str:
    """1234567 as `1.23 M`, 0.0012 as `1.2 m`."""
    for unit in ("", "m", "µ"):
        if number == 0 or abs(number) >= 1 or unit == "µ":
            break
        number *= 1000
    if unit:
        return f"{number:.3g} {unit}"
    for unit in ("", "k", "M", "G", "T"):
        if abs(number) < 1000 or unit == "T":
            return f"{number:.3g} {unit}"
        number /= 1000
    raise AssertionError


def _outside(items: list[OutsideReport]) -> Iterator[str]:
    if items:
        yield ""
        yield "outside kernels"
    for item in items:
        times = f" x {item.calls}" if item.calls != 1 else ""
        places = f" ({', '.join(item.places)})" if item.places else ""
        yield f"  {item.what}{times}: {item.reason}{places}"


def _notes(title: str, notes: list[Note]) -> Iterator[str]:
    if notes:
        yield ""
        yield title
    for note in notes:
        place = f" ({note.location})" if note.location else ""
        times = f" x {note.count}" if note.count != 1 else ""
        yield f"  {note.op}{times}: {note.text}{place}"


def _times(report: Report) -> Iterator[str]:
    if report.seconds:
        yield ""
        parts = [f"{name} {seconds * 1e3:.0f} ms" for name, seconds in report.seconds.items()]
        yield "time " + ", ".join(parts)


def _gradients(item: GradientReport) -> Iterator[str]:
    names = ", ".join(item.by)
    yield ""
    if item.report is None:
        yield f"gradients by {names}: the function runs again, in eager mode: {item.reason}"
        return
    yield f"gradients by {names}: {_counts(item.report)}"
    for kernel in item.report.kernels:
        yield from _kernel(kernel)
    yield from _outside(item.report.outside)
