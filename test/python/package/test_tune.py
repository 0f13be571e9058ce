"""Measuring variants: threads, devices, and the command that fills tables."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diagc.errors import PackageError
from diagc.runtime import load, tune
from diagc.runtime.package import chooser, tuning
from diagc.runtime.package.tuned_table import read_table
from diagc.runtime.package.writer import save
from diagc.testing.fake_cuda import FakeCuda
from diagc.testing.variant_packages import DEVICE, SHAPES, contents, edit, listed, tensors


def test_command_measures_and_fills_a_table(
    cuda: FakeCuda, package: Path, clock: dict[int, float], capsys: pytest.CaptureFixture[str]
) -> None:
    path = package.parent / "t.json"
    assert tune.main([str(package), f"--table={path}", f"--predicted={DEVICE}"]) == 0
    predicted = read_table(path)
    assert [e.variant for e in predicted.entries] == ["large blocks", "small blocks"]
    assert {e.source for e in predicted.entries} == {"predicted"}
    assert tune.main([str(package), f"--table={path}"]) == 0
    assert {(e.variant, e.source, e.seconds) for e in read_table(path).entries} == {
        ("threads", "measured", 1.0)
    }
    assert load(package).choice(*tensors()).variant == "threads"
    assert "2 entries, 2 of them measured" in capsys.readouterr().out


def test_command_says_what_is_wrong(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune.main([str(package), "--predicted=x"]) == 1
    path = package.parent / "t.json"
    path.write_text(listed("threads"))
    assert tune.main([str(package), "--predicted=Fake GPU 1", f"--table={path}"]) == 1
    errors = capsys.readouterr().err
    assert "only writes a table" in errors
    assert "of another device, expected Fake GPU 1, found Fake GPU 0" in errors


@pytest.mark.parametrize(
    ("description", "device", "fits"),
    [
        ("h100-sxm", "NVIDIA H100 80GB HBM3", True),
        ("a100-80", "NVIDIA A100-SXM4-80GB", True),
        ("l4", "NVIDIA L4", True),
        ("l4", "NVIDIA L40S", False),
        ("h100-sxm", "NVIDIA H200", False),
    ],
)
def test_predictions_fill_only_the_table_of_their_device(
    package: Path, capsys: pytest.CaptureFixture[str], description: str, device: str, fits: bool
) -> None:
    made, path = contents(), package.parent / "t.json"
    assert made.variants is not None
    made = replace(made, variants=replace(made.variants, device=description))
    save(package, made, target="nvptx:sm_80", version="0")
    code = tune.main([str(package), f"--predicted={device}", f"--table={path}"])
    assert (code, path.exists()) == ((0, True) if fits else (1, False))
    wanted = f"another device, expected {device}, found {description}"
    assert fits or wanted in capsys.readouterr().err


def test_command_keeps_what_it_found_before_a_damaged_package(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, damaged = package.parent / "t.json", package.parent / "damaged.diagpkg"
    damaged.write_bytes(b"PK")
    words = [str(package), str(damaged), f"--table={path}", f"--predicted={DEVICE}"]
    assert tune.main(words) == 1
    assert len(read_table(path).entries) == len(SHAPES)
    assert "damaged.diagpkg" in capsys.readouterr().err


def test_command_says_that_nothing_ran(
    cuda: FakeCuda, package: Path, clock: dict[int, float], capsys: pytest.CaptureFixture[str]
) -> None:
    clock.clear()
    assert tune.main([str(package)]) == 0
    assert capsys.readouterr().out.count("no variant ran") == len(SHAPES)


@pytest.mark.parametrize("missing", ["kind", "ptx"])
def test_command_tells_of_malformed_kernels(
    cuda: FakeCuda, package: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    edit(package, lambda plain: plain["kernels"][0].pop(missing))
    assert tune.main([str(package)]) == 1
    assert "error: " in capsys.readouterr().err
    with pytest.raises(PackageError):
        load(package)


# ---- threads and devices -------------------------------------------------------------------------


def test_threads_measure_a_class_once(
    cuda: FakeCuda, package: Path, monkeypatch: pytest.MonkeyPatch, clock: dict[int, float]
) -> None:
    tuned, started = load(package, autotune=True), Barrier(2)
    measure: Callable[..., dict[str, float]] = tuning.measure_variants
    counted: list[int] = []

    def slow(*args: Any) -> dict[str, float]:
        counted.append(1)
        time.sleep(0.1)  # so long that the other thread comes to its choice
        return measure(*args)

    def call() -> None:
        x, y = tensors()
        started.wait()
        assert torch.equal(tuned(x, y)[0], x + y)

    monkeypatch.setattr(chooser, "measure_variants", slow)
    with ThreadPoolExecutor(2) as pool:
        for thread in [pool.submit(call) for _ in range(2)]:
            thread.result()
    assert len(counted) == 1


class TwoGpus:
    """Poses as `torch.cuda`; GPU 0 is current, one may be captured on."""

    def __init__(self) -> None:
        """Capture nothing."""
        self.current, self.capturing = 0, -1
        self.waits: list[torch.device] = []

    def synchronize(self, device: torch.device | None = None) -> None:
        self.waits.append(device or torch.device("cuda", self.current))

    def is_current_stream_capturing(self) -> bool:
        return self.current == self.capturing

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.current = self.current, device.index
        yield
        self.current = before


def test_measuring_waits_for_the_device_of_the_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, gpu = TwoGpus(), torch.device("cuda", 1)
    monkeypatch.setattr(torch, "cuda", fake)
    tensor: Any = SimpleNamespace(device=gpu)
    calls: Any = {"a": SlowProgram()}
    assert tuning.measure_variants(calls, [tensor])["a"] >= 1e-3
    assert set(fake.waits) == {gpu}


@pytest.mark.parametrize(("capturing", "expected"), [(-1, False), (0, True), (1, True)])
def test_captures_are_seen_on_the_device_and_the_current_one(
    monkeypatch: pytest.MonkeyPatch, capturing: int, expected: bool
) -> None:
    fake = TwoGpus()
    fake.capturing = capturing
    monkeypatch.setattr(torch, "cuda", fake)
    assert tuning.is_capturing(torch.device("cuda", 1)) is expected
    assert fake.current == 0


class SlowProgram:
    """Takes a millisecond."""

    device = "cuda"

    def __call__(self, _tensors: object) -> None:
        """Sleep."""
        time.sleep(1e-3)
