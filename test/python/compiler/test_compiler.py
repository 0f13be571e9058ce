"""The pipeline as a list, programs from the cache, and what happens when a target declines."""

import json
from pathlib import Path

import numpy as np
import pytest

from diagc import compiler, program_cache
from diagc.compiler import compile_module, emit, run_pipeline
from diagc.context import make_context
from diagc.debug import CACHE_DIR
from diagc.errors import InternalError, TargetError, UnsupportedError, UserError, VerificationError
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.passes import PASSES, find_pass
from diagc.report import render
from diagc.runtime.program import Program
from diagc.runtime.steps import KernelCall
from diagc.stages import DIAG_STAGES, pipeline_text
from diagc.targets.interp import evaluate

Q = 'tensor<2x?x8xf32, ["b", "q", "d"]>'
K = 'tensor<2x?x8xf32, ["b", "x", "d"]>'
V = 'tensor<2x?x8xf32, ["b", "x", "e"]>'
S = 'tensor<2x?x?xf32, ["b", "q", "x"]>'
O = 'tensor<2x?x8xf32, ["b", "q", "e"]>'  # noqa: E741  named like the others, for their wires
ATTENTION = f"""
func.func @main(%q: {Q}, %k: {K}, %v: {V}) -> {O} {{
  %s = "diag.contract"(%q, %k) {{over = ["d"]}} : ({Q}, {K}) -> {S}
  %p = "diag.normalize"(%s) {{along = ["x"], kind = "softmax"}} : ({S}) -> {S}
  %o = "diag.contract"(%p, %v) {{over = ["x"]}} : ({S}, {V}) -> {O}
  return %o : {O}
}}"""


def inputs() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for shape in ((2, 9, 8), (2, 30, 8), (2, 30, 8))]


def compiled(text: str, target: str = "cpu", options: CompileOptions | None = None) -> Program:
    with make_context(), ir.Location.unknown():
        return compile_module(ir.Module.parse(text), target, options)


def expected() -> np.ndarray:
    with make_context(), ir.Location.unknown():
        (out,) = evaluate(ir.Module.parse(ATTENTION), inputs())
    return out


def test_every_pass_stands_in_the_list() -> None:
    used = {name for stage in DIAG_STAGES for name in stage.passes}
    assert used == set(PASSES)


