"""Imports point one way, heavy packages stay where they belong, and commands start fast."""

import ast
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "python" / "diagc"

# Which parts of diagc a part may import; a part is a module or folder under `diagc`, the longest
# match counts. Everything may import `BASE`, and every part itself.
BASE = {
    *("crash", "debug", "diagnostics", "errors", "files", "mlir", "options", "private_directory"),
    "size_texts",
}
IR = {"context", "dialects", "normalizer_meaning"}
PASSES = IR | {"algebra", "cost", "passes"}
TARGETS = PASSES | {"runtime", "targets"}
COMPILER = TARGETS | {
    "autotune",
    "compiler",
    "report",
    "frontend",
    "host_program",
    "program_cache",
    "stages",
}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "debug": {"errors"},
    "mlir": {"debug", "errors"},
    "options": {"debug", "errors"},
    "diagnostics": {"errors"},
    "files": {"errors"},
    "private_directory": {"errors"},
    "size_texts": set(),
    "crash": {"debug", "errors"},
    "normalizer_meaning": IR,
    "dialects": IR,
    "context": IR,
    "algebra": IR,
    "cost": IR | {"algebra"},
    "passes": PASSES,
    "frontend": IR | {"algebra", "runtime"},
    "runtime": set(),
    "targets": TARGETS,
    "report": TARGETS,
    "viz": IR | {"frontend", "algebra"},
    "drawings": COMPILER | {"viz"},
    "explain_page": COMPILER | {"viz", "drawings"},
    "host_program": TARGETS,
    "program_cache": TARGETS | {"report", "host_program"},
    "stages": TARGETS,
    "compiler": COMPILER,
    "autotune": TARGETS,
    "variants": COMPILER,
    "scalars": IR | {"algebra"},
    "normalizers": IR | {"algebra", "frontend"},
    "feature_sizes": COMPILER,
    "torch_build": COMPILER | {"feature_sizes"},
    "api": COMPILER | {"drawings", "explain_page", "viz", "simulator", "torch_build", "variants"},
    "packed": {"api"},
    "torch_backend": COMPILER | {"api", "feature_sizes"},
    "integrations": COMPILER | {"api"},
    "testing": COMPILER | {"driver", "normalizers", "opt", "scalars", "simulator"},
    "simulator": TARGETS,
    "arguments": set(),
    "opt": COMPILER | {"arguments", "testing"},
    "commands": COMPILER
    | {"drawings", "explain_page", "viz", "__init__", "normalizers", "simulator"}
    | {"api", "torch_backend"},
    "driver": {"__init__", "arguments", "commands", "opt", "targets"},
    "__init__": {"api"},
    "__main__": {"driver"},
}

# Where a package may be imported at all; `()` means nowhere else.
HEAVY: dict[str, tuple[str, ...]] = {
    "torch": (
        *("frontend/torch/", "runtime/", "torch_backend/", "integrations/", "commands/"),
        *("testing/fake_cuda.py", "testing/models.py", "testing/library_models.py", "packed.py"),
        *("testing/own_rule.py", "testing/saved_tensors.py", "testing/variant_packages.py"),
        "testing/guard_pages.py",
    ),
    "torch_mlir": ("mlir.py",),
    "mlir": ("mlir.py",),
    "transformers": ("integrations/transformers.py", "testing/models.py"),
    "matplotlib": ("viz/",),
    **dict.fromkeys(("timm", "diffusers", "e3nn"), ("testing/library_models.py",)),
    "jinja2": ("explain_page/",),
}

# The run time is what a machine without the compiler has.
NOT_IN_RUNTIME = {"diagc.mlir", "diagc.dialects", "diagc.passes", "llvmlite"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Give path inside the package and syntax tree of every module, links included."""
    folders = [PACKAGE, PACKAGE / "dialects", PACKAGE / "passes"]
    for path in sorted({path for folder in folders for path in folder.rglob("*.py")}):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Give dotted name and line of every import that is ever made, in functions too."""
    for node in without_type_imports(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def without_type_imports(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, except blocks of `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        skipped = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not skipped:
            yield node
            yield from without_type_imports(node)


def part_of(path: str) -> str:
    return path.split("/")[0].removesuffix(".py")


def is_part(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


MODULES = list(modules())


@pytest.mark.parametrize("path", [path for path, _ in MODULES])
def test_imports_point_one_way(path: str) -> None:
    part = part_of(path)
    assert part in MAY_IMPORT, f"say in MAY_IMPORT what '{part}' may import"
    allowed = MAY_IMPORT[part] | {part} | (set() if part in BASE else BASE)
    for name, line in imported(dict(MODULES)[path]):
        words = name.split(".")
        if words[0] == "diagc" and len(words) > 1 and is_part(words[1]):
            assert words[1] in allowed, f"{path}:{line}: '{part}' may not import diagc.{words[1]}"


@pytest.mark.parametrize("path", [path for path, _ in MODULES])
def test_heavy_packages_stay_where_they_belong(path: str) -> None:
    for name, line in imported(dict(MODULES)[path]):
        package = name.split(".")[0]
        if package in HEAVY:
            assert path.startswith(HEAVY[package]), f"{path}:{line}: imports {package}"


def test_runtime_needs_no_compiler() -> None:
    for path, tree in MODULES:
        for name, line in imported(tree) if path.startswith("runtime/") else ():
            banned = any(f"{name}.".startswith(f"{prefix}.") for prefix in NOT_IN_RUNTIME)
            assert not banned, f"{path}:{line}: imports {name}"


def loaded_after(statement: str) -> set[str]:
    """Give the top-level packages that a fresh Python has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import diagc", {"torch", "sympy", "numpy", "torch_mlir", "rich"}),
        ("import diagc.opt", {"torch", "sympy", "numpy", "torch_mlir", "rich"}),
        ("import diagc.driver", {"torch", "sympy", "numpy", "torch_mlir", "rich"}),
        ("from diagc.mlir import ir", {"torch", "sympy"}),
        ("from diagc.passes.pipeline import Pipeline", {"torch", "sympy"}),
        ("import diagc.runtime", {"torch_mlir", "sympy", "llvmlite"}),
    ],
)
def test_import_is_light(statement: str, absent: set[str]) -> None:
    assert not loaded_after(statement) & absent


def test_opt_runs_without_torch() -> None:
    run = "import diagc.opt, io, sys; sys.stdin = io.StringIO(''); diagc.opt.main(['--cse'])"
    assert "torch" not in loaded_after(run)


@pytest.mark.parametrize("module", ["diagc.opt", "diagc"])
def test_help_starts_fast(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    seconds = []
    for _ in range(5):
        start = _seconds_of_children()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(_seconds_of_children() - start)
    assert re.match(r"usage: diagc", done.stdout)
    assert min(seconds) <= 0.4


def _seconds_of_children() -> float:
    """Time on a processor: what else the machine does counts for nothing."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("name", ["dialects", "passes"])
def test_folders_refuse_to_be_top_level_packages(name: str) -> None:
    code = f"import {name}"
    root = PACKAGE.parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"import diagc.{name}, not {name}" in done.stderr
