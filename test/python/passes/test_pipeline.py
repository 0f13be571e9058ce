"""Pipelines that mix passes in Python and in C++: nesting, options, errors, printing, timing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from diagc.context import make_context
from diagc.errors import DiagSyntaxError, InternalError, PassError
from diagc.mlir import ir
from diagc.options import CompileOptions, current
from diagc.passes import register
from diagc.passes.base import Pass
from diagc.passes.pipeline import Pipeline

TEXT = """
func.func @twice(%a: i32) -> i32 {
  %0 = arith.addi %a, %a : i32
  %1 = arith.addi %a, %a : i32
  %2 = arith.muli %0, %1 : i32
  return %2 : i32
}
func.func private @declared()
"""


@register
@dataclass(frozen=True)
class MarkPass(Pass):
    """write the options into an attribute."""

    name: ClassVar[str] = "test-mark"
    count: int = 1
    max_ratio: float = 0.5
    loud: bool = False
    axes: tuple[str, ...] = ()

    def run(self, op: ir.Operation) -> None:
        op.attributes["test.mark"] = ir.StringAttr.get(str(self))
        op.attributes["test.validate"] = ir.BoolAttr.get(current().validate)


@register
@dataclass(frozen=True)
class FailPass(Pass):
    """fail in the way that the option says."""

    name: ClassVar[str] = "test-fail"
    how: str = "refuse"

    def run(self, op: ir.Operation) -> None:
        first = op.regions[0].blocks[0].operations[0]
        if self.how == "refuse":
            raise PassError("cannot add", location=first.location, remedy="subtract")
        if self.how == "refuse-somewhere":
            raise PassError("cannot do it")
        if self.how == "crash":
            raise KeyError("lost")
        op.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get([], []))


@pytest.fixture
def module() -> Iterator[ir.Module]:
    with make_context(), ir.Location.unknown():
        yield ir.Module.parse(TEXT)


def run(module: ir.Module, text: str, options: CompileOptions | None = None) -> str:
    Pipeline(text, options).run(module)
    return str(module)


@pytest.mark.parametrize(
    "text",
    [
        "builtin.module(func.func(test-mark{count=3 axes=q,x},cse),canonicalize)",
        "func.func(test-mark{axes=q,x count=3}),func.func(cse)",
        " func.func( test-mark { count=3  axes='q,x' } , cse ) ",
        "any(test-mark{count=3 axes=q,x},cse)",
    ],
)
def test_python_and_mlir_passes_mix(module: ir.Module, text: str) -> None:
    result = run(module, text)
    assert 'test.mark = "test-mark{count=3 axes=q,x}"' in result
    assert result.count("arith.addi") == 1


def test_declarations_are_left_alone(module: ir.Module) -> None:
    assert "func.func private @declared()\n" in run(module, "func.func(test-mark)")


def test_passes_see_the_options(module: ir.Module) -> None:
    options = CompileOptions(validate=True)
    assert "test.validate = true" in run(module, "func.func(test-mark)", options)


def test_empty_pipeline_changes_nothing(module: ir.Module) -> None:
    before = str(module)
    assert run(module, "") == run(module, "builtin.module()") == before


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("test-mark", 1, "pass 'test-mark' runs on 'func.func', not on 'builtin.module'; nest it"),
        ("func.func(test-mark{grp=3})", 11, "no such option 'grp'.*known: count, max-ratio, loud"),
        ("func.func(test-mark{count=x})", 11, "bad value 'x' for option 'count'.*an integer"),
        ("func.func(test-mark{loud=7})", 11, "bad value '7'.*true or false"),
        ("func.func(cse),nonsense", 16, "'nonsense' does not refer to a registered pass"),
        ("cse{nonsense=1}", 1, "no such option nonsense"),
        ("func.func(cse", 14, r"expected '\)'"),
        ("cse)", 4, r"unexpected '\)'"),
        ("cse cse", 5, "unexpected 'c'"),
        ("cse,", 5, "expected the name of a pass"),
        ("func.func(test-mark{count=1)", 20, "missing '}'"),
        ("func.func(test-mark{axes='q})", 20, "missing '}'"),
    ],
)
def test_bad_pipeline_points_at_the_place(
    module: ir.Module, text: str, column: int, message: str
) -> None:
    with pytest.raises(DiagSyntaxError, match=message) as caught:
        Pipeline(text)
    rendered = caught.value.render().splitlines()
    assert rendered[0].startswith(f"pass pipeline:1:{column}: error: ")
    assert rendered[1:] == [text, f"{' ' * (column - 1)}^"]


def test_refusal_carries_its_location(module: ir.Module) -> None:
    with pytest.raises(PassError) as caught:
        run(module, "func.func(test-fail)")
    assert str(caught.value) == "-:3:8: cannot add; subtract"


def test_refusal_without_location_gets_that_of_the_function(module: ir.Module) -> None:
    with pytest.raises(PassError, match=r"^-:2:1: cannot do it$"):
        run(module, "func.func(test-fail{how=refuse-somewhere})")


@pytest.mark.parametrize(
    ("how", "message"),
    [("crash", "'test-fail' crashed: KeyError: 'lost'"), ("break", "IR that does not verify")],
)
def test_bug_in_a_pass_is_reported_as_ours(module: ir.Module, how: str, message: str) -> None:
    text = f"func.func(cse,test-fail{{how={how}}})"
    with pytest.raises(InternalError, match=message) as caught:
        run(module, text)
    assert caught.value.files["pipeline.txt"] == f"builtin.module({text})"
    assert caught.value.files["input.mlir"].count("arith.addi") == 2  # from before cse


def test_verification_can_be_left_out(module: ir.Module) -> None:
    Pipeline("func.func(test-fail{how=break})", CompileOptions(verify_each=False)).run(module)


def test_ir_is_printed_around_the_chosen_pass(
    module: ir.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    options = CompileOptions(print_ir_before=("cse",), print_ir_after=("test-mark",))
    run(module, "func.func(test-mark,cse),canonicalize", options)
    heads = [line for line in capsys.readouterr().err.splitlines() if "IR Dump" in line]
    assert heads == [
        "// -----// IR Dump After test-mark ('@twice') //----- //",
        "// -----// IR Dump Before cse ('@twice') //----- //",
        "// -----// IR Dump Before cse ('@declared') //----- //",
    ]


def test_printing_around_a_pass_that_does_not_run_is_refused(module: ir.Module) -> None:
    with pytest.raises(PassError, match="does not run it, expected one of all, cse"):
        Pipeline("cse", CompileOptions(print_ir_after=("canonicalize",)))


def test_ir_is_dumped_in_order(module: ir.Module, tmp_path: Path) -> None:
    run(module, "func.func(test-mark),canonicalize", CompileOptions(dump_dir=tmp_path / "new"))
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["000-test-mark-@twice.mlir", "001-canonicalize.mlir"]
    assert "arith.muli" in (tmp_path / "new" / names[1]).read_text()


def test_every_pass_is_timed(module: ir.Module, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = Pipeline("func.func(test-mark,cse),canonicalize", CompileOptions(timing=True))
    pipeline.run(module)
    runs = {name: record.runs for name, record in pipeline.timer.passes.items()}
    assert runs == {"test-mark": 1, "cse": 2, "canonicalize": 1}
    assert pipeline.timer.seconds > 0
    assert pipeline.timer.report() in capsys.readouterr().err


def test_pass_text_round_trips() -> None:
    made = MarkPass(count=4, max_ratio=0.25, loud=True, axes=("q",))
    assert str(made) == "test-mark{count=4 max-ratio=0.25 loud=true axes=q}"
    texts = {"count": "4", "max-ratio": "0.25", "loud": "", "axes": "q"}
    assert MarkPass.from_options(texts) == made


def test_registry_refuses_a_second_pass_of_one_name() -> None:
    class Twin(FailPass):
        """has the name of another."""

    with pytest.raises(ValueError, match="already a pass 'test-fail'"):
        register(Twin)
