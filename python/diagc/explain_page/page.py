"""The page: a template filled with the report, the story and the drawings."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import count
from typing import Any

from jinja2 import Environment, StrictUndefined

from diagc import __version__
from diagc.explain_page.rewrites import tell
from diagc.explain_page.schedule_table import KernelSchedule
from diagc.explain_page.stories import PROPERTIES, story_of
from diagc.files import relative_to_here
from diagc.options import CompileOptions
from diagc.report import KernelReport, LevelReport, Report
from diagc.report.text import si
from diagc.viz import Drawing
from diagc.viz.svg import figure, style_sheet

__all__ = ["make_page"]


def make_page(report: Report, source: str, options: CompileOptions) -> str:
    """The page as HTML text; arguments as for `diagc.explain_page.explain`."""
    story = tell(source, options, report.name)
    figures = _Figures()
    return _template().render(
        version=__version__,
        style_sheet=style_sheet(),
        report=report,
        launches=sum(kernel.calls for kernel in report.kernels),
        outside=sum(item.calls for item in report.outside),
        first=figures.show(story.first),
        rewrites=[
            {
                "name": rewrite.name,
                "story": story_of(rewrite.name),
                "before": figures.show(rewrite.before),
                "after": figures.show(rewrite.after),
                "notes": rewrite.notes,
                "streams": rewrite.streams,
            }
            for rewrite in story.rewrites
        ],
        idle=[(name, story_of(name).heading) for name in story.idle],
        schedules=_with_compiled_names(story.schedules, report),
        costs=[_cost_row(kernel) for kernel in report.kernels],
        device=next((k.estimate.device for k in report.kernels if k.estimate), None),
        properties=PROPERTIES,
    )


@cache
def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["here"] = relative_to_here
    text = files("diagc.explain_page").joinpath("page.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(text)


def _with_compiled_names(
    schedules: Sequence[KernelSchedule], report: Report
) -> list[dict[str, Any]]:
    """Schedules with the names that the kernels have in the end, unless equal ones were merged."""
    same = len(schedules) == len(report.kernels)
    names = [kernel.name for kernel in report.kernels] if same else [s.name for s in schedules]
    pairs = zip(schedules, names, strict=True)
    return [
        {"name": s.name, "axes": s.axes, "compiled_as": name, "resident": _si_bytes(s.resident)}
        for s, name in pairs
    ]


def _si_bytes(number: int | None) -> str:
    return "" if number is None else f"{si(number)}B"


class _Figures:
    """Drawings as elements of the page; one that was shown before is referred to."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._numbers = count(1)

    def show(self, drawing: Drawing) -> str:
        known = self._names.get(id(drawing))
        if known is None:
            self._names[id(drawing)] = name = f"drawing{next(self._numbers)}"
            return figure(drawing.scene, name)
        return figure(drawing.scene, known, again=True)


def _cost_row(kernel: KernelReport) -> dict[str, Any]:
    """What the cost model says about a kernel at the sizes of its first call."""
    row: dict[str, Any] = {"kernel": kernel, "known": False}
    if kernel.estimate is None:
        return row
    estimate, memory = kernel.estimate, kernel.estimate.levels[-1]
    pipes = [f"{_PIPES[name]} {si(seconds)}s" for name, seconds in estimate.pipes.items()]
    row |= {"known": True, "flops": "" if kernel.flops is None else f"{si(kernel.flops)}FLOP"}
    row["bytes"] = f"{si((memory.read or 0) + (memory.written or 0))}B"
    row["intensity"] = f"{estimate.intensity:.1f}"
    row["bound"] = _bound(kernel)
    row["seconds"] = f"{si(estimate.seconds)}s"
    row["pipes"] = ", ".join(pipes)
    row["levels"] = [_level_row(level) for level in estimate.levels]
    row["assumed"] = ", ".join(f"{label} = {size}" for label, size in estimate.assumed.items())
    measured = kernel.measured_seconds
    row["measured"] = "" if measured is None else f"{si(measured)}s"
    row["ratio"] = "" if measured is None else f"{measured / estimate.seconds:.2f}"
    row["ranking"] = [
        {"text": item.text, "seconds": f"{si(item.seconds)}s", "bound": _resource(item.bound)}
        for item in kernel.ranking
    ]
    return row


_PIPES = {
    "tensor": "tensor cores",
    "fma": "arithmetic",
    "special": "exponentials",
    "latency": "waits for memory",
    "turns": "too few warps",
}


def _bound(kernel: KernelReport) -> str:
    assert kernel.estimate is not None
    return _resource(kernel.estimate.bound)


def _resource(bound: str) -> str:
    names = {**_PIPES, "memory": "main memory", "launch": "its start"}
    return names.get(bound, f"the level {bound}")


def _level_row(level: LevelReport) -> dict[str, str]:
    known = level.read is not None and level.written is not None
    return {
        "name": level.name,
        "read": f"{si(level.read)}B" if level.read is not None else "",
        "written": f"{si(level.written)}B" if level.written is not None else "",
        "seconds": f"{si(level.seconds)}s" if known else "",
        "held": _si_bytes(level.held),
        "capacity": _si_bytes(level.capacity),
        "fits": "" if level.held is None or level.held <= level.capacity else "more than it has",
    }
