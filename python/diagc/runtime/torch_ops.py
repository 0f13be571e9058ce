"""The door to torch's dispatcher: `torch.ops.diagc.call(tensors, key)`, with shapes and gradients.

`key` names the calls of one compiled function that differ in their tensors only. The tensors are
the user's, then the captured ones. The backward op runs the program of the gradients; where there
is none, and for second derivatives, it runs the function itself again, in eager mode under
`enable_grad`, and differentiates that.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import WeakValueDictionary

import torch
from torch._C import _is_any_autocast_enabled, _len_torch_dispatch_stack
from torch._C._functorch import TransformType, peek_interpreter_stack
from torch.autograd import forward_ad

from diagc.errors import UserError
from diagc.runtime.dispatch_keys import plain_dispatch, without_autocast
from diagc.runtime.eager_gradients import differentiate, eager_gradients, split_tensors
from diagc.runtime.named import NamedCall, find_function
from diagc.runtime.op_gradients import register_gradients
from diagc.runtime.plain_thread import in_plain_thread
from diagc.runtime.program import Program
from diagc.runtime.program_gradients import Saved, program_gradients
from diagc.runtime.specialization import Specialization
from diagc.runtime.transforms import call_composition, refuse_tangents

if TYPE_CHECKING:
    from diagc.runtime.group import Group

__all__ = [
    "are_plain",
    "call_through_op",
    "empty_results",
    "first_gradients",
    "group_of",
    "in_autocast",
    "in_mode",
    "in_transform",
    "must_dispatch",
    "register_group",
    "second_backward",
    "setup_second",
    "specialize_like",
]

_GROUPS: "WeakValueDictionary[str, Group]" = WeakValueDictionary()

_LIBRARY = torch.library.Library("diagc", "FRAGMENT")
_LIBRARY.define("call(Tensor[] tensors, str key) -> Tensor[]", tags=(torch.Tag.pt2_compliant_tag,))
_LIBRARY.define(
    "call_backward(Tensor[] tensors, Tensor?[] gradients, bool[] needed, str key,"
    " Tensor[] saved) -> Tensor[]",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def register_group(group: "Group", name: str, key: str | None = None) -> str:
    """Give a group the key under which the ops find it, as long as it lives.

    Graphs with the key may outlive the process, in caches on disk or as exported programs. So it is
    unique in the world, but for a `key` that says exactly what the group computes.
    """
    key = key or f"{name}#{uuid4().hex}"
    _GROUPS[key] = group
    return key


def call_through_op(
    group: "Group", specialization: Specialization, tensors: Sequence[torch.Tensor]
) -> Any:
    """Call through the dispatcher, so that autograd and tracers see one op."""
    captured = [source.get() for source in group.captured]
    return specialization.value(torch.ops.diagc.call([*tensors, *captured], group.key))


def must_dispatch(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether only the dispatcher knows what to do: for subclasses, modes and transforms."""
    return in_mode() or not are_plain(tensors)


