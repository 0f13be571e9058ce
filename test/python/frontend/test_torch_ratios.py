"""Open sizes of which one is a multiple of another: where the ratio is fixed, and where not."""

import torch

from diagc.frontend.torch import import_torch
from diagc.frontend.torch.aten import Input, TensorType
from diagc.frontend.torch.captured import Captured
from diagc.frontend.torch.ratios import fixed_ratios
from diagc.frontend.torch.sizes import Size, symbol

S, T, U = (symbol(name) for name in "stu")


def ratios(conditions: tuple[str, ...], *examples: tuple[Size, int]) -> dict[str, Size]:
    """What is found for one tensor of one dim for each size, with its example."""
    inputs = [
        Input(f"x{i}", TensorType((size,), torch.float32), "user", f"x{i}", i)
        for i, (size, _) in enumerate(examples)
    ]
    spec = torch.utils._pytree.tree_structure(0)
    captured = Captured(torch.fx.Graph(), inputs, spec, {}, conditions)
    return dict(fixed_ratios(captured, [(number,) for _, number in examples])[0])


def test_what_is_divided_is_a_multiple() -> None:
    assert ratios(("(s[0][0] % s[1][0]) == 0",), (S, 8), (T, 2)) == {"s": 4 * T}
    assert ratios(("(s[0][0] // s[1][0]) != 1",), (S, 8), (T, 2)) == {"s": 4 * T}


def test_multiples_of_multiples() -> None:
    conditions = ("(s[0][0] % s[1][0]) == 0", "(s[1][0] % s[2][0]) == 0")
    assert ratios(conditions, (S, 24), (T, 6), (U, 2)) == {"s": 12 * U, "t": 3 * U}
    assert ratios(conditions[::-1], (S, 24), (T, 6), (U, 2)) == {"s": 12 * U, "t": 3 * U}


def test_sizes_that_divide_each_other_are_equal() -> None:
    conditions = ("(s[0][0] % s[1][0]) == 0", "(s[1][0] % s[0][0]) == 0")
    assert ratios(conditions, (S, 3), (T, 3)) == {"s": T}


def test_what_is_no_multiple_of_an_open_size_stays_open() -> None:
    assert ratios(("(s[0][0] % s[1][0]) != 0",), (S, 8), (T, 3)) == {}
    assert ratios(("(s[0][0] % s[1][0]) == 0",), (S, 8), (2, 2)) == {}
    assert ratios(("(s[0][0] % 2) == 0", "s[0][0] == 4*s[1][0]"), (S, 8), (T, 2)) == {}


def test_both_adapters_keep_the_ratio() -> None:
    def grouped(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, k, enable_gqa=True)

    inputs = torch.randn(2, 6, 5, 8), torch.randn(2, 3, 4, 8)
    for adapter in ("fx", "torch-mlir"):
        module = import_torch(grouped, inputs, adapter=adapter, dynamic=True).module
        assert 'tensor<?x?x2x?x?xf32, ["b", "h", "g", "n", "d"]>' in str(module)
