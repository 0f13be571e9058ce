"""The GPU benchmark without a GPU: packages for the CPU go through the same scripts."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
ONLY = (
    "^(l1-bf16-d64|grouped-.*|bias-.*|layer-norm-f32|column-.*|masked-rows.*|bottom-right.*"
    "|table-full-d64-n4096)$"
)


def environment() -> dict[str, str]:
    """One thread: several tests run at a time."""
    paths = [str(ROOT / "python"), str(ROOT / "benchmarks"), *sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def run(module: str, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        check=check,
        env=environment(),
    )


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    run("gpu.build", str(folder), "--target=cpu", "--small", f"--only={ONLY}")
    return folder


def checked(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    out = folder / "result.json"
    done = run(
        *("gpu.check", str(folder), "--device=cpu", f"--out={out}", "--seconds=600", *arguments),
        check=False,
    )
    assert out.exists(), done.stderr
    return done.returncode, json.loads(out.read_text())


def changed(packages: Path, folder: Path, change: Callable[[list[Any]], None]) -> Path:
    """A copy of the packages with another index."""
    shutil.copytree(packages, folder)
    index = json.loads((folder / "index.json").read_text())
    change(index["built"])
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def named(built: list[Any], name: str) -> Any:
    (entry,) = [entry for entry in built if entry["variant"] == name]
    return entry


def test_right_packages_are_right(packages: Path) -> None:
    status, record = checked(packages)
    assert status == 0
    outcomes = {outcome["variant"]: outcome for outcome in record["outcomes"]}
    assert len(outcomes) == 8
    assert {outcome["status"] for outcome in outcomes.values()} == {"ok"}
    for outcome in outcomes.values():
        assert 0 < outcome["check"]["error"] <= outcome["check"]["allowed"] or (
            outcome["variant"].startswith("column") and outcome["check"]["error"] == 0
        )
        assert outcome["times"]["ratios"]["eager"][0] > 0
        assert outcome["times"]["rounds"] >= 5
        assert outcome["gates"] == []  # small sizes say nothing
    grouped = outcomes["grouped-bf16-d128"]["times"]
    assert {"sdpa flash", "sdpa cudnn"} <= grouped["ratios"].keys() | grouped["absent"].keys()
    row = outcomes["table-full-d64-n4096"]
    assert {"sdpa flash", "triton"} <= row["peer_errors"].keys()
    assert {"eager", "triton"} <= row["times"]["ratios"].keys()
    assert (row["shapes"][0], row["flops"], row["choice"]) == ([2, 150, 64], None, None)
    assert record["ceilings"]["copy_bytes_per_second"] > 0
    folder = packages / "pictures"
    drawn = run("gpu.plots", str(packages / "result.json"), f"--out={folder}").stdout
    assert len(drawn.splitlines()) == 2


def test_wrong_packages_are_found(packages: Path, tmp_path: Path) -> None:
    """Another normaliser, another mask, another shape: each under the name of a right one."""

    def change(built: list[Any]) -> None:
        named(built, "l1-bf16-d64")["package"] = "softmax-bf16-d64.diagpkg"
        named(built, "layer-norm-f32")["package"] = "nothing.diagpkg"
        named(built, "column-largest-bf16")["package"] = None
        named(built, "column-largest-bf16")["error"] = "the compiler said no"

    folder = changed(packages, tmp_path / "p", change)
    run("gpu.build", str(tmp_path / "q"), "--target=cpu", "--small", "--only=^softmax-bf16-d64$")
    shutil.copy(tmp_path / "q" / "softmax-bf16-d64.diagpkg", folder)
    status, record = checked(folder, "--no-time")
    outcomes = {outcome["variant"]: outcome for outcome in record["outcomes"]}
    assert status == 1
    assert outcomes["l1-bf16-d64"]["status"] == "wrong"
    assert "allowed" in outcomes["l1-bf16-d64"]["why"]
    assert outcomes["layer-norm-f32"]["status"] == "failed"
    assert "cannot read" in outcomes["layer-norm-f32"]["why"]
    assert outcomes["column-largest-bf16"]["why"] == "not built: the compiler said no"
    assert outcomes["bias-bf16-d64"]["status"] == "ok"


def test_no_time_left_is_said(packages: Path) -> None:
    _, record = checked(packages, "--seconds=1")
    assert {outcome["status"] for outcome in record["outcomes"]} == {"skipped"}


def test_compilers_refusals_are_recorded(tmp_path: Path) -> None:
    arguments = (str(tmp_path), "--target=interp", "--small", "--only=^row-sums")
    done = run("gpu.build", *arguments, check=False)
    assert done.returncode == 1
    (entry,) = json.loads((tmp_path / "index.json").read_text())["built"]
    assert entry["package"] is None
    assert "interp" in entry["error"]


def test_poison_shows_what_nobody_writes() -> None:
    code = (
        "import torch; from gpu.correctness import poisoned, check; from gpu.catalog import *\n"
        "v = VARIANTS['rows-softmax-f32']\n"
        "found = check(v, lambda x: torch.empty(x.shape), 'cpu', True)\n"
        "assert found.problem.startswith('error inf'), found\n"
        "count = []\n"
        "moving = lambda x: torch.softmax(x, -1) + 1e-9 * (count.append(0) or len(count))\n"
        "assert 'two runs' in check(v, moving, 'cpu', True).problem\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


def test_the_floor_is_one_unit_in_the_last_place() -> None:
    code = (
        "import torch; from gpu.correctness import check; from gpu.catalog import *\n"
        "v = VARIANTS['column-largest-bf16']\n"  # eager is exact
        "found = check(v, v.function, 'cpu', True)\n"
        "assert found.problem is None and found.error == 0, found\n"
        "assert found.allowed == torch.finfo(torch.bfloat16).eps, found\n"
        "off = lambda x: (v.function(x).double() * (1 + 2.0**-6)).to(x.dtype)\n"
        "assert check(v, off, 'cpu', True).problem.startswith('error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


@pytest.mark.parametrize("name", ["masked-rows-bf16-d64", "bottom-right-bf16-d64"])
def test_rows_without_keys_are_judged(name: str) -> None:
    code = (
        "import sys, torch; from gpu.correctness import check; from gpu.catalog import *\n"
        "v = VARIANTS[sys.argv[1]]\n"
        "inputs = v.inputs(1, 'cpu', True)\n"
        "(exact,) = v.reference(inputs)\n"
        "empty = (exact == 0).all(-1)\n"
        "assert 0 < empty.float().mean() < 1\n"
        "assert check(v, lambda *t: v.eager(*t)[0], 'cpu', True).problem is None\n"
        "assert check(v, v.function, 'cpu', True).problem.startswith('error inf')\n"
        "def uniform(*t):\n"
        "    return torch.where(empty[..., None], t[2].mean(-2, True), v.eager(*t)[0])\n"
        "assert check(v, uniform, 'cpu', True).problem.startswith('error')\n"
    )
    subprocess.run([sys.executable, "-c", code, name], check=True, env=environment())


WORKER = """
import json, sys, time, os
job = json.load(sys.stdin)
def say(**event): print("noise\\n" + json.dumps(event), flush=True)
if job["ceilings"] is None: say(ceilings={"copy_bytes_per_second": 1.0})
for entry in job["entries"]:
    name = entry["variant"]
    say(next=name)
    if name == "crash": os.abort()
    if name == "stall": time.sleep(60)
    say(outcome={"variant": name, "status": "ok"})
    if name == "last": sys.exit(3)
