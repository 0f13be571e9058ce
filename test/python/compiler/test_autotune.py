"""Schedules that are measured: the fastest is taken and kept; what is kept is checked."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import diagc
from diagc import autotune, debug
from diagc.errors import TargetError
from diagc.passes.kernels.schedules import Schedule
from diagc.runtime.cache import default_cache
from diagc.runtime.package.variants import best_of
from diagc.targets.nvptx import LoadedKernel
from diagc.targets.nvptx.tiles.schedule import TileSchedule

attention = torch.nn.functional.scaled_dot_product_attention


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    with debug.CACHE_DIR.override(tmp_path):
        yield tmp_path


def inputs(rows: int = 96) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    q = torch.randn(1, 2, rows, 16)
    k, v = (torch.randn(1, 2, 128, 16) for _ in range(2))
    return q, k, v


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of measured programs; the third one is by far the fastest."""
    seen: list[int] = []
    programs: list[object] = []

    def times(program: object, names: list[tuple[str, int]]) -> dict[str, float]:
        if program not in programs:
            programs.append(program)
            seen.append(len(programs))
        return {name: 1.0 if programs.index(program) == 2 else 2.0 for name, _ in names}

    monkeypatch.setattr(autotune, "_times", times)
    return seen


def schedule_of(compiled: diagc.CompiledFunction) -> dict[str, object]:
    (kernel,) = compiled.report.kernels
    return dict(kernel.schedule)


def test_fastest_is_taken_and_kept(cache: Path, measured: list[int]) -> None:
    q, k, v = inputs()
    usual = diagc.compile(attention, q, k, v)
    tuned = diagc.compile(attention, q, k, v, autotune=True)
    assert len(measured) == autotune.MOST_CANDIDATES
    assert schedule_of(tuned) != schedule_of(usual)
    exact = attention(q.double(), k.double(), v.double())
    assert (tuned(q, k, v) - exact).abs().max() < 1e-5
    # the same shape class: 96 rows, like 100, are up to 128
    again = diagc.compile(attention, *inputs(100), autotune=True)
    assert len(measured) == autotune.MOST_CANDIDATES
    assert schedule_of(again)["lane_tile"] == schedule_of(tuned)["lane_tile"]
    diagc.compile(attention, *inputs(200), autotune=True)
    assert len(measured) == 2 * autotune.MOST_CANDIDATES


def test_really_measured(cache: Path) -> None:
    q, k, v = inputs()
    tuned = diagc.compile(attention, q, k, v, autotune=True)
    exact = attention(q.double(), k.double(), v.double())
    assert (tuned(q, k, v) - exact).abs().max() < 1e-5
    assert "autotune" in tuned.report.seconds


def entries(cache: Path) -> list[Path]:
    return [path for path in cache.glob("*.entry") if b'"kind": "schedule"' in path.read_bytes()]


@pytest.mark.parametrize("damage", ["bytes", "no schedule", "other axes"])
def test_damaged_entries_are_measured_anew(
    cache: Path, measured: list[int], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    q, k, v = inputs()
    diagc.compile(attention, q, k, v, autotune=True)
    (path,) = entries(cache)
    key, before = path.stem, len(measured)
    if damage == "bytes":
        path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    else:
        fields = {"mode": "lanes", "grid": ["nope"], "lanes": "q", "lane_tile": 8}
        fields |= {"rows": [], "chunk": []}
        payload = "[]" if damage == "no schedule" else json.dumps(fields)
        default_cache().put(key, payload.encode(), {"kind": "schedule"})
    for stored in set(cache.glob("*.entry")) - {path}:
        stored.unlink()  # the program itself, which would not ask for a schedule
    with caplog.at_level(logging.WARNING):
        diagc.compile(attention, *inputs(), autotune=True)
    assert len(measured) == before + autotune.MOST_CANDIDATES
    assert len(entries(cache)) == 1


def test_sizes_of_one_class_share_a_choice() -> None:
    text = 'tensor<2x197x64xf32, ["b", "q", "d"]>'
    assert autotune.shape_class(text) == 'tensor<2x256x64xf32, ["b", "q", "d"]>'
    assert autotune.shape_class('tensor<2x?x1xbf16, ["b", "q2x3", "d"]>') == (
        'tensor<2x?x1xbf16, ["b", "q2x3", "d"]>'
    )


def test_little_gain_is_no_reason() -> None:
    assert best_of({0: 1.0, 1: 0.99, 2: 1.2}, 0) == 0
    assert best_of({0: 1.0, 1: 0.9, 2: 1.2}, 0) == 1
    assert best_of({0: float("inf"), 1: float("inf")}, 0) == 0


def test_nothing_is_measured_without_a_gpu() -> None:
    with pytest.raises(TargetError, match="autotuning measures kernels on a GPU") as caught:
        diagc.compile(attention, *inputs(), target="nvptx", autotune=True)
    assert "the cost model" in str(caught.value)


def test_schedules_are_stored_whole() -> None:
    from dataclasses import asdict

    from diagc.passes.kernels.schedules import schedule_from

    schedule = Schedule("features", ("b",), "q", 8, ("r",), (("x", 64),))
    assert schedule_from(json.loads(json.dumps(asdict(schedule)))) == schedule


def test_tiles_of_a_gpu_are_measured_and_kept(
    cache: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from diagc.runtime.cuda import torch_streams

    monkeypatch.setattr(torch_streams, "current_index", lambda: 0)  # times are made up
    monkeypatch.setattr(autotune, "MOST_CANDIDATES", 3)
    half = [x.bfloat16() for x in inputs()]
    tuned = diagc.compile(attention, *half, target="nvptx:sm_80", library="none", autotune=True)
    assert len(measured) == 3
    (entry,) = entries(cache)
    stored = default_cache().get(entry.stem)
    assert stored is not None
    (kept,) = json.loads(stored.payload)
    (kernel,) = tuned.program.kernels
    assert isinstance(kernel, LoadedKernel)
    assert kernel.tiles == TileSchedule(**kept)