def in_mode() -> bool:
    """Whether a mode or transform is in force, which every operation goes through."""
    return (
        _len_torch_dispatch_stack() > 0
        or peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


def in_transform() -> bool:
    """Whether `torch.func` or forward mode sees the single operations of a function."""
    level = peek_interpreter_stack()
    return forward_ad._current_level >= 0 or (level is not None and level.key() in _TRANSFORMS)


_TRANSFORMS = (TransformType.Grad, TransformType.Jvp, TransformType.Vmap)


def are_plain(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether none is of a subclass, which may have operations of its own."""
    for tensor in tensors:  # noqa: SIM110 (a generator takes twice the time)
        if type(tensor) not in _PLAIN_TYPES:
            return False
    return True


def in_autocast() -> bool:
    """Whether torch computes in other dtypes than a function is imported in."""
    if not _is_any_autocast_enabled():  # of any kind of device: one question for most calls
        return False
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


_PLAIN_TYPES = (torch.Tensor, torch.nn.Parameter)


def group_of(key: str) -> "Group":
    """The group that a graph calls by a key; that of a named function is made again.

    Raises:
        UserError: there is none any more, or no function of this name that fits.
    """
    group = _GROUPS.get(key)
    if group is None:
        call = NamedCall.read(key)
        if call is None:
            raise _gone(key)
        group = _GROUPS[key] = find_function(call.name).group_of_graph(call)
    return group


def _gone(key: str) -> UserError:
    return UserError(
        "a graph calls a compiled function that is there no more",
        found=f"key '{key}'",
        remedy="keep what diagc.compile gave; for a graph of another process, compile with a name: "
        "diagc.compile(…, name='…'), in a module that this process imports",
    )


def _call_transformed(tensors: list[torch.Tensor], key: str) -> list[torch.Tensor]:
    """Under a transform of `torch.func`, which then sees the single operations."""
    return call_composition(group_of(key), tensors)


def _call(tensors: list[torch.Tensor], key: str) -> list[torch.Tensor]:
    group = group_of(key)
    refuse_tangents(tensors)
    users, captured = split_tensors(group, tensors)
    ready = group.find(users, captured)
    if ready is None:
        ready = in_plain_thread(lambda: group.make(users, captured))
    with without_autocast():
        return group.run(ready, users, fresh=True)


def _fake_call(tensors: list[torch.Tensor], key: str) -> list[torch.Tensor]:
    """Results as the program gives them: dense, in the order of each output."""
    group = group_of(key)
    users, captured = split_tensors(group, tensors)
    shapes = [tuple(tensor.shape) for tensor in users]
    fitting = [s for s in group.specializations if s.accepts(shapes)]
    specialization = fitting[0] if fitting else specialize_like(group, users)
    return empty_results(specialization.program, specialization.inputs(users, captured))


def empty_results(program: Program, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Results of a program for fake inputs: dense, each with its dims as they are in memory."""
    sizes = program.result_shapes([tuple(tensor.shape) for tensor in inputs])
    return [
        _empty(inputs[0], shape, dtype, output.order)
        for shape, dtype, output in zip(
            sizes, program.result_dtypes(), program.outputs, strict=True
        )
    ]


def specialize_like(group: "Group", users: Sequence[torch.Tensor]) -> Specialization:
    """Compile for fake tensors; symbolic sizes stay open, examples have the hinted ones.

    Raises:
        DiagcError: the function cannot be compiled for them.
    """
    open_dims = [
        frozenset(d for d, size in enumerate(t.shape) if isinstance(size, torch.SymInt))
        for t in users
    ]
    kinds = [([_hint(size) for size in t.shape], t.dtype, t.device) for t in users]

    def compile_examples() -> Specialization:
        examples = [_example(*kind) for kind in kinds]
        return group.specialize(examples, open_dims if any(open_dims) else None)

    return in_plain_thread(compile_examples)


def _example(shape: list[int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros; on the CPU where this machine lacks the device, for which kernels can be compiled."""
    lacks = device.type == "cuda" and not torch.cuda.is_available()
    return torch.zeros(shape, dtype=dtype, device="cpu" if lacks else device)


def _hint(size: Any) -> int:
    return int(size.node.hint) if isinstance(size, torch.SymInt) else int(size)


def _empty(
    like: torch.Tensor, shape: Sequence[Any], dtype: torch.dtype, order: Sequence[int]
) -> torch.Tensor:
    dense = like.new_empty([shape[dim] for dim in order], dtype=dtype)
    return dense.permute([order.index(dim) for dim in range(len(order))])


# ---- gradients -----------------------------------------------------------------------------------


def _setup_context(ctx: Any, inputs: tuple[list[torch.Tensor], str], output: Any) -> None:
    tensors, ctx.key = inputs
    ctx.group = group = group_of(ctx.key)  # it lives as long as the backward pass may come
    ctx.needed = _needed(group, tensors)
    if any(s.random for s in group.specializations):
        raise UserError(
            "gradients of a compiled function that draws random numbers, in a graph",
            remedy="leave dropout outside of it, or switch it off",
        )
    ctx.save_for_backward(*tensors)


def _needed(group: "Group", tensors: Sequence[torch.Tensor]) -> list[bool]:
    """Which tensors of a call that has run get gradients: not the weights of other branches.

    Raises:
        UserError: the program has a weight that the call does not know.
    """
    users, captured = split_tensors(group, tensors)
    shapes = [tuple(tensor.shape) for tensor in users]
    wanted = [tensor.requires_grad for tensor in tensors]
    ran = next((s for s in group.specializations if s.accepts(shapes)), None)
    if ran is None:  # sizes are symbols that hold for several programs
        return wanted
    others = [s for s in ran.sources if not isinstance(s, int) and s.identity not in captured]
    if any(source.get().requires_grad for source in others):
        message = (
            "gradients of a graph that calls a compiled function, which takes more weights now"
        )
        raise UserError(message, remedy="trace it again")
    reads = group.reads(ran, len(tensors))
    return [a and b for a, b in zip(wanted, reads, strict=True)]


def _backward(ctx: Any, gradients: Sequence[torch.Tensor | None]) -> tuple[list[Any], None]:
    tensors = list(ctx.saved_tensors)
    given = list(gradients)
    found = iter(torch.ops.diagc.call_backward(tensors, given, ctx.needed, ctx.key, []))
    return [next(found) if need else None for need in ctx.needed], None


def _call_backward(
    tensors: list[torch.Tensor],
    gradients: list[torch.Tensor | None],
    needed: list[bool],
    key: str,
    saved: list[torch.Tensor],
) -> list[torch.Tensor]:
    """Gradients of the tensors that need one, each of its own memory."""
    group = group_of(key)
    kept = (group.saver, saved) if saved and group.saver is not None else None
    return first_gradients(group, tensors, gradients, needed, kept)


def first_gradients(
    group: "Group",
    tensors: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor | None],
    needed: Sequence[bool],
    saved: Saved | None = None,
) -> list[torch.Tensor]:
    """Gradients by a program of their own, else those of eager mode; each of its own memory."""
    with without_autocast():
        own = program_gradients(group, tensors, gradients, needed, saved)
    if own is not None:
        return [gradient.contiguous() for gradient in own]
    with plain_dispatch(), torch.enable_grad():
        wanted, found = eager_gradients(group, tensors, gradients, needed, False)
    return [
        _dense(torch.zeros_like(t) if g is None else g) for t, g in zip(wanted, found, strict=True)
    ]


def setup_second(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep what `second_backward` needs: tensors, cotangents, which are needed, and the key."""
    tensors, gradients, needed, ctx.key, saved = inputs
    ctx.of_saved = [None] * len(saved)  # nobody has gradients of them
    ctx.group = _GROUPS.get(ctx.key)
    ctx.needed = list(needed)
    ctx.open = [g is not None and g.requires_grad for g in gradients]
    ctx.save_for_backward(*tensors, *gradients)


def second_backward(ctx: Any, cotangents: Sequence[torch.Tensor | None]) -> tuple[Any, ...]:
    """Second derivatives: the first ones are made again, so that they can be differentiated."""
    if torch.is_grad_enabled():
        raise UserError(
            "third derivatives of a compiled function",
            remedy="differentiate the function itself",
        )
    saved = list(ctx.saved_tensors)
    tensors, given = saved[: len(ctx.needed)], saved[len(ctx.needed) :]
    with torch.enable_grad():
        gradients = [
            None if g is None else g.detach().requires_grad_(need)
            for g, need in zip(given, ctx.open, strict=True)
        ]
        wanted, first = eager_gradients(group_of(ctx.key), tensors, gradients, ctx.needed, True)
        pairs = [
            (value, cotangent)
            for value, cotangent in zip(first, cotangents, strict=True)
            if value is not None and cotangent is not None and value.requires_grad
        ]
        opened = [g for g, need in zip(gradients, ctx.open, strict=True) if g is not None and need]
        found = iter(differentiate(pairs, [*wanted, *opened], False))
    of_tensors = [next(found) if need else None for need in ctx.needed]
    of_gradients = [next(found) if need else None for need in ctx.open]
    return of_tensors, of_gradients, None, None, ctx.of_saved


def _dense(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.clone(memory_format=torch.contiguous_format)


def _fake_backward(
    tensors: list[torch.Tensor],
    gradients: list[Any],
    needed: list[bool],
    key: str,
    saved: list[torch.Tensor],
) -> list[torch.Tensor]:
    return [
        torch.empty_like(tensor, memory_format=torch.contiguous_format)
        for tensor, need in zip(tensors, needed, strict=True)
        if need
    ]


_LIBRARY.impl("call", _call_transformed, "FuncTorchDynamicLayerFrontMode")
for _device in ("CPU", "CUDA"):
    _LIBRARY.impl("call", _call, _device)
    _LIBRARY.impl("call_backward", _call_backward, _device)
torch.library.register_fake("diagc::call", _fake_call, lib=_LIBRARY)
torch.library.register_fake("diagc::call_backward", _fake_backward, lib=_LIBRARY)
register_gradients(_LIBRARY, torch.ops.diagc.call.default, _call, _backward, _setup_context)
register_gradients(
    _LIBRARY, torch.ops.diagc.call_backward.default, _call_backward, second_backward, setup_second
)
