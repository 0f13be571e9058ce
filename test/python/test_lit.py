"""Every lit test of this folder's parent, run in this process: the daily form of `lit test`."""

from pathlib import Path

import pytest

from diagc.testing.lit_runner import collect, parse_test, run_test

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("path", [str(path.relative_to(ROOT)) for path in collect(ROOT)])
def test_lit(path: str) -> None:
    test = parse_test(ROOT / path)
    if missing := test.missing_features():
        pytest.skip(f"needs {', '.join(sorted(missing))}")
    failure = run_test(test)
    if failure is not None:
        pytest.fail(failure, pytrace=False)
