"""Open the sizes that a kernel's code does not depend on, so that equal kernels become one.

Before:

    %o = call @stream_0(%q, ...) : (tensor<2x4x128x64xf32, ["b", "h", "q", "d"]>, ...) -> ...
    func.func private @stream_0(%q: tensor<2x4x128x64xf32, ["b", "h", "q", "d"]>, ...) ...

After:

    %1 = builtin.unrealized_conversion_cast %q : tensor<2x4x128x64xf32, ["b", "h", "q", "d"]>
         to tensor<?x?x?x64xf32, ["g0", "g1", "l", "d.64"]>
    %2 = call @stream_max_exp_d64_f32(%1, ...) : ...
    %o = builtin.unrealized_conversion_cast %2 : ... to tensor<2x4x128x64xf32, ["b", "h", "q", "e"]>
    func.func private @stream_max_exp_d64_f32(%q: tensor<?x?x?x64xf32, ["g0", ...]>, ...) ...

Axes of the grid (`g0`, `g1`, ...), of lanes (`l`) and streamed ones (`s`, `s.1`, ...) get size `?`;
axes inside a task keep their size and are named for it (`d.64`; `d.64.1` for a second one), so that
a label still has one size in all of the calling function. Kernels whose text is equal then, but for
name, origin and locations, are merged: twelve equal layers call one kernel. The casts only rename
axes and open sizes, no data moves.

Requires: kernels carry schedules; run on the module.

Declines: kernels without a schedule are left alone. Axes that no argument has keep their size:
nothing else would tell it; so do their other names, which a relabel gives or takes. So do axes of
one position that an operand of a contraction lacks (the one query of a decoding step): code for one
row is other than for many; and, up to the option `packed`, small axes of the grid that an operand
of every contraction lacks (heads that share keys): a GPU may work on all their positions at once.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

from diagc.dialects import diag
from diagc.mlir import builtin, func, ir
from diagc.passes.base import Pass
from diagc.passes.canonical.axis_renaming import rename_axes
from diagc.passes.cloning import nested_ops
from diagc.passes.kernels.kernel_axes import KernelAxes, analyze_kernel
from diagc.passes.kernels.kernel_names import ORIGIN, kernel_name
from diagc.passes.kernels.outlining import AXES, unique_symbol
from diagc.passes.kernels.ranking import RANKING
from diagc.passes.kernels.schedules import SCHEDULE, Schedule, read_schedule
from diagc.passes.remarks import DECLINED

__all__ = [
    "MOST_PACKED",
    "GeneralizeKernelsPass",
    "generalize_kernels",
    "kernel_key",
    "kernel_text",
    "opened_copy",
]

MOST_PACKED = 16
"""Of `GeneralizeKernelsPass.packed`, for a GPU."""

NOTES = (ORIGIN, DECLINED, "diag.done", RANKING)
"""Attributes for people: two kernels that differ in nothing else are equal."""


@dataclass(frozen=True)
class GeneralizeKernelsPass(Pass):
    """open sizes of grid, lane and stream axes, rename axes, merge equal kernels."""

    name: ClassVar[str] = "generalize-kernels"
    anchor: ClassVar[str] = "builtin.module"
    packed: int = 0
    """Most positions of a grid axis that keeps its size, as one operand of each product lacks it.

    A target may work on all of them at once.
    """

    def run(self, op: ir.Operation) -> None:
        """Generalise and merge the kernels of the module."""
        generalize_kernels(op, self.packed)


def generalize_kernels(module: ir.Operation, packed: int = 0) -> None:
    """Generalise every scheduled kernel of a module, and let equal ones share one function.

    Args:
        module: holds the kernels and their callers.
        packed: as of `GeneralizeKernelsPass`.
    """
    with module.context, module.location:
        functions = [
            op.operation
            for op in module.regions[0].blocks[0].operations
            if op.operation.name == "func.func"
        ]
        kernels = [op for op in functions if diag.is_kernel(op) and SCHEDULE in op.attributes]
        calls = _calls(functions)
        known: dict[str, ir.Operation] = {}
        for kernel in kernels:
            callers = calls.get(diag.symbol_of(kernel), [])
            _generalize(kernel, packed)
            first = known.setdefault(kernel_text(kernel), kernel)
            if first == kernel:
                _rename(kernel)
            else:
                _merge_origins(first, kernel)
                kernel.erase()
            for call in callers:
                _redirect(call, first)


def _calls(functions: list[ir.Operation]) -> dict[str, list[ir.Operation]]:
    """Calls by the name of what they call, also those inside regions."""
    found: dict[str, list[ir.Operation]] = {}
    for function in functions:
        for op in nested_ops(function):
            if op.name == "func.call":
                callee = ir.FlatSymbolRefAttr(op.attributes["callee"]).value
                found.setdefault(callee, []).append(op)
    return found


# ---- one kernel --------------------------------------------------------------------------------


def opened_copy(kernel: ir.Operation) -> tuple[ir.Operation, dict[str, int]]:
    """A copy of a scheduled kernel as it will be for a GPU, and the sizes of what it opens.

    The copy belongs to no module; sizes are those that are known.
    """
    copy = kernel.clone()
    sizes = dict(analyze_kernel(kernel).sizes)
    names, opened = _generalize(copy, MOST_PACKED)
    return copy, {names[x]: sizes[x] for x in opened if sizes.get(x, diag.DYNAMIC) >= 0}


def _generalize(kernel: ir.Operation, packed: int) -> tuple[dict[str, str], set[str]]:
    """Rename and open axes; gives the new names, and which axes (by old name) were opened."""
    schedule = read_schedule(kernel)
    assert schedule is not None
    names, opened = _canonical_names(kernel, schedule, packed)
    rename_axes(kernel, names, opened)
    kernel.attributes[SCHEDULE] = schedule.renamed(names).to_attr()
    if AXES in kernel.attributes:
        del kernel.attributes[AXES]
    return names, opened


def _canonical_names(
    kernel: ir.Operation, schedule: Schedule, packed: int
) -> tuple[dict[str, str], set[str]]:
    """New names of all axes, and which (by old name) are opened."""
    arguments = diag.join_dims(diag.dims(v) for v in diag.function_body(kernel).arguments)
    axes = analyze_kernel(kernel)
    sizes = diag.join_dims((arguments, dict(axes.sizes)))
    cut = tuple(axis for axis, _ in (*schedule.tiles, *schedule.chunk))
    walked = tuple(dict.fromkeys((*axes.streamed, *(cut if schedule.tiles else ()))))
    wanted = dict.fromkeys((*schedule.grid, schedule.lanes, *walked))
    single = {x for each in axes.contractions for x in each.broadcast if sizes[x] == 1}
    kept = single | (_shared(axes, packed) & set(schedule.grid))
    opened = _opened(kernel, {x for x in wanted if x in arguments} - kept, sizes)
    names = {x: f"g{i}" for i, x in enumerate(x for x in schedule.grid if x in opened)}
    if schedule.lanes in opened:
        names[schedule.lanes] = "l"
    for label in walked:
        if label in opened:
            names.setdefault(label, _unused("s", names))
    for label, size in sizes.items():
        stem = "v" if size == diag.DYNAMIC else f"d.{size}"
        names.setdefault(label, _unused(stem, names))
    return names, opened


def _shared(axes: KernelAxes, most: int) -> set[str]:
    """Axes of a few positions for which what streams is the same: one operand of each product."""
    broadcast = [set(contraction.broadcast) for contraction in axes.contractions]
    if not broadcast or not axes.streamed:
        return set()
    return {label for label in set.intersection(*broadcast) if 1 < axes.size(label) <= most}


def _opened(kernel: ir.Operation, wanted: set[str], sizes: diag.Dims) -> set[str]:
    """The axes that are opened: of two names of one axis of known size, both or none."""
    pairs = [
        pair
        for op in nested_ops(kernel)
        if op.name == "diag.relabel"
        for pair in op.opview.names.items()
        if sizes[pair[0]] != diag.DYNAMIC
    ]
    opened = set(wanted)
    while True:
        torn = {label for pair in pairs if not opened >= set(pair) for label in pair} & opened
        if not torn:
            return opened
        opened -= torn


def _unused(stem: str, names: dict[str, str]) -> str:
    """`stem`, or `stem.1`, `stem.2`, ...; a point stands in no label that a user can write."""
    taken = set(names.values())
    candidates = (stem, *(f"{stem}.{number}" for number in range(1, len(taken) + 1)))
    return next(name for name in candidates if name not in taken)


def _rename(kernel: ir.Operation) -> None:
    """Give the final name; it depends on the kernel's text only, but for a clash."""
    kernel.attributes["sym_name"] = ir.StringAttr.get("")
    name = unique_symbol(kernel_name(kernel), kernel)
    kernel.attributes["sym_name"] = ir.StringAttr.get(name)


