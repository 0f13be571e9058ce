"""200 random shapes, strides and lengths through one compiled function, with torch as the oracle.

A run draws a fresh seed and prints it with a histogram; `DIAGC_TEST_SEED=<number>` repeats a run.
"""

from collections import Counter
from random import Random
from typing import Any

import pytest
import torch

import diagc
from diagc.runtime.group import Group
from diagc.runtime.specialization import Specialization
from diagc.testing.seed import SEED

Tensor = torch.Tensor

COUNT = 200
MOST_PROGRAMS = 40
"""Sizes of 1 are fixed, so each set of them is a program of its own; 8 are kept at a time."""

DEPTH, VALUE = 16, 24

LENGTHS = (1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 96, 100, 127, 128, 129)
"""Around the sizes of vectors and tiles, where loops end."""


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-2, -1) * 0.25, dim=-1) @ v


def stored_transposed(shape: tuple[int, ...]) -> Tensor:
    """Sequence and head are swapped in memory, as a projection leaves them."""
    batch, heads, length, depth = shape
    return torch.randn(batch, length, heads, depth).transpose(1, 2)


def sliced(shape: tuple[int, ...]) -> Tensor:
    """Every second position of the middle of a larger array."""
    batch, heads, length, depth = shape
    return torch.randn(batch + 1, heads, 2 * length + 3, depth + 5)[1:, :, 1 : 2 * length : 2, 3:-2]


def expanded(shape: tuple[int, ...]) -> Tensor:
    """One array for all batches."""
    return torch.randn(1, *shape[1:]).expand(shape)


def columns(shape: tuple[int, ...]) -> Tensor:
    """Features are the slowest in memory."""
    batch, heads, length, depth = shape
    return torch.randn(depth, batch, heads, length).permute(1, 2, 3, 0)


LAYOUTS = {
    "dense": lambda shape: torch.randn(shape),
    "transposed": stored_transposed,
    "sliced": sliced,
    "expanded": expanded,
    "columns": columns,
}


def random_size(rng: Random) -> int:
    return rng.choice(LENGTHS) if rng.random() < 0.5 else rng.randint(1, 150)


def test_random_shapes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    specialize = Group.specialize

    def counted(group: Group, *args: Any) -> Specialization:
        nonlocal made
        made += 1
        return specialize(group, *args)

    monkeypatch.setattr(Group, "specialize", counted)
    rng, seen = Random(SEED), Counter[str]()
    torch.manual_seed(SEED)
    compiled = diagc.compile(attention)
    failures = []
    for _ in range(COUNT):
        batch, heads = rng.randint(1, 5), rng.randint(1, 6)
        queries, keys = random_size(rng), random_size(rng)
        names = [rng.choice(list(LAYOUTS)) for _ in range(3)]
        sizes = ((queries, DEPTH), (keys, DEPTH), (keys, VALUE))
        tensors = [
            LAYOUTS[name]((batch, heads, *size)) for name, size in zip(names, sizes, strict=True)
        ]
        seen.update(names)
        single = {"batch": batch, "heads": heads, "queries": queries, "keys": keys}
        seen.update(f"{what} of 1" for what, size in single.items() if size == 1)
        seen["keys % 16 == 0" if keys % 16 == 0 else "keys % 16 != 0"] += 1
        complaint = compare(compiled, tensors)
        if complaint:
            failures.append(f"{batch} {heads} {queries} {keys} {names}: {complaint}")
    with capsys.disabled():
        print(f"\nrandom shapes, seed {SEED}: {made} programs compiled")
        print(", ".join(f"{name} {count}" for name, count in sorted(seen.items())))
    assert not failures, f"{len(failures)} of {COUNT}\n" + "\n".join(failures[:5])
    assert made <= MOST_PROGRAMS


def compare(compiled: diagc.CompiledFunction, tensors: list[Tensor]) -> str | None:
    """What is wrong with our result: shape, or an error above that of eager."""
    exact = attention(*(tensor.double() for tensor in tensors))
    found, eager = compiled(*tensors), attention(*tensors)
    if found.shape != eager.shape:
        return f"shape {tuple(found.shape)}, expected {tuple(eager.shape)}"
    error, peer = (float((x.double() - exact).abs().max()) for x in (found, eager))
    return None if error <= 4 * peer + 1e-6 else f"error {error:.2g}, of eager {peer:.2g}"