"""


def test_crashes_and_stalls_are_outcomes() -> None:
    code = (
        "import sys, json, time\n"
        "from gpu.supervisor import Supervisor\n"
        "from gpu.worker import Job\n"
        "names, worker = json.loads(sys.argv[1]), (sys.executable, '-c', sys.argv[2])\n"
        "job = Job('.', 'cpu', True, False, 0.0, [{'variant': n} for n in names])\n"
        "end = time.perf_counter() + float(sys.argv[3])\n"
        "found = list(Supervisor(3.0, end, command=worker).run(job))\n"
        "print(json.dumps([[o['variant'], o['status'], o.get('why')] for o in found]))\n"
    )

    def outcomes(names: list[str], worker: str, seconds: float) -> list[list[str]]:
        command = [sys.executable, "-c", code, json.dumps(names), worker, str(seconds)]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment()
        )
        found: list[list[str]] = json.loads(done.stdout)
        return found

    names = ["a", "crash", "b", "stall", "last", "c"]
    found = outcomes(names, WORKER, 100.0)
    assert [entry[0] for entry in found] == names
    states = {entry[0]: entry[1] for entry in found}
    assert [name for name, state in states.items() if state == "failed"] == ["crash", "stall"]
    assert "ended with status -6" in found[1][2]
    assert "nothing came for 3 s" in found[3][2]
    found = outcomes(["a", "b"], "import sys; sys.exit(1)", 100.0)
    assert [entry[1] for entry in found] == ["failed", "failed"]
    found = outcomes(["a", "stall", "b"], WORKER, 2.0)
    assert [entry[1:] for entry in found[1:]] == [["skipped", "no time was left"]] * 2
