"""Files that drawings are written to, and the command and the API that write them."""

import struct
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

import diagc
from diagc.driver import main
from diagc.errors import UserError
from diagc.viz import Drawing
from diagc.viz.formulas import pretty

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
SVG = "{http://www.w3.org/2000/svg}"
SOURCE = str(EXAMPLES / "two_statistics.diag")
Run = Callable[..., str]
DrawExample = Callable[..., Drawing]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> str:
        assert main(words) == 1
        return capsys.readouterr().err

    return run


def test_svg_is_plain_and_needs_nothing_else(draw_example: DrawExample) -> None:
    text = draw_example("self_attention.diag", "schedules").svg()
    root = ElementTree.fromstring(text)
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    known = {"svg", "title", "style", "rect", "path", "circle", "polygon", "text"}
    assert tags <= known
    assert "href" not in text
    assert "url(" not in text


def test_same_diagram_gives_the_same_file(draw_example: DrawExample) -> None:
    first, second = (draw_example("gated_mlp.diag", "schedules") for _ in range(2))
    assert first.svg() == second.svg()
    assert first.png() == second.png()


def test_png_has_two_pixels_a_px(draw_example: DrawExample) -> None:
    drawing = draw_example("two_statistics.diag")
    data = drawing.png()
    width, height = struct.unpack(">II", data[16:24])
    assert data.startswith(b"\x89PNG")
    assert abs(width - 2 * drawing.scene.width) < 2
    assert abs(height - 2 * drawing.scene.height) < 2


@pytest.mark.parametrize(
    ("suffix", "start"), [("svg", b"<svg"), ("png", b"\x89PNG"), ("PDF", b"%PDF")]
)
def test_command_writes_the_format_of_the_suffix(tmp_path: Path, suffix: str, start: bytes) -> None:
    file = tmp_path / f"x.{suffix}"
    assert main(["draw", SOURCE, "-o", str(file)]) == 0
    assert file.read_bytes().startswith(start)


def test_command_writes_svg_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", SOURCE, "-o", "-", "--before=derive-streams"]) == 0
    assert "two_statistics, before derive-streams" in capsys.readouterr().out


def test_command_names_the_file_for_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["draw", SOURCE]) == 0
    assert (tmp_path / "two_statistics.svg").exists()


def test_drawing_after_a_pass_differs_from_that_before(draw_example: DrawExample) -> None:
    assert (
        draw_example("softmax_causal.diag").svg()
        != draw_example("softmax_causal.diag", "expand-normalizers").svg()
    )


def test_unknown_pass_is_refused(refused: Run, tmp_path: Path) -> None:
    error = refused("draw", SOURCE, "--after=derive-stream", "-o", str(tmp_path / "x.svg"))
    assert "no such pass or stage" in error
    assert "derive-streams" in error
    assert "found 'derive-stream'" in error


def test_unknown_suffix_is_refused(refused: Run) -> None:
    error = refused("draw", SOURCE, "-o", "x.gif")
    assert "cannot tell the format of x.gif, expected a file that ends in .svg, .png, .pdf" in error


def test_file_that_cannot_be_written_is_refused(refused: Run, tmp_path: Path) -> None:
    file = tmp_path / "none" / "x.svg"
    assert f"cannot write {file}, found No such file or directory" in refused(
        "draw", SOURCE, "-o", str(file)
    )


def test_width_that_is_none_is_refused(refused: Run) -> None:
    assert "no width for a drawing" in refused("draw", SOURCE, "--width=0", "-o", "-")
    assert "no width for a drawing" in refused("draw", SOURCE, "--width=nan", "-o", "-")


def test_file_of_several_programs_is_refused(refused: Run, tmp_path: Path) -> None:
    file = tmp_path / "two.diag"
    file.write_text("axis n\ndiagram a(X: n) { return exp(X) }\ndiagram b(X: n) { return X }\n")
    assert f"expected one, {file}:NAME, found a, b" in refused("draw", str(file))
    assert main(["draw", f"{file}:b", "-o", str(tmp_path / "b.svg")]) == 0


def test_compiled_function_draws_itself(tmp_path: Path) -> None:
    import torch

    def scaled(x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x * 2.0, -1)

    compiled = diagc.compile(scaled, target="interp")
    assert compiled._repr_svg_() is None  # notebooks then show its name
    compiled(torch.ones(3, 5))
    drawing = compiled.draw(tmp_path / "x.svg", after="expanded")
    assert "scaled, after expanded" in drawing.svg()
    assert (tmp_path / "x.svg").read_text() == drawing.svg()
    assert "softmax" in (compiled._repr_svg_() or "")
    with pytest.raises(UserError, match="after or before"):
        compiled.draw(after="fused", before="streams")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("where(m == -inf, 0.0, m)", "where(m = −∞, 0, m)"),
        ("a * f32(i64(abs(q - x)))", "a·abs(q − x)"),
        ("pow(0.5, f32(h + 1))", "pow(0.5, h + 1)"),
        ("f32(h + 1) * 2.0", "(h + 1)·2"),
        ("bf16(a * 0.125)", "bf16(a·0.125)"),
        ("x / sqrt(n)", "x/√n"),
        ("1.0e-05 + -x", "1.0e-05 + −x"),
    ],
)
def test_formula_is_shown_as_mathematics(text: str, shown: str) -> None:
    assert pretty(text) == shown
