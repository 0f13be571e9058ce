"""The run time is compiled where there is a compiler, and what is missing is said where not."""

import stat
from pathlib import Path

import numpy as np
import pytest

from diagc import debug
from diagc.errors import InternalError, LaunchError, TargetError, UserError
from diagc.simulator import Buffer, simulate
from diagc.simulator.build import find_compiler, runtime_library
from diagc.testing.lane_kernel import kernel_text

TEXT = "  ret void"


def test_missing_compiler_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert find_compiler() is None
    with pytest.raises(TargetError, match=r"needs a C\+\+ compiler.*apt install g\+\+"):
        runtime_library.__wrapped__()


def test_environment_names_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "my-c++"
    compiler.write_text("#!/bin/sh\necho it does not like this; exit 1\n", encoding="utf-8")
    compiler.chmod(stat.S_IRWXU)
    monkeypatch.setenv("CXX", str(compiler))
    assert find_compiler() == str(compiler)
    with (
        debug.CACHE_DIR.override(tmp_path / "cache"),
        pytest.raises(InternalError, match="it does not like this"),
    ):
        runtime_library.__wrapped__()
    assert not list((tmp_path / "cache" / "simulator").glob("*.so"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"launch_symbol": "other"}, "no such kernel, expected kernel"),
        ({"params": []}, "takes other parameters, expected 1, found 0"),
        ({"params": [1.5]}, "parameter 0 of 'kernel', expected i32"),
        ({"params": [Buffer(np.zeros(1), "x")]}, "parameter 0 of 'kernel', expected i32"),
        ({"grid": (0,)}, "a grid has one to three sizes"),
        ({"block_threads": 2000}, "expected 1 to 1024, found 2000"),
        ({"shared_bytes": -1}, "expected at least 0"),
    ],
)
def test_launches_that_cannot_be_meant(changes: dict[str, object], message: str) -> None:
    launch: dict[str, object] = {"launch_symbol": "kernel", "params": [1], "grid": (1,)}
    launch |= {"block_threads": 32, **changes}
    with pytest.raises(LaunchError, match=message):
        simulate(kernel_text("i32 %n", TEXT), **launch)  # type: ignore[arg-type]


def test_text_without_a_kernel_is_refused() -> None:
    with pytest.raises(UserError, match="holds no kernel"):
        simulate("define void @f() {\n  ret void\n}\n", "f", [], (1,), 32)


def test_negative_strides_and_read_only_results_are_refused() -> None:
    with pytest.raises(LaunchError, match="negative stride"):
        Buffer(np.zeros(4)[::-1], "x")
    fixed = np.zeros(4)
    fixed.flags.writeable = False
    with pytest.raises(LaunchError, match="read-only"):
        Buffer(fixed, "y", writable=True)
