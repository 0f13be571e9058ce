"""Sum-product networks: what they read, and the order with the fewest operations."""

from itertools import permutations
from math import prod
from random import Random

import pytest

from diagc.algebra.networks import Leaf, Network, cheapest, network
from diagc.context import make_context
from diagc.dialects import diag
from diagc.mlir import ir

SIZES = {"a": 3, "b": 5, "c": 7, "d": 2, "e": 11, "f": 4}


def random_network(rng: Random, leaves: int) -> Network:
    """Leaves with random axes; wires do not matter for the order."""
    axes = [tuple(rng.sample(sorted(SIZES), rng.randint(1, 3))) for _ in range(leaves)]
    used = sorted({axis for leaf in axes for axis in leaf})
    result = tuple(rng.sample(used, rng.randint(0, len(used))))
    return Network(1.0, tuple(Leaf(None, leaf) for leaf in axes), (), result, SIZES)


def cost_in_sequence(net: Network, order: tuple[int, ...]) -> float:
    """Operations when leaves are multiplied one after the other."""
    total, part = 0.0, frozenset([order[0]])
    for number in order[1:]:
        axes = {*net.kept(part), *net.kept(frozenset([number]))}
        total += 2.0 * prod(SIZES[axis] for axis in axes)
        part |= {number}
    return total


@pytest.mark.parametrize("seed", range(20))
def test_no_sequence_is_cheaper(seed: int) -> None:
    rng = Random(seed)
    net = random_network(rng, rng.randint(2, 5))
    best = cheapest(net, 1024).cost
    sequences = permutations(range(len(net.leaves)))
    assert best <= min(cost_in_sequence(net, order) for order in sequences)


def test_the_order_multiplies_every_leaf_once() -> None:
    net = random_network(Random(1), 5)
    steps = list(cheapest(net, 1024).steps())
    assert sum(step.parts is None for step in steps) == 5
    assert steps[-1].part == frozenset(range(5))
    for step in steps:
        if step.parts is not None:
            left, right = step.parts
            assert left.part | right.part == step.part
            assert not left.part & right.part


SQUARES = """
func.func @main(%q: tensor<?x8xf32, ["q", "d"]>, %k: tensor<?x8xf32, ["x", "d"]>, %m: tensor<?xi1, ["x"]>) -> tensor<?xf32, ["q"]> {
  %s = "diag.contract"(%q, %k) {over = ["d"]} : (tensor<?x8xf32, ["q", "d"]>, tensor<?x8xf32, ["x", "d"]>) -> tensor<?x?xf32, ["q", "x"]>
  %p = "diag.map"() ({
    %0 = "diag.element"(%s) : (tensor<?x?xf32, ["q", "x"]>) -> f32
    %1 = "diag.element"(%m) : (tensor<?xi1, ["x"]>) -> i1
    %2 = arith.constant 0.5 : f32
    %3 = arith.constant 0.0 : f32
    %4 = arith.mulf %0, %2 : f32
    %5 = arith.mulf %4, %4 : f32
    %6 = arith.select %1, %5, %3 : f32
    "diag.yield"(%6) : (f32) -> ()
  }) : () -> tensor<?x?xf32, ["q", "x"]>
  %z = "diag.reduce"(%p) {over = ["x"], kind = "add"} : (tensor<?x?xf32, ["q", "x"]>) -> tensor<?xf32, ["q"]>
  return %z : tensor<?xf32, ["q"]>
}
"""  # noqa: E501


def test_a_square_is_two_copies_with_axes_of_their_own() -> None:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(SQUARES)
        block = diag.function_body(diag.functions(module)[0])
        scores, square, total, _ = [view.operation for view in block.operations]
        net = network(total, {scores, square})
    assert net is not None
    assert net.number == 0.25
    assert [leaf.axes for leaf in net.leaves] == [("q", "d"), ("x", "d"), ("q", "d'"), ("x", "d'")]
    assert [leaf.axes for leaf in net.conditions] == [("x",)]
    assert net.result == ("q",)
    gram = next(s for s in cheapest(net, 1024).steps() if s.part == frozenset([1, 3]))
    assert net.kept(gram.part) == ("d", "d'")
