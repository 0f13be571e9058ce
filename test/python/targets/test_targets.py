"""The table of targets."""

import platform

import pytest

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
