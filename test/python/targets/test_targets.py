"""The table of targets."""

import platform
import re
from pathlib import Path

import pytest

from diagc import targets
from diagc.algebra.normalizers import NORMALIZERS
from diagc.errors import TargetError
from diagc.targets import get_target, list_targets


def test_targets_are_listed_with_reasons() -> None:
    infos = {info.name: info for info in list_targets()}
    assert set(infos) == {"cpu", "interp", "nvptx"}
    assert infos["interp"].available
    for info in infos.values():
        assert info.description
        assert info.available == (info.why_not is None)


def test_auto_is_the_cpu() -> None:
    assert get_target("auto").name == "cpu"


def test_target_is_loaded_on_demand() -> None:
    assert get_target("interp").load().__name__ == "diagc.targets.interp"


def test_unknown_target_names_those_there_are() -> None:
    with pytest.raises(TargetError, match=r"unknown target, expected one of auto, cpu, .*'tpu'"):
        get_target("tpu")


def test_target_that_this_machine_lacks_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "mips")
    with pytest.raises(TargetError, match=r"'cpu' is not available on this machine: .*; use"):
        get_target("cpu")


def _names() -> set[str]:
    """Of normalisers in the table, and of layers that kernels must not know."""
    layers = "attention sdpa flash softmax layer_norm rms_norm layernorm transformer bert gelu silu"
    plain = {"none", "layer"}  # words of their own
    return (set(NORMALIZERS) - plain) | set(layers.split())


def _mentions(text: str) -> set[str]:
    words = set(re.findall(r"[a-z0-9]+(?:_[a-z0-9]+)*", text.lower()))
    parts = {part for word in words for part in word.split("_")}
    return _names() & (words | parts)


def test_no_target_knows_a_normaliser_or_a_layer() -> None:
    files = sorted(Path(targets.__file__).parent.rglob("*.py"))
    assert len(files) > 30
    found = {file.name: _mentions(file.read_text()) for file in files}
    assert {name: words for name, words in found.items() if words} == {}


@pytest.mark.parametrize(
    "text", ["def _softmax_kernel():", 'if kind == "l2":', "# Flash attention"]
)
def test_names_would_be_found(text: str) -> None:
    assert _mentions(text)
