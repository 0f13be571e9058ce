"""Ops as statements of the language, one line each; regions below their op."""

from collections.abc import Callable, Iterable, Sequence

from diagc.dialects import diag
from diagc.frontend.text.print_arrays import affine_text, table_text
from diagc.frontend.text.print_names import Names
from diagc.frontend.text.print_scalars import literal_text, map_text
from diagc.mlir import ir

__all__ = ["WIDTH", "BodyPrinter", "dtype_text", "remark_lines", "type_text", "wrapped"]

WIDTH = 100


def wrapped(head: str, items: Sequence[str], tail: str) -> list[str]:
    """Put items between brackets on one line, or one a line where that is too long."""
    line = f"{head}{', '.join(items)}{tail}"
    if len(line) <= WIDTH or not items:
        return [line]
    *most, last = items
    return [head, *(f"    {item}," for item in most), f"    {last}{tail}"]


def dtype_text(type_: ir.Type) -> list[str]:
    """Give the element type of a wire, or nothing for f32, which every wire is by default."""
    element = diag.element_type(type_)
    plain = isinstance(element, ir.F32Type) and diag.labels(type_)
    return [] if plain else [str(element)]


def type_text(type_: ir.Type) -> str:
    """Give a wire type as the language writes it, any other type as MLIR does."""
    if not diag.is_wire(type_):
        return str(type_)
    return " ".join([*diag.labels(type_), *dtype_text(type_)])


def remark_lines(name: str, attr: ir.Attribute) -> list[str]:
    """Give a fact as comments: a list of strings or remarks takes a line for each."""
    parts = list(attr) if isinstance(attr, ir.ArrayAttr) else [attr]
    parts = [p["text"] if isinstance(p, ir.DictAttr) and "text" in p else p for p in parts]
    if not all(isinstance(part, ir.StringAttr) for part in parts):
        return [f"// {name}: {attr}"]
    return [f"// {name}: {part.value}" for part in parts]


