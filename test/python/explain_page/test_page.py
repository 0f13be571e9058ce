"""The page that explains a program: complete, without need of anything else, true to the report."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

import diagc
from diagc.commands.load import load_programs
from diagc.driver import main
from diagc.errors import UserError
from diagc.explain_page import explain
from diagc.explain_page.rewrites import tell
from diagc.explain_page.stories import story_of
from diagc.options import CompileOptions
from diagc.report import KernelReport, Note, Report

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
OPTIONS = CompileOptions(target="interp")
Page = Callable[[str], str]


@pytest.fixture(scope="module")
def page() -> Page:
    """The page of an example."""
    pages: dict[str, str] = {}

    def made(name: str) -> str:
        if name not in pages:
            (program,) = load_programs(str(EXAMPLES / name))
            pages[name] = program.compile(OPTIONS).explain(format="html")
        return pages[name]

    return made


class Reader(HTMLParser):
    """Collects tags that are open, ids, references, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), "a script"
            self.ids += [value or ""] if name == "id" else []
            self.references += [value or ""] if name in ("href", "src", "xlink:href") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize("name", ["two_statistics.diag", "self_attention.diag"])
def test_page_is_well_formed_and_needs_nothing_else(page: Page, name: str) -> None:
    text = page(name)
    reader = Reader(text)
    assert not reader.open
    assert not reader.tags & {"script", "link", "img", "iframe", "object"}
    assert "http" not in text.replace("http-equiv", "")
    assert "@import" not in text
    assert "url(" not in text
    assert len(reader.ids) == len(set(reader.ids))
    assert {reference.removeprefix("#") for reference in reader.references} <= set(reader.ids)


def test_each_rewrite_has_a_picture_before_and_after_and_its_law(page: Page) -> None:
    text = page("two_statistics.diag")
    rewrites = re.split(r"<h3>\d+\. ", text.split("<h2>What was done to it")[1])[1:]
    assert len(rewrites) >= 2
    for rewrite in rewrites:
        assert rewrite.count("<figure>") == 2
        assert "Why it is allowed." in rewrite
    streams = next(part for part in rewrites if part.startswith("Reductions become streams"))
    assert "The stream along x" in streams
    assert "maximum of" in streams


def test_page_says_what_stays_outside_and_why(page: Page) -> None:
    outside = page("self_attention.diag").split("<h2>What stays outside</h2>")[1]
    assert "diag.contract" in outside
    assert "library" in outside


def test_page_shows_schedules_in_the_names_of_the_user(page: Page) -> None:
    schedules = page("self_attention.diag").split("<h2>Schedules</h2>")[1]
    assert "read in chunks, with a state kept" in schedules
    assert re.search(r"s_x = \d+", schedules)


def test_page_gives_costs_where_sizes_are_known() -> None:
    import torch

    q = torch.zeros(1, 2, 64, 16)
    compiled = diagc.compile(torch.nn.functional.scaled_dot_product_attention, q, q, q)
    costs = compiled.explain("html").split("<h2>Kernels and what they cost</h2>")[1]
    (kernel,) = compiled.report.kernels
    assert kernel.flops
    assert kernel.bytes == 4 * 4 * 64 * 2 * 16
    estimate = kernel.estimate
    assert estimate
    assert [level.name for level in estimate.levels][-1] == "memory"
    memory = estimate.levels[-1]
    assert (memory.read or 0) + (memory.written or 0) == kernel.bytes
    assert f"{estimate.intensity:.1f} FLOP/B" in costs
    assert re.search(r">(arithmetic|main memory|its start|the level l\d)<", costs)
    assert "Levels of" in costs


def test_estimates_are_for_the_device_that_is_asked_for() -> None:
    import torch

    q = torch.zeros(2, 8, 1024, 64, dtype=torch.bfloat16)
    attention = torch.nn.functional.scaled_dot_product_attention
    compiled = diagc.compile(attention, q, q, q, device="h200")
    (kernel,) = compiled.report.kernels
    assert compiled.report.target == "nvptx"
    assert kernel.estimate
    assert kernel.estimate.device == "h200"
    assert set(kernel.estimate.pipes) == {"tensor", "fma", "special", "latency", "turns"}
    assert len(kernel.ranking) > 1
    assert [level.name for level in kernel.estimate.levels] == ["shared", "l2", "memory"]
    assert kernel.read_bytes
    assert kernel.estimate.levels[1].read == pytest.approx(kernel.read_bytes, rel=0.05)
    text = compiled.explain()
    assert f"on h200 at least, bound by {kernel.estimate.bound}" in text
    assert all(f"{each.bound}: {each.text}" in text for each in kernel.ranking)
    assert f"<td>{kernel.ranking[0].text}</td>" in compiled.explain("html")
    data = json.loads(compiled.explain("json"))
    assert data["kernels"][0]["estimate"]["levels"][2]["name"] == "memory"


