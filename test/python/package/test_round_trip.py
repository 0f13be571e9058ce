"""What is saved as a package and loaded again gives what the compiled function gives."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import embedding, normalize

import diagc
from diagc.errors import LaunchError, PackageError, UnsupportedError, UserError
from diagc.runtime import load
from diagc.runtime.package.manifest import read_package

Tensor = torch.Tensor


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-2, -1) * 0.125, dim=-1) @ v


def qkv(rows: int = 37, keys: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    return random(2, rows, 64), random(2, keys, 64, seed=1), random(2, keys, 32, seed=2)


class Block(torch.nn.Module):
    """Parameters, a persistent buffer, one that is not, and a constant of its own."""

    scale: Tensor
    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(16, 16)
        self.register_buffer("scale", random(16, seed=3))
        self.register_buffer("table", random(16, seed=4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return normalize(self.linear(x) * self.scale + self.table, dim=-1)


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


# ---- functions -----------------------------------------------------------------------------------


def test_function(tmp_path: Path) -> None:
    inputs = qkv()
    diagc.compile(attention, *inputs).save(tmp_path / "a.diagpkg")
    loaded = load(tmp_path / "a.diagpkg")
    exact = attention(*(t.double() for t in inputs)).float()
    close(loaded(*inputs), exact)
    fresh = tuple(random(*t.shape, seed=9 + i) for i, t in enumerate(inputs))
    close(loaded(*fresh), attention(*(t.double() for t in fresh)).float())
    assert loaded.__name__ == "attention"
    assert loaded.report["kernels"][0]["schedule"]
    assert loaded.manifest.weights == ()


@pytest.mark.parametrize("shapes", [(37, 50), (5, 3), (130, 77)])
def test_open_sizes(tmp_path: Path, shapes: tuple[int, int]) -> None:
    diagc.compile(attention, *qkv(), dynamic=True).save(tmp_path / "a.diagpkg")
    inputs = qkv(*shapes)
    close(load(tmp_path / "a.diagpkg")(*inputs), attention(*(t.double() for t in inputs)).float())


def test_open_sizes_of_torch_s_calls(tmp_path: Path) -> None:
    ids, table = torch.arange(64)[None], random(64, 16)

    def function(x: Tensor) -> Tensor:
        return torch.relu(x + embedding(ids[:, : x.shape[1]], table))

    diagc.compile(function, random(2, 10, 16), dynamic=True).save(tmp_path / "a.diagpkg")
    x = random(3, 37, 16, seed=1)
    close(load(tmp_path / "a.diagpkg")(x), function(x))


def test_fixed_sizes_are_fixed(tmp_path: Path) -> None:
    diagc.compile(attention, *qkv()).save(tmp_path / "a.diagpkg")
    with pytest.raises(LaunchError, match="wrong size"):
        load(tmp_path / "a.diagpkg")(*qkv(rows=38))


def test_nested_arguments_and_results(tmp_path: Path) -> None:
    def function(pair: Any, factor: float, *, mode: str, more: Any) -> Any:
        x, y = pair
        product = torch.softmax(x * factor, -1) @ y
        return {"product": product, "rest": [None, (x - more["z"], mode)]}

    x, y, z = random(5, 7), random(7, 3, seed=1), random(5, 7, seed=2)
    compiled = diagc.compile(function, (x, y), 0.5, example_kwargs={"mode": "a", "more": {"z": z}})
    compiled.save(tmp_path / "f.diagpkg")
    loaded = load(tmp_path / "f.diagpkg")
    found = loaded((x, y), 0.5, mode="a", more={"z": z})
    close(found["product"], torch.softmax(x * 0.5, -1) @ y)
    nothing, (difference, mode) = found["rest"]
    assert (nothing, mode) == (None, "a")
    close(difference, x - z)
    close(loaded((x, y), 0.5, more={"z": z}, mode="a")["product"], found["product"])
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (((x, y), 0.25), {"mode": "a", "more": {"z": z}}, r"expected 0\.5.*found 0\.25"),
        (((x, y), 0.5), {"mode": "b", "more": {"z": z}}, r"\['mode'\].*'a'.*'b'"),
        (((x,), 0.5), {"mode": "a", "more": {"z": z}}, r"tuple of 2.*found a tuple of 1"),
        (((x, y), 0.5), {"mode": "a"}, r"keys \['mode', 'more'\].*found the keys \['mode'\]"),
        (((x, 3), 0.5), {"mode": "a", "more": {"z": z}}, "tensor 1 of the call is no tensor"),
    ]
    for args, kwargs, message in cases:
        with pytest.raises(LaunchError, match=message):
            loaded(*args, **kwargs)


def test_ops_that_stay_in_torch(tmp_path: Path) -> None:
    table = random(11, 8)

    def function(ids: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        found = embedding(ids, table)
        values, order = torch.sort(torch.softmax(found + x, -1), dim=-1, descending=True)
        return values, order

    ids = torch.tensor([3, 3, 10, 0])
    x = random(4, 8, seed=1)
    compiled = diagc.compile(function, ids, x)
    assert any("embedding" in name for name in compiled.outside)
    compiled.save(tmp_path / "f.diagpkg")
    values, order = load(tmp_path / "f.diagpkg")(ids, x)
    expected = function(ids, x)
    with pytest.raises(UserError, match=r"aten\.embedding\.default fails: index out of range"):
        load(tmp_path / "f.diagpkg")(ids + 20, x)
    close(values, expected[0])
    assert torch.equal(order, expected[1])


def test_program_without_kernels(tmp_path: Path) -> None:
    def function(x: Tensor, y: Tensor) -> Tensor:
        return x @ y

    x, y = random(4, 5), random(5, 6, seed=1)
    diagc.compile(function, x, y).save(tmp_path / "f.diagpkg")
    close(load(tmp_path / "f.diagpkg")(x, y), x @ y)


# ---- weights -------------------------------------------------------------------------------------


def test_weights_are_given_by_name_and_read_at_every_call(tmp_path: Path) -> None:
    model, x = Block(), random(3, 16)
    diagc.compile(model, x).save(tmp_path / "m.diagpkg")
    manifest, _ = read_package(tmp_path / "m.diagpkg")
    assert set(manifest.weights) == {"linear.weight", "linear.bias", "scale"}
    assert [entry.name for entry in manifest.tensors] == ["table"]
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loaded = load(tmp_path / "m.diagpkg", weights=weights)
    with torch.no_grad():
        close(loaded(x), model(x))
        weights["scale"].mul_(-2.0)
        model.scale.mul_(-2.0)
        close(loaded(x), model(x))


def test_weights_may_be_inside(tmp_path: Path) -> None:
    model, x = Block(), random(3, 16)
    with torch.no_grad():
        expected = model(x)
        diagc.compile(model, x).save(tmp_path / "m.diagpkg", with_weights=True)
        model.linear.weight.zero_()
        close(load(tmp_path / "m.diagpkg")(x), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.clear(), r"needs weights.*linear\.weight.*found none.*state_dict"),
        (lambda w: w.pop("scale"), r"expected scale, found 2 others"),
        (lambda w: w.update(scale=[1.0]), "weight 'scale' is no tensor"),
    ],
)
def test_bad_weights_are_refused_at_loading(tmp_path: Path, change: Any, message: str) -> None:
    model = Block()
    diagc.compile(model, random(3, 16)).save(tmp_path / "m.diagpkg")
    weights = dict(model.state_dict())
    change(weights)
    with pytest.raises(PackageError, match=message):
        load(tmp_path / "m.diagpkg", weights=weights)


def test_weights_of_another_shape_are_refused_at_the_call(tmp_path: Path) -> None:
    model, x = Block(), random(3, 16)
    diagc.compile(model, x).save(tmp_path / "m.diagpkg")
    loaded = load(tmp_path / "m.diagpkg", {**model.state_dict(), "scale": random(15)})
    with pytest.raises(LaunchError, match="buffer 'scale' has the wrong size"):
        loaded(x)


# ---- calls that are refused ----------------------------------------------------------------------


def test_calls_that_cannot_be_meant(tmp_path: Path) -> None:
    diagc.compile(attention, *qkv()).save(tmp_path / "a.diagpkg")
    loaded, (q, k, v) = load(tmp_path / "a.diagpkg"), qkv()
    for args, message in [
        ((q, k), "expected a tuple of 3, found a tuple of 2"),
        ((q.numpy(), k, v), r"tensor 0.*found ndarray.*torch\.from_numpy"),
        ((q, k.double(), v), "'k' has the wrong dtype"),
        ((q, k, v.to("meta")), "'v' is on the wrong device"),
        ((q.clone().requires_grad_(), k, v), r"requires gradients.*torch\.no_grad"),
    ]:
        with pytest.raises(LaunchError, match=message):
            loaded(*args)


def test_interpreted_programs_are_not_packaged(tmp_path: Path) -> None:
    compiled = diagc.compile(attention, *qkv(), target="interp")
    with pytest.raises(UnsupportedError, match="interp"):
        compiled.save(tmp_path / "a.diagpkg")
    assert list(tmp_path.iterdir()) == []


def test_results_of_other_classes_are_not_packaged(tmp_path: Path) -> None:
    def function(x: Tensor) -> Any:
        return torch.return_types.max((torch.exp(x), x))

    with pytest.raises(UnsupportedError, match=r"max among its results.*tuples"):
        diagc.compile(function, random(3)).save(tmp_path / "f.diagpkg")


# ---- the file ------------------------------------------------------------------------------------


def test_equal_programs_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        diagc.compile(attention, *qkv()).save(tmp_path / f"{name}.diagpkg")
    first, second = (read_package(tmp_path / f"{name}.diagpkg") for name in ("a", "b"))
    assert first[1] == second[1]
    assert first[0].program == second[0].program


@pytest.mark.parametrize("existing", [True, False])
def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    path = tmp_path / "a.diagpkg"
    if existing:
        path.write_bytes(b"old")
    compiled = diagc.compile(attention, *qkv())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zipfile.ZipFile.writestr", full)
    with pytest.raises(PackageError, match=r"cannot write .*No space left"):
        compiled.save(path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"] * existing


SCRIPT = """
    import sys
    for name in ("torch_mlir", "mlir", "llvmlite", "sympy", "rich", "networkx"):
        sys.modules[name] = None  # importing it fails
    # an editable installation would find the whole package before the path is searched
    sys.meta_path[:] = [f for f in sys.meta_path if "scikit" not in type(f).__name__.lower()]
    import diagc.runtime
    import torch

    loaded = diagc.runtime.load(sys.argv[1])
    q, k, v = torch.load(sys.argv[2])
    exact = torch.softmax(q.double() @ k.double().mT * 0.125, dim=-1) @ v.double()
    assert (loaded(q, k, v) - exact).abs().max() < 1e-5
    parts = {name.split(".")[1] for name in sys.modules if name.startswith("diagc.")}
    assert diagc.__file__.startswith(sys.argv[3])
    print(*sorted(parts))
