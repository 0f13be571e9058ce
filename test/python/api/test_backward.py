"""Backward passes by programs of their own: against autograd in float64, on fresh data."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional

import diagc
from diagc import debug
from diagc.api import CompiledFunction
from diagc.compiler import compile_module
from diagc.context import make_context
from diagc.debug import CACHE_DIR
from diagc.errors import PassError, UnsupportedError, UserError
from diagc.mlir import ir
from diagc.options import CompileOptions
from diagc.runtime.specialization import Backward
from diagc.testing.own_rule import doubled
from diagc.testing.seed import SEED

Tensor = torch.Tensor
Function = Callable[..., Any]
Draw = Callable[[], list[Tensor]]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(SEED)


def draw(*shapes: tuple[int, ...], scale: float = 1.0) -> Draw:
    return lambda: [torch.randn(shape) * scale for shape in shapes]


def heads(keys: int = 50, queries: int = 40) -> tuple[tuple[int, ...], ...]:
    return (2, 3, queries, 16), (2, 3, keys, 16), (2, 3, keys, 8)


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-2, -1) * 0.25


def softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(scores(q, k), dim=-1) @ v


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask > 0)


def biased(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return torch.softmax(scores(q, k) + bias, dim=-1) @ v


def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def absolute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = scores(q, k)
    return s / s.abs().sum(dim=-1, keepdim=True) @ v


def spherical(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = scores(q, k)
    return s / torch.linalg.vector_norm(s, dim=-1, keepdim=True) @ v


def spherical_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = scores(q, k).tril(8)  # a row of one small score is ill-conditioned
    return s / torch.linalg.vector_norm(s, dim=-1, keepdim=True) @ v


def unnormalized(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scores(q, k) @ v


def with_statistic(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    s = scores(q, k)
    return torch.softmax(s, dim=-1) @ v, torch.logsumexp(s, dim=-1)


def self_attention(x: Tensor, v: Tensor) -> Tensor:
    return softmax(x, x, v)


def rms_linear(x: Tensor, gain: Tensor, weight: Tensor) -> Tensor:
    scale = torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6)
    return (x * scale * gain) @ weight


def layer_linear(x: Tensor, gain: Tensor, bias: Tensor, weight: Tensor) -> Tensor:
    return functional.layer_norm(x, (x.shape[-1],), gain, bias) @ weight


def cross_entropy(x: Tensor, weight: Tensor) -> Tensor:
    return functional.cross_entropy(x @ weight.T, torch.arange(x.shape[0]) % 7)


CASES: dict[str, tuple[Function, Draw]] = {
    "softmax": (softmax, draw(*heads())),
    "causal": (causal, draw(*heads(40))),
    "masked": (masked, draw(*heads(), (2, 1, 40, 50))),
    "bias": (biased, draw(*heads(), (2, 3, 40, 50))),
    "bias of heads": (biased, draw(*heads(), (3, 40, 50))),
    "bias of keys": (biased, draw(*heads(), (2, 1, 1, 50))),
    "grouped": (grouped, draw((2, 6, 40, 16), (2, 3, 50, 16), (2, 3, 50, 16))),
    "l1": (absolute, draw(*heads())),
    "l2": (spherical, draw(*heads(200, 200))),
    "l2 causal": (spherical_causal, draw(*heads(40))),
    "linear": (unnormalized, draw(*heads(200, 200))),
    "statistic": (with_statistic, draw(*heads())),
    "one tensor": (self_attention, draw((2, 3, 40, 16), (2, 3, 40, 8))),
    "rms, linear": (rms_linear, draw((30, 64), (64,), (64, 32))),
    "layer, linear": (layer_linear, draw((30, 64), (64,), (64,), (64, 32))),
    "cross entropy": (cross_entropy, draw((30, 64), (100, 64))),
}


def gradients(
    function: Function, tensors: Sequence[Tensor], cotangents: Sequence[Tensor], needed: Any = None
) -> list[Tensor]:
    """Gradients by the tensors that are needed, by default by all."""
    needed = needed or [True] * len(tensors)
    leaves = [t.detach().requires_grad_(n) for t, n in zip(tensors, needed, strict=True)]
    results = function(*leaves)
    results = results if isinstance(results, tuple) else (results,)
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    found = torch.autograd.grad(results, wanted, list(cotangents), allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(found, wanted, strict=True)]


def cotangents_of(function: Function, tensors: Sequence[Tensor]) -> list[Tensor]:
    results = function(*tensors)
    return [torch.randn_like(r) for r in (results if isinstance(results, tuple) else (results,))]


def backwards(compiled: CompiledFunction) -> list[Backward]:
    groups = compiled._calls.groups
    return [b for g in groups for s in g.specializations for b in s.backward.values()]


def check(function: Function, tensors: Sequence[Tensor], needed: Any = None) -> CompiledFunction:
    """Compare with float64; the error of eager mode in the same dtype is the measure."""
    compiled = diagc.compile(function)
    compare(compiled, function, tensors, needed)
    (made,) = backwards(compiled)
    assert made.program is not None, made.reason
    return compiled


def compare(
    compiled: Function, function: Function, tensors: Sequence[Tensor], needed: Any = None
) -> None:
    """See `check`; `function` is what `compiled` computes."""
    given = cotangents_of(function, tensors)
    found = gradients(compiled, tensors, given, needed)
    eager = gradients(function, tensors, given, needed)
    wide = [t.double() for t in tensors]
    exact = gradients(function, wide, [g.double() for g in given], needed)
    for mine, theirs, right in zip(found, eager, exact, strict=True):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        rounding = 8 * torch.finfo(mine.dtype).eps * float(right.abs().max())
        allowed = 4 * float((theirs - right).abs().max()) + rounding
        assert float((mine - right).abs().max()) <= allowed


@pytest.mark.parametrize("name", CASES)
def test_gradients_in_f32(name: str) -> None:
    function, tensors = CASES[name]
    check(function, tensors())


def test_exponentials_by_hand_stay_in_range() -> None:
    def safe(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.softmax(60 * scores(q, k), dim=-1) @ v

    def by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = torch.exp(60 * scores(q, k))
        return weights / weights.sum(dim=-1, keepdim=True) @ v

    tensors = CASES["softmax"][1]()
    assert not all(g.isfinite().all() for g in gradients(by_hand, tensors, [by_hand(*tensors)]))
    (given,) = cotangents_of(safe, tensors)
    found = gradients(diagc.compile(by_hand), tensors, [given])
    exact = gradients(safe, [t.double() for t in tensors], [given.double()])
    for mine, right in zip(found, exact, strict=True):
        assert float((mine - right).abs().max()) <= 1e-4 * float(right.abs().max())


SMALL: dict[str, list[tuple[int, ...]]] = {
    **{key: [(5, 3), (5, 3), (5, 2)] for key in ("softmax", "l1", "l2", "l2 causal")},
    "causal": [(1, 1, 4, 2)] * 3,
    "grouped": [(1, 2, 3, 2), (1, 1, 3, 2), (1, 1, 3, 2)],
    "bias of heads": [(2, 3, 2), (2, 4, 2), (2, 4, 2), (3, 4)],
    "rms, linear": [(5, 3), (3,), (3, 2)],
    "layer, linear": [(5, 4), (4,), (4,), (4, 2)],
    "cross entropy": [(9, 3), (7, 3)],
}


@pytest.mark.parametrize("name", SMALL)
def test_gradcheck_in_f64(name: str) -> None:
    """First and second derivatives, and forward mode, which torch's fused attention has not."""
    function, _ = CASES[name]
    tensors = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in SMALL[name]]
    compiled = diagc.compile(function)
    assert torch.autograd.gradcheck(compiled, tensors)
    assert backwards(compiled)
    assert all(b.program for b in backwards(compiled))
    assert torch.autograd.gradgradcheck(compiled, tensors, fast_mode=True)
    forward = {"check_forward_ad": True, "check_backward_ad": False, "fast_mode": True}
    assert torch.autograd.gradcheck(compiled, tensors, **forward)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["softmax", "l1"])
