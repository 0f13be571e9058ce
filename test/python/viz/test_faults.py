"""The checker of layouts finds what is wrong: a layout that it passes is good."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from diagc.viz import Drawing
from diagc.viz.faults import faults
from diagc.viz.scene import Box, Line, Rect, Scene, Shape, Text, curve, segment

DrawExample = Callable[..., Drawing]

BOX = Box(Rect(40.0, 10.0, 30.0, 20.0), "map", title="exp")
NEXT = Box(Rect(100.0, 10.0, 30.0, 20.0), "map", title="log")
FRAME = Box(Rect(35.0, 2.0, 40.0, 36.0), "loop", "frame", "stream", number=1)
WIRE = segment(70.0, 20.0, 100.0, 20.0, "plain")


def found(*shapes: Shape) -> str:
    return "; ".join(faults(Scene(200.0, 60.0, list(shapes))))


def text(x: float, y: float) -> Text:
    return Text(Rect(x, y, 10.0, 8.0), "ab", "text")


def test_good_layout_has_no_faults() -> None:
    assert not found(BOX, NEXT, WIRE, text(50.0, 16.0), text(80.0, 8.0))


@pytest.mark.parametrize(
    ("shapes", "fault"),
    [
        ([BOX, BOX.moved(29.0, 5.0)], "map 'exp' overlaps map 'exp'"),
        ([text(80.0, 8.0), text(85.0, 12.0)], "text 'ab' overlaps text 'ab'"),
        ([BOX, text(65.0, 16.0)], "text 'ab' sticks out of map 'exp'"),
        ([BOX, BOX.moved(160.0, 0.0)], "outside the page: map 'exp'"),
        ([BOX, NEXT, segment(70.0, 20.0, 130.0, 20.0, "plain")], "a wire crosses map 'log'"),
        ([BOX, NEXT, curve(30.0, 5.0, 100.0, 35.0, "plain")], "a wire crosses map 'exp'"),
        ([BOX, NEXT, WIRE, text(80.0, 16.0)], "a wire crosses text 'ab'"),
        ([FRAME, BOX.moved(20.0, 0.0)], "map 'exp' crosses the edge of loop 'stream'"),
        ([FRAME, text(70.0, 4.0)], "text 'ab' crosses the edge of loop 'stream'"),
        ([FRAME, segment(0.0, 5.0, 90.0, 5.0, "plain")], "does not belong there crosses loop"),
        ([BOX, segment(70.0, 20.0, 95.0, 20.0, "plain")], "a wire ends in nothing at (95, 20)"),
    ],
)
def test_fault_is_found(shapes: list[Shape], fault: str) -> None:
    assert fault in found(*shapes)


def test_wire_may_leave_no_frame_that_it_belongs_to() -> None:
    inside = replace(segment(40.0, 5.0, 90.0, 5.0, "plain"), scope=(1,))
    assert "a wire leaves loop 'stream'" in found(FRAME, inside)


def test_box_inside_a_frame_is_no_overlap() -> None:
    assert not found(FRAME, BOX)


def test_every_box_that_is_moved_onto_another_is_found(draw_example: DrawExample) -> None:
    scene = draw_example("softmax_causal.diag", "derive-streams").scene
    boxes = [s for s in scene.shapes if isinstance(s, Box) and s.style in ("map", "reduce")]
    for one, other in zip(boxes, [*boxes[1:], boxes[0]], strict=True):
        moved = one.moved(other.rect.x - one.rect.x, other.rect.y - one.rect.y)
        shapes = [moved if shape is one else shape for shape in scene.shapes]
        assert any("overlaps" in fault for fault in faults(replace(scene, shapes=shapes)))


def test_every_wire_that_is_cut_is_found(draw_example: DrawExample) -> None:
    scene = draw_example("softmax_causal.diag").scene
    for line in [shape for shape in scene.shapes if isinstance(shape, Line)]:
        (x, y), *_ = line.pieces[0][2], None
        middle = ((line.start[0] + x) / 2 + 2.1, (line.start[1] + y) / 2 + 3.7)
        cut = replace(line, pieces=((line.start, middle, middle),))
        shapes = [cut if shape is line else shape for shape in scene.shapes]
        assert faults(replace(scene, shapes=shapes)), line
