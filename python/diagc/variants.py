"""Programs for one module that a package may choose from: forms, tiles, warpgroups.

A form is what `reassociate-contractions` leaves: reordered by cost, or as written. Of each the
kernels get the tiles that the cost model finds fastest at some shape, then others that rank well
and differ in what a block is. How long a program takes is predicted for every shape; at run time
the nearest one decides, unless something was measured.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from math import prod
from typing import Any, TypeAlias

from diagc.autotune import Build, BuiltVariant, build_variant
from diagc.compiler import FORMED, build_from_kernels, run_pipeline
from diagc.context import make_context
from diagc.cost.decisions import step_seconds
from diagc.debug import logger
from diagc.dialects import diag
from diagc.errors import DiagcError, UnsupportedError, UserError
from diagc.mlir import ir
from diagc.options import CompileOptions, use
from diagc.report.collect import predicted
from diagc.runtime import steps
from diagc.runtime.package.writer import Contents, ProgramVariant, ProgramVariants
from diagc.runtime.program import Program
from diagc.runtime.signature import DTYPES
from diagc.runtime.sizes import array_sizes, label_sizes
from diagc.targets import Target, get_target

__all__ = [
    "Alternatives",
    "VariantMaker",
    "choices_of_kernels",
    "name_of_kernels",
    "shapes_around",
    "with_variants",
]

Shape: TypeAlias = Mapping[str, int]
Form: TypeAlias = Callable[[str], ir.Module]

_MOST_SHAPES = 64
"""For which times are predicted: some milliseconds each."""

_MOST_GROWTH = 8
"""Times the example, of the sizes that grow by themselves: larger shapes may not fit any memory."""

_MOST_RANKED = 4
"""Shapes at which tiles are ranked: a twentieth of a second each."""

_BEHIND = 4
"""Schedules on tiles that stand behind a choice, for the case that it spills."""

_NO_KERNELS = "library"
"""Name of a program all of whose steps are torch's."""

_THREADS = "threads"
"""Name of a kernel without tiles."""

_TRIES = 2
"""So many programs are compiled for each that is wanted: some turn out to be the same code."""


def with_variants(
    contents: Contents,
    shapes: Sequence[Sequence[int]],
    source: str,
    options: CompileOptions,
    most: int,
) -> Contents:
    """A package's contents with other programs beside the first.

    Args:
        contents: with the program that was compiled.
        shapes: of the tensors that its inputs are, in a usual call.
        source: text of the module that it was compiled from, at the stage `diag`.
        options: that it was compiled with.
        most: programs.

    Raises:
        UserError: the target makes no kernels for GPUs, or fewer than one program is wanted.
        DiagcError: the first program cannot be compiled, or no time of it can be predicted.
    """
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise UserError("a package has one variant or more", expected="1, 2, ...", found=most)
    if most == 1:
        return contents
    program, target = contents.program, get_target(options.target)
    options = replace(options, target=target.spec)
    example = label_sizes(program.inputs, [tuple(shape) for shape in shapes])
    is_open = {
        label: size is None
        for entry in reversed(program.inputs)
        for label, size in zip(entry.type.labels, entry.sizes, strict=True)
    }

    def form(reassociate: str) -> ir.Module:
        module, chosen = ir.Module.parse(source), replace(options, reassociate=reassociate)
        with use(chosen):
            run_pipeline(module, chosen, FORMED)
        return module

    with use(options), make_context(), ir.Location.unknown():
        build = build_from_kernels(target, options, program.externs)
        maker = VariantMaker(target, options, form, build)
        variants = maker.make(source, shapes_around(example, is_open), most)
    return replace(contents, program=_led(program, variants), variants=variants)


def _led(program: Program, variants: ProgramVariants) -> Program:
    """The first of the variants, with the report of the program that was compiled."""
    first = variants.entries[0].program
    first.report = program.report
    return first


