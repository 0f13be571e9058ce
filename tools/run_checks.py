"""Runs the checks of continuous integration one after the other, and says which failed.

`python tools/run_checks.py` runs all, `python tools/run_checks.py lint types` some. All run even if
one fails; the exit status is 1 then.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

TYPED = ("python/diagc", "test/python", "examples", "benchmarks", "tools")

# Cheap ones first; pytest last, so that its closing line ends the output.
CHECKS: dict[str, list[str]] = {
    "format": ["-m", "ruff", "format", "--check", "."],
    "lint": ["-m", "ruff", "check", "."],
    "size": ["tools/size_report.py"],
    "types": ["-m", "mypy", *(name for name in TYPED if (ROOT / name).is_dir())],
    "lit": ["-c", "from lit.main import main; main()", "-sv", "--time-tests", "test"],
    "pytest": ["-m", "pytest", "--durations=25"],
}


def main(names: list[str]) -> int:
    """Run the checks called `names`, or all; the result is the exit status."""
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(f"error: no such check {unknown[0]!r}; known: {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    results = {name: run(name) for name in names or CHECKS}
    failed = [name for name, (status, _) in results.items() if status]
    times = ", ".join(f"{name} {seconds:.0f} s" for name, (_, seconds) in results.items())
    print(f"==> {'failed: ' + ', '.join(failed) if failed else 'all checks passed'} ({times})")
    return 1 if failed else 0


def run(name: str) -> tuple[int, float]:
    """Run one check with its output shown; gives exit status and seconds."""
    print(f"==> {name}", flush=True)
    start = time.perf_counter()
    path = os.pathsep.join(filter(None, [str(ROOT / "python"), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *CHECKS[name]],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    return done.returncode, time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
