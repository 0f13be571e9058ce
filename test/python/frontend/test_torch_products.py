"""Products, views and concatenation, raised by both adapters."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diagc.frontend.torch import ImportedProgram

GENERATOR = torch.Generator().manual_seed(3)


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR)


X, Y, W, V = _random(3, 5, 8), _random(3, 5, 8), _random(6, 8), _random(8)
einsum = torch.einsum

PRODUCTS: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "matmul": (lambda a, b: a @ b.mT, (X, Y)),
    "mm": (lambda a: torch.mm(a, a.T), (W,)),
    "bmm": (lambda a, b: torch.bmm(a, b.mT), (X, Y)),
    "matrix times vector": (torch.mv, (W, V)),
    "vector times matrix": (lambda v, w: v @ w.T, (V, W)),
    "dot": (torch.dot, (V, V.clone())),
    "batch against vector": (lambda a, v: a @ v, (X, V)),
    "batch against matrix": (lambda a, b: a @ b, (X, _random(8, 4))),
    "broadcast batches": (lambda a, b: a @ b, (_random(3, 1, 5, 8), _random(2, 8, 4))),
    "expanded batch": (lambda a: a[None].expand(2, 3, 5, 8) @ a.mT, (X,)),
    "outer": (torch.outer, (V, V[:3].clone())),
    "tensordot": (lambda a, b: torch.tensordot(a, b, ([2, 1], [0, 1])), (X, _random(8, 5, 4))),
    "linear": (F.linear, (X, W)),
    "linear with bias": (F.linear, (X, W, _random(6))),
    "addmm": (lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2), (V[:6], W, _random(8, 6))),
    "baddbmm": (lambda c, a, b: torch.baddbmm(c, a, b.mT), (_random(3, 5, 5), X, Y)),
    "inner size 1": (lambda a, b: a @ b, (_random(4, 1), _random(1, 3))),
}
EINSUMS: dict[str, tuple[Tensor, ...]] = {
    "bnd,bmd->bnm": (X, Y),
    "bnd,bnd->bnd": (X, Y),
    "bnd,bnd->": (X, Y),
    "bnd,e->de": (X, V),
    "i,j->ij": (V, V),
    "ij,jk": (W, _random(8, 3)),
    "ji": (W,),
    "bii->b": (_random(3, 4, 4),),
    "bii->bi": (_random(3, 4, 4),),
    "...d,ed->...e": (X, W),
    "...d,ed,...e->...": (X, W, _random(3, 5, 6)),
    "ab,bc,cd->ad": (_random(2, 3), _random(3, 4), _random(4, 5)),
    "b...,b...->...": (X, Y),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_product(name: str, check_import: Callable[..., ImportedProgram]) -> None:
    function, inputs = PRODUCTS[name]
    assert not check_import(function, *inputs).externs


@pytest.mark.parametrize("equation", EINSUMS)
def test_einsum(equation: str, check_import: Callable[..., ImportedProgram]) -> None:
    program = check_import(lambda *inputs: einsum(equation, *inputs), *EINSUMS[equation])
    assert not program.externs


def test_product_of_bf16_accumulates_in_f32(check_import: Callable[..., ImportedProgram]) -> None:
    inputs = [t.to(torch.bfloat16) for t in (X, W, V[:6])]
    program = check_import(F.linear, *inputs, double=False, tolerance=2e-2)
    (line,) = [line for line in str(program.module).splitlines() if "diag.contract" in line]
    assert "-> tensor<3x5x6xf32" in line  # rounded after the bias


def test_product_of_integers_stays_in_torch(check_import: Callable[..., ImportedProgram]) -> None:
    a = torch.randint(0, 9, (3, 4))
    (note,) = check_import(lambda a: a @ a.T, a).notes
    assert "integers" in note.why


VIEWS: dict[str, Callable[[Tensor], Any]] = {
    "permutations": lambda a: (a.transpose(0, 1), a.permute(2, 0, 1), a.movedim(0, -1), a.mT),
    "reshapes": lambda a: (a.reshape(15, 8), a.flatten(), a.view(3, -1), a.unflatten(2, (4, 2))),
    "heads": lambda a: a.reshape(3, 5, 2, 4).permute(0, 2, 1, 3),
    "and back": lambda a: (
        a.reshape(3, 5, 2, 4).transpose(1, 2).reshape(6, 5, 4).softmax(-1).reshape(3, 2, 5, 4)
    ),
    "size 1": lambda a: (a.unsqueeze(1), a[:, None, :, None], a.unsqueeze(0).squeeze(0)),
    "expand": lambda a: (a.expand(2, 3, 5, 8), a[:, :, None].expand(3, 5, 2, 8)),
    "selects": lambda a: (a[:, 0], a[-1], a.select(1, -1), a[1, 2, 3], a.unbind(0)),
    "pieces": lambda a: (*a.chunk(4, -1), *a.split(2, -1), *a.split([1, 4, 3], -1), a[..., 2:6]),
    "uneven slices": lambda a: (a[:, 1:], a[:, :-1], a[..., ::2], *torch.tensor_split(a, 3, -1)),
    "slices after split": lambda a: a.reshape(3, 5, 2, 4).sum(2) + a[..., 1:5],
    "flip": lambda a: (a.flip(1), a.flip(0, 2)),
    "diagonals": lambda a: (a.diagonal(dim1=0, dim2=1), a.diagonal(1, 0, 2), a.diagonal(-1, 1, 2)),
    "repeats": lambda a: (a.repeat(2, 1, 3), a.repeat_interleave(2, 1), a.tile(2)),
    "windows": lambda a: a.reshape(3, 5, 2, 4).permute(2, 0, 1, 3).reshape(6, 5, 4) * 2,
    "glu": lambda a: F.glu(a, -1),
}


@pytest.mark.parametrize("name", VIEWS)
def test_view(name: str, check_import: Callable[..., ImportedProgram]) -> None:
    assert not check_import(VIEWS[name], X).externs


@pytest.mark.parametrize("name", ["permutations", "reshapes", "heads", "size 1"])
def test_view_alone_makes_no_ops(
    name: str,
    check_import: Callable[..., ImportedProgram],
    ops: Callable[[ImportedProgram], list[str]],
) -> None:
    assert ops(check_import(VIEWS[name], X)) == []


def test_reshape_across_borders_stays_in_torch(
    check_import: Callable[..., ImportedProgram],
) -> None:
    program = check_import(lambda a: a.reshape(10, 12) * 2, _random(12, 10))
    (note,) = program.notes
    assert note.op in ("aten.reshape.default", "aten.view.default")
    assert "do not refine" in note.why


CONCATENATIONS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "features": lambda a, b: torch.cat([a, b], -1),
    "rows": lambda a, b: torch.cat([a, b, a], 1),
    "unequal": lambda a, b: torch.cat([a, b[..., :3]], -1),
    "stack": lambda a, b: (torch.stack([a, b], 1), torch.stack([a, b], -1)),
    "one row": lambda a, b: (torch.cat([a, b[:, :1]], 1), torch.cat([a[:, :1], b], 1)),
    "rotary": lambda a, b: a * b + torch.cat([-a[..., 4:], a[..., :4]], -1) * b,
    "split later": lambda a, b: torch.cat([a, b, b[:, :2]], 1).reshape(3, 3, 4, 8).sum(1),
    "pad": lambda a, b: (F.pad(a, (1, 2)), F.pad(b, (0, 0, 2, 1), value=-1.0)),
    "write a row": lambda a, b: torch.select_scatter(a, b[:, 0], 1, 3),
}


@pytest.mark.parametrize("name", CONCATENATIONS)
def test_concatenation(name: str, check_import: Callable[..., ImportedProgram]) -> None:
    assert not check_import(CONCATENATIONS[name], X, Y).externs


def test_rotary_halves_are_a_map(
    check_import: Callable[..., ImportedProgram], ops: Callable[[ImportedProgram], list[str]]
) -> None:
    names = ops(check_import(CONCATENATIONS["rotary"], X, Y))
    assert "concat" not in names
    assert set(names) == {"map", "reindex", "index"}


def test_what_torch_keeps_is_listed(check_import: Callable[..., ImportedProgram]) -> None:
    def function(a: Tensor, i: Tensor) -> tuple[Any, ...]:
        return a.cumsum(1), a.sort(-1), a.topk(2), F.embedding(i, a[0]), a[:, i[0]]

    program = check_import(function, X, torch.randint(0, 5, (2, 3), generator=GENERATOR))
    kept = {note.op.split(".")[1] for note in program.notes}
    assert kept == {"cumsum", "sort", "topk", "embedding", "index"}
    assert all(note.location is not None and note.why for note in program.notes)
