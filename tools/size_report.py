"""Measures the size of files and functions, and fails where one is over the limit of the house.

A file has at most 500 lines, a function at most 60: see CONTRIBUTING.md.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parent.parent
FILE_LIMIT = 500
FUNCTION_LIMIT = 60


def tracked_files() -> list[Path]:
    """Give the Python files that git knows or would add; links are left out."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = (ROOT / name for name in names.splitlines())
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Give `file:line name` and the number of lines of every function in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", lines


def summary(title: str, sizes: list[int]) -> str:
    """Give one line: count, total, median, 90th percentile, maximum."""
    p90 = quantiles(sizes, n=10)[-1] if len(sizes) > 1 else sizes[0]
    return (
        f"{title:10} {len(sizes):5} {sum(sizes):7} lines   "
        f"median {median(sizes):5.0f}   p90 {p90:5.0f}   max {max(sizes):5}"
    )


def main() -> int:
    """Print the report; the result is the exit status."""
    paths = tracked_files()
    file_sizes = {str(p.relative_to(ROOT)): p.read_text().count("\n") for p in paths}
    function_sizes = dict(item for path in paths for item in functions(path))
    print(summary("files", list(file_sizes.values())))
    print(summary("functions", list(function_sizes.values())))
    limits = ((file_sizes, FILE_LIMIT), (function_sizes, FUNCTION_LIMIT))
    over = [
        (n, size, limit) for sizes, limit in limits for n, size in sizes.items() if size > limit
    ]
    for name, size, limit in over:
        print(f"error: {name} has {size} lines, the limit is {limit}; split it at a natural seam")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