def test_narrow_types(name: str, dtype: torch.dtype) -> None:
    function, tensors = CASES[name]
    check(function, [t.to(dtype) for t in tensors()])


@pytest.mark.parametrize("needed", [(True, False, False), (False, True, True)])
def test_only_what_is_needed_is_computed(needed: tuple[bool, ...]) -> None:
    function, tensors = CASES["softmax"]
    compiled = check(function, tensors(), needed)
    (made,) = backwards(compiled)
    assert made.program is not None
    assert len(made.program.outputs) == sum(needed)


def test_one_program_for_all_lengths() -> None:
    compiled = diagc.compile(softmax, dynamic=True)
    for keys, queries in ((33, 50), (70, 9), (129, 200)):
        compare(compiled, softmax, draw(*heads(keys, queries))())
    assert len(backwards(compiled)) == 1


def test_aliases_strides_and_broadcast_cotangents() -> None:
    x, v = torch.randn(2, 40, 3, 16).transpose(1, 2), torch.randn(1, 1, 40, 8).expand(2, 3, 40, 8)
    compiled = diagc.compile(softmax)
    for function in (compiled, softmax):
        leaves = [t.detach().requires_grad_() for t in (x, v)]
        function(leaves[0], leaves[0], leaves[1]).sum().backward()  # its cotangent has stride 0
        if function is compiled:
            found = [leaf.grad for leaf in leaves]
    for a, b in zip(found, (leaf.grad for leaf in leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_rows_without_keys_have_no_gradient() -> None:
    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keep = torch.arange(40)[:, None] >= 7 + 0 * torch.arange(50)
        return torch.softmax(scores(q, k).masked_fill(~keep, float("-inf")), dim=-1) @ v

    tensors = CASES["softmax"][1]()
    given = torch.randn(2, 3, 40, 8)
    found = gradients(diagc.compile(function), tensors, [given])
    shown = gradients(softmax, [tensors[0][:, :, 7:], *tensors[1:]], [given[:, :, 7:]])
    assert not found[0][:, :, :7].any()
    torch.testing.assert_close(found[0][:, :, 7:], shown[0])
    for mine, theirs in zip(found[1:], shown[1:], strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("sizes", [(0, 50), (40, 0)])
def test_empty_axes(sizes: tuple[int, int]) -> None:
    queries, keys = sizes
    found = gradients(
        diagc.compile(softmax), draw(*heads(keys, queries))(), [torch.randn(2, 3, queries, 8)]
    )
    for gradient, shape in zip(found, heads(keys, queries), strict=True):
        assert gradient.shape == shape
        assert not gradient.any()


def test_the_same_digits_every_time() -> None:
    tensors = CASES["bias of keys"][1]()
    compiled = diagc.compile(biased)
    given = cotangents_of(biased, tensors)
    first = gradients(compiled, tensors, given)
    for _ in range(3):
        for a, b in zip(first, gradients(compiled, tensors, given), strict=True):
            assert torch.equal(a, b)


def test_captured_weights_as_they_are_at_the_forward_pass() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 4))
    x = torch.randn(30, 16)
    compiled = diagc.compile(model, x)
    result, wanted = compiled(x).square().sum(), model(x).square().sum()
    parameters = list(model.parameters())
    found = torch.autograd.grad(result, parameters)
    for a, b in zip(found, torch.autograd.grad(wanted, parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert backwards(compiled)
    assert all(b.program for b in backwards(compiled))


def test_a_backward_pass_may_outlive_the_function() -> None:
    tensors = [t.requires_grad_() for t in CASES["softmax"][1]()]
    loss = diagc.compile(softmax)(*tensors).sum()
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, tensors))


# ---- where there is no program -------------------------------------------------------------------


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    return torch.relu(functional.conv2d(x, weight, padding=1))


def test_what_has_no_derivative_runs_in_eager_mode(caplog: pytest.LogCaptureFixture) -> None:
    tensors = draw((2, 3, 8, 8), (5, 3, 3, 3))()
    compiled = diagc.compile(convolution)
    with debug.LOG.override("info"):  # its loggers print themselves, and tell no others
        debug.logger("calls").addHandler(caplog.handler)
        compare(compiled, convolution, tensors)
        debug.logger("calls").removeHandler(caplog.handler)
    (made,) = backwards(compiled)
    assert made.program is None
    assert "'func.call' is not supported" in made.reason
    assert made.reason in compiled.explain()
    assert any("eager mode" in record.getMessage() for record in caplog.records)


def test_an_extremum_of_sums_is_left_to_eager_mode() -> None:
    """A kernel that sums again may round otherwise, and find no element that is the extremum."""

    def distances(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        s = (q[..., :, None, :] - k[..., None, :, :]).square().sum(-1)
        return s / s.amax(-1, keepdim=True) @ v

    compiled = diagc.compile(distances)
    compare(compiled, distances, [torch.randn(2, n, 8) for n in (21, 34, 34)])
    (made,) = backwards(compiled)
    assert "extremum" in made.reason


def test_explain_tells_of_the_gradients() -> None:
    compiled = check(softmax, CASES["softmax"][1]())
    text = compiled.explain()
    assert "gradients by q, k, v: 2 kernels" in text


@pytest.mark.parametrize("name", ["softmax", "l2"])
def test_forward_mode_and_transforms(name: str) -> None:
    function, tensors = CASES[name]
    q, k, v = tensors()
    tangent = torch.randn_like(q)
    compiled = diagc.compile(function, q, k, v)
    wanted = torch.func.jvp(lambda x: function(x, k, v), (q,), (tangent,))[1]
    found = torch.func.jvp(lambda x: compiled(x, k, v), (q,), (tangent,))[1]
    torch.testing.assert_close(found, wanted)
    with forward_ad.dual_level():
        dual = compiled(forward_ad.make_dual(q, tangent), k, v)
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, wanted)
    gradient = torch.func.grad(lambda x, f: f(x, k, v).square().sum())
    torch.testing.assert_close(gradient(q, compiled), gradient(q, function))
    torch.testing.assert_close(torch.func.vmap(compiled)(q, k, v), function(q, k, v))


def test_gradients_cannot_be_asked_for_as_results() -> None:
    with pytest.raises(UserError, match="unknown compile option"):
        diagc.compile(softmax, wrt=("q",))


def test_arguments_of_one_name() -> None:
    compiled = diagc.compile(softmax, *CASES["softmax"][1]())
    text = compiled.source_ir.replace('diag.name = "k"', 'diag.name = "q"')
    with (
        make_context(),
        ir.Location.unknown(),
        pytest.raises(PassError, match="arguments share a name"),
    ):
        compile_module(ir.Module.parse(text), "cpu", CompileOptions(wrt=("q",)))


SECOND = """
    import torch, diagc, sys
    from diagc import compiler
    def attention(q, k, v):
        return torch.softmax(q @ k.transpose(-2, -1), dim=-1) @ v
    tensors = [torch.randn(2, 40, 8, requires_grad=True) for _ in range(3)]
    compiled = diagc.compile(attention)
    compiled(*tensors).sum().backward()
    (group,) = compiled._calls.groups
    (made,) = group.specializations[0].backward.values()
    print("cache" in made.program.report.seconds, "passes" in made.program.report.seconds)
    print("diagc.passes.streams.derive_streams" in sys.modules)
"""


def test_another_process_finds_the_program(tmp_path: Path) -> None:
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SECOND)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, CACHE_DIR.name: str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.split())
    assert said == [["False", "True", "True"], ["True", "False", "False"]]


