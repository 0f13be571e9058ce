"""Runs the checks of continuous integration, as many at once as there are cores; says which failed.

`python tools/run_checks.py` runs all, `python tools/run_checks.py lint types` some. All run even if
one fails; the exit status is 1 then. What a check prints is shown when it has ended.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "test" / "python"

TYPED = ("python/diagc", "test/python", "examples", "benchmarks", "tools")

SHARDS: dict[str, tuple[str, ...]] = {
    "targets": ("targets",),
    # Inductor keeps files outside of its cache that two programs at once spoil for each other.
    "torch": ("torch_backend", "integrations", "api"),
    "properties": ("properties", "algebra", "benchmarks"),
    "kernels": ("execution", "simulator", "runtime", "package"),
}
"""Folders of tests that one process runs; those that are not named here are `pytest-rest`."""


MOST_AT_ONCE = 4
"""One takes up to 3 GiB."""


class Outcome(NamedTuple):
    """What a check left: exit status, seconds and output."""

    status: int
    seconds: float
    output: str


def shards() -> dict[str, list[str]]:
    """The arguments of pytest for each part of the tests; lit's tests are a check of their own."""
    named = {folder for folders in SHARDS.values() for folder in folders}
    parts = {name: list(folders) for name, folders in SHARDS.items()}
    parts["rest"] = [
        path.name
        for path in sorted(TESTS.iterdir())
        if path.name not in named | {"test_lit.py"}
        and (path.name.startswith("test_") or any(path.glob("test_*.py")))
    ]
    common = ["-m", "pytest", "--durations=10"]
    return {
        f"pytest-{name}": [*common, *(f"test/python/{path}" for path in paths)]
        for name, paths in parts.items()
    }


# Long ones first, so that no core waits at the end.
CHECKS: dict[str, list[str]] = {
    **shards(),
    "lit": ["-c", "from lit.main import main; main()", "-sv", "-j1", "--time-tests", "test"],
    "types": ["-m", "mypy", *(name for name in TYPED if (ROOT / name).is_dir())],
    "size": ["tools/size_report.py"],
    "lint": ["-m", "ruff", "check", "."],
    "format": ["-m", "ruff", "format", "--check", "."],
}


def main(names: list[str]) -> int:
    """Run the checks called `names` (`pytest` is all its parts), or all; gives the exit status."""
    asked = [check for name in names for check in matching(name)] or list(CHECKS)
    unknown = [name for name in names if not matching(name)]
    if unknown:
        print(f"error: no such check {unknown[0]!r}; known: {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    outcomes = run_all(asked)
    failed = [name for name in asked if outcomes[name].status]
    times = ", ".join(f"{name} {outcomes[name].seconds:.0f} s" for name in asked)
    print(f"==> {'failed: ' + ', '.join(failed) if failed else 'all checks passed'} ({times})")
    return 1 if failed else 0


def matching(name: str) -> list[str]:
    """The checks that a word of the command line asks for."""
    return [check for check in CHECKS if check == name or check.startswith(f"{name}-")]


def run_all(names: list[str]) -> dict[str, Outcome]:
    """Run checks side by side; shows what each printed, and the end of failed ones once more."""
    outcomes: dict[str, Outcome] = {}
    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), MOST_AT_ONCE)) as pool:
        running = {pool.submit(run, name): name for name in names}
        for future in as_completed(running):
            name = running[future]
            outcomes[name] = future.result()
            print(f"==> {name}\n{outcomes[name].output}", flush=True)
    for name in names:
        if outcomes[name].status:
            print(f"==> {name} failed; its last lines\n{outcomes[name].output[-4000:]}")
    return outcomes


def run(name: str) -> Outcome:
    """Run one check with this Python."""
    print(f"==> {name} runs", flush=True)
    start = time.perf_counter()
    path = os.pathsep.join(filter(None, [str(ROOT / "python"), os.environ.get("PYTHONPATH")]))
    # each of the hundreds of processes that tests start would compile all modules anew
    keep = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, *CHECKS[name]],
        cwd=ROOT,
        env={**keep, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return Outcome(done.returncode, time.perf_counter() - start, done.stdout)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
