"""`diagc bisect`: find the region, and the pass or kernel, that makes a program differ from eager.

A program is compared twice: whole, as `diagc.compile` has it, and region by region, as
`torch.compile(…, backend="diagc")` has it, on the values that each region really gets.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from diagc.api import CompiledFunction
from diagc.commands.faults import find_fault
from diagc.commands.load import load_programs
from diagc.commands.program import TorchProgram
from diagc.commands.progress import progress
from diagc.errors import DiagcError, UserError
from diagc.options import CompileOptions
from diagc.runtime.comparison import compare, compare_results, tensors_of
from diagc.runtime.saving_ops import CALLS
from diagc.torch_backend.backend import partition
from diagc.torch_backend.options import BackendOptions
from diagc.torch_backend.report import RegionReport

__all__ = ["bisect"]


def bisect(args: argparse.Namespace, options: CompileOptions) -> int:
    """Do the command; the result is 1 when a program differs."""
    with progress(f"loading {args.program}"):
        programs = load_programs(args.program)
    good = True
    for program in programs:
        if not isinstance(program, TorchProgram):
            expected = "a Python program; diagc run compares diagrams"
            raise UserError("nothing to compare with", expected=expected, found=args.program)
        good &= _bisect(program, options)
    return 0 if good else 1


def _bisect(program: TorchProgram, options: CompileOptions) -> bool:
    if isinstance(program.function, torch.nn.Module):
        program.function.eval()  # dropout would make every run differ
    print(program.name)
    with torch.no_grad():
        whole = _judge_whole(program, options)
        regions = _judge_regions(program, options)
    return whole and regions


def _judge_whole(program: TorchProgram, options: CompileOptions) -> bool:
    try:
        with progress(f"compiling {program.name}"):
            compiled = program.compile(options, dynamic=False)
    except DiagcError as error:
        print(f"  whole: not compiled: {error}")
        return True
    return _judge("whole", program.function, compiled, program.inputs, options)


def _judge(
    what: str,
    function: Callable[..., Any],
    compiled: CompiledFunction,
    inputs: tuple[Any, ...],
    options: CompileOptions,
) -> bool:
    found = compare(function, compiled, inputs)
    print(f"  {what}: {found.text()}")
    if found.equal:
        return True
    with progress("looking for the fault"):
        fault = find_fault(function, compiled, inputs, options)
    print(f"    fault in {fault.text()}")
    return False


def _judge_regions(program: TorchProgram, options: CompileOptions) -> bool:
    run = _RecordedRun(BackendOptions(rest="eager", take="all", compile=options))
    with progress(f"running the regions of {program.name}"):
        results = run(program)
    good = True
    for number, call in enumerate(run.calls):
        region = run.regions[call.key]
        compiled, what = region.compiled, f"region {number}"
        if not _judge(what, compiled.function, compiled, call.tensors, options):
            print("".join(f"    {line}\n" for line in region.calls), end="")
            good = False
    eager = tensors_of(program.function(*program.inputs))
    found = compare_results(program.function, program.inputs, eager, results)
    print(f"  all {len(run.calls)} regions: {found.text()}")
    if good and not found.equal:
        print("    fault in the graph around the regions")
    return good and found.equal


@dataclass(frozen=True)
class _Call:
    """A call of a region, with the tensors that it got."""

    key: str
    tensors: tuple[torch.Tensor, ...]


class _RecordedRun:
    """Runs a program by torch.compile with our regions, and keeps what each of them gets."""

    def __init__(self, options: BackendOptions) -> None:
        self.calls: list[_Call] = []
        self.regions: dict[str, RegionReport] = {}
        self._options = options

    def __call__(self, program: TorchProgram) -> list[torch.Tensor]:
        torch._dynamo.reset()
        results = torch.compile(program.function, backend=self._backend)(*program.inputs)
        torch._dynamo.reset()
        return tensors_of(results)

    def _backend(self, module: fx.GraphModule, examples: list[Any]) -> Callable[..., Any]:
        graph, report = partition(module, examples, self._options)
        self.regions.update({str(region.compiled.key): region for region in report.regions})
        run: Callable[..., Any] = _Recorder(graph, self.calls).run
        return run


class _Recorder(fx.Interpreter):
    """Runs a graph, and keeps copies of what calls of our regions get."""

    def __init__(self, module: fx.GraphModule, calls: list[_Call]) -> None:
        super().__init__(module)
        self._calls = calls

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target in CALLS:
            tensors, key = args
            self._calls.append(_Call(key, tuple(tensor.clone() for tensor in tensors)))
        return super().call_function(target, args, kwargs)
