"""`diagc explain`, `draw`, `compile` and `targets`: what is made of a program, and for what."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from diagc.algebra.normalizers import NORMALIZERS
from diagc.commands.load import load_program, load_programs
from diagc.commands.package import SUFFIX, write_package
from diagc.commands.program import Compiled, Program, require_device
from diagc.commands.progress import progress
from diagc.errors import UserError
from diagc.files import STANDARD, write_text
from diagc.normalizers import derive
from diagc.options import CompileOptions
from diagc.targets import get_target

__all__ = ["compile_program", "draw", "explain", "show_targets"]

_STAGE = "kernels"
_SEPARATOR = "\n// -----\n\n"  # of `--split-input-file` in MLIR's tools


def explain(args: argparse.Namespace, options: CompileOptions) -> int:
    """Write what was fused and why; of a normaliser's name, how it is computed in a stream."""
    form = "json" if args.json else args.format
    if args.program in NORMALIZERS:
        proof = derive(args.program)
        write_text(args.output, f"{json.dumps(asdict(proof)) if form == 'json' else proof}\n")
        return 0
    programs = [load_program(args.program)] if form == "html" else _load(args.program)
    texts = []
    for program in programs:
        with progress(f"compiling {program.name}"):
            compiled = program.compile(options)
        if args.measure:
            with progress(f"running {program.name}"):
                _measure(program, compiled, options)
        texts.append(compiled.explain(format=form))
    write_text(args.output, "".join(text.rstrip("\n") + "\n" for text in texts))
    return 0


def _measure(program: Program, compiled: Compiled, options: CompileOptions) -> None:
    """Time the kernels on the example inputs, and tell that in the report."""
    from diagc.commands.kernel_estimates import estimate_kernels, with_measurements
    from diagc.runtime.kernel_times import time_kernels

    device = get_target(options.target).device
    require_device(device)
    lowered, inputs = compiled.bind(*program.on(device).inputs)
    times = time_kernels(lowered, inputs)
    estimates = estimate_kernels(lowered, times, program.emit("general", options), options)
    with_measurements(lowered, times, estimates)


def draw(args: argparse.Namespace, options: CompileOptions) -> int:
    """Write a drawing of one program."""
    from diagc.drawings import draw as draw_source
    from diagc.viz import check_suffix

    if args.output not in (None, STANDARD):
        check_suffix(Path(args.output))  # before anything that takes long
    program = load_program(args.program)
    with progress(f"reading {program.name}"):
        source = program.source(options)
    drawing = draw_source(source, program.name, options, args.after, args.before, width=args.width)
    if args.output == STANDARD:
        write_text(STANDARD, drawing.svg())
        return 0
    drawing.save(args.output or f"{program.name}.svg")
    return 0


def _load(spec: str) -> Sequence[Program]:
    with progress(f"loading {spec}"):
        return load_programs(spec)


def compile_program(args: argparse.Namespace, options: CompileOptions) -> int:
    """Write programs as they are after a stage, or one as a package, by the name of the output."""
    if args.output.endswith(SUFFIX):
        return write_package(load_program(args.program), args, options)
    if args.with_weights or args.dynamic or args.weights or args.variants != 1:
        expected = f"-o FILE{SUFFIX} with them"
        message = "--with-weights, --weights, --dynamic and --variants are for packages"
        raise UserError(message, expected=expected)
    programs = _load(args.program)
    texts = [_emit(program, args.emit or _STAGE, options) for program in programs]
    if len(programs) > 1:
        texts = [f"// {p.name}\n{text}" for p, text in zip(programs, texts, strict=True)]
    write_text(args.output, _SEPARATOR.join(texts))
    return 0


def _emit(program: Program, stage: str, options: CompileOptions) -> str:
    with progress(f"compiling {program.name}"):
        return program.emit(stage, options).rstrip("\n") + "\n"


def show_targets() -> int:
    """List all targets, the reason where this machine lacks one, how GPU kernels start, devices."""
    from diagc.cost import known_devices
    from diagc.runtime.native import why_not_native
    from diagc.targets import list_targets

    for target in list_targets():
        state = "available" if target.available else f"not here: {target.why_not}"
        print(f"{target.name:8} {target.description}; {state}")
    why_not = why_not_native()
    how = "by the native launcher"
    if why_not is not None:
        how = f"through ctypes, for the native launcher is {why_not}"
    print(f"{'':8} nvptx launches {how}")
    print("\ndevices, for --device")
    for device in known_devices():
        peak = (device.rate("tensor", "bf16") or device.rate("fma") or 0.0) / 1e12
        memory = device.level("memory").bandwidth / 1e9
        print(f"{device.name:11} {device.summary}; {peak:.3g} TFLOP/s, memory {memory:.4g} GB/s")
    return 0
