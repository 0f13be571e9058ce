"""What eager torch refuses is refused here, too: never compiled to something else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import diagc
from diagc.errors import DiagcError, UnsupportedError

GENERATOR = torch.Generator().manual_seed(3)
X = torch.randn(2, 5, generator=GENERATOR)
CUBE = torch.randn(3, 5, 5, generator=GENERATOR)
HEADS = torch.randn(2, 3, 5, 8, generator=GENERATOR)
SCALAR = torch.tensor(1.5)
NOTHING = torch.zeros(2, 0)
ONES = torch.ones
OVER_DIMS = (
    *(torch.softmax, torch.log_softmax, torch.sum, torch.mean, torch.amax, torch.logsumexp),
    *(torch.any, torch.all, torch.var, torch.std, torch.cumsum, torch.unbind, F.glu),
)
OF_FLOATS = (torch.softmax, torch.log_softmax, torch.mean, torch.var, torch.std)

REFUSED: dict[str, tuple[Callable[[Tensor], Any], Tensor]] = {
    "softmax of a scalar over dim 1": (lambda x: x.softmax(1), SCALAR),
    "one dim twice": (lambda x: x.mean((0, -2)), X),
    "norm of integers": (lambda x: torch.linalg.vector_norm(x.long()), X),
    "norm of dim 2": (lambda x: torch.linalg.vector_norm(x, dim=2), X),
    "largest of nothing": (lambda x: x.amax(1), NOTHING),
    "maximum of nothing": (lambda x: x.max(), NOTHING),
    "maximum over nothing": (lambda x: x.max(1).values, NOTHING),
    "infinite norm of nothing": (lambda x: torch.linalg.vector_norm(x, float("inf")), NOTHING),
    "layer_norm shape": (lambda x: F.layer_norm(x, (4,)), X),
    "layer_norm of no dims": (lambda x: F.layer_norm(x, ()), X),
    "layer_norm weight": (lambda x: F.layer_norm(x, (5,), ONES(4)), X),
    "layer_norm bias": (lambda x: F.layer_norm(x, (5,), ONES(5), ONES(1)), X),
    "layer_norm of integers": (lambda x: F.layer_norm(x.long(), (5,)), X),
    "rms_norm shape": (lambda x: F.rms_norm(x, (2, 4)), X),
    "group_norm": (lambda x: F.group_norm(x, 2), X),
    "batch_norm": (lambda x: F.batch_norm(x, ONES(4), ONES(5)), X),
    "linear weight": (lambda x: F.linear(x, ONES(3, 4)), X),
    "linear weight of 3 dims": (lambda x: F.linear(x, ONES(2, 3, 5)), X),
    "linear bias": (lambda x: F.linear(x, ONES(3, 5), ONES(4)), X),
    "linear bias dtype": (lambda x: F.linear(x, ONES(3, 5), ONES(3).double()), X),
    "linear dtype": (lambda x: F.linear(x, ONES(3, 5).double()), X),
    "mm of a batch": (lambda x: torch.mm(x, x), CUBE),
    "mm dtype": (lambda x: torch.mm(x, x.T.double()), X),
    "bmm of a matrix": (lambda x: torch.bmm(x, x), X),
    "bmm of two batches": (lambda x: torch.bmm(x, x[:1]), CUBE),
    "matmul of a scalar": (lambda x: x @ SCALAR, X),
    "matmul sizes": (lambda x: x @ x, X),
    "addmm": (lambda x: torch.addmm(ONES(4), x[0], x[0]), CUBE),
    "addmm of a batch": (lambda x: torch.addmm(ONES(5), x, x), CUBE),
    "baddbmm": (lambda x: torch.baddbmm(ONES(4), x, x), CUBE),
    "einsum": (lambda x: torch.einsum("ij,jk->ik", x, x), X),
    "outer": (lambda x: torch.outer(x, x), X),
    "tensordot": (lambda x: torch.tensordot(x, x, 1), X),
    "broadcasting": (lambda x: x + ONES(4), X),
    "cat sizes": (lambda x: torch.cat([x, x[:, :3]]), X),
    "cat of scalars": (lambda x: torch.cat([x, x]), SCALAR),
    "cat along dim 2": (lambda x: torch.cat([x, x], 2), X),
    "stack sizes": (lambda x: torch.stack([x, x[0]]), X),
    "tril of a vector": (lambda x: x[0].tril(), X),
    "roll": (lambda x: x.roll((1, 2), 0), X),
    "roll of a scalar": (lambda x: x.roll(1, -1), SCALAR),
    "narrow": (lambda x: x.narrow(1, 3, 4) * 2, X),
    "split sizes": (lambda x: x.split([1, 1], 1)[0] * 2, X),
    "split in nothing": (lambda x: x.split(0, 1)[0] * 2, X),
    "chunk": (lambda x: x.chunk(0, 1)[0] * 2, X),
    "glu of odd size": (lambda x: F.glu(x), X),
    "repeat": (lambda x: x.repeat(2) * 2, X),
    "pad": (lambda x: F.pad(x, (1, 2, 3)) * 2, X),
    "reshape": (lambda x: x.reshape(3, 3) * 2, X),
    "permute": (lambda x: x.permute(0, 2) * 2, X),
    "expand": (lambda x: x.expand(2, 4) * 2, X),
    "attention mask": (lambda x: F.scaled_dot_product_attention(x, x, x, ONES(3, 4)), HEADS),
    "attention mask dtype": (
        lambda x: F.scaled_dot_product_attention(x, x, x, ONES(5, 5).long()),
        HEADS,
    ),
    "attention widths": (lambda x: F.scaled_dot_product_attention(x, x[..., :4], x), HEADS),
    "attention dtypes": (lambda x: F.scaled_dot_product_attention(x, x.double(), x), HEADS),
    "attention heads": (
        lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, :2], enable_gqa=True),
        HEADS,
    ),
    "attention of vectors": (lambda x: F.scaled_dot_product_attention(x, x, x), X[0]),
    "an index out of range": (lambda x: F.embedding((x > 9).long() + 7, ONES(4, 3)) * 2, X),
}


@pytest.mark.parametrize("name", REFUSED)
def test_calls_that_eager_refuses(name: str) -> None:
    assert_refused(*REFUSED[name])


@pytest.mark.parametrize("function", OVER_DIMS, ids=lambda function: function.__name__)
def test_dims_that_there_are_not(function: Callable[..., Any]) -> None:
    assert_refused(lambda x: function(x, 2), X)
    assert_refused(lambda x: function(x, -3), X)


@pytest.mark.parametrize("function", OF_FLOATS, ids=lambda function: function.__name__)
def test_functions_of_floats(function: Callable[..., Any]) -> None:
    assert_refused(lambda x: function(x.long(), -1), X)


FLOAT8: dict[str, Callable[[Tensor], Any]] = {
    "bmm": lambda x: x[None] @ x[None].mT,
    "add": lambda x: x + x,
    "a number": lambda x: x * 2.0,
    "exp": lambda x: x.exp(),
    "sum": lambda x: x.sum(-1),
    "mean": lambda x: x.mean(-1),
    "amax": lambda x: x.amax(-1),
    "softmax": lambda x: torch.softmax(x, -1),
    "layer_norm": lambda x: F.layer_norm(x, (5,)),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
}


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("name", FLOAT8)
def test_operations_on_8_bit_floats(name: str, dtype: torch.dtype) -> None:
    x = X.to(dtype)
    assert_refused(FLOAT8[name], x)
    for dynamic in (False, True):
        with pytest.raises(DiagcError, match=r"(?s)8-bit floats.*convert with .float\(\) first"):
            diagc.compile(FLOAT8[name], x, dynamic=dynamic)


def assert_refused(function: Callable[[Tensor], Any], x: Tensor) -> None:
    """By eager torch, and by us with one error at the user's line."""
    with pytest.raises((RuntimeError, IndexError, NotImplementedError, ValueError)):
        function(x)
    with pytest.raises(DiagcError) as found:
        diagc.compile(function, x)(x)
    assert found.value.exit_code == 1
    assert "test_torch_refused.py" in str(found.value)


ASKED: dict[str, Callable[[Tensor], Any]] = {
    "is_contiguous": lambda x: x * 2 if x.is_contiguous() else x,
    "stride": lambda x: x * 2 if x.stride(0) == 5 else x,
    "stride of a result": lambda x: x * 2 if (x + 1).stride()[0] == 5 else x,
    "requires_grad": lambda x: x * 2 if x.requires_grad else x,
    "storage_offset": lambda x: x * 2 if x.storage_offset() == 0 else x,
}


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", ASKED)
def test_branch_on_memory_or_gradients(name: str, dynamic: bool) -> None:
    """Calls that differ in these share a program, in which a branch would go stale."""
    with pytest.raises(UnsupportedError, match=f"{name.split()[0]}.* of a tensor") as caught:
        diagc.compile(ASKED[name], X, dynamic=dynamic)
    assert caught.value.location is not None
    assert caught.value.location.file == __file__


def test_torch_itself_may_ask() -> None:
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(2, 5, 8, generator=GENERATOR).transpose(0, 1)
    with torch.no_grad():
        torch.testing.assert_close(diagc.compile(layer, x)(x), layer(x))
