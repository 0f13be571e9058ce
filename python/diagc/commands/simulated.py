"""`diagc run --simulate`: a compiled program whose kernels for GPUs run in the simulator."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from diagc.commands.program import Compiled, CompiledDiagram

if TYPE_CHECKING:
    import torch

    from diagc.runtime.program import Program as LoweredProgram
    from diagc.simulator import Report

__all__ = ["SimulatedProgram"]


class SimulatedProgram:
    """A compiled program that runs on CPU tensors.

    Args:
        compiled: for the target nvptx.

    Attributes:
        simulation: the simulator's report of the last call; None before the first.
    """

    def __init__(self, compiled: Compiled) -> None:
        """Run nothing yet."""
        self.compiled = compiled
        self.simulation: Report | None = None

    def __call__(self, *inputs: Any) -> Any:
        """Run it with all checks."""
        from diagc.simulator.program import program_report, simulated_program

        if isinstance(self.compiled, CompiledDiagram):
            program = simulated_program(self.compiled.program)
            results = program(inputs)
            self.simulation = program_report(program)
            return results
        import diagc

        value, self.simulation = diagc.simulate(self.compiled, *inputs)  # type: ignore[arg-type]
        return value

    def bind(self, *inputs: Any) -> "tuple[LoweredProgram, Sequence[torch.Tensor]]":
        """The program as it was compiled, for a GPU, and its inputs."""
        return self.compiled.bind(*inputs)

    def explain(self, format: str = "text") -> str:
        """Say what was fused and why; `format` is `text` or `json`."""
        return self.compiled.explain(format)
