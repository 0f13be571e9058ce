"""Random well-typed diagrams with inputs to run them on: what all passes and targets are tried on.

>>> with make_context(), ir.Location.unknown():              # doctest: +SKIP
...     diagram = random_diagram(Random(7))
...     outputs = interp.evaluate(diagram.parse(), diagram.inputs(seed=1))
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from diagc.context import make_context
from diagc.dialects import diag
from diagc.mlir import func, ir
from diagc.targets.interp import round_to
from diagc.testing.random_canvas import Argument, Axis, Canvas, Wire, sizes_for
from diagc.testing.random_cores import CORES, attention
from diagc.testing.random_reindexings import step_reindex
from diagc.testing.random_steps import STEPS

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["Diagram", "diagrams", "histogram", "random_attention", "random_diagram"]

LARGEST_OUTPUTS = 4


@dataclass(frozen=True)
class Diagram:
    """A module as text, one function `main`, and the run-time sizes of its axes."""

    text: str
    arguments: tuple[Argument, ...]
    axes: tuple[Axis, ...]

    def parse(self) -> ir.Module:
        """A fresh module in the ambient context."""
        return ir.Module.parse(self.text)

    def inputs(self, seed: int) -> list[Any]:
        """Random inputs: float64 arrays that hold numbers of the argument's type, or bools."""
        rng = np.random.default_rng(seed)
        size = {axis.label: axis.size for axis in self.axes}
        return [
            _random_input(rng, [size[label] for label in argument.labels], argument.element)
            for argument in self.arguments
        ]

    def resized(self, rng: Random) -> "Diagram":
        """The same diagram with inputs of other sizes along its dynamic axes."""
        axes = [
            replace(axis, size=rng.choice(sizes_for(axis.label))) if axis.dynamic else axis
            for axis in self.axes
        ]
        return replace(self, axes=tuple(axes))


def _random_input(rng: np.random.Generator, shape: Sequence[int], element: str) -> Any:
    """Normal numbers, cut off at 3; masks that keep 70 %, with some rows empty."""
    if element != "i1":
        return round_to(np.clip(rng.normal(size=shape), -3.0, 3.0), element)
    rows = rng.random(shape[:1]).reshape([*shape[:1], *(1 for _ in shape[1:])]) < 0.9
    return (rng.random(shape) < 0.7) & rows


def random_diagram(rng: Random) -> Diagram:
    """A random diagram of two to some fifteen ops; all randomness comes from `rng`."""

    def grow(canvas: Canvas) -> None:
        if canvas.chance(0.65):
            (core,) = rng.choices([c for _, c in CORES], [w for w, _ in CORES])
            core(canvas)
        else:
            roles = rng.choice((["long"], ["long", "feature"], ["batch", "long", "feature"]))
            canvas.input([canvas.axis(role) for role in roles], _any_float(rng))
        steps = [*STEPS, (6, step_reindex)]
        for _ in range(rng.choice((1, 2, 3, 4, 5, 6, 9))):
            (step,) = rng.choices([s for _, s in steps], [w for w, _ in steps])
            step(canvas)

    return _build(rng, grow)


def random_attention(rng: Random) -> Diagram:
    """An attention-like diagram of random shape; its long axes and batch axes are dynamic."""
    return _build(rng, attention, dynamic=True)


def _any_float(rng: Random) -> ir.Type:
    return ir.Type.parse(rng.choice(("f32", "f32", "bf16", "f16", "f64")))


def _build(rng: Random, grow: Any, dynamic: bool = False) -> Diagram:
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            function = func.FuncOp("main", ir.FunctionType.get([], []))
        block = function.add_entry_block()
        canvas = Canvas(rng, block, dynamic_lengths=dynamic)
        with ir.InsertionPoint(block):
            grow(canvas)
            outputs = _outputs(canvas)
            func.ReturnOp([wire.value for wire in outputs])
        types = [argument.type for argument in block.arguments]
        results = [wire.value.type for wire in outputs]
        function.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(types, results))
        module.operation.verify()
        diag.verify_labels(module)
        return Diagram(str(module), tuple(canvas.arguments), tuple(canvas.axes.values()))


def _outputs(canvas: Canvas) -> list[Wire]:
    """Some of the wires that nothing uses, and now and then one that is used too."""
    floats = canvas.floats()
    unused = [wire for wire in floats if not list(wire.value.uses)]
    unused = unused[-LARGEST_OUTPUTS:] if canvas.chance(0.8) else unused[-1:]
    made = [wire for wire in floats if not isinstance(wire.value.owner, ir.Block)]
    others = [wire for wire in made if wire not in unused]
    if others and canvas.chance(0.15) and len(unused) < LARGEST_OUTPUTS:
        unused.append(canvas.rng.choice(others))
    return unused or floats[-1:]


def histogram(diagram: Diagram) -> Counter[str]:
    """What a diagram holds: `op …`, `scalar …`, `kind …`, `reduce …`, `dtype …`, sizes, counts."""
    found: Counter[str] = Counter()
    with make_context():
        module = diagram.parse()
        for op in diag.walk_ops(module.operation.regions[0]):
            found.update(_features(op))
    for argument in diagram.arguments:
        found[f"dtype {argument.element}"] += 1
    for axis in diagram.axes:
        found[f"axis {'dynamic' if axis.dynamic else 'static'}"] += 1
        if axis.size <= 1:
            found[f"axis of size {axis.size}"] += 1
    return found


def _features(op: ir.Operation) -> list[str]:
    dialect, _, name = op.name.partition(".")
    if dialect in ("arith", "math"):
        return [f"scalar {op.name}"]
    if dialect != "diag":
        return []
    found = [f"op {name}"]
    if name in ("normalize", "reduce"):
        found.append(f"{name} {op.attributes['kind'].value}")
    if name == "normalize" and len(op.operands) > 1:
        found.append("normalize with keep")
    return found


def diagrams() -> "SearchStrategy[Diagram]":
    """A hypothesis strategy of diagrams, which shrinks; needs hypothesis."""
    from hypothesis import strategies

    return strategies.builds(random_diagram, strategies.randoms(use_true_random=False))
