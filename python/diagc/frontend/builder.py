"""Diagrams written in Python: wires with named axes, operators, and lambdas on scalars.

>>> from diagc.frontend.builder import Diagram
>>> with Diagram("spherical") as g:
...     Q, K, V = g.input("Q", q=..., d=64), g.input("K", x=..., d=64), g.input("V", x=..., e=64)
...     P = Q.contract(K, over="d").normalize("l2", along="x")
...     g.output(P @ V)
>>> g.module                                          # doctest: +SKIP
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import EllipsisType
from typing import Any, NoReturn, Self

from diagc.context import make_context
from diagc.dialects import diag
from diagc.errors import UserError, VerificationError
from diagc.frontend.affine_positions import emit_reindex
from diagc.frontend.call_site import call_site
from diagc.frontend.elementwise import emit_map
from diagc.frontend.function_builder import FunctionBuilder
from diagc.frontend.functions import ARITY, build
from diagc.frontend.reductions import REDUCTIONS, emit_reduction
from diagc.frontend.scalar_types import ELEMENT_TYPES, element_type
from diagc.frontend.scalars import Arithmetic, Number, Scalar, leaf, literal
from diagc.frontend.verification import verify
from diagc.mlir import ir

__all__ = ["Diagram", "Wire", "fn"]

Size = int | EllipsisType | None
"""A static size, or `...` or None for a size at run time."""
Labels = str | Sequence[str]
"""Axis names: `"h d"` or `("h", "d")`."""


class Diagram:
    """One diagram under construction; ops are made inside its `with` block.

    Every op carries the place in the user's file that made it. All errors are `DiagcError`s that
    name the axis, what was expected, and what was found.
    """

    def __init__(self, name: str = "main", *, context: ir.Context | None = None) -> None:
        """Name the function to be; `context` is where the module lives, a fresh one by default."""
        self.name = name
        self.axes: dict[str, int] = {}
        self._context = context or make_context()
        self._scopes = ExitStack()
        self._outputs: list[tuple[str, ir.Value]] = []
        self._module: ir.Module | None = None
        self._indices: dict[str, Wire] = {}

    def __enter__(self) -> Self:
        """Start the function."""
        enter = self._scopes.enter_context
        enter(self._context)
        here = call_site()
        enter(here)
        self._module = ir.Module.create(loc=here)
        with ir.InsertionPoint(self._module.body):
            self._function = FunctionBuilder(self.name, call_site(self.name))
        enter(self._function.insertion_point)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Return the outputs and verify, unless an exception is on its way."""
        with self._scopes:
            if kind is not None:
                self._module = None
                return
            if not self._outputs:
                raise UserError(
                    f"diagram '{self.name}' has no output",
                    location=call_site(),
                    remedy="call g.output(wire)",
                )
            groups = [None] * len(self._outputs)
            self._function.finish(self._outputs, groups, call_site("return"))
            verify(self.module)

    @property
    def module(self) -> ir.Module:
        """The finished module, with one public function.

        Raises:
            UserError: the `with` block was not entered, or it failed.
        """
        if self._module is None:
            raise UserError(f"diagram '{self.name}' was not finished")
        return self._module

    # ---- wires without operands ----------------------------------------------------------------

    def input(self, name: str, dtype: str = "f32", /, **axes: Size) -> "Wire":
        """Add an argument with axes in memory order: `g.input("Q", "bf16", q=..., d=64)`."""
        with checked():
            sizes = {label: self._declare(label, size) for label, size in axes.items()}
            type_ = diag.wire(sizes, _element(dtype))
            return Wire(self, self._function.add_input(name, type_, call_site(name)))

    def _declare(self, label: str, size: Size) -> int:
        """Give the size of an axis, which is one and the same everywhere in the diagram."""
        if isinstance(size, int) and size < 0 and size != diag.DYNAMIC:
            raise VerificationError(
                f'axis "{label}" has a negative size',
                location=call_site(),
                expected="at least 0, or ... for one that is known at run time",
                found=size,
            )
        found = size if isinstance(size, int) else diag.DYNAMIC
        known = self.axes.setdefault(label, found)
        if known != found:
            shown = ["..." if s == diag.DYNAMIC else s for s in (known, found)]
            raise VerificationError(
                f'axis "{label}" has another size already',
                location=call_site(),
                expected=shown[0],
                found=shown[1],
                remedy="give a different axis a name of its own",
            )
        return found

    def index(self, axis: str) -> "Wire":
        """Give the positions along a declared axis, for masks and biases."""
        if axis not in self.axes:
            fail(f'unknown axis "{axis}"', expected=f"one of {' '.join(self.axes) or 'none'}")
        if axis not in self._indices:
            value = diag.index(axis, self.axes[axis], loc=call_site(f"{axis}_index"))
            self._indices[axis] = Wire(self, value)
        return self._indices[axis]

    def constant(self, value: Number, dtype: str = "f32") -> "Wire":
        """Give a number as a wire without axes; numbers in expressions need no such call."""
        with checked():
            tree = literal(value).cast(_element(dtype))
            return Wire(self, emit_map(tree, loc=call_site("constant")))

    def map(self, function: Callable[..., Any], *wires: "Wire", dtype: str = "") -> "Wire":
        """Apply a function of scalars elementwise; broadcasting is by label.

        `g.map(lambda s, b: fn.exp(s) + b, S, B)` is one op, whatever the function does.
        """
        with checked():
            tree = literal(function(*(leaf(self.own(wire)) for wire in wires)))
            element = _element(dtype) if dtype else None
            return Wire(self, emit_map(tree, dtype=element, loc=call_site("map")))

    def output(self, *wires: "Wire", **named: "Wire") -> None:
        """Add results, in order; keywords name them."""
        for number, wire in enumerate(wires, len(self._outputs)):
            self._outputs.append((f"out{number}", self.own(wire)))
        self._outputs += [(name, self.own(wire)) for name, wire in named.items()]

    def own(self, wire: "Wire") -> ir.Value:
        """Give the value of a wire of this diagram.

        Raises:
            UserError: it is none, or of another diagram.
        """
        if not isinstance(wire, Wire):
            fail("not a wire", expected="a wire of this diagram", found=type(wire).__name__)
        if wire.diagram is not self:
            fail(f"a wire of diagram '{wire.diagram.name}' is used in diagram '{self.name}'")
        return wire.value


