"""Random diagrams keep their meaning under the kernel passes, with every option of form-kernels."""

from random import Random

import pytest

from diagc.context import make_context
from diagc.mlir import ir
from diagc.passes.pipeline import Pipeline
from diagc.targets import interp
from diagc.testing.oracle import ELEVEN_DIGITS, expect
from diagc.testing.random_diagrams import random_attention, random_diagram

CANONICAL = "func.func(canonicalize-diag)"
KERNELS = "func.func(select-schedule),generalize-kernels"
PIPELINES = {
    "fused": f"{CANONICAL},func.func(expand-normalizers),{CANONICAL},form-kernels,{KERNELS}",
    "no library": f"func.func(expand-normalizers),form-kernels{{library=none}},{KERNELS}",
    "op by op": f"func.func(expand-normalizers),form-kernels{{single=true}},{KERNELS}",
}


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("seed", range(20))
def test_random_diagram_keeps_its_meaning(seed: int, pipeline: str) -> None:
    make = random_attention if seed % 3 == 0 else random_diagram
    diagram = make(Random(seed))
    inputs = diagram.inputs(seed)
    with make_context(), ir.Location.unknown():
        expected = expect(diagram.parse(), inputs, ELEVEN_DIGITS)
        module = diagram.parse()
        Pipeline(f"builtin.module({PIPELINES[pipeline]})").run(module)
        complaint = expected.complaint(interp.evaluate(module, inputs))
    assert complaint is None, complaint
