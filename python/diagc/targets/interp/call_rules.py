"""The meaning of calls: kernels are evaluated, externs run the function that the caller gave."""

from collections.abc import Sequence

import numpy as np

from diagc.dialects import diag
from diagc.errors import UserError
from diagc.mlir import ir
from diagc.targets.interp.frame import DEFAULT_CHUNK, Frame, Options
from diagc.targets.interp.rounding import Array, numpy_dtype
from diagc.targets.interp.rules import evaluate_block, rule
from diagc.targets.interp.sizes import bind_inputs, infer_sizes

__all__ = ["evaluate_call", "find_function"]


def find_function(module: ir.Module, name: str) -> ir.Operation:
    """The function called `name`.

    Raises:
        UserError: there is none; names those there are.
    """
    functions = {op.attributes["sym_name"].value: op for op in diag.functions(module)}
    if name not in functions:
        raise UserError(
            "no such function in the module",
            expected=f"one of {', '.join(functions) or '(the module has none)'}",
            found=f"'{name}'",
        )
    return functions[name]


def evaluate_call(function: ir.Operation, inputs: Sequence[Array], options: Options) -> list[Array]:
    """Evaluate a function that has a body on arrays with axes as in the types of its arguments."""
    name = function.attributes["sym_name"].value
    block = diag.function_body(function)
    arguments = list(block.arguments)
    frame = Frame(options, sizes=bind_inputs(name, arguments, inputs))
    infer_sizes(block, frame.sizes)
    for argument, array in zip(arguments, inputs, strict=True):
        frame.define(argument, _checked(name, argument, np.asarray(array)))
    return evaluate_block(block, frame)


def _checked(name: str, argument: ir.Value, array: Array) -> Array:
    type_ = argument.type
    dtype = numpy_dtype(diag.element_type(type_) if diag.is_wire(type_) else type_)
    if array.dtype.kind in "fc" and dtype != np.float64:
        raise UserError(
            f"input {argument.arg_number} of function '{name}' has the wrong element type",
            expected=str(type_),
            found=f"an array of {array.dtype}",
        )
    return array.astype(dtype)


@rule("func.call")
def _call(op: ir.Operation, frame: Frame) -> list[Array]:
    name = op.attributes["callee"].value
    inputs = frame.operands(op)
    options = frame.options
    if options.module is None:
        raise UserError(f"'{name}' is called but the function was given without its module")
    function = find_function(options.module, name)
    if diag.is_blocks(function):
        return _evaluate_blocks(function, inputs, options)
    if len(function.regions[0].blocks):
        return evaluate_call(function, inputs, options)
    if name not in options.externs:
        raise UserError(
            f"no Python function was given for the extern '{name}'",
            location=op.location,
            expected=f"externs with the keys {', '.join(options.externs) or '(none)'} to have it",
            remedy="pass externs={name: callable} to evaluate",
        )
    results = options.externs[name](*inputs)
    return [results] if isinstance(results, np.ndarray) else [np.asarray(r) for r in results]


def _evaluate_blocks(
    function: ir.Operation, inputs: Sequence[Array], options: Options
) -> list[Array]:
    """Run a function once for each block of its axis, with the states of the block before."""
    axis, count = diag.blocks_of(function)
    states, args = list(inputs[:count]), list(inputs[count:])
    arguments = list(diag.function_body(function).arguments)[count:]
    labels = [diag.labels(a) if diag.is_wire(a.type) else () for a in arguments]
    places = [own.index(axis) if axis in own else None for own in labels]
    size = next(x.shape[at] for x, at in zip(args, places, strict=True) if at is not None)
    step = options.chunk or DEFAULT_CHUNK
    for start in range(0, size, step):
        positions = range(start, min(start + step, size))
        block = [
            x if at is None else x.take(positions, at) for x, at in zip(args, places, strict=True)
        ]
        states = evaluate_call(function, [*states, *block], options)
    return states


@rule("builtin.unrealized_conversion_cast")
def _cast(op: ir.Operation, frame: Frame) -> list[Array]:
    """Casts between wires change labels and how sizes are known, never elements or their order."""
    return frame.operands(op)
