"""Packages with several programs: which one runs, by what was measured, listed and predicted."""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import diagc
from diagc import debug
from diagc.errors import PackageError, UserError
from diagc.runtime import load
from diagc.runtime.cache import default_cache
from diagc.runtime.package import archive, chooser, manifest, tuned_table
from diagc.runtime.package.choice import Machine, Record
from diagc.runtime.package.tuned_table import FOLDER, TunedEntry, TunedTable, read_table
from diagc.runtime.package.variants import shape_class
from diagc.runtime.package.writer import ProgramVariant, ProgramVariants, of_program, save
from diagc.runtime.program import Program
from diagc.runtime.steps import Output
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.testing.fake_cuda import FakeCuda, launches
from diagc.testing.variant_packages import (
    FAMILY,
    SHAPES,
    TIMES,
    contents,
    edit,
    listed,
    program,
    tensors,
)
from diagc.variants import (
    Alternatives,
    VariantMaker,
    choices_of_kernels,
    name_of_kernels,
    shapes_around,
)


def table(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    (folder / "tables").mkdir()
    (folder / "tables" / "gpu.json").write_text(text)
    monkeypatch.setattr(tuned_table, "FOLDER", folder / "tables")


# ---- by prediction -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(64, "small blocks"), (1, "small blocks"), (3000, "large blocks"), (10**6, "large blocks")],
)
def test_nearest_prediction_decides(
    cuda: FakeCuda, package: Path, rows: int, expected: str
) -> None:
    loaded = load(package)
    assert loaded.variants == tuple(TIMES)
    choice = loaded.choice(*tensors(rows))
    assert (choice.variant, choice.source) == (expected, "predicted")


def test_the_chosen_program_runs_and_is_right(cuda: FakeCuda, package: Path) -> None:
    loaded = load(package)
    for rows in (64, 4096, 64):
        x, y = tensors(rows)
        cuda.log()
        assert torch.equal(loaded(x, y)[0], x + y)
        expected = {64: 32, 4096: 64}[rows]
        (line,) = launches(cuda.log())
        assert f" block {expected} 1 1 " in line


def test_little_gain_keeps_the_compilers_choice(cuda: FakeCuda, tmp_path: Path) -> None:
    made = contents()
    assert made.variants is not None
    first, second, third = made.variants.entries
    entries = (first, replace(second, predicted=(0.98, 4.0)), third)
    changed = replace(made, variants=replace(made.variants, entries=entries))
    save(tmp_path / "b.diagpkg", changed, target="nvptx:sm_80", version="0")
    with debug.CACHE_DIR.override(tmp_path / "cache"):
        assert load(tmp_path / "b.diagpkg").choice(*tensors()).variant == "small blocks"


def test_variants_for_other_gpus_are_left_out(cuda: FakeCuda, tmp_path: Path) -> None:
    path = tmp_path / "b.diagpkg"
    save(path, contents(v0="sm_90a"), target="nvptx:sm_90a", version="0")
    loaded = load(path)
    assert loaded.variants == ("large blocks", "threads")
    x, y = tensors()
    assert torch.equal(loaded(x, y)[0], x + y)
    save(path, contents(v0="sm_90", v1="sm_90", v2="sm_90"), target="nvptx:sm_90", version="0")
    with pytest.raises(PackageError, match="another GPU"):
        load(path)


# ---- by measurement ------------------------------------------------------------------------------


def test_measured_choices_are_kept_by_class(
    cuda: FakeCuda, package: Path, clock: dict[int, float]
) -> None:
    x, y = tensors(60)
    tuned = load(package, autotune=True)
    assert torch.equal(tuned(x, y)[0], x + y)
    again = load(package)
    assert vars(again.choice(*tensors(64))) == {"variant": "threads", "source": "measured"}
    assert again.choice(*tensors(65)).source == "predicted"  # another class
    clock.clear()  # measures no more, or it would fail
    assert tuned.choice(x, y).variant == "threads"
    cuda.machine(version=13010)
    from diagc.testing.fake_cuda import forget

    forget()
    assert load(package).choice(x, y).source == "predicted"  # another driver


def test_failing_variants_are_left_out(
    cuda: FakeCuda, package: Path, clock: dict[int, float], caplog: pytest.LogCaptureFixture
) -> None:
    del clock[128]
    x, y = tensors()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(load(package, autotune=True)(x, y)[0], x + y)
    assert "'threads' does not run: out of memory" in caplog.text
    assert load(package).choice(x, y).variant == "large blocks"


