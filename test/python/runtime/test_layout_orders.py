"""In which order arrays between the steps of a program lie in memory."""

import pytest

from diagc.runtime.layout import preferred_orders
from diagc.runtime.steps import ArrayType, Contract, Elementwise, Input, Output


def array(labels: str) -> ArrayType:
    return ArrayType(tuple(labels), "f32")


def order_of_map(left: str, right: str, made: str) -> str:
    """Labels, slowest first, of left * right, which is then multiplied by `A: i j k`."""
    arguments = [
        Input(name, "user", array(labels), (None,) * len(labels), tuple((x,) for x in labels))
        for name, labels in (("a", "ijk"), ("u", left), ("v", right))
    ]
    multiply = Elementwise((array(made),), ((),), (("mul", (("array", 1), ("array", 2))),))
    contract = Contract((array("ip"),), ((),), 0, 3, ("j", "k"))
    orders = preferred_orders(
        arguments, [multiply, contract], [Output(4, (("i",), ("p",)), (0, 1))]
    )
    return "".join(made[axis] for axis in orders[3])


@pytest.mark.parametrize(
    ("left", "right", "made", "order"),
    [
        ("jp", "kp", "jkp", "jkp"),  # both are read along p: so it is written
        ("jp", "kp", "pjk", "jkp"),
        ("pj", "pk", "pjk", "pjk"),  # neither: as the product likes it, summed labels last
        ("jp", "pk", "jkp", "pjk"),
        ("pjk", "k", "pjk", "pjk"),  # both along a summed label
    ],
)
def test_maps_are_written_as_they_read(left: str, right: str, made: str, order: str) -> None:
    assert order_of_map(left, right, made) == order
