"""Switches read the environment, refuse nonsense, and can be overridden in a block."""

import logging
from pathlib import Path

import pytest

from diagc import debug, options
from diagc.errors import UserError


def test_every_switch_is_documented_and_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for switch in debug.SWITCHES:
        monkeypatch.delenv(switch.name, raising=False)
        assert switch.name.startswith("DIAGC_")
        assert switch.doc
        switch.get()


def test_every_switch_is_listed() -> None:
    defined = {v.name for v in vars(debug).values() if isinstance(v, debug.Switch)}
    assert {switch.name for switch in debug.SWITCHES} == defined


def test_switch_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIAGC_CACHE_DIR", "~/x")
    monkeypatch.setenv("DIAGC_VALIDATE", "on")
    assert debug.CACHE_DIR.get() == Path.home() / "x"
    assert debug.VALIDATE.get() is True


def test_switch_refuses_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIAGC_VALIDATE", "perhaps")
    with pytest.raises(UserError, match=r"DIAGC_VALIDATE, expected one of .*, found 'perhaps'"):
        debug.VALIDATE.get()


def test_override_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIAGC_VALIDATE", "0")
    with debug.VALIDATE.override(True):
        assert debug.VALIDATE.get() is True
        with debug.VALIDATE.override(False):
            assert debug.VALIDATE.get() is False
    assert debug.VALIDATE.get() is False


def test_logger_follows_the_switch() -> None:
    with debug.LOG.override("debug"):
        assert debug.logger("x").isEnabledFor(logging.DEBUG)
    with debug.LOG.override("off"):
        assert not debug.logger("x").isEnabledFor(logging.CRITICAL)


def test_options_take_defaults_from_switches() -> None:
    with debug.VALIDATE.override(True):
        assert options.CompileOptions().validate


def test_options_in_force_are_those_of_the_block() -> None:
    wanted = options.CompileOptions(target="interp", timing=True)
    with options.use(wanted):
        assert options.current() is wanted
    assert options.current() == options.CompileOptions()