@pytest.mark.parametrize(
    ("target", "device", "message"),
    [
        ("cpu", "h200", "expected a device of the kind cpu, found a gpu"),
        ("nvptx", "cpu-avx2", "expected a device of the kind gpu, found a cpu"),
        ("nvptx:sm_90", "a100-80", "write --target=nvptx:sm_80"),
        ("auto", "h300", "unknown device, expected one of a100-80"),
    ],
)
def test_device_that_the_target_does_not_serve(target: str, device: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        diagc.compile(len, target=target, device=device)


def test_measured_times_stand_beside_predicted_ones(capsys: pytest.CaptureFixture[str]) -> None:
    path = EXAMPLES / "two_statistics.diag"
    assert main(["explain", str(path), "--measure", "--format=json"]) == 0
    kernels = json.loads(capsys.readouterr().out)["kernels"]
    assert kernels
    for kernel in kernels:
        assert not kernel["estimate"]["assumed"]
        # what is predicted is a lower bound, but for noise and what was not measured yet
        assert kernel["measured_seconds"] > 0.3 * kernel["estimate"]["seconds"]
    assert main(["explain", str(path), "--measure"]) == 0
    assert re.search(r"measured [\d.]+ [mµ]?s, [\d.]+ times that", capsys.readouterr().out)


def test_pass_that_changes_nothing_is_no_rewrite() -> None:
    (program,) = load_programs(str(EXAMPLES / "gated_mlp.diag"))
    story = tell(program.source(OPTIONS), OPTIONS, "gated_mlp")
    names = [rewrite.name for rewrite in story.rewrites]
    assert "fuse-normalization" not in names
    assert {"expand-normalizers", "fuse-normalization"} <= {*story.idle}
    assert not {*names} & {*story.idle}
    for rewrite in story.rewrites:
        assert rewrite.before.svg() != rewrite.after.svg()


def test_text_of_the_user_is_escaped() -> None:
    report = Report("a<b>&c", "cpu", declined=[Note("diag.map", "x < y & z")])
    source = 'func.func @main(%x: tensor<4xf32, ["n"]>) -> tensor<4xf32, ["n"]> {\n'
    source += '  return %x : tensor<4xf32, ["n"]>\n}'
    text = explain(report, source, OPTIONS, "html")
    assert "a&lt;b&gt;&amp;c" in text
    assert "x &lt; y &amp; z" in text
    assert "<b>&c" not in text


def test_fall_back_is_said() -> None:
    kernel = KernelReport("k", "interp", 1, (), {}, (), {}, "none", 0.0, fall_back="no such op")
    source = "func.func @main(%x: tensor<f32, []>) -> tensor<f32, []> {\n  return %x : "
    text = explain(Report("p", "cpu", [kernel]), f"{source}tensor<f32, []>\n}}", OPTIONS, "html")
    assert "Not everything that belongs into a kernel is code" in text
    assert "interpreted, slowly: no such op" in text


def test_pass_without_a_story_tells_its_summary() -> None:
    assert story_of("generalize-kernels").text
    assert story_of("cse").heading == "cse"


def test_unknown_format_is_refused() -> None:
    with pytest.raises(UserError, match="unknown format, expected text, json or html"):
        explain(Report("p", "cpu"), "", OPTIONS, "pdf")


def test_command_writes_the_page(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    source = str(EXAMPLES / "gated_mlp.diag")
    assert main(["explain", source, "--target=interp", "--format=html", "-o", str(file)]) == 0
    assert file.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_command_refuses_a_file_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, file = str(EXAMPLES / "gated_mlp.diag"), str(tmp_path / "none" / "page.html")
    assert main(["explain", source, "--target=interp", "--format=html", "-o", file]) == 1
    assert f"cannot write {file}" in capsys.readouterr().err
