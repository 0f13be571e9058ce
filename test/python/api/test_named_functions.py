"""Graphs that call functions by names, where nothing else is left of the process that made them."""

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import pytest
import torch
from torch import Tensor, nn

import diagc
from diagc.errors import UserError
from diagc.runtime import named, torch_ops
from diagc.runtime.arguments import Arguments, split_arguments
from diagc.runtime.named import NamedCall
from diagc.testing.seed import SEED

DEFINITIONS = """
import torch
from torch import nn
import diagc

def attend(q, k, v, scale=1.0):
    return torch.softmax(q @ k.mT * scale, -1) @ v

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(8, 8)

    def forward(self, x):
        y = self.project(x)
        return torch.softmax(y @ y.mT, -1) @ y

attention = diagc.compile(attend, name="test.attention")
layer = Layer().eval()
layer_attention = diagc.compile(layer, name="test.layer")

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = layer

    def forward(self, q, k, v):
        return layer_attention(attention(q, k, v, scale=0.25))
"""

OTHER_PROCESS = """
import sys
import torch
import torch._inductor
import definitions

inputs = torch.load("inputs.pt")
graph = torch.export.load("program.pt2").module()
found = [graph(*each) for each in inputs]
package = torch._inductor.aoti_load_package("package.pt2")
torch.save(found + [package(*each) for each in inputs], "found.pt")
"""


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_exported_programs_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved, and compiled by AOTInductor; weights are the graph's, those there are random."""
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = importlib.import_module("definitions")
    torch.manual_seed(SEED)
    inputs = [tuple(torch.randn(batch, 10, 8) for _ in range(3)) for batch in (2, 5)]
    model = made.Model()
    model(*inputs[0])
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, inputs[0], dynamic_shapes=[{0: batch}] * 3)
    torch.export.save(program, tmp_path / "program.pt2")
    package = str(tmp_path / "package.pt2")
    torch._inductor.aoti_compile_and_package(program, package_path=package)
    torch.save(inputs, tmp_path / "inputs.pt")
    (tmp_path / "main.py").write_text(OTHER_PROCESS)
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    wanted = [made.layer(made.attend(*each, scale=0.25)) for each in inputs] * 2
    torch.testing.assert_close(torch.load(tmp_path / "found.pt"), wanted, rtol=1e-5, atol=1e-5)


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget groups and names, as another process does not know them."""
    monkeypatch.setattr(named, "_FUNCTIONS", {})
    monkeypatch.setattr(torch_ops, "_GROUPS", WeakValueDictionary())


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(x)
        return torch.softmax(y @ y.mT, -1) @ y


class Holder(nn.Module):
    """A model with a compiled layer, whose weights are its own."""

    def __init__(self, compiled: Callable[..., Any], layer: nn.Module) -> None:
        super().__init__()
        self.compiled, self.layer = compiled, layer

    def forward(self, x: Tensor) -> Any:
        return self.compiled(x)


def exported(compiled: Callable[..., Any], layer: nn.Module) -> Any:
    x = torch.randn(2, 10, 8)
    compiled(x)
    return torch.export.export(Holder(compiled, layer), (x,)).module()


def test_gradients_by_weights_of_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by those of the function of this name, nor at their values."""
    layer, x = Layer(), torch.randn(2, 10, 8, requires_grad=True)
    graph = exported(diagc.compile(layer, name="test.gradients"), layer)
    elsewhere(monkeypatch)
    other = Layer()
    kept = diagc.compile(other, name="test.gradients")
    graph(x).square().sum().backward()
    found = [x.grad, *(p.grad for p in graph.parameters())]
    x.grad, layer.project.weight.grad, layer.project.bias.grad = None, None, None
    layer(x).square().sum().backward()
    wanted = [x.grad, layer.project.weight.grad, layer.project.bias.grad]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert other.project.weight.grad is None
    assert kept.function is other


def test_second_derivatives_are_not_taken_at_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = Layer(), torch.randn(2, 10, 8, requires_grad=True)
    graph = exported(diagc.compile(layer, name="test.second"), layer)
    elsewhere(monkeypatch)
    kept = diagc.compile(Layer(), name="test.second")
    (first,) = torch.autograd.grad(graph(x).square().sum(), x, create_graph=True)
    with pytest.raises(UserError, match="weights were replaced"):
        torch.autograd.grad(first.square().sum(), x)
    assert kept.options


class Without(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x @ x.mT, -1) @ x


