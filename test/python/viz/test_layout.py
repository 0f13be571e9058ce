"""Layouts have no overlaps, no wires through boxes, nothing outside: on examples and at random."""

from collections.abc import Callable
from random import Random

import pytest

from diagc.drawings import draw
from diagc.options import CompileOptions
from diagc.testing.random_diagrams import random_attention, random_diagram
from diagc.viz import Drawing
from diagc.viz.faults import faults
from diagc.viz.heights import settle
from diagc.viz.scene import Box, Line, Text

DrawExample = Callable[..., Drawing]

OPTIONS = CompileOptions(target="cpu")

DIAGRAMS = (
    "depthwise_convolution.diag",
    "gated_mlp.diag",
    "kv_cache_decode.diag",
    "layer_norm_linear.diag",
    "self_attention.diag",
    "sliding_window.diag",
    "softmax_causal.diag",
    "spherical_attention.diag",
    "two_statistics.diag",
)
MODELS = ("encoder_layer.py", "softmax_causal.py", "spherical_attention.py")
SEEDS = range(16)


@pytest.mark.parametrize("after", [None, "fused", "derive-streams", "schedules", "general"])
@pytest.mark.parametrize("name", DIAGRAMS)
def test_example_has_no_faults(draw_example: DrawExample, name: str, after: str | None) -> None:
    assert not faults(draw_example(name, after).scene)


@pytest.mark.parametrize("after", [None, "schedules"])
@pytest.mark.parametrize("name", MODELS)
def test_model_has_no_faults(draw_example: DrawExample, name: str, after: str | None) -> None:
    assert not faults(draw_example(name, after).scene)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_diagram_has_no_faults(seed: int) -> None:
    diagram = random_diagram(Random(seed)) if seed % 4 else random_attention(Random(seed))
    for after in (None, "streams", "schedules"):
        assert not faults(draw(diagram.text, f"seed {seed}", OPTIONS, after).scene)


@pytest.mark.parametrize("width", [1.0, 300.0, 600.0, 5000.0])
def test_any_width_has_no_faults(draw_example: DrawExample, width: float) -> None:
    assert not faults(draw_example("self_attention.diag", "streams", width).scene)


def test_long_diagram_wraps(draw_example: DrawExample) -> None:
    wide = draw_example("self_attention.diag", width=5000.0).scene
    narrow = draw_example("self_attention.diag", width=500.0).scene
    assert narrow.width < 650.0 < wide.width
    assert narrow.height > wide.height


def texts(drawing: Drawing) -> list[str]:
    return [shape.text for shape in drawing.scene.shapes if isinstance(shape, Text)]


def boxes(drawing: Drawing, style: str) -> list[Box]:
    return [s for s in drawing.scene.shapes if isinstance(s, Box) and s.style == style]


def test_every_axis_of_every_input_has_a_wire_with_label_and_size(
    draw_example: DrawExample,
) -> None:
    shown = texts(draw_example("gated_mlp.diag"))
    for name in ("X", "Wg", "Wu", "Wd", "out"):
        assert name in shown
    assert shown.count("m") >= 3
    assert " 512" in shown
    assert " 256" in shown


def cups(drawing: Drawing) -> int:
    """Pieces of wires that turn back: they end right above or below where they began."""
    found = 0
    for line in (shape for shape in drawing.scene.shapes if isinstance(shape, Line)):
        starts = [line.start, *(piece[2] for piece in line.pieces)]
        pieces = zip(starts, line.pieces, strict=False)
        found += sum(abs(a[0] - end[0]) < 0.1 and far[0] > a[0] + 3 for a, (far, _, end) in pieces)
    return found


def test_contraction_is_a_cup(draw_example: DrawExample) -> None:
    assert cups(draw_example("spherical_attention.diag")) == 2  # Q with K, the weights with V
    assert cups(draw_example("self_attention.diag")) == 8  # three of them in the last one


def test_normaliser_is_a_box_on_its_own_axis(draw_example: DrawExample) -> None:
    drawing = draw_example("spherical_attention.diag")
    (box,) = boxes(drawing, "normalize")
    lines = [shape for shape in drawing.scene.shapes if isinstance(shape, Line)]
    ends = [(line.start, line.pieces[-1][2]) for line in lines]
    assert sum(abs(end[0] - box.rect.x) < 0.1 for _, end in ends) == 1
    assert sum(abs(start[0] - box.rect.right) < 0.1 for start, _ in ends) == 1


def test_stream_is_a_frame_with_its_states(draw_example: DrawExample) -> None:
    drawing = draw_example("softmax_causal.diag", "derive-streams")
    (frame,) = boxes(drawing, "loop")
    states = [box for box in boxes(drawing, "state box") if frame.rect.holds(box.rect)]
    assert len(states) == 6
    assert {"m = −∞", "z = 0", "o = 0", "↻ m", "↻ z", "↻ o"} <= set(texts(drawing))


def test_schedule_decorates_axes_and_colours_levels(draw_example: DrawExample) -> None:
    drawing = draw_example("softmax_causal.diag", "schedules")
    assert len(boxes(drawing, "kernel")) == 1
    styles = {s.style for s in drawing.scene.shapes if isinstance(s, Line)}
    assert {"memory", "chip", "state"} <= styles
    assert "plain" not in styles
    assert {"g", "s"} <= set(texts(drawing))


def test_before_kernels_no_level_is_claimed(draw_example: DrawExample) -> None:
    lines = draw_example("softmax_causal.diag").scene.shapes
    assert {s.style for s in lines if isinstance(s, Line)} <= {"plain", "broadcast"}


def test_settled_things_keep_order_and_distance() -> None:
    tops = settle([0.0, 0.0, 100.0, 50.0], [10.0, 20.0, 5.0, 5.0], 2.0, [1.0] * 4)
    ends = [top + height for top, height in zip(tops, [10.0, 20.0, 5.0, 5.0], strict=True)]
    assert all(b - a >= 2.0 - 0.02 for a, b in zip(ends, tops[1:], strict=False))


def test_settled_things_stay_where_they_are_wanted_when_there_is_room() -> None:
    assert settle([3.0, 40.0], [10.0, 10.0], 8.0, [1.0, 1.0]) == [3.0, 40.0]