# ---- gradients that autograd cuts or replaces ----------------------------------------------------


def detached(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return softmax(q.detach(), k, v) * q[..., :8]


def without_grad(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with torch.no_grad():
        scale = q.square().mean()
    return softmax(q, k, v) * scale


def own_rule(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return softmax(doubled(q), k, v)


@pytest.mark.parametrize("function", [detached, without_grad, own_rule])
@pytest.mark.parametrize("dynamic", [False, True])
def test_rules_for_gradients_are_kept(function: Function, dynamic: bool) -> None:
    tensors = draw((2, 40, 8), (2, 50, 8), (2, 50, 8))()
    compiled = diagc.compile(function, dynamic=dynamic)
    compare(compiled, function, tensors)
    compare(compiled, function, tensors, (False, True, True))
    by_q, others = backwards(compiled)
    assert by_q.program is None
    assert "stands behind 'q'" in by_q.reason
    assert others.program is not None, others.reason


def test_hooks_of_modules_are_kept() -> None:
    model = nn.Linear(8, 8)

    def tripled(_module: nn.Module, gradients: Any, _outputs: Any) -> tuple[Tensor]:
        return (gradients[0] * 3,)

    model.register_full_backward_hook(tripled)
    x = torch.randn(5, 8, requires_grad=True)
    compiled = diagc.compile(model, x)
    found, wanted = (torch.autograd.grad(f(x).sum(), x) for f in (compiled, model))
    torch.testing.assert_close(found, wanted)


def unrecorded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Of two equal calls one has no gradient."""
    with torch.no_grad():
        scale = softmax(q, k, v)
    return softmax(q, k, v) * scale


def test_equal_calls_with_and_without_gradients() -> None:
    compare(diagc.compile(unrecorded), unrecorded, draw((2, 40, 8), (2, 50, 8), (2, 50, 8))())


def test_data_is_refused_by_name() -> None:
    def with_data(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return softmax(q, k.data, v) * k

    with pytest.raises(UnsupportedError, match=r"such as \.data.*use \.detach\(\)"):
        diagc.compile(with_data, *(torch.randn(2, 10, 8) for _ in range(3)))