class Wire(Arithmetic):
    """An array with named axes; operators are elementwise and broadcast by label."""

    def __init__(self, diagram: Diagram, value: ir.Value) -> None:
        """Wrap a value of `diagram`."""
        self.diagram = diagram
        self.value = value

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the axes, in memory order."""
        return diag.labels(self.value)

    def __repr__(self) -> str:
        """Show the type."""
        return f"Wire({self.value.type})"

    def apply(self, name: str, *args: Any) -> "Wire":
        """Build the elementwise operation `name` of the language on wires and numbers."""
        with checked():
            trees = [
                leaf(self.diagram.own(arg)) if isinstance(arg, Wire) else literal(arg)
                for arg in args
            ]
            return self._wire(emit_map(build(name, trees), loc=call_site()))

    def _wire(self, value: ir.Value) -> "Wire":
        self.diagram.axes |= diag.dims(value)
        return Wire(self.diagram, value)

    def named(self, name: str) -> "Wire":
        """Give the op that makes this wire a name, which the IR and messages show."""
        op = self.value.owner
        place = op.location.child_loc if isinstance(op.location, ir.NameLoc) else op.location
        op.location = ir.Location.name(name, place)
        return self

    def contract(self, other: "Wire", over: Labels, *, dtype: str = "", acc: str = "") -> "Wire":
        """Multiply and sum over axes; shared axes that are not summed are woven."""
        with checked():
            rhs = self.diagram.own(other)
            for value, side in ((self.value, "left"), (rhs, "right")):
                _has(value, _split(over), f"contracted axis is missing in the {side} operand")
            types = [_element(name) if name else None for name in (dtype, acc)]
            loc = call_site("contract")
            return self._wire(
                diag.contract(self.value, rhs, _split(over), dtype=types[0], acc=types[1], loc=loc)
            )

    def __matmul__(self, other: "Wire") -> "Wire":
        """Contract the last axis of the left operand, which the right one must have."""
        if not self.labels:
            fail("'@' needs an axis to contract", found="a wire without axes")
        return self.contract(other, self.labels[-1:])

    def normalize(
        self,
        kind: str,
        along: Labels,
        *,
        keep: "Wire | None" = None,
        eps: float | None = None,
        eps_place: str | None = None,
        params: "Mapping[str, Wire] | None" = None,
    ) -> "Wire":
        """Normalise along axes; positions where `keep` is false are excluded.

        Args:
            kind: name of the normaliser.
            along: the axes.
            keep: boolean wire.
            eps: added to the statistic.
            eps_place: "inside" its root, or "outside".
            params: the parameters of a registered normaliser, by name.
        """
        with checked():
            if kind not in diag.registered_kinds():
                known = ", ".join(diag.registered_kinds())
                fail(f"unknown normaliser '{kind}'", expected=f"one of {known}")
            _has(self.value, _split(along), "normalised axis is missing in the operand")
            return self._wire(
                diag.normalize(
                    self.value,
                    _split(along),
                    kind,
                    keep=None if keep is None else self.diagram.own(keep),
                    parameters=self._parameters(kind, params or {}),
                    eps=eps,
                    eps_place=eps_place,
                    loc=call_site(kind.replace("-", "_")),
                )
            )

    def _parameters(self, kind: str, params: "Mapping[str, Wire]") -> list[ir.Value]:
        """The parameters of a normaliser in its order, which have the axes it declares."""
        declared = diag.kind_parameters(kind)
        if set(params) != set(declared):
            expected, found = (", ".join(names) or "none" for names in (declared, params))
            fail(f"wrong parameters for '{kind}'", expected=expected, found=found)
        values = {name: self.diagram.own(params[name]) for name in declared}
        for name, axes in declared.items():
            labels = diag.labels(values[name])
            if set(labels) != set(axes):
                expected, found = (" ".join(a) or "none" for a in (axes, labels))
                what = f"parameter '{name}' of '{kind}' has other axes"
                fail(what, expected=expected, found=found)
        return list(values.values())

    def reduce(self, kind: str, over: Labels) -> "Wire":
        """Reduce axes; `kind` is sum, prod, max, min, any, all or mean."""
        with checked():
            if kind not in REDUCTIONS:
                fail(f"unknown reduction '{kind}'", expected=f"one of {', '.join(REDUCTIONS)}")
            _has(self.value, _split(over), "reduced axis is missing in the operand")
            return self._wire(emit_reduction(kind, self.value, _split(over), call_site(kind)))

    def sum(self, over: Labels) -> "Wire":
        """Sum over axes."""
        return self.reduce("sum", over)

    def mean(self, over: Labels) -> "Wire":
        """Average over axes."""
        return self.reduce("mean", over)

    def max(self, over: Labels) -> "Wire":
        """Give the maximum over axes."""
        return self.reduce("max", over)

    def min(self, over: Labels) -> "Wire":
        """Give the minimum over axes."""
        return self.reduce("min", over)

    def relabel(self, **names: str) -> "Wire":
        """Read the same array under other axis names: `X.relabel(n="m")`."""
        with checked():
            _has(self.value, list(names), "renamed axis is missing in the operand")
            for old, new in names.items():
                self.diagram._declare(new, diag.dims(self.value)[old])
            return self._wire(diag.relabel(self.value, names, loc=call_site("relabel")))

    def reindex(self, positions: Mapping[str, Callable[..., Any]], **sizes: Size) -> "Wire":
        """Gather along affine positions: `X.reindex({"n": lambda m: 2 * m + 1}, m=5)`.

        The parameters of each function are axes of the result; `sizes` declares new ones.
        """
        with checked():
            _has(self.value, list(positions), "indexed axis is missing in the operand")
            for label, size in sizes.items():
                self.diagram._declare(label, size)
            trees = {axis: self._position(function) for axis, function in positions.items()}
            axes = self.diagram.axes
            return self._wire(emit_reindex(self.value, trees, axes, loc=call_site("reindex")))

    def _position(self, function: Callable[..., Any]) -> Scalar:
        labels = list(inspect.signature(function).parameters)
        for label in labels:
            if label not in self.diagram.axes:
                fail(f'unknown axis "{label}"', remedy=f"give its size: {label}=...")
        return literal(function(*(Scalar("leaf", (), label) for label in labels)))

    def cast(self, dtype: str) -> "Wire":
        """Convert to another element type."""
        with checked():
            return self._wire(emit_map(leaf(self.value).cast(_element(dtype)), loc=call_site()))

    def concat(self, other: "Wire", along: Labels, to: str) -> "Wire":
        """Join along an axis of each operand, `"x y"`, into the new axis `to`."""
        with checked():
            rhs, axes = self.diagram.own(other), _split(along)
            sizes = diag.ConcatOp.infer(self.value.type, rhs.type, axes, to)
            self.diagram._declare(to, sizes[to])
            return self._wire(diag.concat(self.value, rhs, axes, to, loc=call_site("concat")))

    def pad(self, axis: str, to: str, low: int, high: int, value: float = 0.0) -> "Wire":
        """Extend an axis by positions that hold `value`; the longer axis is `to`."""
        with checked():
            _has(self.value, [axis], "padded axis is missing in the operand")
            size = diag.dims(self.value)[axis]
            self.diagram._declare(to, size if size == diag.DYNAMIC else size + low + high)
            return self._wire(
                diag.pad(self.value, axis, to, low, high, value, loc=call_site("pad"))
            )


class _Functions:
    """The elementwise functions of the language, on wires and on scalars: `fn.exp(S)`."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Give a function by its name in the language."""
        if name not in ARITY:
            raise AttributeError(f"no elementwise function '{name}'")

        def function(*args: Any) -> Any:
            if len(args) != ARITY[name]:
                fail(
                    f"wrong number of arguments for '{name}'",
                    expected=ARITY[name],
                    found=len(args),
                )
            first = next((arg for arg in args if isinstance(arg, Arithmetic)), None)
            if first is None:
                fail(f"'{name}' takes a wire or a scalar", found="numbers only")
            return first.apply(name, *args)

        return function


fn = _Functions()


@contextmanager
def checked() -> Iterator[None]:
    """Turn broken rules of the dialect into errors at the call of the builder."""
    try:
        yield
    except diag.VerifyError as error:
        raise VerificationError(str(error), location=call_site()) from None


def fail(message: str, **parts: Any) -> NoReturn:
    """Refuse what the user's line asks for."""
    raise VerificationError(message, location=call_site(), **parts)


def _split(labels: Labels) -> list[str]:
    return labels.split() if isinstance(labels, str) else list(labels)


def _has(value: ir.Value, labels: Sequence[str], message: str) -> None:
    for label in labels:
        if label not in diag.labels(value):
            found = " ".join(diag.labels(value)) or "no axes"
            fail(message.replace("axis", f'axis "{label}"', 1), expected=f"one of {found}")


def _element(name: str) -> ir.Type:
    if name not in ELEMENT_TYPES:
        fail(f"unknown element type '{name}'", expected=f"one of {', '.join(ELEMENT_TYPES)}")
    return element_type(name)