def test_where_nothing_can_be_measured_the_model_decides(
    cuda: FakeCuda, package: Path, clock: dict[int, float]
) -> None:
    clock.clear()
    tuned = load(package, autotune=True)
    tuned(*tensors())
    assert tuned.choice(*tensors()).source == "predicted"


def test_little_measured_gain_keeps_the_prediction(
    cuda: FakeCuda, package: Path, clock: dict[int, float]
) -> None:
    clock.update({32: 1.0, 64: 0.99, 128: 0.98})
    load(package, autotune=True)(*tensors())
    assert vars(load(package).choice(*tensors())) == {
        "variant": "small blocks",
        "source": "measured",
    }


@pytest.mark.parametrize("damage", ["bytes", b"[]", b'[["threads"]]', b"{", b'[["other", 1.0]]'])
def test_damaged_records_count_as_none(
    cuda: FakeCuda, package: Path, clock: dict[int, float], damage: Any
) -> None:
    load(package, autotune=True)(*tensors())
    (path,) = (package.parent / "cache").glob("*.entry")
    if damage == "bytes":
        path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    else:
        default_cache().put(path.stem, damage, {"kind": "variant"})
    loaded = load(package)
    assert loaded.choice(*tensors()).source == "predicted"
    assert torch.is_tensor(loaded(*tensors())[0])


WRITER = """
import sys
from diagc.runtime.package.choice import Machine, Record
record = Record(Machine("gpu", "13"), "code")
for i in range(200):
    record.put("n=64", "theirs", {"theirs": float(i), "ours": 2.0})
    assert record.get("n=64"), "a reader saw half an entry"
"""


def test_writers_at_the_same_time(package: Path) -> None:
    env = {"DIAGC_CACHE_DIR": str(package.parent / "cache"), "PYTHONPATH": ":".join(sys.path)}
    record, seen = Record(Machine("gpu", "13"), "code"), set()
    with subprocess.Popen([sys.executable, "-c", WRITER], env=env) as other:
        while other.poll() is None:
            record.put("n=64", "ours", {"theirs": 1.0, "ours": 2.0})
            seen.add(next(iter(record.get("n=64") or ("none",))))
            time.sleep(1e-3)
        assert other.returncode == 0
    assert seen <= {"ours", "theirs"}


# ---- by the table that comes along ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (listed("threads"), "table"),
        (listed("threads", "predicted"), "predicted"),  # decides nothing
        (listed("threads", device="NVIDIA H200"), "predicted"),  # another device
        (listed("variant that is gone"), "predicted"),
        (listed("threads")[:-4], "predicted"),
        (listed("threads").replace("0.001", f"1{'0' * 400}"), "predicted"),
        ('{"format": "other"}', "predicted"),
    ],
)
def test_tables_decide_where_they_were_measured(
    cuda: FakeCuda,
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    expected: str,
) -> None:
    table(monkeypatch, package.parent, text)
    choice = load(package).choice(*tensors())
    assert choice.source == expected
    assert choice.variant == ("threads" if expected == "table" else "small blocks")
    assert load(package).choice(*tensors(4096)).source == "predicted"


def test_what_was_measured_here_wins_over_a_table(
    cuda: FakeCuda, package: Path, monkeypatch: pytest.MonkeyPatch, clock: dict[int, float]
) -> None:
    table(monkeypatch, package.parent, listed("large blocks"))
    load(package, autotune=True)(*tensors())
    assert load(package).choice(*tensors()).variant == "threads"


def test_shipped_tables_are_well_formed() -> None:
    paths = sorted(FOLDER.glob("*.json"))
    assert [path.name for path in paths] == ["nvidia-h200.json"]
    found = read_table(paths[0])
    assert found.device == "NVIDIA H200"
    assert found.entries


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("source", "guessed", "neither measured nor predicted"),
        ("seconds", -1.0, "is none"),
        ("seconds", True, "is no number"),
        ("seconds", 10**400, "is none"),
        ("seconds", float("inf"), "is none"),
        ("seconds", float("nan"), "is none"),
        ("driver", None, "names a driver"),
        ("family", "xyz", "SHA-256"),
        ("shape", "64", "list of sizes"),
        ("variant", 3, "should be text"),
        ("more", 1, "does not have the fields"),
    ],
)
def test_tables_are_checked(tmp_path: Path, field: str, value: object, message: str) -> None:
    plain = json.loads(listed("threads"))
    plain["entries"][0][field] = value
    path = tmp_path / "t.json"
    path.write_text(json.dumps(plain))
    with pytest.raises(UserError, match=f"entry 0.*{message}"):
        read_table(path)


