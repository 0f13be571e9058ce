"""The backend itself: a graph goes in, a callable comes out."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import torch
from torch import fx

from diagc import __version__
from diagc.api import CompiledFunction
from diagc.errors import DiagcError, UnsupportedError
from diagc.runtime.torch_settings import require_torch
from diagc.torch_backend.fixed_sizes import fix_sizes
from diagc.torch_backend.graph import aten_graph, is_trained
from diagc.torch_backend.options import BackendOptions, read_options
from diagc.torch_backend.products import product_regions, with_tiles
from diagc.torch_backend.regions import Region, find_regions
from diagc.torch_backend.report import (
    GraphReport,
    RegionReport,
    calls_of,
    left_calls,
    record,
    unsteady_calls,
)
from diagc.torch_backend.rest import run_rest
from diagc.torch_backend.splice import Cut, cut_out, replace_region
from diagc.torch_backend.stretches import Stretch, stretches

__all__ = ["diagc", "partition"]


def diagc(
    module: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """Backend "diagc" of torch.compile.

    Args:
        module: Dynamo's graph.
        example_inputs: fake values of its placeholders.
        mode: Inductor's, for what stays in torch: None, "reduce-overhead", "max-autotune", ….
        options: `rest` ("inductor" or "eager"), `take` ("streams" or "all"), `check`
            ("first-call"), and the fields of `diagc.CompileOptions`, such as `target`.

    Raises:
        UserError: an unknown mode or option, or a version of torch that is not supported. What
            cannot be compiled stays in torch.
        UnsupportedError: with `batch_invariant`, where that would have other bits.
    """
    require_torch()
    chosen = read_options(mode, options)
    graph, report = partition(module, example_inputs, chosen)
    record(report)
    if chosen.compile.batch_invariant:
        _check_rows(report)
    return run_rest(graph, example_inputs, chosen)


def partition(
    module: fx.GraphModule, example_inputs: Sequence[Any], options: BackendOptions
) -> tuple[fx.GraphModule, GraphReport]:
    """A graph with calls of compiled functions for its regions, and what became of it.

    Args:
        module: Dynamo's graph.
        example_inputs: fake values of its placeholders.
        options: of the backend.
    """
    report = GraphReport()
    try:
        taken = _take_regions(module, example_inputs, options, report)
    except Exception as error:
        # whatever it is, the model runs: Dynamo's own graph goes on untouched
        report.reasons.append(f"the whole graph: {_reason(error)}")
        report.unsteady.append("the whole graph")
        taken = None
    return taken or module, report


def _take_regions(
    module: fx.GraphModule, inputs: Sequence[Any], options: BackendOptions, report: GraphReport
) -> fx.GraphModule | None:
    """The graph with calls of compiled functions in it; None when there is no region."""
    traced = aten_graph(module, inputs)
    for stretch in stretches(traced.graph):
        for region in _regions(stretch, options, report):
            _take(traced, region, options, report)
    trained = is_trained(traced)
    for region in list(product_regions(traced.graph, options, trained=trained)):
        _take(traced, region, with_tiles(options), report)
    if report.regions:
        traced.graph.eliminate_dead_code()
        traced.recompile()
    report.left = left_calls(traced.graph.nodes)
    report.unsteady += unsteady_calls(traced.graph.nodes)
    if not report.regions:
        return None
    return traced


def _regions(stretch: Stretch, options: BackendOptions, report: GraphReport) -> list[Region]:
    try:
        return find_regions(stretch, options)
    except DiagcError as error:
        calls = calls_of(stretch.nodes)
        report.reasons.append(f"{calls[0]} to {calls[-1]}: {_reason(error)}")
        return []


def _take(
    traced: fx.GraphModule, region: Region, options: BackendOptions, report: GraphReport
) -> None:
    """Compile a region and call it in the graph; if that fails, it stays in torch."""
    calls = calls_of(region.nodes)
    try:
        cut = cut_out(region)
        compiled = _compiled(cut, calls, options)
        off = [kernel.name for kernel in compiled.report.kernels if kernel.is_off]
        if off:
            report.reasons.append(f"{', '.join(calls)}: kernel {', '.join(off)} is switched off")
            return
        _check_device(cut, compiled.program.device)
        fix_sizes(cut, compiled.latest)
        saving = is_trained(traced) and compiled.prepare_saving()
        replace_region(traced.graph, cut, str(compiled.key), saving=saving)
        report.regions.append(RegionReport(calls, compiled))
    except DiagcError as error:
        report.reasons.append(f"{', '.join(calls)}: {_reason(error)}")


def _check_rows(report: GraphReport) -> None:
    """See that what stays in torch gives rows the same bits, however many there are.

    Raises:
        UnsupportedError: it does not.
    """
    if report.unsteady:
        why = "; ".join(report.reasons)
        reason = "torch runs it, and chooses its code by size" + (f" ({why})" if why else "")
        calls = ", ".join(report.unsteady)
        remedy = "keep it outside of the compiled function, or compile without batch_invariant"
        raise UnsupportedError(f"{calls} with batch_invariant", reason=reason, remedy=remedy)


def _check_device(cut: Cut, device: str) -> None:
    """See that a region's tensors are where its kernels run.

    Raises:
        UnsupportedError: one is elsewhere.
    """
    found = {node.meta["val"].device.type for node in cut.inputs} - {device}
    if found:
        reason = f"its tensors are on {', '.join(sorted(found))}, kernels of the target on {device}"
        target = "nvptx" if found == {"cuda"} else "cpu"
        remedy = f"options={{'target': '{target}'}}" if found <= {"cpu", "cuda"} else None
        raise UnsupportedError("a region", reason=reason, remedy=remedy)


# kept for good, as Inductor keeps its code: a backward graph may outlive Dynamo's forward graph
_COMPILED: dict[str, CompiledFunction] = {}


def _compiled(cut: Cut, calls: Sequence[str], options: BackendOptions) -> CompiledFunction:
    """A compiled function for a region; equal regions share one.

    Its key is made of what it computes, so that graphs that call it may be cached on disk.
    """
    values = [node.meta["val"] for node in cut.inputs]
    kinds = [(tuple(map(str, v.shape)), v.dtype, str(v.device)) for v in values]
    text = f"{cut.module.code}\n{kinds}\n{options.compile}\n{options.check}\n"
    text += f"{__version__}\n{torch.__version__}"
    key = f"region_{sha256(text.encode()).hexdigest()[:16]}"
    compiled = _COMPILED.get(key)
    if compiled is None:
        compiled = CompiledFunction(
            cut.module, options.compile, None, "fx", key=key, check=options.check, calls=calls
        )
        compiled.prepare_like(values)
        _COMPILED[key] = compiled
    return compiled


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
