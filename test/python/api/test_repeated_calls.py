"""A call like the last one takes few steps, and one that differs in anything is seen to differ."""

import gc
import threading
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import nn

import diagc
from diagc.errors import LaunchError
from diagc.runtime.calls import Calls

Tensor = torch.Tensor


def attention(q: Tensor, k: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-2, -1), dim=-1) @ k


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.randn(shape), torch.randn(shape)


def exact(q: Tensor, k: Tensor) -> Tensor:
    return attention(q.detach().double(), k.detach().double())


def assert_right(found: Tensor, q: Tensor, k: Tensor) -> None:
    torch.testing.assert_close(found.double(), exact(q, k), rtol=1e-4, atol=1e-5)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each call that was not like the last one."""
    seen: list[int] = []
    group = Calls.group

    def counted(self: Calls, *given: object) -> object:
        seen.append(1)
        return group(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Calls, "group", counted)
    return seen


@pytest.fixture
def ready() -> Callable[..., Tensor]:
    """Compiled, and called once."""
    torch.manual_seed(3)
    compiled = diagc.compile(attention, *pair(2, 9, 8))
    q, k = pair(2, 9, 8)
    assert_right(compiled(q, k), q, k)
    return compiled


def test_the_same_again_is_not_searched_for(
    ready: Callable[..., Tensor], searches: list[int]
) -> None:
    results = []
    for _ in range(3):
        q, k = pair(2, 9, 8)
        results.append(ready(q, k))
        assert_right(results[-1], q, k)
        assert not results[-1].requires_grad
        assert results[-1]._base is None
    assert searches == []
    assert len({result.data_ptr() for result in results}) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda q: q.transpose(0, 1).contiguous().transpose(0, 1),
        lambda q: q.double(),
        lambda q: torch.randn(2, 11, 8),
        lambda q: torch.randn(2, 9, 16)[..., ::2],
        lambda q: q.expand(2, 9, 8) if q.shape[0] == 1 else q[:1].expand(2, 9, 8),
    ],
    ids=["strides", "dtype", "size", "gaps", "expanded"],
)
def test_other_layouts_are_seen(
    ready: Callable[..., Tensor], searches: list[int], change: Callable[[Tensor], Tensor]
) -> None:
    q, k = map(change, pair(2, 9, 8))
    if q.dtype == torch.float64:
        with pytest.raises(LaunchError):
            ready(q, k)
    else:
        assert_right(ready(q, k), q, k)
    assert searches


def test_a_tensor_that_changes_in_place_is_seen(ready: Callable[..., Tensor]) -> None:
    q, k = pair(2, 9, 8)
    ready(q, k)
    other = torch.randn(9, 2, 8)
    q.set_(other.untyped_storage(), 0, (2, 9, 8), (8, 16, 1))
    k.mul_(0.5)
    assert_right(ready(q, k), q, k)
    q.resize_(2, 5, 8)
    q.normal_()
    assert_right(ready(q, k), q, k)


def test_gradients_are_recorded_as_soon_as_one_is_needed(ready: Callable[..., Tensor]) -> None:
    q, k = pair(2, 9, 8)
    assert not ready(q, k).requires_grad
    q.requires_grad_()
    result = ready(q, k)
    assert result.requires_grad
    (gradient,) = torch.autograd.grad(result.sum(), q)
    wide = q.detach().double().requires_grad_()
    (wanted,) = torch.autograd.grad(attention(wide, k.double()).sum(), wide)
    torch.testing.assert_close(gradient.double(), wanted, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        assert not ready(q, k).requires_grad
    with torch.inference_mode():
        assert ready(q, k).is_inference()


def test_autocast_is_seen(ready: Callable[..., Tensor]) -> None:
    q, k = pair(2, 9, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ready(q, k).dtype == attention(q, k).dtype == torch.bfloat16
    assert ready(q, k).dtype == torch.float32


class Tagged(Tensor):
    """A subclass that sees every operation."""


def test_subclasses_modes_and_transforms_are_seen(ready: Callable[..., Tensor]) -> None:
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    q, k = pair(2, 9, 8)
    assert_right(ready(q, k), q, k)
    assert isinstance(ready(q.as_subclass(Tagged), k), Tagged)
    with FakeTensorMode() as mode:
        found = ready(mode.from_tensor(q), mode.from_tensor(k))
    assert isinstance(found, FakeTensor)
    torch.testing.assert_close(torch.func.vmap(ready)(q, k), ready(q, k))
    assert_right(ready(q, k), q, k)


def test_other_numbers_and_kinds_of_arguments_are_seen(ready: Callable[..., Tensor]) -> None:
    q, k = pair(2, 9, 8)
    ready(q, k)
    assert_right(ready(q, k=k), q, k)
    with pytest.raises(LaunchError):
        ready(q, k.to_sparse())
    with pytest.raises(LaunchError):
        ready(q, torch._neg_view(k))
    assert_right(ready(q, k), q, k)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(9, 8))

    def forward(self, q: Tensor) -> Tensor:
        scores = q @ self.keys.T
        return torch.softmax(scores if self.training else 2 * scores, dim=-1) @ self.keys


def assert_as_eager(found: Tensor, model: Model, q: Tensor) -> None:
    torch.testing.assert_close(found, model(q), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_weights_and_modes_of_a_module_are_read_anew(searches: list[int]) -> None:
    torch.manual_seed(5)
    model, q = Model(), torch.randn(4, 8)
    compiled = diagc.compile(model, q)
    compiled(q)
    searches.clear()
    model.keys.add_(1.0)
    assert_as_eager(compiled(q), model, q)
    model.keys = nn.Parameter(torch.randn(9, 8))
    assert_as_eager(compiled(q), model, q)
    assert searches == []
    model.keys = nn.Parameter(torch.randn(8, 9).T)
    assert_as_eager(compiled(q), model, q)
    model.eval()
    assert_as_eager(compiled(q), model, q)
    assert len(searches) == 2


def test_threads_do_not_share_what_a_launch_writes(ready: Callable[..., Tensor]) -> None:
    torch.manual_seed(7)
    work = [[pair(2, 9, 8) for _ in range(40)] for _ in range(4)]
    found: list[list[Tensor]] = [[] for _ in work]
    start = threading.Barrier(len(work))

    def run(number: int) -> None:
        start.wait()
        for q, k in work[number]:
            found[number].append(ready(q, k))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pairs, results in zip(work, found, strict=True):
        for (q, k), result in zip(pairs, results, strict=True):
            assert_right(result, q, k)


def test_kernels_go_with_their_function() -> None:
    def alone(q: Tensor, k: Tensor) -> Tensor:
        """Of which no other function of the process has the kernel: equal ones are shared."""
        return attention(0.61803 * q, k)

    compiled = diagc.compile(alone, *pair(2, 9, 8))
    compiled(*pair(2, 9, 8))
    kernel = weakref.ref(compiled.program.kernels[0])
    gc.collect()  # what compiling has left
    gc.disable()
    try:
        compiled(*pair(2, 7, 8))
        compiled(*pair(2, 7, 8))
        other = weakref.ref(compiled.program.kernels[0])
        del compiled
        assert kernel() is None
        assert other() is None
    finally:
        gc.enable()
