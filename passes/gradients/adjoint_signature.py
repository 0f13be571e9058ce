"""The signature of a function that is differentiated: names, cotangent arguments, gradients."""

from collections.abc import Sequence

from diagc.dialects import diag
from diagc.errors import PassError
from diagc.mlir import ir

__all__ = ["Signature"]

Facts = dict[str, ir.Attribute]


class Signature:
    """Arguments and results of a function of one block, with their attributes.

    Args:
        function: a func.func.
    """

    def __init__(self, function: ir.Operation) -> None:
        self._function = function
        self._block = diag.function_body(function)
        self._return = list(self._block.operations)[-1].operation
        self._inputs = self._facts("arg_attrs", len(self._block.arguments), "arg")
        self._outputs = self._facts("res_attrs", len(self._return.operands), "result")

    def _facts(self, attribute: str, number: int, prefix: str) -> list[Facts]:
        """The attributes of each argument or result, each with a name."""
        known = self._function.attributes
        found = known[attribute] if attribute in known else [ir.DictAttr.get({})] * number
        return [
            {"diag.name": ir.StringAttr.get(f"{prefix}{i}"), **_entries(ir.DictAttr(facts))}
            for i, facts in enumerate(found)
        ]

    def wanted(self, names: Sequence[str]) -> list[ir.Value]:
        """The arguments of these names, in that order; for no names all that hold floats.

        Raises:
            PassError: no such argument, one of several of that name, or one that holds no floats.
        """
        if len(set(map(_name, self._inputs))) < len(self._inputs) and names:
            raise PassError("arguments share a name, so that 'wrt' cannot tell them apart")
        arguments = {_name(f): a for f, a in zip(self._inputs, self._block.arguments, strict=True)}
        floats = {name: a for name, a in arguments.items() if _holds_floats(a)}
        for name in names:
            if name not in floats:
                wrong = "holds no floats" if name in arguments else "is no argument"
                raise PassError(
                    f"'{name}' in option 'wrt' of pass 'differentiate' {wrong}",
                    expected=", ".join(floats) or "a function of float wires",
                    found=f"'{name}'",
                )
        return [floats[name] for name in names or floats]

    def add_cotangents(self) -> list[ir.Value | None]:
        """A new argument for every result that holds floats, else None."""
        found: list[ir.Value | None] = []
        for result, facts in zip(self._return.operands, self._outputs, strict=True):
            if not _holds_floats(result):
                found.append(None)
                continue
            found.append(self._block.add_argument(result.type, self._return.location))
            self._inputs.append({**_derived(facts), "diag.kind": ir.StringAttr.get("user")})
        return found

    def take(self, saved: Sequence[ir.Value]) -> None:
        """A new argument in the place of each of these values."""
        for number, value in enumerate(saved):
            argument = self._block.add_argument(value.type, self._return.location)
            value.replace_all_uses_with(argument)
            facts = {"diag.name": f"saved{number}", "diag.kind": "user"}
            self._inputs.append({key: ir.StringAttr.get(text) for key, text in facts.items()})

    def give(self, gradients: Sequence[ir.Value], arguments: Sequence[ir.Value]) -> None:
        """Return the gradients of these arguments instead of the results."""
        with ir.InsertionPoint(self._return), self._return.location:
            ir.Operation.create("func.return", operands=list(gradients))
        self._return.erase()
        numbers = [ir.BlockArgument(argument).arg_number for argument in arguments]
        types = [argument.type for argument in self._block.arguments]
        results = [gradient.type for gradient in gradients]
        attributes = self._function.attributes
        attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(types, results))
        attributes["arg_attrs"] = _array(self._inputs)
        attributes["res_attrs"] = _array([_derived(self._inputs[n]) for n in numbers])


def _entries(facts: ir.DictAttr) -> Facts:
    return {name: facts[name] for name in (entry.name for entry in facts)}


def _name(facts: Facts) -> str:
    return str(ir.StringAttr(facts["diag.name"]).value)


def _derived(facts: Facts) -> Facts:
    """Name and dimensions of the cotangent."""
    kept = {key: value for key, value in facts.items() if key == "diag.dims"}
    return {**kept, "diag.name": ir.StringAttr.get(f"d_{_name(facts)}")}


def _holds_floats(value: ir.Value) -> bool:
    return diag.is_wire(value.type) and diag.is_float(diag.element_type(value))


def _array(facts: Sequence[Facts]) -> ir.ArrayAttr:
    return ir.ArrayAttr.get([ir.DictAttr.get(entry) for entry in facts])
