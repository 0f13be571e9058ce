"""Orders of axes that operations would like best, for arrays that begin freely.

Axes have names, so any order from top to bottom will do; the one that the first reader wants saves
crossings. Wishes go backwards through maps, which keep the order of what they read.
"""

from collections.abc import Mapping, Sequence

from diagc.viz.items import Item, Lanes
from diagc.viz.linking import contraction_lanes
from diagc.viz.model import Array, Kind, Operation
from diagc.viz.ordering import Node

__all__ = ["wanted_lanes"]


def wanted_lanes(
    columns: Sequence[Sequence[Node]], frames: Mapping[Operation, Item]
) -> dict[Array, Lanes]:
    """The wish for each array of which anybody has one; `frames` are placed already."""
    wanted: dict[Array, Lanes] = {}
    operations = [node.operation for nodes in columns for node in nodes if node.operation]
    for operation in reversed(operations):
        for number, array in enumerate(operation.inputs):
            wish = _wish(operation, number, frames, wanted)
            if wish:
                wanted[array] = wish
    return wanted


def _wish(
    operation: Operation,
    number: int,
    frames: Mapping[Operation, Item],
    wanted: Mapping[Array, Lanes],
) -> Lanes:
    array = operation.inputs[number]
    if operation in frames:
        ys = frames[operation].ins[number]
        return sorted(range(len(ys)), key=ys.__getitem__)
    if operation.kind is Kind.CONTRACT:
        return contraction_lanes(operation, number)
    if operation.kind in (Kind.NORMALIZE, Kind.REDUCE) and not number and array.axes:
        acted = operation.acted(0)
        return [n for n in range(array.lanes) if n not in acted] + list(acted)
    if operation.kind is Kind.MAP and array.axes and operation.outputs[0] in wanted:
        labels = [axis.label for axis in array.axes]
        order = [operation.outputs[0].axes[n].label for n in wanted[operation.outputs[0]]]
        return [labels.index(label) for label in order if label in labels]
    return ()
