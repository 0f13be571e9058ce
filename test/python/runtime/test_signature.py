"""Slots of kernels' arguments, and signatures as JSON."""

import json

import pytest

from diagc.errors import CacheError, InternalError
from diagc.runtime.signature import FIRST_SIZE_SLOT, Axis, KernelSignature, Wire

MATMUL = KernelSignature(
    "matmul",
    (Wire("A", "bf16", ("m", "k")), Wire("B", "bf16", ("k", "n"), kind="param", unit_stride=False)),
    (Wire("C", "f32", ("m", "n")), Wire("norm", "f32", ())),
    (Axis("m"), Axis("k", 64), Axis("n")),
)


def test_slots_follow_each_other_without_gaps_or_overlap() -> None:
    slots = [MATMUL.slot_of_size(axis.label) for axis in MATMUL.axes]
    for i, wire in enumerate(MATMUL.wires):
        slots.append(MATMUL.slot_of_pointer(i))
        slots += [MATMUL.slot_of_stride(i, label) for label in wire.labels]
    assert slots == list(range(FIRST_SIZE_SLOT, MATMUL.slot_count))


def test_counter_has_a_cache_line_of_its_own() -> None:
    assert FIRST_SIZE_SLOT * 8 >= 64


def test_json_round_trip_keeps_equality_and_hash() -> None:
    again = KernelSignature.from_json(MATMUL.to_json())
    assert again == MATMUL
    assert hash(again) == hash(MATMUL)
    assert again.slot_count == MATMUL.slot_count


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        json.dumps({**json.loads(MATMUL.to_json()), "version": 99}),
        json.dumps({**json.loads(MATMUL.to_json()), "axes": [{"label": "m", "length": 3}]}),
        json.dumps({**json.loads(MATMUL.to_json()), "args": []}),
        MATMUL.to_json()[:-10],
    ],
)
def test_unreadable_json_is_a_cache_error(text: str) -> None:
    with pytest.raises(CacheError, match="signature cannot be read"):
        KernelSignature.from_json(text)


def test_wire_refuses_unknown_dtype_and_repeated_label() -> None:
    with pytest.raises(InternalError, match="unknown dtype 'f8'"):
        Wire("A", "f8", ("m",))
    with pytest.raises(InternalError, match="repeat"):
        Wire("A", "f32", ("m", "m"))
    with pytest.raises(InternalError, match="unknown kind"):
        Wire("A", "f32", ("m",), kind="input")


def test_signature_refuses_labels_without_axis_and_axes_without_argument() -> None:
    x, y = Wire("X", "f32", ("m",)), Wire("Y", "f32", ("n",))
    with pytest.raises(InternalError, match="labels without an axis"):
        KernelSignature("f", (x,), (y,), (Axis("m"),))
    with pytest.raises(InternalError, match=r"no argument .* has the axes \['n'\]"):
        KernelSignature("f", (x,), (y,), (Axis("m"), Axis("n")))
    with pytest.raises(InternalError, match="wire names repeat"):
        KernelSignature("f", (x,), (x,), (Axis("m"),))
    KernelSignature("f", (x,), (y,), (Axis("m"), Axis("n", 4)))
