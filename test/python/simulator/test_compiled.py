"""`diagc.simulate` on what `diagc.compile` gives for GPUs."""

from typing import Any

import numpy as np
import pytest
import torch

import diagc
from diagc import debug
from diagc.errors import UserError
from diagc.simulator import SimulatorOptions
from diagc.simulator.locations import read_locations


def scaled_softmax(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.softmax(x, dim=-1) * w


@pytest.fixture
def inputs(rng: np.random.Generator) -> list[torch.Tensor]:
    shapes = ((37, 70), (70,))
    return [torch.from_numpy(rng.standard_normal(s).astype(np.float32)) for s in shapes]


def test_function_gives_its_value_and_a_report(inputs: list[torch.Tensor]) -> None:
    compiled = diagc.compile(scaled_softmax, *inputs, target="nvptx", library="none")
    out, report = diagc.simulate(compiled, *inputs)
    assert report.clean, report
    assert report.checking
    wanted = scaled_softmax(*(x.double() for x in inputs))
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-6)
    assert report.counters.global_write_bytes == 37 * 70 * 4


def test_instructions_know_the_line_that_they_come_from(inputs: list[torch.Tensor]) -> None:
    with debug.CACHE.override(False):  # a cached kernel has the locations of its first program
        compiled = diagc.compile(scaled_softmax, *inputs, target="nvptx", library="none")
    kernels: tuple[Any, ...] = compiled.program.kernels
    places = set(read_locations(kernels[0].llvm_text).values())
    line = scaled_softmax.__code__.co_firstlineno + 1
    assert any(place.startswith(f"{__file__}:{line}:") for place in places), places


def test_one_kernel_of_it(inputs: list[torch.Tensor]) -> None:
    compiled = diagc.compile(scaled_softmax, *inputs, target="nvptx", library="none")
    kernels: tuple[Any, ...] = compiled.program.kernels
    (kernel,) = kernels
    by_name = dict(zip("xw", inputs, strict=True))
    arrays = [by_name["x" if len(w.labels) == 2 else "w"] for w in kernel.signature.args]
    (out,), report = diagc.simulate(kernel, *arrays, options=SimulatorOptions(checking=False))
    assert report.clean, report
    torch.testing.assert_close(out, scaled_softmax(*inputs), rtol=1e-5, atol=1e-6)


def test_what_is_no_gpu_kernel_is_refused() -> None:
    with pytest.raises(UserError, match="nothing to simulate"):
        diagc.simulate(scaled_softmax)  # type: ignore[arg-type]


def test_what_is_compiled_for_the_cpu_is_refused(inputs: list[torch.Tensor]) -> None:
    """Its report would have no findings, for there is nothing to find them in."""
    compiled = diagc.compile(scaled_softmax, target="cpu")
    with pytest.raises(UserError, match=r"only kernels for GPUs .* found cpu"):
        diagc.simulate(compiled, *inputs)
