"""What the passes did to a program, one after the other, in pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from diagc.context import make_context
from diagc.dialects import diag
from diagc.drawings import draw_module
from diagc.explain_page.schedule_table import KernelSchedule, schedules_of
from diagc.mlir import ir
from diagc.options import CompileOptions, use
from diagc.passes.pipeline import Pipeline
from diagc.passes.remarks import DONE
from diagc.report import Note, StreamReport
from diagc.report.collect import notes_of, stream_report
from diagc.stages import Step, pipeline_steps
from diagc.targets import get_target
from diagc.viz import Drawing
from diagc.viz.scene import Box, Shape

__all__ = ["Rewrite", "Story", "tell"]

_TIDY = ("canonicalize-diag", "verify-labels")
_LAST = "schedules"  # behind it names of axes are no longer the user's


@dataclass(frozen=True)
class Rewrite:
    """One pass that changed the diagram.

    Args:
        name: of the pass.
        before: the diagram before it.
        after: and behind it, tidied up.
        notes: what the pass says it did.
        streams: those that it derived, with their laws.
    """

    name: str
    before: Drawing
    after: Drawing
    notes: Sequence[Note]
    streams: Sequence[StreamReport]


@dataclass(frozen=True)
class Story:
    """A program from what was written to kernels; `idle` are passes that changed nothing."""

    first: Drawing
    rewrites: Sequence[Rewrite]
    idle: Sequence[str]
    schedules: Sequence[KernelSchedule]


def tell(source: str, options: CompileOptions, name: str) -> Story:
    """Run the pipeline pass by pass and draw what each one changes.

    Args:
        source: text of the diag module that the front end made.
        options: of the compiler.
        name: of the program, for headings.
    """
    options = replace(options, target=get_target(options.target).spec)
    rewrites: list[Rewrite] = []
    idle: list[str] = []
    with make_context(), use(options), ir.Location.unknown():
        module = ir.Module.parse(source)
        first = before = draw_module(module, name)
        for steps in _groups(pipeline_steps(options, _LAST)):
            known, streams = notes_of(module, DONE), _streams(module)
            untouched = _run(steps[:1], module, options)
            _run(steps[1:], module, options)
            after = draw_module(module, f"{name}, after {steps[0].name}")
            if steps[0].name in _TIDY:
                pass  # nothing that anybody would miss
            elif untouched or _look(after) == _look(before):
                idle.append(steps[0].name)
            else:
                notes = [note for note in notes_of(module, DONE) if note not in known]
                new = [stream for stream in _streams(module) if stream not in streams]
                rewrites.append(Rewrite(steps[0].name, before, after, notes, new))
            before = after
        return Story(first, rewrites, idle, schedules_of(module))


def _run(steps: Sequence[Step], module: ir.Module, options: CompileOptions) -> bool:
    """Run some passes; whether they left the module as it is."""
    before = str(module.operation)
    if steps:
        Pipeline(f"builtin.module({','.join(s.text for s in steps)})", options).run(module)
    return str(module.operation) == before


def _look(drawing: Drawing) -> list[Shape]:
    """What is to be seen of a drawing but its heading: names of values in titles do not count."""
    shapes = [shape for shape in drawing.scene.shapes if shape.style != "heading"]
    return [replace(shape, title="") if isinstance(shape, Box) else shape for shape in shapes]


def _groups(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Each pass with the tidying that follows it."""
    group: list[Step] = []
    for step in steps:
        if group and step.name not in _TIDY:
            yield group
            group = []
        group.append(step)
    if group:
        yield group


def _streams(module: ir.Module) -> list[StreamReport]:
    ops = (op for function in diag.functions(module) for op in _ops(function))
    return [stream_report(op) for op in ops if op.name == "diag.stream"]


def _ops(function: ir.Operation) -> Iterator[ir.Operation]:
    return diag.walk_ops(function.regions[0])