def test_no_prediction_replaces_a_measurement() -> None:
    measured = TunedEntry(FAMILY, "add", "n=64", "a", "measured", 1.0, "CUDA 13.0", "0")
    guessed = replace(measured, variant="b", source="predicted", driver=None)
    later = replace(measured, variant="c")
    assert TunedTable("d", (measured,)).merged([guessed]).entries == (measured,)
    assert TunedTable("d", (guessed,)).merged([measured]).merged([later]).entries == (later,)


# ---- the manifest --------------------------------------------------------------------------------


def bad(plain: dict[str, Any], change: str) -> None:
    first, second, _ = plain["variants"]["entries"]
    if change == "kernels":
        second["kernels"] = [7]
    elif change == "times":
        second["predicted"] = [1.0]
    elif change == "sign":
        second["predicted"] = [1.0, -1.0]
    elif change == "long":
        second["predicted"] = [1.0, 10**400]
    elif change == "large":
        plain["variants"]["shapes"][0]["items"] = [["n", 10**400], ["c", 64]]
    elif change == "names":
        second["name"] = first["name"]
    elif change == "shapes":
        plain["variants"]["shapes"][0]["items"] = [["n", 1]]
    elif change == "inputs":
        second["program"]["inputs"] = second["program"]["inputs"][:1]
    else:
        plain["variants"] = [1]


@pytest.mark.parametrize(
    "change",
    ["kernels", "times", "sign", "long", "large", "names", "shapes", "inputs", "kind"],
)
def test_malformed_variants_are_refused(package: Path, change: str) -> None:
    edit(package, lambda plain: bad(plain, change))
    with pytest.raises(PackageError, match="malformed"):
        manifest.read_package(package)


def test_equal_kernels_are_stored_once(package: Path) -> None:
    found, members = manifest.read_package(package)
    assert found.variants is not None
    assert [entry.kernels for entry in found.variants.entries] == [(0,), (1,), (2,)]
    assert len(members) == 3
    plain = replace(contents(), variants=None)
    save(package, plain, target="nvptx:sm_80", version="0")
    assert "variants" not in json.loads(archive.read_members(package)["manifest.json"])


def test_variants_without_kernels_are_chosen(tmp_path: Path) -> None:
    x, usual = torch.randn(3, 5), program(32)
    outputs = [Output(0, usual.outputs[0].dims, (0, 1))]
    first, second = (Program(usual.inputs, [], outputs) for _ in range(2))
    first.report = usual.report
    entries = (ProgramVariant("a", first, (2.0,)), ProgramVariant("b", second, (1.0,)))
    variants = ProgramVariants(FAMILY, "fake-80", SHAPES[:1], entries)
    path = tmp_path / "b.diagpkg"
    save(path, replace(of_program(first), variants=variants), target="cpu", version="0")
    with debug.CACHE_DIR.override(tmp_path / "cache"):
        loaded = load(path)
        assert loaded.choice(x, x).variant == "b"
        assert torch.equal(loaded(x, x)[0], x)


def test_measurements_are_of_the_steps_too(package: Path) -> None:
    """Where names of programs are exchanged, kernels, family and shapes stay the same."""
    found, members = manifest.read_package(package)
    assert found.variants is not None
    first, second, third = found.variants.entries
    crossed = (replace(first, name=second.name), replace(second, name=first.name), third)
    guessed = (replace(first, predicted=(7.0, 7.0)), second, third)
    other = replace(found, variants=replace(found.variants, entries=crossed))
    same = replace(found, variants=replace(found.variants, entries=guessed))
    digest = manifest.code_digest(found, members)
    assert manifest.code_digest(same, members) == digest
    assert manifest.code_digest(other, members) != digest


def test_nothing_is_measured_while_a_graph_is_captured(
    cuda: FakeCuda,
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    clock: Mapping[int, float],
) -> None:
    tuned = load(package, autotune=True)
    with monkeypatch.context() as patch:
        patch.setattr(chooser, "is_capturing", lambda _program: True)
        tuned(*tensors())
        assert tuned.choice(*tensors()).source == "predicted"
    tuned(*tensors())
    assert tuned.choice(*tensors()).source == "measured"


def test_shapes_scale_what_is_equally_long() -> None:
    example = {"b": 4, "n": 1024, "m": 1024, "d": 64}
    shapes = shapes_around(example, {"b": True, "n": True, "m": True, "d": False})
    assert shapes[0] == example
    assert len(shapes) <= 65
    assert all(shape["n"] == shape["m"] and shape["d"] == 64 for shape in shapes)
    assert shape_class(shapes[0]) == "b=4 n=1024 m=1024 d=64"
    assert shapes_around(example, dict.fromkeys(example, False)) == (example,)


