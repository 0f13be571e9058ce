"""What must hold of every diagram: passes keep its meaning, and compiled code has that meaning.

Each property is a function from a diagram and a seed to a complaint, or None when it holds; the
property suite and the search for mutants both run them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diagc.compiler import compile_module
from diagc.context import make_context
from diagc.dialects import diag
from diagc.errors import DiagcError
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.passes import PASSES, find_pass
from diagc.passes.instrumentation import print_op
from diagc.passes.pipeline import Pipeline
from diagc.stages import pipeline_text
from diagc.targets import interp
from diagc.testing.oracle import ELEVEN_DIGITS, Expectation, expect
from diagc.testing.random_diagrams import Diagram

if TYPE_CHECKING:
    from diagc.runtime.program import Program

__all__ = [
    "STREAM_MODES",
    "passes_keep_meaning",
    "pipeline_keeps_meaning",
    "program_gives_meaning",
    "target_gives_meaning",
]

STREAM_MODES: Sequence[Mapping[str, Any]] = ({}, {"chunk": 3}, {"chunk": 7, "tree": True})
"""Ways to evaluate streams: as they say, in short chunks, and as a tree."""


_OTHER_RESULTS = ("save-statistics", "differentiate")
"""Passes that make functions with other results."""


def passes_keep_meaning(diagram: Diagram, seed: int) -> str | None:
    """Each pass alone leaves the diagram as it was, up to the order of float64 arithmetic."""
    inputs = diagram.inputs(seed)
    with make_context(), ir.Location.unknown():
        expected = expect(diagram.parse(), inputs, ELEVEN_DIGITS)
        for name in PASSES:
            if name in _OTHER_RESULTS:
                continue
            module = diagram.parse()
            before = print_op(module.operation)
            complaint = _run(module, _alone(name))
            if complaint is None and print_op(module.operation) != before:
                complaint = _compare(module, inputs, expected)
            if complaint is not None:
                return f"{name} alone: {complaint}"
    return None


def _alone(name: str) -> str:
    anchor = find_pass(name).anchor
    return f"builtin.module({name if anchor == 'builtin.module' else f'{anchor}({name})'})"


def pipeline_keeps_meaning(
    diagram: Diagram,
    seed: int,
    options: CompileOptions | None = None,
    seen: Counter[str] | None = None,
) -> str | None:
    """Every pass of the whole pipeline, after those before it, leaves the diagram as it was.

    The stages run on one module, and the first that changes the meaning is named. What the last
    stage holds is counted in `seen`: `derived stream`, `kernel`, `library contraction`.
    """
    options = options or CompileOptions()
    inputs = diagram.inputs(seed)
    with make_context(), ir.Location.unknown():
        expected = expect(diagram.parse(), inputs, ELEVEN_DIGITS)
        module = diagram.parse()
        text = print_op(module.operation)
        for step in _steps(pipeline_text(options)):
            complaint = _run(module, f"builtin.module({step})", options)
            before, text = text, print_op(module.operation)
            if complaint is None and text != before:
                complaint = _compare(module, inputs, expected)
            if complaint is not None:
                return f"{step}: {complaint}"
        if seen is not None:
            seen.update(_products(module))
    return None


def _products(module: ir.Module) -> Iterator[str]:
    """What the compiler made of a diagram."""
    for function in diag.functions(module):
        if diag.is_kernel(function):
            yield "made kernel"
        for op in diag.walk_ops(function.regions[0]):
            if op.name == "diag.stream":
                yield f"made stream of {len(diag.strings(op.attributes['law']))} states"
            elif op.name == "diag.contract" and not diag.is_kernel(function):
                yield "made library contraction"


def _steps(pipeline: str) -> Iterator[str]:
    """The passes of `builtin.module(a,func.func(b{c=1}),d)`, one by one."""
    depth, start = 0, len("builtin.module(")
    text = pipeline[start:-1]
    start = 0
    for position, sign in enumerate(text):
        depth += (sign in "({") - (sign in ")}")
        if sign == "," and depth == 0:
            yield text[start:position]
            start = position + 1
    yield text[start:]


def _run(module: ir.Module, pipeline: str, options: CompileOptions | None = None) -> str | None:
    try:
        Pipeline(pipeline, options).run(module)
    except (DiagcError, ir.MLIRError) as error:
        return f"fails with {error}"
    return None


def _compare(module: ir.Module, inputs: Sequence[Any], expected: Expectation) -> str | None:
    for mode in STREAM_MODES if _has_streams(module) else STREAM_MODES[:1]:
        try:
            found = interp.evaluate(module, inputs, **mode)
        except DiagcError as error:
            return f"gives IR without meaning: {error}"
        complaint = expected.complaint(found)
        if complaint is not None:
            return f"{complaint} (streams evaluated with {dict(mode) or 'their own chunks'})"
    return None


def _has_streams(module: ir.Module) -> bool:
    return any(op.name == "diag.stream" for op in diag.walk_ops(module.operation.regions[0]))


def target_gives_meaning(
    diagram: Diagram, seed: int, target: str = "cpu", *, options: CompileOptions | None = None
) -> str | None:
    """The compiled program gives what the interpreter gives, within what rounding explains."""
    with make_context(), ir.Location.unknown():
        try:
            program = compile_module(diagram.parse(), target, options)
        except Exception as error:  # a crash of the compiler is what is looked for
            return f"does not compile: {type(error).__name__}: {error}"
        return program_gives_meaning(program, diagram, diagram.inputs(seed))


def program_gives_meaning(
    program: "Program", diagram: Diagram, inputs: Sequence[Any]
) -> str | None:
    """As `target_gives_meaning`, for a program that is compiled already; needs a context."""
    fall_backs = [kernel.fall_back for kernel in program.report.kernels if kernel.fall_back]
    if fall_backs:
        return f"has a kernel that is interpreted: {fall_backs[0]}"
    expected = expect(diagram.parse(), inputs)
    try:
        found = program.run(inputs)
    except Exception as error:  # as above
        return f"does not run: {type(error).__name__}: {error}"
    return expected.complaint(found)
