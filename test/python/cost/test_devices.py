"""Descriptions of devices: those that come along, files, errors, the measured one."""

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from diagc import debug
from diagc.cost import Level, cpu_device, device_of_architecture, find_device, known_devices
from diagc.cost import machine_device as this_machine
from diagc.cost.device_catalog import THIS_CPU, processor_name, store_measured
from diagc.cost.device_file import device_text, parse_device
from diagc.errors import UserError

H200 = files("diagc.cost").joinpath("devices", "h200.toml").read_text(encoding="utf-8")


def test_all_descriptions_are_complete() -> None:
    devices = {device.name: device for device in known_devices()}
    assert {"h100-sxm", "h200", "a100-80", "l4", "cpu-avx2", THIS_CPU} <= devices.keys()
    for device in devices.values():
        assert device.levels[-1].name == "memory"
        assert all(level.source for level in device.levels if device.name != THIS_CPU)
        bandwidths = [level.bandwidth for level in device.levels]
        assert bandwidths == sorted(bandwidths, reverse=True)
        assert device.rate("special")


def test_every_figure_names_its_source() -> None:
    for name in ("h100-sxm", "h200", "a100-80", "l4"):
        device = find_device(name)
        sources = [level.source for level in device.levels]
        sources += [rate.source for rate in device.rates]
        assert all("http" in source or "no figure is published" in source for source in sources)


def test_limits_are_those_of_the_code_generator() -> None:
    from diagc.targets.nvptx.arch import ARCHITECTURES

    for name in ("h100-sxm", "h200", "a100-80", "l4"):
        device = find_device(name)
        arch = ARCHITECTURES[device.architecture]
        assert device.limits["shared_per_block"] == arch.block_shared_bytes
        assert device.level("shared").size == arch.sm_shared_bytes
        assert device.limits["registers"] == arch.registers
        assert device.limits["threads"] == arch.sm_threads
        assert device.limits["blocks"] == arch.sm_blocks


def test_device_knows_levels_lanes_and_rates() -> None:
    device = cpu_device(64)
    assert device.level("l1").size < device.level("l2").size
    assert (device.lanes(4), device.lanes(8)) == (16, 8)
    half, single, double = (device.rate("fma", dtype) for dtype in ("bf16", "f32", "f64"))
    assert half
    assert single
    assert double
    assert half > single > double
    assert device.rate("fma", "i8") == single
    assert device.rate("tensor") is None
    with pytest.raises(KeyError):
        device.level("l4")
    with pytest.raises(KeyError):
        cpu_device(128)
    with pytest.raises(KeyError):
        device_of_architecture("sm_10")


def test_more_units_do_more_and_share_main_memory() -> None:
    one, four = cpu_device(64), cpu_device(64).with_units(4)
    assert four.rate("fma") == 4 * (one.rate("fma") or 0)
    assert four.level("l2").bandwidth == 4 * one.level("l2").bandwidth
    assert four.level("memory") == one.level("memory")


@pytest.mark.parametrize(("size", "bandwidth"), [(0, 1.0), (1, 0.0)])
def test_empty_level_is_refused(size: int, bandwidth: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        Level("l1", size, bandwidth)


# ---- files -------------------------------------------------------------------------------------


def without(line: str) -> Callable[[str], str]:
    """Leave out the first line that starts so."""

    def edit(text: str) -> str:
        lines = text.splitlines()
        lines.remove(next(found for found in lines if found.startswith(line)))
        return "\n".join(lines)

    return edit


def changed(old: str, new: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return edit


FAULTS = {
    "no units": (without("units"), "field 'units'", "the field is missing"),
    "no kind": (without("kind"), "field 'kind'", 'expected "cpu" or "gpu"'),
    "no bandwidth": (without("bandwidth ="), "field 'level[0].bandwidth'", "a positive number"),
    "no rate": (without("per_second"), "field 'rate[0].per_second'", "the field is missing"),
    "no launch": (without("seconds"), "field 'launch.seconds'", "the field is missing"),
    "no limit": (without("registers ="), "field 'limits.registers'", "the field is missing"),
    "no source": (without("source"), "field 'launch.source'", "the field is missing"),
    "unknown source": (
        changed('source = "datasheet"', 'source = "rumour"'),
        "field 'level[2].source'",
        "found 'rumour'",
    ),
    "negative": (changed("4.8e12", "-4.8e12"), "field 'level[2].bandwidth'", "found -48"),
    "text for a number": (changed("units = 132", 'units = "132"'), "field 'units'", "found '132'"),
    "part of a unit": (changed("units = 132", "units = 1.5"), "field 'units'", "whole number"),
    "infinite": (changed("4.8e12", "inf"), "field 'level[2].bandwidth'", "found inf"),
    "true": (changed("units = 132", "units = true"), "field 'units'", "found True"),
    "misspelt": (
        changed("bandwidth =", "bandwith ="),
        "field 'level[0].bandwith'",
        "unknown field",
    ),
    "other sharing": (changed('"unit"', '"core"'), "field 'level[0].shared_by'", "found 'core'"),
    "other pipe": (changed('"tensor"', '"matrix"'), "field 'rate[0].pipe'", "found 'matrix'"),
    "no memory": (changed('name = "memory"', 'name = "hbm"'), "field 'level'", "found 'hbm'"),
    "no fma": (
        changed('pipe = "fma"\ndtype = "f32"', 'pipe = "fma"\ndtype = "f16"'),
        "field 'rate'",
        'a rate of the pipe "fma"',
    ),
    "no toml": (changed("[sources]", "[sources"), "not a TOML file", "see the files in"),
    "level is a table": (changed("[[level]]", "[level]"), "not a TOML file", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_name_file_field_and_what_was_expected(tmp_path: Path, fault: str) -> None:
    edit, *expected = FAULTS[fault]
    path = tmp_path / "mine.toml"
    path.write_text(edit(H200), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        find_device(str(path))
    for part in (str(path), *expected, "see the files in diagc/cost/devices"):
        assert part in caught.value.summary


def test_missing_file_and_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the device file"):
        find_device(str(tmp_path / "none.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="it is no text"):
        find_device(str(tmp_path / "binary.toml"))
    with pytest.raises(UserError, match=r"expected one of a100-80.*found 'tpu'"):
        find_device("tpu")


def test_description_survives_writing_and_reading() -> None:
    for name in ("h200", "cpu-avx2"):
        device = find_device(name)
        again = parse_device(device_text(device, 'a "source"'), "again")
        assert [level.name for level in again.levels] == [level.name for level in device.levels]
        assert again.limits == device.limits
        for new, old in zip(again.rates, device.rates, strict=True):
            assert new.per_second == pytest.approx(old.per_second)
            assert new.source == 'a "source"'


# ---- this machine ------------------------------------------------------------------------------


def test_measured_description_is_used_from_then_on(tmp_path: Path) -> None:
    with debug.CACHE_DIR.override(tmp_path):
        assert "not measured" in this_machine().summary
        measured = replace(this_machine(), summary=processor_name(), launch_seconds=7e-6)
        path = store_measured(measured)
        assert this_machine().launch_seconds == 7e-6
        assert find_device(THIS_CPU).launch_seconds == 7e-6
        path.write_text("units = ", encoding="utf-8")
        assert "not measured" in this_machine().summary


def test_measurements_of_another_machine_are_not_used(tmp_path: Path) -> None:
    with debug.CACHE_DIR.override(tmp_path):
        store_measured(replace(this_machine(), summary="another CPU, 64 cores"))
        assert "not measured" in this_machine().summary
