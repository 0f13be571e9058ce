"""diagc.compile: results, structure of arguments and results, modules, errors, what it tells."""

import inspect
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

import diagc
from diagc.errors import DiagcError, LaunchError, UserError
from diagc.runtime.steps import Contract

Tensor = torch.Tensor


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = (q @ k.transpose(-2, -1)) / math.sqrt(q.shape[-1])
    return torch.softmax(scores, dim=-1) @ v


class Both(NamedTuple):
    out: Tensor
    largest: Tensor


def with_statistic(q: Tensor, k: Tensor, v: Tensor) -> dict[str, Any]:
    scores = q @ k.transpose(-2, -1)
    both = Both(torch.softmax(scores, dim=-1) @ v, scores.amax(dim=-1))
    return {"both": both, "scale": 3, "nothing": None, "same": both.out}


def qkv(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(sum(shape))
    q, k, v = (torch.randn(shape).to(dtype) for _ in range(3))
    return q, k, v


def assert_close_to_eager(
    compiled: Callable[..., Tensor], function: Callable[..., Tensor], *args: Tensor
) -> None:
    """Ours may be as far from float64 as eager, and a little further."""
    exact = function(*(a.double() if a.is_floating_point() else a for a in args))
    found, eager = compiled(*args), function(*args)
    assert found.dtype == eager.dtype
    assert found.shape == eager.shape
    scale = float(exact.abs().max())
    allowed = 3 * float((eager.double() - exact).abs().max()) + 1e-6 * scale
    assert float((found.double() - exact).abs().max()) <= allowed


@pytest.mark.parametrize("target", ["cpu", "interp"])
def test_attention_equals_eager(target: str) -> None:
    q, k, v = qkv(2, 3, 40, 16)
    compiled = diagc.compile(attention, q, k, v, target=target)
    assert_close_to_eager(compiled, attention, q, k, v)
    assert compiled.outside == ()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    q, k, v = qkv(1, 2, 48, 32, dtype=dtype)
    assert_close_to_eager(diagc.compile(attention, q, k, v), attention, q, k, v)


def test_strided_inputs_are_read_in_place() -> None:
    q, k, v = (x.transpose(1, 2) for x in qkv(2, 40, 3, 16))
    assert_close_to_eager(diagc.compile(attention, q, k, v), attention, q, k, v)


def test_structure_of_results_is_kept() -> None:
    q, k, v = qkv(1, 2, 40, 16)
    found = diagc.compile(with_statistic, q, k, v)(q, k, v)
    expected = with_statistic(q, k, v)
    assert isinstance(found["both"], Both)
    assert found["scale"] == 3
    assert found["nothing"] is None
    torch.testing.assert_close(found["both"].out, expected["both"].out)
    torch.testing.assert_close(found["both"].largest, expected["both"].largest)
    torch.testing.assert_close(found["same"], expected["same"])


def scaled(
    x: dict[str, Tensor], *, scale: float = 1.0, mask: Tensor | None = None, power: int = 1
) -> Tensor:
    weights = torch.softmax(x["x"] * scale, dim=-1)
    return weights**power if mask is None else weights**power * mask


def test_constants_and_structure_make_groups_of_their_own() -> None:
    x = {"x": torch.randn(4, 33)}
    mask = torch.randn(33)
    compiled = diagc.compile(scaled, x, example_kwargs={"scale": 2.0})
    for kwargs in ({"scale": 2.0}, {"scale": 0.5}, {"mask": mask}, {"power": 2, "mask": mask}, {}):
        torch.testing.assert_close(compiled(x, **kwargs), scaled(x, **kwargs))


def test_an_argument_that_can_be_no_key_is_refused() -> None:
    compiled = diagc.compile(scaled)
    with pytest.raises(UserError, match="neither a tensor nor a constant"):
        compiled({"x": torch.randn(2, 3)}, scale=bytearray(b"1"))


def test_compilation_waits_for_the_first_call_without_examples() -> None:
    compiled = diagc.compile(attention)
    with pytest.raises(UserError, match="has not been compiled yet"):
        compiled.explain()
    q, k, v = qkv(1, 1, 8, 16)
    assert_close_to_eager(compiled, attention, q, k, v)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(24, 48)
        self.norm = nn.LayerNorm(48)
        self.register_buffer("shift", torch.ones(48))

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        y: Tensor = self.norm(nn.functional.gelu(self.first(x))) * gain + self.shift
        return y


@torch.no_grad()
def test_parameters_and_buffers_are_read_live() -> None:
    torch.manual_seed(0)
    block, x = Block(), torch.randn(5, 7, 24)
    compiled = diagc.compile(block, x)
    torch.testing.assert_close(compiled(x), block(x))
    block.first.weight.mul_(2.0)
    block.norm.bias = nn.Parameter(torch.randn(48))
    block.shift = torch.randn(48)
    torch.testing.assert_close(compiled(x), block(x))
    torch.testing.assert_close(compiled(x, gain=3.0), block(x, gain=3.0))
    block.load_state_dict({name: torch.randn_like(t) for name, t in block.state_dict().items()})
    torch.testing.assert_close(compiled(x), block(x))


@torch.no_grad()
def test_closure_over_a_module_reads_it_live() -> None:
    block, x = Block(), torch.randn(5, 24)

    def twice(y: Tensor) -> Tensor:
        result: Tensor = block(y) * 2
        return result

    compiled = diagc.compile(twice, x)
    block.first.bias = nn.Parameter(torch.randn(48))
    torch.testing.assert_close(compiled(x), twice(x))


def test_inference_mode_and_views_of_inputs() -> None:
    x = torch.randn(4, 6)
    compiled = diagc.compile(lambda y: (y.t(), torch.relu(y)), x)
    with torch.inference_mode():
        view, fresh = compiled(x)
    assert torch.equal(view, x.t())
    assert torch.equal(fresh, torch.relu(x))


def test_autocast_leaves_the_function_to_torch() -> None:
    q, k, v = qkv(1, 2, 16, 16)
    compiled = diagc.compile(attention, q, k, v)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert compiled(q, k, v).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v: (q.double(), k, v), "argument 'q' has the wrong dtype"),
        (lambda q, k, v: (q[0], k, v), "argument 'q' has the wrong rank"),
        (lambda q, k, v: (q, k.to("meta"), v), "argument 'k' is on the wrong device"),
        (lambda q, k, v: (q, k), "missing 1 required positional argument: 'v'"),
        (lambda q, k, v: (q, k[..., :3], v), "cannot be multiplied"),
    ],
)
def test_wrong_arguments_are_one_clear_error(
    change: Callable[..., tuple[Tensor, ...]], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    q, k, v = qkv(1, 2, 16, 8)
    compiled = diagc.compile(attention, q, k, v)
    with pytest.raises(DiagcError) as caught:
        compiled(*change(q, k, v))
    assert message in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err


def test_bad_options_are_refused() -> None:
    with pytest.raises(UserError, match="unknown compile option"):
        diagc.compile(attention, tiles=3)
    with pytest.raises(UserError, match="unknown library, expected torch, tiled or none"):
        diagc.compile(attention, library="mkl")
    with pytest.raises(UserError, match="nothing to compile"):
        diagc.compile(3)  # type: ignore[arg-type]


def test_kernels_are_described() -> None:
    q, k, v = qkv(1, 2, 64, 16)
    compiled = diagc.compile(attention, q, k, v)
    (kernel,) = compiled.kernels
    assert kernel.target == "cpu"
    assert kernel.cache in ("hit", "miss", "memory")
    assert any(line.startswith("z: sum of exp") for line in kernel.streams)
    again = diagc.compile(attention, q, k, v)
    assert again.kernels[0].cache in ("hit", "memory")


def test_explain_tells_laws_and_fall_back() -> None:
    q, k, v = qkv(1, 2, 64, 16)
    compiled = diagc.compile(attention, q, k, v)
    text = compiled.explain()
    assert "attention on cpu: 1 kernel, 1 launch, 0 ops outside" in text
    assert "m: maximum of a" in text
    report = json.loads(compiled.explain("json"))
    assert report["fall_back"] is False
    (kernel,) = report["kernels"]
    assert kernel["streams"][0]["properties"] == ["monoid", "commutative"]
    assert kernel["calls"] == 1
    assert kernel["fall_back"] is None
    with pytest.raises(UserError, match="unknown format"):
        compiled.explain("xml")


def spherical(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.nn.functional.normalize(q @ k.transpose(-2, -1), dim=-1) @ v


def third_power(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1)
    return (scores @ v) / (scores * scores * scores).sum(-1, keepdim=True)


@pytest.mark.parametrize(
    ("function", "rewrite"),
    [
        (attention, 'one pass over axis "m" computes 3 reductions'),
        (attention, 'a statistic moved behind the sum over "m"'),
        (spherical, "whose squares are summed by a Gram matrix"),
    ],
)
def test_rewrites_are_told_with_their_lines(function: Callable[..., Tensor], rewrite: str) -> None:
    compiled = diagc.compile(function, *qkv(1, 2, 4096, 16))
    (note,) = [n for n in json.loads(compiled.explain("json"))["done"] if rewrite in n["text"]]
    lines = inspect.getsourcelines(function)
    file, line, _ = note["location"].rsplit(":", 2)
    assert file == __file__
    assert lines[1] <= int(line) < lines[1] + len(lines[0])
    assert note["op"] == "diag.contract"
    assert f"{note['text']} ({note['location']})" in compiled.explain()


def test_what_was_declined_is_told_with_its_line() -> None:
    report = json.loads(diagc.compile(third_power, *qkv(1, 2, 4096, 16)).explain("json"))
    (note,) = report["declined"]
    assert "no guard is known for this power" in note["text"]
    first = inspect.getsourcelines(third_power)[1]
    assert note["location"].startswith(f"{__file__}:{first + 1}:")


def test_outside_is_told() -> None:
    x = torch.randn(100, 90)
    compiled = diagc.compile(lambda y: (y * torch.tanh(y)).sort(dim=-1).values, x)
    assert compiled.outside == ("aten.sort.default",)
    torch.testing.assert_close(compiled(x), (x * torch.tanh(x)).sort(dim=-1).values)


def test_source_and_stages_are_printed() -> None:
    q, k, v = qkv(1, 2, 64, 16)
    compiled = diagc.compile(attention, q, k, v)
    assert "diag.normalize" in compiled.source_ir
    assert "diag.stream" in compiled.emit("streams")
    assert "diag.schedule" in compiled.emit("general")
    assert "vector.fma" in compiled.emit("vector")
    assert "vmulps" in compiled.emit("asm") or "fmla" in compiled.emit("asm")
    with pytest.raises(UserError, match="no such stage"):
        compiled.emit("nowhere")


def test_library_none_makes_kernels_of_all_contractions() -> None:
    x, w = torch.randn(6, 16), torch.randn(8, 16)
    compiled = diagc.compile(lambda a, b: a @ b.t(), x, w, library="none")
    assert compiled.outside == ()
    torch.testing.assert_close(compiled(x, w), x @ w.t())


def test_bias_is_added_by_the_matrix_product() -> None:
    linear, x = nn.Linear(24, 48), torch.randn(2, 5, 24)
    compiled = diagc.compile(linear, x)
    (step,) = compiled.program.steps
    assert isinstance(step, Contract)
    assert step.bias is not None
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), linear(x))


def test_launch_error_is_a_user_error() -> None:
    assert issubclass(LaunchError, UserError)


@pytest.mark.parametrize(
    "function",
    [
        lambda s: torch.erf(s) * 2 + 1,
        lambda s: torch.arange(5) * 0,
        lambda s: (s * 3 + 1).expand(4, 3) + torch.arange(3),
        lambda s: torch.softmax(s * 2 + 1, -1),
    ],
)
@pytest.mark.parametrize("library", ["torch", "none"])
def test_scalars_without_axes(function: Callable[[Tensor], Tensor], library: str) -> None:
    s = torch.tensor(2.5)
    compiled = diagc.compile(function, s, library=library)
    torch.testing.assert_close(compiled(s), function(s))
