"""Seeded mistakes in the compiler, to measure whether the property suite would find them.

A mutant is a substitution in the source of one function. The function's code is exchanged for the
changed one, so that everybody who imported it gets the mutant, and put back afterwards.
"""

import ast
import gc
import inspect
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import CodeType, FunctionType
from typing import TypeAlias

from diagc import debug
from diagc.errors import InternalError
from diagc.testing.properties import pipeline_keeps_meaning, target_gives_meaning
from diagc.testing.random_diagrams import Diagram, random_attention, random_diagram

__all__ = ["MUTANTS", "Catch", "Mutant", "hunt", "main"]


Property: TypeAlias = Callable[[Diagram, int], str | None]


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Args:
        name: for people.
        place: `module:function` or `module:Class.method`.
        changes: pairs (old, new) of texts; every old one occurs exactly once in the source.
        shows_in: the property that can tell; the interpreter cannot see what only code does.
    """

    name: str
    place: str
    changes: tuple[tuple[str, str], ...]
    shows_in: Property = pipeline_keeps_meaning

    def function(self) -> FunctionType:
        """The function that is changed."""
        module, _, path = self.place.partition(":")
        found: object = import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
        assert isinstance(found, FunctionType), self.place
        return found

    def source(self) -> str:
        """The changed source.

        Raises:
            InternalError: the source no longer holds a text that is to be replaced.
        """
        text = textwrap.dedent(inspect.getsource(self.function()))
        for old, new in self.changes:
            if text.count(old) != 1:
                raise InternalError(
                    f"mutant '{self.name}' is out of date: {self.place} has {text.count(old)} "
                    f"times the text {old!r}"
                )
            text = text.replace(old, new)
        return text

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block, the compiler has the mistake."""
        function = self.function()
        original = function.__code__
        function.__code__ = _code_of(self.source(), original)
        try:
            yield
        finally:
            function.__code__ = original


def _code_of(source: str, original: CodeType) -> CodeType:
    """The code of the one function that `source` defines; decorators do not count."""
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    compiled = compile(ast.Module([definition], []), original.co_filename, "exec")
    codes = [const for const in compiled.co_consts if isinstance(const, CodeType)]
    return next(code for code in codes if code.co_name == original.co_name)


MUTANTS = (
    Mutant(
        "wrong sign of a correction",
        "diagc.algebra.laws:_ask",
        (
            ("{new: symbol(old) for", "{new: symbol(old + NEW) for"),
            ("{new + NEW: symbol(old + NEW) for", "{new + NEW: symbol(old) for"),
        ),
    ),
    Mutant(
        "dropped mask",
        "diagc.passes.canonical.expand_normalizers:_Expansion.__init__",
        (("keep = diag.mask_of(op)", "keep = None"),),
    ),
    Mutant(
        "wrong identity",
        "diagc.passes.streams.stream_builder:_Builder._identities",
        (("[full(value.value,", "[full(0.0 if value.value else 1.0,"),),
    ),
    Mutant(
        "swapped operands",
        "diagc.targets.elementwise.scalars:_generic",
        (("operands=values,", "operands=values[::-1] if op.name == 'arith.subf' else values,"),),
        target_gives_meaning,
    ),
    Mutant(
        "tail bound off by one",
        "diagc.targets.cpu.streams:StreamLoop._chunks",
        (
            (
                "else code.min(chunk, left)",
                "else code.min(chunk, code.sub(left, 1))",
            ),
        ),
        target_gives_meaning,
    ),
    Mutant(
        "missing rescale",
        "diagc.passes.streams.stream_builder:_Builder.body",
        (("self._moving(state, old, values, made)", "Part([old[self._place[op]]])"),),
    ),
    Mutant(
        "wrong axis",
        "diagc.passes.canonical.expand_normalizers:_Expansion.result",
        (("diag.reduce(terms, self.over,", "diag.reduce(terms, list(self.dims)[:1],"),),
    ),
    Mutant(
        "dropped cast",  # statistics of f64 rows in f32
        "diagc.passes.canonical.expand_normalizers:_Expansion.__init__",
        (("statistic_type(diag.element_type(op.operands[0]))", "ir.F32Type.get()"),),
        target_gives_meaning,
    ),
    Mutant(
        "keep applied to the numerator only",
        "diagc.passes.canonical.expand_normalizers:_Expansion.result",
        (
            (
                "terms = self._map(summand, self.dims)",
                "terms = self._map(row.statistic(symbol('x')), self.dims)",
            ),
        ),
    ),
    Mutant(
        "wrong combine",
        "diagc.passes.streams.stream_builder:_Builder.combine",
        (("self._merged(state, left, right)", "self._merged(state, left, left)"),),
    ),
    Mutant(
        "lost factor",
        "diagc.passes.contractions.fuse_normalization:_times",
        (("expr = expr * symbol(name)\n            continue", "continue"),),
    ),
    Mutant(
        "different kernels merged",
        "diagc.passes.kernels.generalize_kernels:generalize_kernels",
        (("setdefault(kernel_text(kernel), kernel)", "setdefault(kernel_name(kernel), kernel)"),),
    ),
)
"""The mistakes; the property suite must find every one."""


@dataclass(frozen=True)
class Catch:
    """How a mutant was found: after how many diagrams, and what was seen."""

    mutant: Mutant
    diagrams: int
    seconds: float
    complaint: str | None
    """None when no diagram told the mutant from the compiler."""


def hunt(mutant: Mutant, seed: int, most: int = 200) -> Catch:
    """Try random diagrams, as the property suite does, until one tells the mutant apart.

    A diagram counts only if it passes with the compiler as it is.
    """
    start = time.perf_counter()
    with TemporaryDirectory() as own, TemporaryDirectory() as others:
        for number in range(most):
            make = random_diagram if number % 2 else random_attention
            diagram = make(Random(seed + number))
            with mutant.applied(), debug.CACHE_DIR.override(Path(others)):
                complaint = _complaint(mutant.shows_in, diagram, number)
            gc.collect()  # loaded kernels of the mutant would serve the compiler, too
            with debug.CACHE_DIR.override(Path(own)):
                right = complaint is None or _complaint(mutant.shows_in, diagram, number) is None
            if complaint is not None and right:
                return Catch(mutant, number + 1, time.perf_counter() - start, complaint)
    return Catch(mutant, most, time.perf_counter() - start, None)


def _complaint(holds: Property, diagram: Diagram, seed: int) -> str | None:
    try:
        return holds(diagram, seed)
    except Exception as error:  # a crash is a find, too
        return f"{type(error).__name__}: {error}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Hunt all mutants and print what became of them; `tools/mutants [SEED]`."""
    texts = list(sys.argv[1:] if arguments is None else arguments)
    seed = int(texts[0]) if texts else int(time.time())
    print(f"seed {seed}")
    missed = 0
    for mutant in MUTANTS:
        catch = hunt(mutant, seed)
        missed += catch.complaint is None
        verdict = "MISSED" if catch.complaint is None else "caught"
        print(f"{verdict}  {mutant.name:<36}{catch.diagrams:>4} diagrams{catch.seconds:>7.1f} s")
        print(f"        {(catch.complaint or mutant.place).splitlines()[0][:110]}", flush=True)
    print(f"{len(MUTANTS) - missed} of {len(MUTANTS)} caught")
    return 1 if missed else 0
