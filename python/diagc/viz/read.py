"""From a module of the diag dialect to the picture of one of its functions."""

from collections.abc import Callable, Mapping

from diagc.dialects import diag
from diagc.errors import SourceLocation
from diagc.files import relative_to_here
from diagc.frontend.text.print_names import Names
from diagc.mlir import ir
from diagc.viz.boxes import BOXES, outline
from diagc.viz.formulas import constant_text, pretty
from diagc.viz.model import Array, Axis, Kind, Level, Operation, Picture
from diagc.viz.scope import Scope

__all__ = ["read_picture"]

_CAST = "builtin.unrealized_conversion_cast"


def read_picture(module: ir.Module, entry: ir.Operation) -> Picture:
    """The picture of a function; kernels that it calls are frames in it.

    Args:
        module: verified diag IR, at any stage of the pipeline.
        entry: the function.
    """
    functions = {diag.symbol_of(op): op for op in diag.functions(module)}
    has_kernels = any(diag.is_kernel(op) for op in functions.values())
    inside = diag.is_kernel(entry)
    level = Level.CHIP if inside else Level.MEMORY if has_kernels else Level.PLAIN
    reader = _Reader(functions)
    scope = Scope(reader.names, level, group_marks(entry) if inside else {})
    picture = scope.picture
    picture.title = diag.symbol_of(entry)
    block = diag.function_body(entry)
    for number, argument in enumerate(block.arguments):
        array = scope.define(argument, _fact(entry, "arg_attrs", number))
        picture.operations.append(Operation(Kind.INPUT, outputs=[array], text=array.name))
    reader.block(block, scope)
    returned = list(block.operations)[-1].operation.operands
    for number, value in enumerate(returned):
        name = _fact(entry, "res_attrs", number) or (
            "out" if len(returned) == 1 else f"out{number}"
        )
        picture.operations.append(Operation(Kind.OUTPUT, [scope.use(value)], text=name))
    return picture


def _fact(function: ir.Operation, group: str, number: int) -> str:
    if group not in function.attributes:
        return ""
    facts = ir.DictAttr(ir.ArrayAttr(function.attributes[group])[number])
    return str(ir.StringAttr(facts["diag.name"]).value) if "diag.name" in facts else ""


def group_marks(kernel: ir.Operation) -> dict[str, Axis]:
    """Axes that the schedule of a kernel groups or streams, with the sizes it says."""
    if "diag.schedule" not in kernel.attributes:
        return {}
    entries = ir.DictAttr(kernel.attributes["diag.schedule"])
    marks: dict[str, Axis] = {}
    for label in diag.strings(entries["grid"]) if "grid" in entries else ():
        marks[label] = Axis(label, 1, "g")
    if "lanes" in entries:
        label = ir.StringAttr(entries["lanes"]).value
        marks[label] = Axis(label, ir.IntegerAttr(entries["lane_tile"]).value, "g")
    for entry in ir.DictAttr(entries["chunk"]) if "chunk" in entries else ():
        marks[entry.name] = Axis(entry.name, ir.IntegerAttr(entry.attr).value, "s")
    return marks