# ---- the compiler's part -------------------------------------------------------------------------


def spherical(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    scores = q @ k.transpose(-2, -1)
    return (scores / torch.linalg.vector_norm(scores, dim=-1, keepdim=True)) @ v


def test_compiled_variants_have_forms_and_tiles(cuda: FakeCuda, tmp_path: Path) -> None:
    """The long shape wants the products reordered, the short one as they are written."""
    q = torch.zeros(2, 2048, 16).bfloat16()
    compiled = diagc.compile(spherical, q, q, q, target="nvptx:sm_80")
    path = tmp_path / "s.diagpkg"
    compiled.save(path, variants=2)
    found, _ = manifest.read_package(path)
    assert found.variants is not None
    names = [entry.name for entry in found.variants.entries]
    assert len(names) == 2
    assert {name.split(":")[0] for name in names} == {"reordered", "as written"}
    loaded = load(path)
    assert loaded.variants == tuple(names)
    for made in loaded._chooser.programs.values():
        made.device = "cpu"  # tensors of the CPU pose
    loaded(q, q, q)
    with pytest.raises(UserError, match="one variant or more"):
        compiled.save(path, variants=0)


def softmax(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.softmax(q @ k.transpose(-2, -1), dim=-1) @ v


def causal_l1(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    scores = (q @ k.transpose(-2, -1)).tril()
    return torch.nn.functional.normalize(scores, p=1.0, dim=-1) @ v


@pytest.mark.parametrize(("function", "usual"), [(softmax, True), (causal_l1, False)])
def test_products_in_turns_and_at_any_time_are_both_compiled(
    function: Callable[..., torch.Tensor], usual: bool, tmp_path: Path
) -> None:
    """Otherwise they are the same; first comes what is the rule."""
    q, k, v = (torch.zeros(4, 4096, 64).bfloat16() for _ in range(3))
    compiled = diagc.compile(function, q, k, v, target="nvptx:sm_90a", dynamic=True)
    compiled.save(tmp_path / "t.diagpkg", variants=2)
    found, _ = manifest.read_package(tmp_path / "t.diagpkg")
    assert found.variants is not None
    first, second = (entry.name for entry in found.variants.entries)
    assert first.endswith(", products in turns") == usual
    assert sorted((first, second))[1] == f"{sorted((first, second))[0]}, products in turns"


def test_each_kernel_of_a_program_has_choices_of_its_own() -> None:
    """First what is fastest at each shape, of both kernels; then one kernel at a time."""
    few = Alternatives(["a", "b", "c"], [None, "b"]), Alternatives(["x", "y"], ["x", "y"])
    found = list(choices_of_kernels(dict(zip(("first", "second"), few, strict=True))))
    assert found == [
        {"second": "x"},
        {"first": "b", "second": "y"},
        {"first": "a"},
        {"first": "b"},
        {"second": "y"},
        {"first": "c"},
    ]
    assert list(choices_of_kernels({"first": few[0]})) == [{"first": x} for x in "abc"]
    assert list(choices_of_kernels({"first": Alternatives([], [None, None])})) == []
    assert list(choices_of_kernels({})) == []


def test_names_tell_which_kernel_has_which_tiles() -> None:
    one, other = (SimpleNamespace(tiles=TileSchedule(chunk=chunk)) for chunk in (32, 64))
    threads = SimpleNamespace(tiles=None)
    programs = [[one, one], [one, other], [other, one], [one, other, one], [one, one, other]]
    names = [name_of_kernels([threads, *kernels]) for kernels in programs]
    assert len(set(names)) == len(names)
    assert [name.count(" + ") for name in names] == [1, 2, 2, 3, 3]


def test_programs_without_kernels_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    bare: Any = SimpleNamespace(program=SimpleNamespace(kernels=()))
    monkeypatch.setattr(VariantMaker, "_built", lambda *_arguments: iter([bare]))
    maker = object.__new__(VariantMaker)
    module: Any = None
    found = [name for form in ("reordered: ", "") for name, _ in maker._programs(form, module, ())]
    assert found == ["reordered: library", "library"]


def test_variants_are_for_gpus() -> None:
    x = torch.zeros(4, 8)
    with pytest.raises(UserError, match="variants are for GPUs only"):
        diagc.compile(torch.tanh, x, target="cpu").save("x.diagpkg", variants=2)
