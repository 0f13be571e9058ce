"""`torch.compile(…, backend="diagc")`: what is taken, with which numbers, and what stays out."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

import diagc
from diagc.errors import UserError
from diagc.torch_backend.report import GraphReport, collecting

EAGER: dict[str, Any] = {"rest": "eager", "take": "streams"}


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) * 0.25, -1) @ v


def spherical(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-1, -2)
    return (scores / torch.linalg.vector_norm(scores, dim=-1, keepdim=True)) @ v


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def in_the_middle(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Work for torch on both sides of a region."""
    k = torch.sort(k, -1).values
    return torch.cumsum(attention(q, k, v), 0) + v.sum()


def with_statistic(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    scores = q @ k.transpose(-1, -2) * 0.25
    return torch.softmax(scores, -1) @ v, torch.logsumexp(scores, -1)


FUNCTIONS = [attention, spherical, sdpa, in_the_middle, with_statistic]


def inputs(length: int = 150, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(2, 3, length, 16, dtype=dtype) for _ in range(3)]


def run(function: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, list[GraphReport]]:
    with collecting() as reports:
        compiled = torch.compile(function, backend="diagc", options={**EAGER, **options})
        return compiled(*args), reports


def regions(reports: list[GraphReport]) -> int:
    return sum(len(report.regions) for report in reports)


def assert_close(found: Any, wanted: Any) -> None:
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5)


# ---- what is taken -------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
def test_region_is_taken(function: Callable[..., Any]) -> None:
    args = inputs()
    found, reports = run(function, *args)
    assert_close(found, function(*args))
    assert regions(reports) == 1
    assert not reports[0].reasons
    assert any(kernel.streams for kernel in reports[0].regions[0].compiled.kernels)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients(function: Callable[..., Any]) -> None:
    def gradients(f: Callable[..., Any], needed: tuple[int, ...]) -> tuple[Tensor, ...]:
        leaves = [x.clone().requires_grad_(i in needed) for i, x in enumerate(args)]
        values = f(*leaves)
        values = values if isinstance(values, tuple) else (values,)
        loss = torch.stack([value.square().sum() for value in values]).sum()
        return torch.autograd.grad(loss, [leaves[i] for i in needed])

    args = inputs(40)
    compiled = torch.compile(function, backend="diagc", options=EAGER)
    for needed in ((0, 1, 2), (1,)):
        torch._dynamo.reset()
        for found, wanted in zip(
            gradients(compiled, needed), gradients(function, needed), strict=True
        ):
            torch.testing.assert_close(found, wanted, rtol=2e-4, atol=2e-4)


def test_one_region_serves_all_lengths() -> None:
    with collecting() as reports:
        compiled = torch.compile(attention, backend="diagc", options=EAGER)
        for length in (150, 90, 333, 65, 222):
            args = inputs(length)
            assert_close(compiled(*args), attention(*args))
    assert len(reports) == 2  # as first met, then with open sizes
    assert regions(reports) == 2


