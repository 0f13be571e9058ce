"""Packages with variants, without a GPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from diagc import debug
from diagc.runtime.package import chooser, tuning
from diagc.runtime.package.choice import machine_of
from diagc.runtime.package.writer import save
from diagc.runtime.program import Program
from diagc.testing.variant_packages import contents


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of three programs, and a cache of its own; tensors of the CPU pose."""
    monkeypatch.setattr(chooser, "machine_of", lambda _device: machine_of(torch.device("cuda")))
    save(tmp_path / "a.diagpkg", contents(), target="nvptx:sm_80", version="0")
    with debug.CACHE_DIR.override(tmp_path / "cache"):
        yield tmp_path / "a.diagpkg"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Seconds of a call by threads, in place of the real ones; what fails has none."""
    times: dict[int, float] = {32: 3.0, 64: 2.0, 128: 1.0}

    def seconds(made: Program, _tensors: object, _count: int) -> float:
        kernel: Any = made.kernels[0]
        threads = kernel.kernel.launches[0].threads
        if threads not in times:
            raise RuntimeError("out of memory")
        return times[threads]

    monkeypatch.setattr(tuning, "_seconds", seconds)
    return times
