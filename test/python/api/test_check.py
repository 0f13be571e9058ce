"""`check="first-call"` and kernels that are switched off."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor

import diagc
from diagc import debug
from diagc.errors import MismatchError, UserError
from diagc.testing.mutants import Mutant

WRONG = Mutant(
    "dropped mask",
    "diagc.passes.canonical.expand_normalizers:_Expansion.__init__",
    (("keep = diag.mask_of(op)", "keep = None"),),
)
KERNEL = "stream_max_exp_*"


@pytest.fixture(autouse=True)
def no_region_is_kept(regions_of_its_own: None) -> None:
    """Wrong code may serve nobody else."""


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def inputs(length: int = 40) -> list[Tensor]:
    return [torch.randn(2, 3, length, 16) for _ in range(3)]


class Count:
    """A function that counts how often it is run."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> dict[str, Tensor]:
        self.runs += 1
        out = causal(q, k, v)
        return {"out": out, "again": out, "sum": out.sum(-1)}


def test_right_numbers_are_compared_once() -> None:
    count, args = Count(), inputs()
    compiled = diagc.compile(count, *args, check="first-call")
    traced = count.runs
    for _ in range(3):
        found = compiled(*args)
    assert count.runs == traced + 1  # in float64 a copy runs
    torch.testing.assert_close(found["out"], causal(*args), rtol=1e-5, atol=1e-5)


def test_wrong_numbers_are_refused_at_every_call() -> None:
    with WRONG.applied():
        compiled = diagc.compile(causal, check="first-call")
        for _ in range(2):
            with pytest.raises(MismatchError, match="'causal' differs from eager") as error:
                compiled(*inputs())
    for part in ("note: its kernels: stream_max_exp", "diagc bisect", "DIAGC_KERNELS_OFF"):
        assert part in str(error.value)


def test_gradients_are_checked_too() -> None:
    with WRONG.applied():
        compiled = diagc.compile(causal, check="first-call")
        with pytest.raises(MismatchError, match="differs from eager"):
            compiled(*(x.requires_grad_() for x in inputs()))


def test_wrong_region_of_torch_compile() -> None:
    args = inputs(41)
    options: dict[str, Any] = {"check": "first-call", "rest": "eager"}
    with WRONG.applied():
        model = torch.compile(causal, backend="diagc", options=options)
        with pytest.raises(MismatchError, match=r"it stands for scaled_dot_product_attention at"):
            model(*args)


def test_random_numbers_are_neither_compared_nor_drawn_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def dropped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.nn.functional.dropout(causal(q, k, v), 0.5)

    args = inputs()
    compiled = diagc.compile(dropped, *args, check="first-call")
    debug.logger("check").addHandler(caplog.handler)
    found: list[Tensor] = []
    wanted: list[Tensor] = []
    for function, results in ((compiled, found), (dropped, wanted)):
        torch.manual_seed(3)
        results += [function(*args), torch.rand(3)]
    debug.logger("check").removeHandler(caplog.handler)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert "it draws random numbers" in caplog.text


def test_unknown_check() -> None:
    with pytest.raises(UserError, match="unknown check"):
        diagc.compile(causal, check="always")
    with pytest.raises(Exception, match="unknown check"):
        torch.compile(causal, backend="diagc", options={"check": "always"})(*inputs())


# ---- kernels that are switched off ---------------------------------------------------------------


def test_kernel_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    args = inputs()
    on = diagc.compile(causal, *args)
    assert not any(kernel.is_off for kernel in on.report.kernels)
    monkeypatch.setenv("DIAGC_KERNELS_OFF", f"other, {KERNEL}")
    off = diagc.compile(causal, *args)
    torch.testing.assert_close(off(*args), causal(*args), rtol=1e-5, atol=1e-5)
    assert [kernel.is_off for kernel in off.report.kernels] == [True]
    assert "switched off by kernels_off or DIAGC_KERNELS_OFF" in off.explain()
    assert json.loads(off.explain("json"))["fall_back"]


def test_region_of_a_kernel_that_is_off_stays_in_torch() -> None:
    args = inputs()
    told = diagc.explain(causal, *args, options={"kernels_off": (KERNEL,)})
    assert told.regions == 0
    assert "is switched off" in str(told)