def shapes_around(example: Shape, is_open: Mapping[str, bool]) -> tuple[Shape, ...]:
    """Shapes for which times are predicted: the example's, open sizes times powers of two.

    Axes that are equally long in the example grow together, as batch and lengths do.

    Args:
        example: sizes by label.
        is_open: whether a size may change, by label.
    """
    groups = sorted({example[label] for label, is_free in is_open.items() if is_free})
    count = int(_MOST_SHAPES ** (1 / max(len(groups), 1)))
    factors: list[dict[int, float]] = [{}]
    for size in groups:
        powers = [2.0 ** (i - count // 2) for i in range(count)]
        factors = [{**known, size: power} for known in factors for power in powers]
    factors = [known for known in factors if prod(known.values()) <= _MOST_GROWTH]
    shapes = [
        {label: _times(size, known.get(size, 1.0) if is_open[label] else 1.0)
         for label, size in example.items()}
        for known in factors
    ]  # fmt: skip
    unique = {tuple(shape.items()): shape for shape in (dict(example), *shapes)}
    return tuple(unique.values())


def _times(size: int, factor: float) -> int:
    return max(1, round(size * factor))


@dataclass
class VariantMaker:
    """Compiles the programs; needs an ambient context, and options in force.

    Args:
        target: that makes kernels for GPUs.
        options: of the first program.
        form: a fresh module at the stage `kernels`, for a value of the option `reassociate`.
        build: compiles a module from that stage on to a program; kernels keep their tiles.
    """

    target: Target
    options: CompileOptions
    form: Form
    build: Build

    def __post_init__(self) -> None:
        """Ask the target for its tiles.

        Raises:
            UserError: it has none.
        """
        if self.target.name != "nvptx":
            expected, found = "the target nvptx", self.target.spec
            raise UserError("variants are for GPUs only", expected=expected, found=found)
        from diagc.targets.nvptx.tuning import TileChoices

        device = self.target.describe(self.options.device)
        assert device is not None
        self._device, self._choices = device, TileChoices(device)

    def make(self, source: str, shapes: Sequence[Shape], most: int) -> ProgramVariants:
        """Programs that differ, the best at the first shape first.

        Args:
            source: of the module, which names what is computed.
            shapes: for which times are predicted.
            most: programs.

        Raises:
            DiagcError: the first program cannot be compiled, or no time of it can be predicted.
        """
        modules = self._forms()
        names = ("reordered: ", "as written: ") if len(modules) > 1 else ("",)
        forms = [self._programs(*pair, shapes) for pair in zip(names, modules, strict=True)]
        found: dict[str, ProgramVariant] = {}
        for name, built in islice(_in_turns(*forms), _TRIES * most):
            if len(found) < most and name not in found:
                variant = self._variant(built, name, shapes, first=not found)
                found |= {} if variant is None else {name: variant}
        family = hashlib.sha256(_plain_text(source).encode()).hexdigest()
        return ProgramVariants(family, self._device.name, tuple(shapes), tuple(found.values()))

    def _programs(
        self, form: str, module: ir.Module, shapes: Sequence[Shape]
    ) -> Iterator[tuple[str, BuiltVariant]]:
        """Programs of a form with their names."""
        for built in self._built(module, shapes):
            yield form + (name_of_kernels(built.program.kernels) or _NO_KERNELS), built

    def _forms(self) -> list[ir.Module]:
        """Modules at the stage `kernels`: by the options, then as written where that differs."""
        modules = [self.form(self.options.reassociate)]
        if self.options.reassociate != "off":
            written = self.form("off")
            modules += [written] if _text(written) != _text(modules[0]) else []
        return modules

    # -- tiles -----------------------------------------------------------------------------------
    def _built(self, module: ir.Module, shapes: Sequence[Shape]) -> "Iterator[BuiltVariant]":
        """As the compiler would compile it, then with other tiles."""
        usual = self._build(module, {})
        yield usual
        kernels = {diag.symbol_of(x): x for x in diag.functions(module) if diag.is_kernel(x)}
        step = -(-len(shapes) // _MOST_RANKED)
        sizes = [_kernel_sizes(usual.program, shape) for shape in shapes[::step]]
        numbers = dict(usual.numbers)
        tiles = {
            name: self._tiles(
                kernel,
                [each[numbers[name]] for each in sizes],
                getattr(usual.program.kernels[numbers[name]], "tiles", None),
            )
            for name, kernel in kernels.items()
            if name in numbers
        }
        yield from (self._build(module, chosen) for chosen in choices_of_kernels(tiles))

    def _tiles(self, kernel: ir.Operation, sizes: Sequence[Shape], usual: Any) -> "Alternatives":
        """The fastest at each of the sizes, then what comes behind them; blocks differ.

        Those on warpgroups and on tiles alternate: which of the two is better is what the model
        knows least. What it knows nothing of, whether groups take turns, comes first. Behind each
        stand tiles that take its place where it spills.
        """
        ranked = [self._choices.candidates(kernel, known) for known in sizes]
        in_order = [tiles[0] for rank in zip_longest(*ranked) for tiles in rank if tiles]
        first = {_block(tile): tile for tile in reversed(in_order) if not tile.producers}
        behind = [first[block] for block in dict.fromkeys(map(_block, in_order)) if block in first]
        few = [tile for tiles in ranked[0][:1] for tile in tiles if tile.few]
        found: dict[tuple[int, ...], Any] = {}
        for tile in (*_with_twin(usual, in_order), *in_order):
            found.setdefault(_block(tile), tile)
        chosen = [(x, *(t for t in behind[:_BEHIND] if t != x), *few) for x in found.values()]
        chosen = chosen[1:] if usual is not None else chosen
        groups, plain = ([t for t in chosen if bool(t[0].producers) == x] for x in (True, False))
        known = {_block(each[0]): each for each in chosen}
        fastest = [known.get(_block(tiles[0][0])) if tiles else None for tiles in ranked]
        return Alternatives(list(_in_turns(groups, plain)), fastest)

    def _build(self, module: ir.Module, chosen: Mapping[str, Any]) -> BuiltVariant:
        return build_variant(module, self._choices, chosen, self.build)

    # -- names and times ---------------------------------------------------------------------------
    def _variant(
        self, built: BuiltVariant, name: str, shapes: Sequence[Shape], first: bool
    ) -> ProgramVariant | None:
        """None where a kernel has no code, or no time is predicted.

        Raises:
            DiagcError: that is so of the first.
        """
        try:
            times = tuple(self._seconds(built, shape) for shape in shapes)
        except DiagcError as error:
            if first:
                raise
            logger("variants").info("left out: %s", error)
            return None
        return ProgramVariant(name, built.program, times)

    def _seconds(self, built: BuiltVariant, shape: Shape) -> float:
        """Of a call, by the cost model: steps one after the other."""
        arrays = _arrays(built.program, shape)
        names = [kernel.name for kernel in built.program.report.kernels]
        functions = {diag.symbol_of(op): op for op in diag.functions(built.module)}
        sizes = _kernel_sizes(built.program, shape)
        total, number = 0.0, len(built.program.inputs)
        for step in built.program.steps:
            results = arrays[number : number + len(step.types)]
            number += len(step.types)
            if isinstance(step, steps.KernelCall):
                kernel = built.program.kernels[step.kernel]
                known = sizes[step.kernel]
                total += self._kernel_seconds(functions[names[step.kernel]], kernel, known)
            elif not isinstance(step, steps.View):
                total += self._step_seconds(step, results, arrays, built.program.types)
        return total

    def _kernel_seconds(self, function: ir.Operation, kernel: Any, sizes: Shape) -> float:
        if not hasattr(kernel, "tiles"):
            raise UnsupportedError("a variant with an interpreted kernel")
        found = predicted(function, kernel, sizes, self.target, self._device)
        assert found is not None, "the target says how it cuts kernels"
        return found.seconds

    def _step_seconds(
        self,
        step: steps.Step,
        results: Sequence[Any],
        arrays: Sequence[Any],
        types: Sequence[steps.ArrayType],
    ) -> float:
        """What torch does: the larger of its FLOPs and its bytes."""
        if isinstance(step, steps.Blocks):
            raise UnsupportedError("predicted times of a program of blocks")
        wires = [
            prod(sizes) * DTYPES[type_.dtype]
            for type_, sizes in zip(step.types, results, strict=True)
        ]
        flops = 0.0
        if isinstance(step, steps.Contract):
            operands = [(types[n], arrays[n]) for n in (step.lhs, step.rhs)]
            sizes = {x: n for t, known in operands for x, n in zip(t.labels, known, strict=True)}
            flops = 2.0 * prod(sizes.values())
            wires += [prod(known) * DTYPES[t.dtype] for t, known in operands]
        return step_seconds(flops, wires, self._device, step.types[0].dtype)


def _arrays(program: Program, shape: Shape) -> list[Any]:
    inputs = [tuple(shape[x] for x in entry.type.labels) for entry in program.inputs]
    return array_sizes(inputs, program.steps)


def _kernel_sizes(program: Program, shape: Shape) -> list[dict[str, int]]:
    """Sizes of the axes of each kernel's signature, at its first call."""
    arrays = _arrays(program, shape)
    found: list[dict[str, int]] = [{} for _ in program.kernels]
    for step in program.steps:
        if isinstance(step, steps.KernelCall) and not found[step.kernel]:
            wires = program.kernels[step.kernel].signature.args
            pairs = zip(wires, (arrays[number] for number in step.args), strict=True)
            found[step.kernel] = {
                label: size
                for w, sizes in pairs
                for label, size in zip(w.labels, sizes, strict=True)
            }
    return found


def _block(tile: Any) -> tuple[int, ...]:
    """What makes a block another one; stages and blocks at a time do not."""
    return tile.row_blocks, tile.warps, tile.chunk, tile.producers, tile.split, tile.turns


def _with_twin(usual: Any, tiles: Sequence[Any]) -> Iterator[Any]:
    """What is usual, and the same but for whether groups take turns, where there is such."""
    if usual is None:
        return
    yield usual
    twin = replace(usual, turns=not usual.turns)
    yield from (tile for tile in tiles if tile == twin)


def _in_turns(*each: Iterable[Any]) -> Iterator[Any]:
    for group in zip_longest(*each):
        yield from (item for item in group if item is not None)


@dataclass(frozen=True)
class Alternatives:
    """What a kernel may have instead of its usual tiles.

    Args:
        others: in the order in which they are tried.
        fastest: at each of some shapes, one of them, or None for the usual.
    """

    others: Sequence[Any]
    fastest: Sequence[Any | None]


def choices_of_kernels(found: Mapping[str, Alternatives]) -> Iterator[Mapping[str, Any]]:
    """Choices for the kernels of a program, by name; a kernel without one keeps what is usual.

    First what is fastest for each kernel, for one shape after the other; then one kernel at a time
    gets one of its alternatives, so that times of programs tell what each is worth.
    """
    known: list[Mapping[str, Any]] = [{}]
    shapes = zip(*(each.fastest for each in found.values()), strict=True)
    together = [
        {name: tile for name, tile in zip(found, tiles, strict=True) if tile is not None}
        for tiles in (shapes if len(found) > 1 else ())
    ]
    alone = ([{name: tile} for tile in each.others] for name, each in found.items())
    for choice in (*together, *_in_turns(*alone)):
        if choice not in known:
            known.append(choice)
            yield choice


def name_of_kernels(kernels: Iterable[Any]) -> str:
    """Words for all kernels, each once where that tells which has which."""
    words = [_words(kernel) for kernel in kernels]
    tiles = [text for text in words if text != _THREADS]
    clear = len(set(tiles)) in (1, len(tiles))
    return " + ".join(dict.fromkeys(words) if clear else words)


def _words(kernel: Any) -> str:
    from diagc.targets.nvptx.selection import words

    tiles = getattr(kernel, "tiles", None)
    return _THREADS if tiles is None else words(tiles)


def _text(module: ir.Module) -> str:
    return str(module.operation.get_asm())


def _plain_text(source: str) -> str:
    """Without locations, so that a line more in the user's file changes nothing."""
    return _text(ir.Module.parse(source))
