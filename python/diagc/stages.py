"""The pipeline as one list: named stages of a diagram, and the passes that lead to each."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from diagc.errors import UserError
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.passes import find_pass, is_pass, register
from diagc.passes.base import Pass
from diagc.passes.verification import verify_module_labels
from diagc.targets import Target, get_target

__all__ = [
    "DIAG_STAGES",
    "PASS_OPTIONS",
    "Stage",
    "Step",
    "pipeline_steps",
    "pipeline_text",
    "stage_names",
]


@dataclass(frozen=True)
class Stage:
    """A level of the IR, called by what it holds, and the passes that lead to it."""

    name: str
    passes: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One pass of a pipeline: its stage, its name, and its text with options and nesting."""

    stage: str
    name: str
    text: str


DIAG_STAGES = (
    # what a front end made: normalisers are whole, every op is located in the user's source
    Stage("diag", ()),
    # with option `batch_invariant`, no later pass sees how many rows there are
    Stage("canonical", ("join-blocks", "canonicalize-diag", "open-rows")),
    # normalisers become maps and reductions in their safe forms, and what is joined to a row as
    # one more element leaves it
    Stage("expanded", ("expand-normalizers", "split-pads", "canonicalize-diag")),
    # exponentials stay in range however they are written, logs of sums become factors
    Stage("balanced", ("balance-exponentials", "canonicalize-diag")),
    # divisions leave contractions: they join the tail, where they are cheap
    # and scales of f8 numbers leave operands, so that these are arrays
    Stage("fused", ("fuse-normalization", "factor-scales", "canonicalize-diag")),
    # only where gradients are asked for (option `wrt`): the results give way to them; first chains
    # get their cheap order, for derivatives of a short chain are short chains. With option `saves`
    # the function gives statistics for its gradients, which take them
    Stage(
        "differentiated",
        (
            *("reassociate-contractions", "save-statistics", "differentiate"),
            *("factor-scales", "canonicalize-diag"),
        ),
    ),
    # before streams are derived: a chain that is cheap another way round needs none
    Stage("reassociated", ("reassociate-contractions", "canonicalize-diag")),
    # scales leave streams once it is known which operand does not stream
    # and deep products leave streams for the library, once they are where they will stay
    # products that are left become streams of tiles, where the target has a use for these,
    # or products of narrower words
    Stage(
        "streams",
        (
            *("derive-streams", "slide-scales", "block-streams", "stream-products"),
            *("canonicalize-diag", "round-operands", "split-words"),
        ),
    ),
    # kernels are private functions; a schedule decorates a formed kernel
    Stage("kernels", ("form-kernels",)),
    Stage("schedules", ("select-schedule",)),
    # last: equal kernels are told by their text, so nothing may change it any more
    Stage("general", ("generalize-kernels",)),
)


@register
@dataclass(frozen=True)
class VerifyLabelsPass(Pass):
    """check that every label has one size in each function."""

    name: ClassVar[str] = "verify-labels"
    anchor: ClassVar[str] = "builtin.module"

    def run(self, op: ir.Operation) -> None:
        """Check all functions; the module is not changed."""
        verify_module_labels(op.opview)


def stage_names() -> tuple[str, ...]:
    """Names of the stages that every target goes through, in order."""
    return tuple(stage.name for stage in DIAG_STAGES)


def pipeline_text(
    options: CompileOptions, last: str = DIAG_STAGES[-1].name, after: str | None = None
) -> str:
    """The text of the pipeline up to a stage, as `diagc opt --pass-pipeline` takes it.

    It begins behind the stage `after`, or at the start.

    Raises:
        UserError: no such stage.
    """
    return f"builtin.module({','.join(step.text for step in pipeline_steps(options, last, after))})"


def pipeline_steps(
    options: CompileOptions, last: str = DIAG_STAGES[-1].name, after: str | None = None
) -> list[Step]:
    """The passes up to a stage, behind another, each of which is a pipeline of its own.

    Raises:
        UserError: no such stage.
    """
    if last not in stage_names():
        raise UserError("no such stage", expected=", ".join(stage_names()), found=last)
    wanted = {name: getattr(options, name) for name in PASS_OPTIONS}
    target = get_target(options.target)
    wanted.update({"device": _schedule_device(target, options), **target.pass_options()})
    wanted["wide_squares"] = bool(options.wrt) or options.saves
    if options.batch_invariant:
        wanted["emits"] = 0  # which depends on the number of heads
    steps: list[Step] = []
    begin = 0 if after is None else stage_names().index(after) + 1
    for stage in DIAG_STAGES[begin:]:
        passes = _passes(stage, options)
        steps += [Step(stage.name, name, _nested(name, wanted)) for name in passes]
        if options.validate and passes:
            steps.append(Step(stage.name, VerifyLabelsPass.name, VerifyLabelsPass.name))
        if stage.name == last:
            break
    return steps


def _schedule_device(target: Target, options: CompileOptions) -> str:
    """The device that schedules are chosen for, if another than a usual one is known."""
    if target.kind == "gpu":
        return options.device or target.describe().name
    from diagc.cost.device_catalog import THIS_CPU, measured_device

    return options.device or (THIS_CPU if measured_device() else "")


def _nested(name: str, options: Mapping[str, Any]) -> str:
    """A pass with those options that it has, nested under the op that it runs on."""
    if not is_pass(name):
        return name
    pass_class = find_pass(name)
    names = {field.name for field in fields(pass_class)} & options.keys()
    text = str(pass_class(**{name: options[name] for name in names}))
    return text if pass_class.anchor == "builtin.module" else f"{pass_class.anchor}({text})"


PASS_OPTIONS = (
    *("reassociate", "library", "empty_rows", "wrt", "float8_matmul_precision"),
    "batch_invariant",
)
"""Compile options that are options of passes too, under the same names."""


def _passes(stage: Stage, options: CompileOptions) -> list[str]:
    """The passes of a stage but those that nobody asks for."""
    unwanted = {"open-rows"} if not options.batch_invariant else set()
    if not options.saves:
        unwanted.add("save-statistics")
    if not options.wrt:
        unwanted.add("differentiate")
    if stage.name == _DIFFERENTIATED and {"save-statistics", "differentiate"} <= unwanted:
        return []
    return [name for name in stage.passes if name not in unwanted]


_DIFFERENTIATED = "differentiated"
"""The stage of what only gradients need."""
