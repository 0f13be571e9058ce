"""Bad input of every kind: one paragraph on the command line, one `DiagcError` in Python."""

import copy
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import diagc
from diagc import debug, driver
from diagc.errors import DiagcError
from diagc.frontend.builder import Diagram
from diagc.options import CompileOptions

Tensor = torch.Tensor

DIAGRAM = """\
axis q = 6, x, d = 8
diagram attention(Q: q d, K: x d, V: x d) {
  S = Q . K over d
  P = softmax(S) along x
  return P . V over x
}
"""
HEAD = "import torch\ndef example_inputs(): return (torch.randn(3, 5), torch.randn(5, 4))\n"


def replaced(old: str, new: str) -> bytes:
    assert old in DIAGRAM
    return DIAGRAM.replace(old, new).encode()


# Name of the file, its contents, what the message says.
DIAGRAMS = {
    "empty": (b"", "nothing to compile in .*expected a diagram"),
    "binary": (b"\xff\xfe\x00", "expected UTF-8 text, found byte 0xff at offset 0"),
    "zero_byte": (b"axis q\x00\n", r":1:7: error: unexpected character"),
    "cut": (DIAGRAM[:50].encode(), ":2:.*syntax error, expected"),
    "no_axis": (replaced("K: x d", "K: y d"), ":2:30: error: unknown axis 'y'"),
    "no_name": (replaced("P . V", "P . W"), ":5:14: error: unknown name 'W'"),
    "label": (replaced("over d", "over x"), r':3:\d+: error: .*"x"'),
    "along": (replaced("along x", "along d"), ':4:24: error: normalised axis "d" is missing'),
    "twice": (replaced("K: x d", "K: x x"), ":2:32: error: axis 'x' stands twice"),
    "dtype": (replaced("K: x d", "K: x d f99"), ":2:34: error: unknown axis 'f99'"),
    "conversion": (replaced("(S)", "(i1(S))"), ":4:15: error: f32 does not convert to i1"),
    "normaliser": (replaced("softmax", "sofmax"), "unknown normaliser 'sofmax'.*did you mean"),
    "median": (
        replaced("softmax(S) along x", "median(S) over x"),
        ":4:7: error: unknown reduction 'median', expected one of sum",
    ),
    "deep": (replaced("(S)", "(" * 300 + "S" + ")" * 300), "more than 100 levels"),
    "huge": (replaced("d = 8", "d = 99999999999999999999"), "size of axis 'd' out of range"),
    "negative": (replaced("d = 8", "d = -8"), ":1:20: error: syntax error, expected a size"),
    "outside": (
        b"axis q = 8, p = 8\ndiagram f(Q: q) {\n  return Q[q = p + 1]\n}\n",
        ':3:11: error: .*positions 1..8 leave source axis "q" of size 8',
    ),
}


