"""The pass differentiate on views: gradients of those that can be undone, the others refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from diagc.context import make_context
from diagc.errors import DiagcError
from diagc.mlir import ir
from diagc.testing.gradients import differentiated, gradients, random_cotangents
from diagc.testing.seed import SEED

Formula = Callable[..., Any]


VIEWS: dict[str, tuple[str, str, str, Formula]] = {
    # axes of the result, their sizes, the map, the same in torch on a source of 6 n and 5 m
    "transpose": ('["m", "n"]', "5x6", "(m, n) -> (n, m)", lambda x: x.T),
    "slice": ('["k", "m"]', "3x5", "(k, m) -> (k + 2, m)", lambda x: x[2:5]),
    "flip": ('["k", "m"]', "6x5", "(k, m) -> (5 - k, m)", lambda x: x.flip(0)),
    "one position": ('["m"]', "5", "(m) -> (4, m)", lambda x: x[4]),
    "repeat": ('["r", "m", "n"]', "2x5x6", "(r, m, n) -> (n, m)", lambda x: x.T.expand(2, 5, 6)),
    "split": ('["h", "d", "m"]', "2x3x5", "(h, d, m) -> (h * 3 + d, m)", lambda x: x.view(2, 3, 5)),
    "merge": ('["k"]', "30", "(k) -> (k floordiv 5, k mod 5)", lambda x: x.reshape(30)),
    "all": (
        '["k", "h", "d"]',
        "4x2x3",
        "(k, h, d) -> (h * 3 + d, k + 1)",
        lambda x: x[:, 1:].T.reshape(4, 2, 3),
    ),
}


def view(labels: str, sizes: str, map_: str) -> str:
    source = 'tensor<6x5xf64, ["n", "m"]>'
    result = f"tensor<{sizes}xf64, {labels}>"
    return f"""func.func @main(%x: {source}) -> {result} {{
      %e = "diag.map"() ({{
        %0 = "diag.element"(%x) : ({source}) -> f64
        %1 = math.sin %0 : f64
        "diag.yield"(%1) : (f64) -> ()
      }}) : () -> {source}
      %y = "diag.reindex"(%e) {{map = affine_map<{map_}>}} : ({source}) -> {result}
      return %y : {result}
    }}"""


@pytest.mark.parametrize("name", VIEWS)
def test_views_that_can_be_undone(name: str) -> None:
    labels, sizes, map_, formula = VIEWS[name]
    source = view(labels, sizes, map_)
    x = np.random.default_rng(SEED).standard_normal((6, 5))
    cotangents = random_cotangents(source, [x], SEED)
    tensor = torch.tensor(x, requires_grad=True)
    (wanted,) = torch.autograd.grad(formula(tensor.sin()), tensor, torch.tensor(cotangents[0]))
    (found,) = gradients(source, [x], cotangents)
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-12)


REFUSED_VIEWS = {
    "stride": ('["k", "m"]', "3x5", "(k, m) -> (k * 2, m)", 'axis "n" is read in steps of 2'),
    "diagonal": ('["k"]', "5", "(k) -> (k, k)", 'axis "k" gives several positions (a diagonal)'),
    "window": ('["k", "w", "m"]', "5x2x5", "(k, w, m) -> (k + w, m)", 'axis "n" is no plain split'),
}


@pytest.mark.parametrize("name", REFUSED_VIEWS)
def test_views_that_need_a_scatter_are_refused(name: str) -> None:
    labels, sizes, map_, reason = REFUSED_VIEWS[name]
    with make_context(), ir.Location.unknown(), pytest.raises(DiagcError) as caught:
        differentiated(view(labels, sizes, map_), ())
    error = caught.value
    assert "'diag.reindex' is not supported yet" in error.summary
    assert reason in error.summary
    assert error.location is not None
    assert error.location.line == 7