@pytest.mark.parametrize("stage", [stage.name for stage in DIAG_STAGES])
def test_every_stage_means_the_same(stage: str) -> None:
    options = CompileOptions(validate=True)
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(ATTENTION)
        run_pipeline(module, options, stage)
        (found,) = evaluate(module, inputs())
    np.testing.assert_allclose(found, expected(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("target", "tolerance"), [("cpu", 1e-5), ("interp", 1e-10), ("auto", 1e-5)]
)
def test_program_equals_the_diagram(target: str, tolerance: float) -> None:
    (found,) = compiled(ATTENTION, target).run(inputs())
    np.testing.assert_allclose(found, expected(), rtol=tolerance, atol=tolerance)


def test_options_reach_the_passes_of_their_name() -> None:
    text = pipeline_text(CompileOptions(library="none", empty_rows="eager"))
    assert "form-kernels{library=none}" in text
    assert "expand-normalizers{empty-rows=eager}" in text


def test_labels_are_verified_between_stages_when_validating() -> None:
    assert "verify-labels" in pipeline_text(CompileOptions(validate=True))
    assert "verify-labels" not in pipeline_text(CompileOptions(validate=False))


def test_module_with_a_label_of_two_sizes_is_refused() -> None:
    x, y = 'tensor<4xf32, ["a"]>', 'tensor<5xf32, ["a"]>'
    text = f"func.func @main(%x: {x}, %y: {y}) -> ({x}, {y}) {{ return %x, %y : {x}, {y} }}"
    with pytest.raises(VerificationError, match='axis "a" has size 5 here but size 4'):
        compiled(text)


def test_module_needs_one_entry() -> None:
    with pytest.raises(UserError, match="a module needs one public function"):
        compiled("func.func private @main()")


def test_unknown_target_and_stage() -> None:
    with pytest.raises(TargetError, match="unknown target"):
        compiled(ATTENTION, "tpu")
    with pytest.raises(UserError, match="no such stage"):
        emit(ATTENTION, "nowhere")


def test_emit_shows_stages_of_the_target_too() -> None:
    assert "diag.kernel" in emit(ATTENTION, "kernels")
    assert "@kernel.task" in emit(ATTENTION, "llvm")


@pytest.fixture
def fresh_cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_program_comes_from_the_cache(fresh_cache: Path) -> None:
    with CACHE_DIR.override(fresh_cache):
        first = compiled(ATTENTION)
        again = compiled("// a comment\n" + ATTENTION)
    assert "passes" in first.report.seconds
    assert list(again.report.seconds) == ["cache"]
    assert again.steps == first.steps
    assert [k.cache for k in again.report.kernels] == ["hit"]
    np.testing.assert_array_equal(again.run(inputs())[0], first.run(inputs())[0])


def test_other_options_miss_the_cache(fresh_cache: Path) -> None:
    with CACHE_DIR.override(fresh_cache):
        compiled(ATTENTION)
        other = compiled(ATTENTION, options=CompileOptions(library="none"))
    assert "passes" in other.report.seconds


def test_damaged_programs_are_made_again(fresh_cache: Path) -> None:
    with CACHE_DIR.override(fresh_cache):
        compiled(ATTENTION)
        for entry in fresh_cache.glob("*.entry"):
            entry.write_bytes(entry.read_bytes()[:-7])
        again = compiled(ATTENTION)
    assert "passes" in again.report.seconds
    np.testing.assert_allclose(again.run(inputs())[0], expected(), rtol=1e-5, atol=1e-5)


def test_a_program_survives_encoding() -> None:
    program = compiled(ATTENTION, "interp")
    data = (program.steps, program.inputs, program.outputs, program.report)
    plain = json.loads(json.dumps(program_cache.encode(data)))
    steps, found_inputs, outputs, report = program_cache.decode(plain)
    assert (steps, found_inputs, outputs) == data[:3]
    assert render(report, "json") == render(program.report, "json")


def test_what_the_target_declines_is_interpreted_and_reported(
    monkeypatch: pytest.MonkeyPatch, fresh_cache: Path
) -> None:
    import diagc.targets.cpu

    def decline(*_: object) -> object:
        raise UnsupportedError("diag.stream", reason="not today")

    monkeypatch.setattr(diagc.targets.cpu, "lower_kernel", decline)
    with CACHE_DIR.override(fresh_cache):
        program = compiled(ATTENTION)
        again = compiled(ATTENTION)
    assert "not today" in program.report.kernels[0].fall_back
    assert program.report.fall_back
    assert "FALL BACK" in render(program.report)
    assert "passes" in again.report.seconds  # it is not kept
    (found,) = program.run(inputs())
    np.testing.assert_allclose(found, expected(), rtol=1e-5, atol=1e-5)


def test_kernels_of_one_process_are_shared() -> None:
    first, second = compiled(ATTENTION), compiled(ATTENTION)
    assert first.kernels[0] is second.kernels[0]
    assert any(isinstance(step, KernelCall) for step in first.steps)
    assert compiler.stage_names()[0] == "diag"


def test_a_bug_in_a_pass_leaves_the_module(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: object, op: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr(find_pass("form-kernels"), "run", run)
    message = "IndexError: list index out of range"
    with CACHE_DIR.override(fresh_cache), pytest.raises(InternalError, match=message) as found:
        compiled(ATTENTION)
    directory = found.value.reproducer
    assert directory is not None
    assert '"diag.contract"' in (directory / "module.mlir").read_text()
    assert "IndexError" in (directory / "traceback.txt").read_text()