@pytest.mark.parametrize("name", DIAGRAMS)
def test_diagrams(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents, message = DIAGRAMS[name]
    path = tmp_path / f"{name}.diag"
    path.write_bytes(contents)
    for command in ("run", "explain", "opt"):
        if command == "opt" and "nothing to compile" in message:
            continue  # nothing is a module
        assert_one_paragraph(capsys, message, command, path)


def with_second(value: str) -> str:
    return HEAD.replace("torch.randn(5, 4)", value)


PROGRAMS = {
    "empty": ("", "nothing to compile in .*expected a public function"),
    "syntax": ("def f(:\n", r"syntax.py:1:\d+: error: importing it raised SyntaxError"),
    "raises": (
        "\nraise ValueError('a\\nb')\n",
        "raises.py:2:1: error: importing it raised ValueError: a b",
    ),
    "exits": ("import sys\nsys.exit(0)\n", "exits.py:2:1: error: importing it raised SystemExit"),
    "no_function": (HEAD, "nothing to compile in"),
    "no_inputs": ("def f(x): return x\n", "does not say with what to run"),
    "bad_inputs": (
        "def f(x): return x\ndef example_inputs(): return [][0]\n",
        r":2:1: error: example_inputs\(\) raised IndexError",
    ),
    "few": (HEAD + "def f(a, b, c): return a\n", "f fails on the example inputs.*argument: 'c'"),
    "many": (HEAD + "def f(a): return a\n", "f fails on the example inputs.*2 were given"),
    "shapes": (HEAD + "def f(a, b): return b @ a\n", ":3:21: error: f fails on the example"),
    "fails": (HEAD + "def f(a, b): raise KeyError('k')\n", ":3:14: error: f fails.*'k'"),
    "text": (
        with_second("'abc'") + "def f(a, b): return a @ b\n",
        ":3:21: error: f fails on the example inputs: unsupported operand",
    ),
    "object": (
        with_second("object()") + "def f(a, b): return a\n",
        "neither a tensor nor a constant.*found object",
    ),
    "sparse": (
        with_second("torch.eye(5).to_sparse()") + "def f(a, b): return a\n",
        "example input 1 is not a dense tensor.*found torch.sparse_coo",
    ),
    "meta": (
        with_second("torch.ones(5, 4, device='meta')") + "def f(a, b): return (a @ b) * 2\n",
        "argument 'b' is on the wrong device, expected cpu, found meta",
    ),
    "bytes_": (
        with_second("torch.ones(5, 4).to(torch.uint8)") + "def f(a, b): return a @ b.float()\n",
        "argument 1.*takes or gives torch.uint8",
    ),
    "branch": (
        HEAD + "def f(a, b): return a if a.sum() > 0 else -a\n",
        r":3:\d+: error: .*depends on the values of tensors",
    ),
    "writes": (HEAD + "def f(a, b): return a.add_(1)\n", ":3:21: error: .*writes into an argument"),
    "generator": (HEAD + "def f(a, b): yield a\n", "a result of type generator"),
    "nothing": (HEAD + "def f(a, b): return 3\n", "f gives nothing to compare"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_python_files(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, message = PROGRAMS[name]
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    assert_one_paragraph(capsys, message, "run", path, "--no-time")


def assert_one_paragraph(capsys: pytest.CaptureFixture[str], message: str, *words: object) -> None:
    """Status 1, nothing on stdout, the message, and at most a line of source with its caret."""
    status = driver.main([str(word) for word in words])
    found = capsys.readouterr()
    assert status == 1, found.err
    assert not found.out
    assert re.search(message, found.err), found.err
    assert "Traceback" not in found.err
    assert found.err.count("\n") <= 3


def test_a_file_is_no_module_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "copy.py"
    path.write_text(HEAD + "def f(a, b): return torch.softmax(a, -1) @ b\n")
    assert driver.main(["explain", str(path)]) == 0
    assert "f on cpu" in capsys.readouterr().out
    assert sys.modules["copy"] is copy


@pytest.mark.parametrize(
    ("body", "outside"),
    [
        ("torch.softmax(a - a.median(-1, True).values, -1) @ b", "aten.median.dim"),
        ("torch.softmax(a.sort(-1).values * 2 + 1, -1) @ b", "aten.sort.default"),
        ("torch.softmax(a.masked_fill(a < a.topk(2)[0][:, -1:], -1e9), -1) @ b", "aten.topk"),
        ("torch.cumsum(torch.softmax(a, -1), -1) @ b", "aten.cumsum.default"),
    ],
)
def test_what_does_not_stream_stays_in_torch(
    body: str, outside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "program.py"
    path.write_text(f"{HEAD}def f(a, b): return {body}\n")
    assert driver.main(["run", str(path), "--no-time"]) == 0
    shown = capsys.readouterr().out
    assert outside in shown
    assert "equal to eager" in shown


MODULE = """\
func.func @f(%a: tensor<4xf32, ["q"]>) -> tensor<4xf32, ["q"]> {
  %0 = {op} : (tensor<4xf32, ["q"]>) -> tensor<4xf32, ["q"]>
  return %0 : tensor<4xf32, ["q"]>
}
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("func.func @main(", ":1:16: error: "),
        ("hello world\n", ":1:1: error: custom op 'hello' is unknown"),
        (MODULE.replace("{op}", '"diag.sort"(%a)'), ":2:8: error: unregistered operation"),
        (MODULE.replace("{op}", '"diag.reduce"(%a) {over=["x"], kind="add"}'), r':2:8.*"x"'),
    ],
)
def test_mlir_text(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "module.mlir"
    path.write_text(text)
    assert_one_paragraph(capsys, message, "opt", path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--target=moon"), "unknown target"),
        (("run", "--target=nvptx:sm_1"), "no code is made for this architecture"),
        (("compile", "--emit=moon"), "no such stage"),
        (("compile", "-o", "/nowhere/x"), "cannot write /nowhere/x"),
        (("compile", "-o", "/dev/full"), "cannot write /dev/full, found No space left"),
        (("run", "--dump-dir=/proc/nowhere"), "cannot make the dump directory"),
        (("run", "--print-ir-after=moon"), "cannot print the IR around pass 'moon'"),
    ],
)
def test_options(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "good.diag"
    path.write_text(DIAGRAM)
    assert_one_paragraph(capsys, message, words[0], path, *words[1:])


def test_a_switch_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "good.diag"
    path.write_text(DIAGRAM)
    monkeypatch.setenv("DIAGC_CPU_ISA", "abacus")
    assert_one_paragraph(capsys, "DIAGC_CPU_ISA.*found 'abacus'", "run", path)


# ---- caches ------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def flip(path: Path) -> None:
    contents = bytearray(path.read_bytes())
    contents[-7] ^= 4
    path.write_bytes(contents)


def overwrite(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 20)


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def run_attention(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "good.diag"
    path.write_text(DIAGRAM)
    assert driver.main(["run", str(path), "--no-time"]) == 0
    assert "equal to the reference" in capsys.readouterr().out


@pytest.mark.parametrize("damage", [cut, flip, overwrite, make_directory])
def test_a_damaged_cache_is_mended(
    damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with debug.CACHE_DIR.override(tmp_path / "cache"):
        run_attention(tmp_path, capsys)
        entries = list((tmp_path / "cache").glob("*.entry"))
        assert entries
        for entry in entries:
            damage(entry)
        run_attention(tmp_path, capsys)


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o701])
def test_a_cache_that_others_can_enter_is_not_used(
    mode: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(mode)
    with debug.CACHE_DIR.override(cache):
        run_attention(tmp_path, capsys)
    assert not list(cache.iterdir())


def test_a_cache_that_is_a_file_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cache"
    file.write_text("mine")
    for cache in (file, file / "below"):
        with debug.CACHE_DIR.override(cache):
            run_attention(tmp_path, capsys)
    assert file.read_text() == "mine"


# ---- Python ------------------------------------------------------------------------------------


def mix(a: Tensor, b: Tensor) -> Tensor:
    return torch.softmax(a * 2 + 1, -1) @ b


A, B = torch.randn(3, 5), torch.randn(5, 4)

CALLS: dict[str, tuple[Callable[[Callable[..., Tensor]], Any], str]] = {
    "missing": (lambda f: f(A), "missing 1 required positional argument"),
    "extra": (lambda f: f(A, B, B), "takes 2 positional arguments but 3 were given"),
    "unknown keyword": (lambda f: f(A, B, c=B), "unexpected keyword argument 'c'"),
    "twice": (lambda f: f(A, B, a=B), "multiple values for argument 'a'"),
    "none": (lambda f: f(None, B), "mix fails on the example inputs"),
    "text": (lambda f: f("a", B), "mix fails on the example inputs"),
    "list": (lambda f: f(A.tolist(), B), "mix fails on the example inputs"),
    "array": (lambda f: f(A.numpy(), B), "neither a tensor nor a constant.*found ndarray"),
    "size": (lambda f: f(A, torch.randn(6, 4)), "cannot be multiplied"),
    "rank": (lambda f: f(A[None], B), "argument 'a' has the wrong rank, expected 2 dim"),
    "no rank": (lambda f: f(torch.tensor(1.0), B), "argument 'a' has the wrong rank"),
    "dtype": (lambda f: f(A.double(), B), "'a' has the wrong dtype, expected torch.float32"),
    "complex": (lambda f: f(A.to(torch.complex64), B), "'a' has the wrong dtype"),
    "device": (lambda f: f(A.to("meta"), B), "'a' is on the wrong device, expected cpu"),
    "sparse": (lambda f: f(A.to_sparse(), B), "'a' has no dense layout"),
    "lazy": (lambda f: f(torch._neg_view(A), B), "'a' is negated lazily.*resolve_neg"),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str) -> None:
    call, message = CALLS[name]
    compiled = diagc.compile(mix, A, B)
    with pytest.raises(DiagcError, match=message):
        call(compiled)
    torch.testing.assert_close(compiled(A, B), mix(A, B))  # nothing is lost


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "moon"}, "unknown target"),
        ({"target": "nvptx:sm_1"}, "no code is made for this architecture"),
        ({"reassociate": "yes"}, "reassociate"),
        ({"empty_rows": "yes"}, "empty-rows"),
        ({"float32_matmul_precision": "low"}, "no such float32_matmul_precision"),
        ({"importer": "yes"}, "unknown adapter"),
        ({"example_kwargs": [1]}, "example_kwargs must be a dict"),
        ({"speed": 3}, "unknown compile option"),
        ({"kernels_off": 5}, r"kernels_off is no name, expected one name.*collection.*found 5"),
        ({"kernels_off": None}, "kernels_off is no name"),
        ({"kernels_off": {"a": 1}}, "kernels_off is no name"),
        ({"print_ir_after": ["all", 5]}, "print_ir_after holds no name"),
        ({"dump_dir": 5}, "dump_dir is no path"),
    ],
)
def test_options_of_compile(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DiagcError, match=message):
        diagc.compile(mix, A, B, **options)


def test_one_name_is_as_good_as_several() -> None:
    wanted = CompileOptions(kernels_off=("map*",), print_ir_after=("all",), dump_dir=Path("x"))
    one: dict[str, Any] = {"kernels_off": "map*", "print_ir_after": "all", "dump_dir": "x"}
    assert CompileOptions(**one) == wanted
    assert CompileOptions(**one | {"kernels_off": ["map*"], "print_ir_after": {"all"}}) == wanted
    compiled = diagc.compile(mix, A, B, kernels_off="nope*")
    assert not any(kernel.is_off for kernel in compiled.report.kernels)


class Unknown:
    def __init__(self, value: Any) -> None:
        self.value = value


@pytest.mark.parametrize(
    "function",
    [
        lambda x: Unknown(x * 2 + 1),
        lambda x: {x * 2 + 1},
        lambda x: (value for value in (x * 2,)),
        lambda x: (x > 0).to(torch.uint8),
    ],
)
def test_results_that_would_be_wrong_are_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(DiagcError, match="a result of"):
        diagc.compile(function, A)


def test_constants_are_told_apart() -> None:
    compiled = diagc.compile(lambda x, c: x / c + 0.0)
    for constant in (0.0, -0.0, 2.0, 2, True):
        assert torch.equal(compiled(A, constant), A / constant + 0.0)
    with pytest.raises(DiagcError, match=r"neither a tensor nor a constant.*found Unknown"):
        compiled(A, Unknown(2.0))


def test_the_mode_of_a_module_counts() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Dropout(0.5)).eval()
    compiled = diagc.compile(model, A)
    with torch.no_grad():
        assert torch.allclose(compiled(A), model(A), atol=1e-6)
        model.train()
        assert (compiled(A) == 0).any()
        model.eval()
        assert torch.allclose(compiled(A), model(A), atol=1e-6)


def test_positions_outside_of_an_open_axis_are_refused() -> None:
    from diagc.compiler import compile_module
    from diagc.frontend.text import parse

    text = "axis n, p = 8, x\ndiagram f(Q: n x) {\n  return sum(exp(Q[n = p + 1])) over x\n}\n"
    program = compile_module(parse(text, "f.diag"), "cpu")
    q = torch.randn(9, 30)
    (found,) = program([q])
    torch.testing.assert_close(found, q[1:].exp().sum(-1))
    with pytest.raises(DiagcError, match=r"positions 1..8 of axis .* are read, expected a size of"):
        program([q[:8]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda g: g.input("K", x=..., d=8).normalize("sofmax", along="x"), "sofmax"),
        (lambda g: g.input("K", x=..., d=8).normalize("l2", along="q"), '"q"'),
        (lambda g: g.input("K", x=..., d=8).contract(g.input("Q", q=4, d=9), over="d"), "d"),
        (lambda g: g.input("K", x=..., d=8).contract(g.input("Q", q=4, e=8), over="d"), '"d"'),
        (lambda g: g.input("K", x=-3), 'axis "x" has a negative size.*found -3'),
    ],
)
def test_builder(make: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(DiagcError, match=message), Diagram("bad") as g:
        g.output(y=make(g))
