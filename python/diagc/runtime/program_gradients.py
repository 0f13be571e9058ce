"""Gradients of a call by the program that was made from its diagram.

Of the forward pass the inputs are kept and, where it was run to be differentiated, statistics of
rows and their sums: what else the gradients need of it, their kernels compute again, chunk by
chunk.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from diagc.runtime.captured import CapturedTensor
from diagc.runtime.eager_gradients import split_tensors
from diagc.runtime.plain_thread import in_plain_thread
from diagc.runtime.program import Program
from diagc.runtime.specialization import Specialization

if TYPE_CHECKING:
    from diagc.runtime.group import Group

__all__ = ["Saved", "program_gradients"]

Saved = tuple[Specialization, Sequence[torch.Tensor]]
"""What the forward pass of a specialization has saved."""


def program_gradients(
    group: "Group",
    tensors: Sequence[torch.Tensor],
    cotangents: Sequence[torch.Tensor | None],
    needed: Sequence[bool],
    saved: Saved | None = None,
) -> list[torch.Tensor] | None:
    """Gradients by the tensors that are needed; None where there is no program for them.

    Args:
        group: of the call; one of its programs has run on such tensors.
        tensors: the user's, then the captured ones.
        cotangents: of the program's results; None stands for zeros.
        needed: for each tensor whether its gradient is wanted.
        saved: of the forward pass, if that has saved anything.
    """
    users, captured = split_tensors(group, tensors)
    if saved is None:
        ready = group.find(users, captured) or in_plain_thread(lambda: group.make(users, captured))
        saved = ready.specialization, ()
    specialization, values = saved
    inputs = specialization.inputs(users, captured)
    places = _places(group, specialization, len(users))
    wanted = tuple(
        number for number, place in enumerate(places) if place < len(needed) and needed[place]
    )
    program = _program(group, specialization, wanted, bool(values)) if wanted else None
    if program is None:
        return None
    given = [*inputs, *_filled(specialization, inputs, cotangents), *values]
    found = program.execute(program.find_plan(given) or program.prepare(given), given, fresh=True)
    return _by_tensor(found, [places[number] for number in wanted], tensors, needed)


def _program(
    group: "Group", specialization: Specialization, wanted: tuple[int, ...], saved: bool
) -> Program | None:
    known = specialization.backward.get((wanted, saved))
    if known is None:
        known = in_plain_thread(lambda: group.backward(specialization, wanted, saved))
    return known.program


def _places(group: "Group", specialization: Specialization, users: int) -> list[int]:
    """Which of the call's tensors each input of the program is."""
    captured = {source.identity: users + i for i, source in enumerate(group.captured)}
    return [
        captured[source.identity] if isinstance(source, CapturedTensor) else source
        for source in specialization.sources
    ]


def _filled(
    specialization: Specialization,
    inputs: Sequence[torch.Tensor],
    cotangents: Sequence[torch.Tensor | None],
) -> list[torch.Tensor]:
    """Cotangents of the results that hold floats, with zeros for those that are None."""
    program = specialization.program
    shapes = program.result_shapes([tuple(tensor.shape) for tensor in inputs])
    dtypes = program.result_dtypes()
    return [
        inputs[0].new_zeros(shape, dtype=dtype) if given is None else given
        for given, shape, dtype in zip(cotangents, shapes, dtypes, strict=True)
        if dtype.is_floating_point
    ]


def _by_tensor(
    gradients: Sequence[torch.Tensor],
    places: Sequence[int],
    tensors: Sequence[torch.Tensor],
    needed: Sequence[bool],
) -> list[torch.Tensor]:
    """One gradient for each tensor that needs one: zeros, or the sum over the inputs it is."""
    totals: dict[int, torch.Tensor] = {}
    for place, gradient in zip(places, gradients, strict=True):
        totals[place] = totals[place] + gradient if place in totals else gradient
    return [
        totals[i] if i in totals else torch.zeros_like(tensor)
        for i, (tensor, need) in enumerate(zip(tensors, needed, strict=True))
        if need
    ]