class Larger(Layer):
    """Reads one weight more."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


def two_inputs(x: Tensor, y: Tensor) -> Tensor:
    return torch.softmax(x @ y.mT, -1) @ y


OTHERS: dict[str, tuple[Callable[[], Any], str]] = {
    "weights missing": (Without, "no weight '0.project.weight'"),
    "more weights": (Larger, "reads weight '0.scale', too"),
    "another mode": (lambda: Layer().eval(), "modes 'eval'.*call .train\\(\\) or .eval\\(\\)"),
    "no module": (lambda: two_inputs, "modes ''"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_function_of_the_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, message = OTHERS[name]
    layer, public = Layer(), f"test.{name.replace(' ', '-')}"
    graph = exported(diagc.compile(layer, name=public), layer)
    elsewhere(monkeypatch)
    kept = diagc.compile(make(), name=public)
    with pytest.raises(UserError, match=message):
        graph(torch.randn(2, 10, 8))
    assert kept.options


def test_arguments_that_the_function_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = exported(diagc.compile(Without(), name="test.arguments"), Without())
    elsewhere(monkeypatch)
    kept = diagc.compile(NeedsTwo(), name="test.arguments")
    with pytest.raises(UserError, match="missing 1 required positional argument: 'y'"):
        graph(torch.randn(2, 10, 8))
    assert kept.options


class NeedsTwo(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return two_inputs(x, y)


def test_a_function_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    x, layer = torch.randn(2, 10, 8), Without()
    graphs = [exported(diagc.compile(layer, name=name), layer) for name in ("test.gone", None)]
    elsewhere(monkeypatch)
    with pytest.raises(UserError, match=r"named 'test.gone', which this process has not got"):
        graphs[0](x)
    with pytest.raises(UserError, match=r"compile with a name: diagc.compile\(.*name="):
        graphs[1](x)


def scaled(x: Tensor, scale: float = 1.0) -> Tensor:
    return torch.softmax(x @ x.mT * scale, -1) @ x


def test_names_belong_to_one_function() -> None:
    first = diagc.compile(scaled, name="test.one")
    again = diagc.compile(scaled, name="test.one")
    with pytest.raises(UserError, match="two functions are named"):
        diagc.compile(two_inputs, name="test.one")
    del first, again
    assert diagc.compile(two_inputs, name="test.one")


def test_modules_are_functions_of_their_own_but_their_copies_are_not() -> None:
    import copy
    import pickle

    first = diagc.compile(Layer(), name="test.module")
    twins = [copy.deepcopy(first), pickle.loads(pickle.dumps(first))]
    with pytest.raises(UserError, match="two functions are named"):
        diagc.compile(Layer(), name="test.module")
    assert len(twins) == 2


def test_a_definition_replaces_the_former_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a cell of a notebook that is run again."""
    cells = [
        f"import torch\ndef f(x): return torch.softmax(x @ x.mT, -1) @ x * {n}" for n in (2, 3)
    ]
    spaces: list[dict[str, Any]] = [{"__name__": "cell"}, {"__name__": "cell"}]
    for cell, space in zip(cells, spaces, strict=True):
        exec(cell, space)
        space["compiled"] = diagc.compile(space["f"], name="test.cell")
    x = torch.randn(2, 10, 8)
    graph = exported(spaces[0]["compiled"], nn.Identity())
    monkeypatch.setattr(torch_ops, "_GROUPS", WeakValueDictionary())
    torch.testing.assert_close(graph(x), spaces[1]["f"](x))


@pytest.mark.parametrize("name", ["", "1st", "a name", 'quo"ted', 3])
def test_names(name: Any) -> None:
    with pytest.raises(UserError, match="no name for a function"):
        diagc.compile(scaled, name=name)


def test_tensors_without_a_name() -> None:
    bias = torch.randn(8)
    with pytest.raises(UserError, match=r"reads a tensor that no module holds.*shape \(8,\)"):
        diagc.compile(lambda x: x * bias + 1, torch.randn(3, 8), name="test.bias")


def test_constants_that_cannot_be_written() -> None:
    compiled = diagc.compile(lambda x, f: f(x) + 1, name="test.constant")
    with pytest.raises(UserError, match=r"argument of 'test.constant' cannot be written.*builtin"):
        compiled(torch.randn(3, 8), torch.exp)


@pytest.mark.parametrize(
    "constant",
    [
        *(None, True, -3, 0.1, float("inf"), -0.0, "a 'b' \"c\" \\ %22 é"),
        *(torch.bfloat16, torch.strided, torch.preserve_format, torch.device("cuda:1")),
    ],
)
def test_keys_tell_what_a_call_is(constant: Any) -> None:
    x = torch.ones(2)
    _, _, arguments = split_arguments((x, {"a": [constant, x], "b\"'": (x,)}), {"more": constant})
    call = NamedCall("name", "eval", arguments, ("0.a", "0.b"))
    key = call.key()
    assert not set(key) & set('"\\\n')
    found = NamedCall.read(key)
    assert found == call
    assert repr(found.arguments.leaves) == repr(arguments.leaves)


def test_keys_of_plain_calls_are_short() -> None:
    call = NamedCall("a.name", "", Arguments(count=3))
    assert call.key() == "a.name {'tensors': 3}"
    assert NamedCall.read("attention#0123abcd") is None
