"""Draws programs as they are at any point of the pipeline."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from diagc.compiler import find_entry
from diagc.context import make_context
from diagc.errors import UserError
from diagc.files import as_path
from diagc.mlir import ir
from diagc.options import CompileOptions, use
from diagc.passes.pipeline import Pipeline
from diagc.stages import Step, pipeline_steps, stage_names
from diagc.targets import get_target
from diagc.viz import Drawing, check_suffix, draw_function

__all__ = ["draw", "draw_module", "steps_until"]


def draw(
    source: str,
    name: str,
    options: CompileOptions,
    after: str | None = None,
    before: str | None = None,
    *,
    width: float | None = None,
    path: str | Path | None = None,
) -> Drawing:
    """Draw a program.

    Args:
        source: text of the diag module that a front end made, with one public function.
        name: of the program, for the heading.
        options: of the compiler.
        after: a pass (its first run) or stage, behind which the program is drawn.
        before: likewise, before it. Without both: as the front end made it.
        width: in px, at which the diagram wraps.
        path: a file to write, too.

    Raises:
        UserError: no such pass or stage, a width that is none, an unknown suffix, or the file
            cannot be written.
    """
    if path is not None:
        check_suffix(as_path(path, "a drawing"))  # before anything that takes long
    options = replace(options, target=get_target(options.target).spec)
    steps = steps_until(options, after, before)
    with make_context(), use(options), ir.Location.unknown():
        module = ir.Module.parse(source)
        Pipeline(f"builtin.module({','.join(step.text for step in steps)})").run(module)
        point = f", after {after}" if after else f", before {before}" if before else ""
        drawing = draw_module(module, f"{name}{point}", width)
    if path is not None:
        drawing.save(path)
    return drawing


def draw_module(module: ir.Module, title: str, width: float | None = None) -> Drawing:
    """Draw the one public function of a module, at any stage.

    Raises:
        UserError: a width that is none, or no such function.
    """
    if width is None:
        return draw_function(module, find_entry(module), title=title)
    if not width > 0:
        raise UserError("no width for a drawing", expected="px, more than 0", found=f"{width:g}")
    return draw_function(module, find_entry(module), width, title)


def steps_until(options: CompileOptions, after: str | None, before: str | None) -> Sequence[Step]:
    """The passes that lead to a point of the pipeline.

    Args:
        options: of the compiler.
        after: a pass (its first run) or stage that is the last of them.
        before: a pass or stage that does not run any more.

    Raises:
        UserError: both, or no such pass or stage.
    """
    if after and before:
        found = f"{after} and {before}"
        raise UserError("a drawing is of one point", expected="after or before", found=found)
    name = after or before
    if not name:
        return []
    steps = pipeline_steps(options)
    if name not in {*stage_names(), *(step.name for step in steps)}:
        passes = ", ".join(dict.fromkeys(step.name for step in steps))
        expected = f"a pass ({passes}) or a stage ({', '.join(stage_names())})"
        raise UserError("no such pass or stage", expected=expected, found=f"'{name}'")
    places = [n for n, step in enumerate(steps) if name in (step.name, step.stage)]
    if not places:  # a stage without passes: it is what the stages before have made
        order = stage_names()
        return [step for step in steps if order.index(step.stage) < order.index(name)]
    last = places[-1] if name in stage_names() else places[0]
    return steps[: last + 1] if after else steps[: places[0]]