"""


def test_loads_without_a_compiler(tmp_path: Path) -> None:
    """Only the run time is there: no other file of diagc, and no package but torch."""
    source = Path(diagc.__file__).parent
    alone = ("__init__.py", "errors.py", "debug.py", "files.py", "private_directory.py", "runtime")
    for name in alone:
        copy = shutil.copytree if (source / name).is_dir() else shutil.copy
        (tmp_path / "diagc").mkdir(exist_ok=True)
        copy(source / name, tmp_path / "diagc" / name)
    diagc.compile(attention, *qkv()).save(tmp_path / "a.diagpkg")
    torch.save(qkv(), tmp_path / "inputs.pt")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), "a.diagpkg", "inputs.pt", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*("debug", "errors", "files", "private_directory", "runtime")]


def test_command_line(tmp_path: Path) -> None:
    (tmp_path / "p.diag").write_text(
        "axis q, x, d = 16\ndiagram s(Q: q d, K: x d) {\n  P = softmax(Q . K over d) along x\n"
        "  return P . K over x\n}\n"
    )
    command = [sys.executable, "-m", "diagc", "compile", "p.diag", "-o", "p.diagpkg"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "p.diagpkg: s for cpu" in done.stdout
    q, k = random(20, 16), random(30, 16, seed=1)
    (found,) = load(tmp_path / "p.diagpkg")(q, k)
    close(found, (torch.softmax(q.double() @ k.double().T, -1) @ k.double()).float())
    for extra, message in [
        (["--emit=kernels"], "--emit does not go with"),
        (["-o", "x.txt", "--dynamic"], "are for packages"),
    ]:
        done = subprocess.run(
            [*command, *extra], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == 1
        assert message in done.stderr
