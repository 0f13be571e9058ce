"""Products of f32 are as exact as torch has them, whichever way that was set."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import diagc


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT / 8, dim=-1) @ v


def test_products_are_as_exact_as_torch_has_them() -> None:
    """On tensor cores, when nothing else is asked for; `highest` takes three of them for one."""
    args = [torch.randn(2, 64, 32) for _ in range(3)]

    def products(**options: Any) -> int:
        torch.set_float32_matmul_precision("high")
        try:
            compiled = diagc.compile(attention, *args, target="nvptx", **options)
        finally:
            torch.set_float32_matmul_precision("highest")
        return compiled.emit("ptx").count("mma.sync")

    assert 0 < 3 * products() == products(float32_matmul_precision="highest")


BACKENDS: Any = torch.backends  # stubs lack the newer settings


@pytest.fixture
def older_setting() -> Iterator[None]:
    """Torch knows that its older setting was used, and has it again after the test."""
    torch.set_float32_matmul_precision("high")
    torch.set_float32_matmul_precision("highest")
    BACKENDS.cuda.matmul.fp32_precision = "none"  # so that the setting for all counts
    yield
    BACKENDS.fp32_precision = BACKENDS.mkldnn.matmul.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("place", "precision", "wanted"),
    [
        (BACKENDS.cuda.matmul, "tf32", "high"),
        (BACKENDS.cuda.matmul, "ieee", "highest"),
        (BACKENDS, "tf32", "high"),
        (BACKENDS, "none", "highest"),
        (BACKENDS.mkldnn.matmul, "bf16", "highest"),
    ],
)
@pytest.mark.usefixtures("older_setting", "fresh_dynamo")
def test_newer_settings_of_precision_are_followed(place: Any, precision: str, wanted: str) -> None:
    args = [torch.randn(2, 20, 8) for _ in range(3)]
    place.fp32_precision = precision
    compiled = diagc.compile(attention, *args)
    assert compiled.options.float32_matmul_precision == wanted
    found = torch.compile(attention, backend="diagc", options={"rest": "eager"})(*args)
    torch.testing.assert_close(found, compiled(*args))