def test_views_with_open_sizes() -> None:
    def heads(x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = x.view(b, n, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        return attention(q, k, v).transpose(1, 2).reshape(b, n, 32)

    with collecting() as reports:
        compiled = torch.compile(heads, backend="diagc", options=EAGER, dynamic=True)
        for batch, length in ((2, 150), (3, 90), (5, 201)):
            x = torch.randn(batch, length, 96)
            assert_close(compiled(x), heads(x))
    assert [len(report.regions) for report in reports] == [1]


def test_equal_regions_share_a_function() -> None:
    def layers(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        for _ in range(3):
            q = attention(q, k, v).sigmoid().cumsum(-1)
        return q

    args = inputs()
    found, (report,) = run(layers, *args)
    assert_close(found, layers(*args))
    assert len(report.regions) == 3
    assert len({id(region.compiled) for region in report.regions}) == 1


def test_scores_that_are_never_computed_are_in_the_region() -> None:
    """Tokens on a grid are two axes, over which the norm is found from products of features."""

    def grid(x: Tensor) -> Tensor:
        return spherical(*torch.nn.functional.silu(x).flatten(2).transpose(1, 2).chunk(3, -1))

    x = torch.randn(1, 24, 40, 40)
    found, (report,) = run(grid, x)
    assert_close(found, grid(x))
    (region,) = report.regions
    assert sum("matmul" in call for call in region.calls) == 2
    assert not any("matmul" in ops for ops in report.left.values())


def test_take_all() -> None:
    def norm(x: Tensor) -> Tensor:
        return torch.relu(torch.nn.functional.layer_norm(x, (16,)) * 3 + 1)

    x = torch.randn(40, 16)
    found, reports = run(norm, x, take="all")
    assert_close(found, norm(x))
    assert regions(reports) == 1
    assert regions(run(norm, x, take="streams")[1]) == 0


# ---- what stays out ------------------------------------------------------------------------------


def test_scores_that_are_used_twice_stay_right() -> None:
    def both(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        weights = torch.softmax(q @ k.transpose(-1, -2), -1)
        return weights @ v, weights

    args = inputs()
    found, _ = run(both, *args)
    assert_close(found, both(*args))


def test_active_dropout_is_not_taken() -> None:
    def dropped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = torch.softmax(q @ k.transpose(-1, -2), -1)
        return torch.nn.functional.dropout(weights, 0.5) @ v

    args = inputs()
    torch.manual_seed(7)
    wanted = dropped(*args)
    torch.manual_seed(7)
    found, _ = run(dropped, *args)
    assert_close(found, wanted)
    assert (found - dropped(*args)).abs().max() > 1e-3  # it is random indeed


def test_tensors_on_another_device_than_the_target_s_stay_in_torch() -> None:
    args = inputs()
    found, (report,) = run(attention, *args, target="nvptx")
    assert_close(found, attention(*args))
    assert not report.regions
    assert any(
        re.search("are on cpu, kernels of the target on cuda.*'target': 'cpu'", reason)
        for reason in report.reasons
    )


def test_regions_for_a_gpu() -> None:
    """Fake tensors have a device that this machine may lack; the graph runs on them, too."""
    with FakeTensorMode(shape_env=ShapeEnv()):
        fake = torch.empty(2, 3, 40, 16, device="cuda")
        found, (report,) = run(attention, fake, fake, fake, target="nvptx:sm_90")
        assert (found.shape, found.device.type) == (fake.shape, "cuda")
        _, (elsewhere,) = run(spherical, fake, fake, fake)
    (region,) = report.regions
    (kernel,) = region.compiled.kernels
    assert f"kernel {kernel.name} (nvptx)" in report.text()
    x = torch.randn(fake.shape)
    simulated, checks = diagc.simulate(region.compiled, x)
    assert checks.clean
    wanted = attention(*[x.double()] * 3)
    torch.testing.assert_close(simulated.double(), wanted, rtol=1e-5, atol=1e-5)
    assert not elsewhere.regions
    assert any("options={'target': 'nvptx'}" in reason for reason in elsewhere.reasons)


def test_writes_stay_in_order() -> None:
    def writes(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        k = k * 1
        before = attention(q, k, v)
        k.mul_(2)
        return before, attention(q, k, v)

    args = inputs()
    found, reports = run(writes, *args)
    assert_close(found, writes(*args))
    assert regions(reports) == 2


def test_writes_into_arguments() -> None:
    def writes(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = attention(q, k, v)
        k.add_(out)
        return out

    args = inputs()
    twins = [x.clone() for x in args]
    found, reports = run(writes, *args)
    assert_close(found, writes(*twins))
    assert_close(args, twins)
    assert regions(reports) == 1


def test_graph_break() -> None:
    def broken(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = attention(q, k, v)
        if out.sum().item() > 1e9:
            return out
        return attention(out, k, v)

    args = inputs()
    found, reports = run(broken, *args)
    assert_close(found, broken(*args))
    assert regions(reports) == 2


def test_complex_numbers_stay_in_torch() -> None:
    def rotate(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        turned = torch.view_as_complex(q.unflatten(-1, (8, 2))) * 1j
        return attention(torch.view_as_real(turned).flatten(-2), k, v)

    args = inputs()
    found, _ = run(rotate, *args)
    assert_close(found, rotate(*args))


def test_no_grad_inside() -> None:
    def partly(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with torch.no_grad():
            scale = attention(q, k, v).abs().mean()
        return attention(q, k, v) * scale

    args = [x.requires_grad_() for x in inputs()]
    found, _ = run(partly, *args)
    wanted = partly(*args)
    assert_close(found, wanted)
    for a, b in zip(
        torch.autograd.grad(found.sum(), args), torch.autograd.grad(wanted.sum(), args), strict=True
    ):
        assert_close(a, b)


# ---- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rest": "xla"}, "inductor or eager"),
        ({"take": "some"}, "streams or all"),
        ({"tile": 3}, "unknown option of backend 'diagc'"),
        ({"target": "moon"}, "unknown target"),
        ({"reassociate": "yes"}, "reassociate"),
        ({"empty_rows": "yes"}, "empty-rows"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        run(attention, *inputs(), **options)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"mode": "fast"}, "unknown mode.*default"), ({"options": "eager"}, "must be a dict")],
)
def test_bad_arguments(given: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        torch.compile(attention, backend="diagc", **given)(*inputs())


def test_options_of_the_compiler() -> None:
    args = inputs(200)
    found, (report,) = run(spherical, *args, reassociate="off")
    assert_close(found, spherical(*args))
    assert report.regions[0].compiled.options.reassociate == "off"


# ---- Inductor ------------------------------------------------------------------------------------

_PROGRAM = """
import torch
from torch._dynamo.utils import counters

# torch keeps these outside its cache directory, where other programs may write them at once
torch._inductor.config.cpp_cache_precompile_headers = False

def layer(x, w):
    q = k = v = torch.tanh(x @ w)
    return torch.exp(torch.softmax(q @ k.transpose(-1, -2), -1) @ v).sum(-1)

torch.manual_seed(0)
x, w = torch.randn(2, 130, 16), torch.randn(16, 16, requires_grad=True)
assert "diagc" in torch._dynamo.list_backends()
found = torch.compile(layer, backend="diagc")(x, w)
torch.testing.assert_close(found, layer(x, w))
(a,), (b,) = (torch.autograd.grad(f.sum(), [w]) for f in (found, layer(x, w)))
torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
print(counters["aot_autograd"]["autograd_cache_hit"])
"""


def test_inductor_and_its_cache(tmp_path: Any) -> None:
    """By name alone, in two processes, of which the second finds what the first compiled."""
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    hits = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )
        assert done.returncode == 0, done.stderr
        hits.append(int(done.stdout))
    assert hits == [0, 1]


# ---- what is told --------------------------------------------------------------------------------


def test_explanation() -> None:
    def broken(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = attention(q, k, v)
        torch._dynamo.graph_break()
        out = torch.relu(torch.cumsum(out, 0))
        return torch.nn.functional.dropout(out.add_(1), 0.5)

    told = diagc.explain(broken, *inputs())
    assert told.regions == 1
    text = str(told)
    for part in ("softmax.int at", "corrected by exp(m - m')", "graph break:"):
        assert part in text
    assert [sorted(set(ops)) for ops in told.graphs[1].left.values()] == [
        ["cumsum"],
        ["relu"],
        ["add_.Tensor"],
        ["dropout"],
    ]
    assert "dropout: draws random numbers" in text
    assert "add_.Tensor: writes into a tensor" in text
    assert "relu: nothing fuses with it" in text


def test_explanation_has_no_breaks_of_others() -> None:
    def broken(x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return x + 1

    assert diagc.explain(broken, torch.ones(3)).breaks
    assert not diagc.explain(torch.sin, torch.ones(3)).breaks


def by_value(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attention(q + 1, k, v) if q.sum() > 0 else attention(q, k, v)


def within(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return by_value(q, k, v) * 2


def by_number(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attention(q * q.sum().item(), k, v)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (by_value, r"Data-dependent branching at \S*test_backend\.py:\d+"),
        (within, r"Data-dependent branching at \S*test_backend\.py:\d+"),
        (by_number, r"Unsupported Tensor\.item\(\) call .* at \S*test_backend\.py:\d+"),
    ],
)
def test_explanation_lists_each_break_once_with_its_place(
    function: Callable[..., Any], reason: str
) -> None:
    (found,) = diagc.explain(function, *inputs()).breaks
    assert re.fullmatch(reason, found)


def test_explanation_of_nothing() -> None:
    with pytest.raises(UserError, match="nothing to explain"):
        diagc.explain(3)  # type: ignore[arg-type]
