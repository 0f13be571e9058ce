"""Many threads call one compiled model; forked processes call it, too."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import diagc


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) * 0.25, -1) @ v


def test_threads_with_sizes_of_their_own() -> None:
    compiled = diagc.compile(attention)

    def work(number: int) -> float:
        draw = torch.Generator().manual_seed(number)
        worst = 0.0
        for step in range(3):
            shape = (1 + number % 3, 2, 10 + number * step, 8)
            args = [torch.randn(shape, generator=draw) for _ in range(3)]
            worst = max(worst, float((compiled(*args) - attention(*args)).abs().max()))
        return worst

    with ThreadPoolExecutor(6) as pool:
        assert max(pool.map(work, range(6))) < 1e-5


class Computed(Dataset[Tensor]):
    """Items that a compiled function, of the parent's, and one of the child's compute."""

    def __init__(self, compiled: Any, args: list[Tensor]) -> None:
        self.compiled, self.args = compiled, args

    def __len__(self) -> int:
        return 4

    def __getitem__(self, number: int) -> Tensor:
        args = [x + number for x in self.args]
        own = diagc.compile(lambda q, k, v: attention(q, k, v) * 2)
        return torch.stack([self.compiled(*args), own(*args) / 2])


def test_workers_of_a_loader_are_forked() -> None:
    args = [torch.randn(2, 3, 40, 16) for _ in range(3)]
    compiled = diagc.compile(attention, *args)
    wide = torch.randn(1000, 1000)
    wide.exp_()  # the parent's pool of threads is there
    compiled(*args)
    data = Computed(compiled, args)
    loader = DataLoader(data, num_workers=2, batch_size=None, multiprocessing_context="fork")
    for number, found in enumerate(loader):
        wanted = attention(*(x + number for x in args))
        for result in found:
            torch.testing.assert_close(result, wanted, rtol=1e-5, atol=1e-5)


def test_a_forked_process_uses_one_thread() -> None:
    """Without a limit by torch, as `os.fork` leaves it: the pool's threads are not there."""
    from diagc.testing.forked import in_fork

    args = [torch.randn(2, 3, 40, 16) for _ in range(3)]
    compiled = diagc.compile(attention, *args)
    expected = compiled(*args).numpy()
    wide = torch.randn(1000, 1000)
    wide.exp_()
    assert in_fork(lambda: bool((compiled(*args).numpy() == expected).all()), seconds=30)