class _Reader:
    """Reads blocks of ops into scopes; `functions` are those that may be called."""

    def __init__(self, functions: Mapping[str, ir.Operation]) -> None:
        self.names = Names(set())
        self._functions = functions
        self._special: dict[str, Callable[[ir.Operation, Scope], None]] = {
            "diag.stream": self._stream,
            "diag.chunk": self._chunk,
            "func.call": self._call,
            _CAST: self._cast,
        }

    def block(self, block: ir.Block, scope: Scope) -> None:
        """Read all ops of a block but its yields or its return."""
        for view in block.operations:
            op = view.operation
            if op.name in self._special:
                self._special[op.name](op, scope)
            elif op.name not in ("diag.yield", "func.return", "arith.constant"):
                self._box(op, scope)

    def _box(self, op: ir.Operation, scope: Scope) -> None:
        made = BOXES.get(op.name, outline)(op, scope)
        made.title = made.title or made.text
        place = SourceLocation.of(op.location)
        made.title += f"\n{op.name}" + (
            f" at {relative_to_here(str(place))}" if place is not None else ""
        )
        scope.picture.operations.append(made)

    # ---- what has no box of its own --------------------------------------------------------

    def _chunk(self, op: ir.Operation, scope: Scope) -> None:
        scope.alias(op.results[0], scope.use(op.operands[0]))

    def _cast(self, op: ir.Operation, scope: Scope) -> None:
        """Names of axes in a kernel differ from the caller's; the caller's are shown."""
        array = scope.use(op.operands[0])
        owner = op.operands[0].owner
        if not isinstance(owner, ir.Block) and owner.operation.name == "func.call":
            array.axes = scope.axes(op.results[0])
        scope.alias(op.results[0], array)

    # ---- frames ----------------------------------------------------------------------------

    def _call(self, op: ir.Operation, scope: Scope) -> None:
        callee = self._functions[diag.callee_of(op)]
        if diag.is_extern(callee):
            name = ir.StringAttr(callee.attributes[diag.EXTERN]).value
            call = outline(op, scope)
            call.text = name.removeprefix("aten.").removesuffix(".default")
            call.title = f"{name}, run by torch"
            scope.picture.operations.append(call)
            return
        inner = Scope(self.names, Level.CHIP, group_marks(callee))
        block = diag.function_body(callee)
        inputs = [scope.use(value) for value in op.operands]
        for argument, outer in zip(block.arguments, inputs, strict=True):
            inner.enter(argument, outer)
        self.block(block, inner)
        returned = list(block.operations)[-1].operation.operands
        inner.picture.outputs = [inner.use(value) for value in returned]
        outputs = [scope.define(value) for value in op.results]
        text = f"kernel {diag.symbol_of(callee)}"
        frame = Operation(Kind.FRAME, inputs, outputs, text, _schedule_text(callee))
        frame.inner = inner.picture
        scope.picture.operations.append(frame)

    def _stream(self, op: ir.Operation, scope: Scope) -> None:
        _, body, _combine, tail = op.regions
        axis = str(ir.StringAttr(op.attributes["axis"]).value)
        inner = scope.loop(axis)
        loop = Operation(Kind.FRAME, inner.captured, [], f"stream over {axis}", _law(op))
        loop.inner = inner.picture
        self._enter_states(op, scope, inner)
        if len(op.operands):
            wanted = inner.use(op.operands[0])
            inner.picture.operations.append(Operation(Kind.TAG, [wanted], text="where wanted"))
        self.block(body.blocks[0], inner)
        arguments, given = tail.blocks[0].arguments, _yielded(body.blocks[0])
        chunks = given[len(arguments) :]
        states = given[: len(arguments)]
        for argument, value, name in zip(arguments, states, state_names(op), strict=True):
            carry = Operation(Kind.CARRY, [inner.use(value)], text=f"↻ {name}")
            inner.picture.operations.append(carry)
            if list(argument.uses):
                carry.outputs.append(_state(carry.inputs[0]))
                inner.picture.outputs += carry.outputs
                loop.outputs.append(scope.define(argument, name))
        results = list(op.results)
        for result, value in zip(results[len(results) - len(chunks) :], chunks, strict=True):
            inner.picture.outputs.append(inner.use(value))
            loop.outputs.append(scope.define(result))
        scope.picture.operations.append(loop)
        self.block(tail.blocks[0], scope)
        for result, value in zip(results, _yielded(tail.blocks[0]), strict=False):
            scope.alias(result, scope.use(value))

    def _enter_states(self, op: ir.Operation, scope: Scope, inner: Scope) -> None:
        """States that begin with a number are pills; others are computed before the loop."""
        init, body, *_ = op.regions
        starts = _yielded(init.blocks[0])
        texts = [_number(value) for value in starts]
        if None in texts:
            self.block(init.blocks[0], scope)
        names = state_names(op)
        for argument, start, text, name in zip(
            body.blocks[0].arguments, starts, texts, names, strict=True
        ):
            sources = [] if text is not None else [inner.use(start)]
            array = inner.define(argument, name, Level.STATE)
            shown = f"{name} = {text}" if text is not None else name
            inner.picture.operations.append(Operation(Kind.STATE, sources, [array], shown))


def _yielded(block: ir.Block) -> list[ir.Value]:
    ops = (view.operation for view in block.operations)
    return [op.operands[0] for op in ops if op.name == "diag.yield"]


def _number(value: ir.Value) -> str | None:
    """The text of a value that is one number everywhere, or None."""
    owner = value.owner
    if isinstance(owner, ir.Block):
        return None
    op = owner.operation
    if op.name == "diag.constant":
        text = constant_text(op)
        return None if text.startswith("table") else text
    if op.name != "diag.map" or len(list(diag.walk_ops(op.regions[0]))) > 2:
        return None
    made = BOXES["diag.map"](op, Scope(Names(set())))
    return None if made.inputs else made.text


def state_names(stream: ir.Operation) -> list[str]:
    """Letters of the states, as the law says them."""
    starts = _yielded(stream.regions[0].blocks[0])
    laws = diag.strings(stream.attributes["law"]) if "law" in stream.attributes else []
    letters = [law.split(":")[0] for law in laws if ":" in law]
    if len(letters) == len(starts):
        return letters
    return [f"s{number}" for number in range(1, len(starts) + 1)]


def _state(array: Array) -> Array:
    return Array(array.name, array.axes, array.dtype, Level.STATE)


def _law(op: ir.Operation) -> str:
    laws = diag.strings(op.attributes["law"]) if "law" in op.attributes else []
    return pretty("\n".join(laws))


def _schedule_text(kernel: ir.Operation) -> str:
    marks = group_marks(kernel).values()
    parts = [f"{axis.mark}_{axis.label} = {axis.size}" for axis in marks]
    return ", ".join(parts)