# ---- equal kernels -----------------------------------------------------------------------------


def kernel_text(kernel: ir.Operation) -> str:
    """The text of a kernel without name, origin, notes and locations."""
    ops = list(nested_ops(kernel))
    hidden = [
        (op, name, op.attributes[name]) for op in ops for name in NOTES if name in op.attributes
    ]
    symbol = kernel.attributes["sym_name"]
    kernel.attributes["sym_name"] = ir.StringAttr.get("kernel")
    for op, name, _ in hidden:
        del op.attributes[name]
    try:
        return str(kernel.get_asm(assume_verified=True))
    finally:
        kernel.attributes["sym_name"] = symbol
        for op, name, attr in hidden:
            op.attributes[name] = attr


def kernel_key(kernel: ir.Operation, features: str = "") -> str:
    """The cache key of a kernel: a hash of its text and of what the target adds, `features`.

    Name, origin, notes and locations do not count, so that a comment in the source misses nothing.
    """
    with kernel.context:
        return sha256(f"{features}\n{kernel_text(kernel)}".encode()).hexdigest()


def _merge_origins(first: ir.Operation, other: ir.Operation) -> None:
    found = [
        diag.strings(op.attributes[ORIGIN]) for op in (first, other) if ORIGIN in op.attributes
    ]
    merged = dict.fromkeys(text for texts in found for text in texts)
    first.attributes[ORIGIN] = diag.string_array(merged)


def _redirect(call: ir.Operation, kernel: ir.Operation) -> None:
    """Call the generalised kernel through casts of what goes in and comes out."""
    type_ = ir.FunctionType(ir.TypeAttr(kernel.attributes["function_type"]).value)
    with ir.InsertionPoint(call), call.location:
        operands = [_cast(v, t) for v, t in zip(call.operands, type_.inputs, strict=True)]
        callee = ir.FlatSymbolRefAttr.get(diag.symbol_of(kernel))
        made = func.CallOp(type_.results, callee, operands)
        for old, new in zip(call.results, made.results, strict=True):
            old.replace_all_uses_with(_cast(new, old.type))
    call.erase()


def _cast(value: ir.Value, type_: ir.Type) -> ir.Value:
    if value.type == type_:
        return value
    return builtin.UnrealizedConversionCastOp([type_], [value]).results[0]