class BodyPrinter:
    """The ops of a block, one statement each."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def wire(self, value: ir.Value) -> str:
        """Give the name of a value; positions along an axis are called like the axis."""
        owner = value.owner
        if not isinstance(owner, ir.Block) and owner.operation.name == "diag.index":
            return ir.StringAttr(owner.operation.attributes["axis"]).value
        return self._names.of(value)

    def wires(self, values: Iterable[ir.Value]) -> str:
        """Give several names, separated by commas."""
        return ", ".join(self.wire(value) for value in values)

    def operation(self, op: ir.Operation) -> list[str]:
        """Give the lines of one op."""
        match op.name:
            case "diag.index":
                return []
            case "arith.constant" if not diag.is_wire(op.results[0].type):
                return []
            case "func.return":
                return [f"return {self.wires(op.operands)}".rstrip()]
            case "diag.yield":
                return [f"yield {self.wires(op.operands)}"]
            case "diag.stream":
                return self._stream(op)
        expression = _EXPRESSIONS.get(op.name, BodyPrinter._foreign)
        first, *rest = expression(self, op).split("\n")
        return [f"{self._results(op)}{first}", *rest, *self._nested(op)]

    def _results(self, op: ir.Operation) -> str:
        typed = [f"{self.wire(r)}: {self._result_type(op, r.type)}" for r in op.results]
        return ", ".join(typed) + (" = " if typed else "")

    @staticmethod
    def _result_type(op: ir.Operation, type_: ir.Type) -> str:
        """Give a type; f32 is said where the operands would make it something else."""
        text = type_text(type_)
        inferring = op.name in ("diag.contract", *diag.NORMALIZER_OPS)
        if inferring and not dtype_text(type_) and _operand_types(op) != {"f32"}:
            return f"{text} f32"
        return text

    def _contract(self, op: ir.Operation) -> str:
        over = " ".join(diag.strings(op.attributes["over"])) or "()"
        acc = f" acc {op.attributes['acc'].value}" if "acc" in op.attributes else ""
        return f"{self.wire(op.operands[0])} . {self.wire(op.operands[1])} over {over}{acc}"

    def _reduce(self, op: ir.Operation) -> str:
        name = _REDUCTION_NAMES.get(op.attributes["kind"].value, "reduce")
        return f"{name}({self.wires(op.operands)}) over {_words(op, 'over')}"

    def _normalize(self, op: ir.Operation) -> str:
        kind = op.attributes["kind"].value.replace("-", "_")
        wires = self.wires([op.operands[0], *diag.parameters_of(op)])
        text = f"{kind}({wires}) along {_words(op, 'along')}"
        keep = diag.mask_of(op)
        if keep is not None:
            text += f" where {self.wire(keep)}"
        if "eps" in op.attributes:
            text += f" eps {float(op.attributes['eps'].value)!r}"
            place = op.attributes["eps_place"].value if "eps_place" in op.attributes else ""
            text += f" {place}" if place else ""
        return text

    def _relabel(self, op: ir.Operation) -> str:
        old, new = diag.strings(op.attributes["from"]), diag.strings(op.attributes["to"])
        renames = ", ".join(f"{a} -> {b}" for a, b in zip(old, new, strict=True))
        return f"{self.wire(op.operands[0])}[{renames}]"

    def _reindex(self, op: ir.Operation) -> str:
        results = diag.labels(op.results[0])
        texts = [affine_text(expr, results) for expr in op.attributes["map"].value.results]
        axes = zip(diag.labels(op.operands[0]), texts, strict=True)
        moved = ", ".join(f"{axis} = {text}" for axis, text in axes if axis != text)
        return f"{self.wire(op.operands[0])}[{moved}]"

    def _constant(self, op: ir.Operation) -> str:
        return table_text(op.attributes["value"])

    def _concat(self, op: ir.Operation) -> str:
        axes = " ".join(diag.strings(op.attributes["axes"]))
        return f"concat({self.wires(op.operands)}) along {axes} as {op.attributes['to'].value}"

    def _pad(self, op: ir.Operation) -> str:
        low, high = op.attributes["low"].value, op.attributes["high"].value
        fill = literal_text(op.attributes["value"])
        axes = f"along {op.attributes['axis'].value} as {op.attributes['to'].value}"
        return f"pad({self.wire(op.operands[0])}, {low}, {high}, {fill}) {axes}"

    def _map(self, op: ir.Operation) -> str:
        return map_text(op, self._names, self.wire)

    def _chunk(self, op: ir.Operation) -> str:
        return f"chunk({self.wires(op.operands)})"

    def _call(self, op: ir.Operation) -> str:
        return f"call {op.attributes['callee'].value}({self.wires(op.operands)})"

    def _foreign(self, op: ir.Operation) -> str:
        """Show an op that the language has no words for."""
        attributes = ", ".join(f"{name} = {op.attributes[name]}" for name in op.attributes)
        facts = f" {{{attributes}}}" if attributes else ""
        return f'"{op.name}"({self.wires(op.operands)}){facts}'

    def _nested(self, op: ir.Operation) -> list[str]:
        if op.name == "diag.map":
            return []
        regions = [self._region("region", region) for region in op.regions]
        return [f"  {line}" for lines in regions for line in lines]

    def _stream(self, op: ir.Operation) -> list[str]:
        names = ("init", "body", "combine", "tail")
        regions = zip(names, op.regions, strict=True)
        lines = [line for name, region in regions for line in self._region(name, region)]
        head = f"{self._results(op)}stream {op.attributes['axis'].value}"
        if len(op.operands):
            head += f" where {self.wire(op.operands[0])}"
        if "properties" in op.attributes:
            head += f" {_words(op, 'properties')}"
        laws = remark_lines("law", op.attributes["law"]) if "law" in op.attributes else []
        return [f"{head} {{", *(f"  {line}" for line in [*laws, *lines]), "}"]

    def _region(self, name: str, region: ir.Region) -> list[str]:
        if not len(region.blocks):
            return []
        block = region.blocks[0]
        params = [f"{self.wire(a)}: {type_text(a.type)}" for a in block.arguments]
        ops = [op.operation for op in block.operations]
        lines = [line for op in ops if op.name != "diag.yield" for line in self.operation(op)]
        yielded = [op.operands[0] for op in ops if op.name == "diag.yield"]
        head = wrapped(f"{name}(", params, ") {") if params else [f"{name} {{"]
        if yielded:
            lines.append(f"yield {self.wires(yielded)}")
        return [*head, *(f"  {line}" for line in lines), "}"]


def _operand_types(op: ir.Operation) -> set[str]:
    values = op.operands if op.name == "diag.contract" else [op.operands[0]]
    return {str(diag.element_type(value)) for value in values}


def _words(op: ir.Operation, attribute: str) -> str:
    return " ".join(diag.strings(op.attributes[attribute]))


_REDUCTION_NAMES = {
    "add": "sum",
    "mul": "prod",
    "max": "max",
    "min": "min",
    "or": "any",
    "and": "all",
}

_EXPRESSIONS: dict[str, Callable[[BodyPrinter, ir.Operation], str]] = {
    "diag.contract": BodyPrinter._contract,
    "diag.reduce": BodyPrinter._reduce,
    "diag.normalize": BodyPrinter._normalize,
    "diag.normalize_with": BodyPrinter._normalize,
    "diag.relabel": BodyPrinter._relabel,
    "diag.reindex": BodyPrinter._reindex,
    "diag.constant": BodyPrinter._constant,
    "diag.concat": BodyPrinter._concat,
    "diag.pad": BodyPrinter._pad,
    "diag.map": BodyPrinter._map,
    "diag.chunk": BodyPrinter._chunk,
    "func.call": BodyPrinter._call,
}
