"""Properties of the text front end: no input makes it crash, and printing is its inverse."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from diagc.context import make_context
from diagc.errors import DiagcError
from diagc.frontend.text import parse
from diagc.frontend.text.printer import print_module
from diagc.mlir import ir

CONTEXT = make_context()
EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").glob("*.diag"))

AXES = {"q": None, "x": None, "d": 4, "e": 4, "n": 6, "m": 3, "h": 2}
HEADER = "axis " + ", ".join(f"{a} = {s}" if s else a for a, s in AXES.items())
VOCABULARY = [
    *("axis", "diagram", "return", "map", "over", "along", "where", "eps", "acc", "as", "inside"),
    *("and", "or", "not", "true", "inf", "nan", "f32", "bf16", "i1", "index", "i32"),
    *("q", "x", "d", "e", "n", "m", "h", "A", "B", "M", "S", "T"),
    *("exp", "softmax", "l2", "sum", "mean", "max", "concat", "pad", "sigmoid", "any"),
    *("0", "1", "2", "0.5", "1e-6", "9e9", "99999999999999999999"),
    *("->", "<=", "==", "**", "-", "+", "*", "/", "%", "<", "=", "(", ")", "{", "}", "[", "]"),
    *(":", ",", ".", ";", "\n", "#", "//", "$", "é", '"'),
]
ROBUST = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)


def generic(module: ir.Module) -> str:
    """Give a module as text without locations and names."""
    return str(module.operation.get_asm(print_generic_op_form=True))


def parses_or_explains(text: str) -> None:
    error = refusal(text)
    event("parses" if error is None else type(error).__name__)
    if error is None:
        return
    assert error.location is not None, error
    assert error.location.file == "soup.diag"
    rendered = error.render()
    assert "Traceback" not in rendered
    assert "crashed" not in rendered
    first = error.summary[0]
    assert first.islower() or not first.isalpha(), error.summary


def refusal(text: str) -> DiagcError | None:
    try:
        parse(text, "soup.diag", CONTEXT)
    except DiagcError as error:
        return error
    return None


@given(st.text())
@ROBUST
def test_any_text_parses_or_is_explained(text: str) -> None:
    parses_or_explains(text)


@given(st.lists(st.sampled_from(VOCABULARY), max_size=60).map(" ".join))
@ROBUST
def test_token_soup_parses_or_is_explained(text: str) -> None:
    parses_or_explains(text)


@given(st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join))
@ROBUST
def test_soup_in_a_diagram_parses_or_is_explained(soup: str) -> None:
    wires = "A: q d, B: x d, M: q x i1, S: q x, T: n bf16"
    parses_or_explains(f"{HEADER}\ndiagram f({wires}) {{\n  Y = {soup}\n  return Y\n}}\n")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@given(data=st.data())
@settings(ROBUST, max_examples=40)
def test_damaged_examples_parse_or_are_explained(path: Path, data: st.DataObject) -> None:
    text = path.read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 8)))
    patch = data.draw(st.sampled_from(["", *VOCABULARY]))
    parses_or_explains(text[:start] + patch + text[end:])


class DiagramWriter:
    """Draws the text of a valid diagram, statement by statement."""

    def __init__(self, data: st.DataObject) -> None:
        self._draw: Any = data.draw
        self.lines: list[str] = []
        self.wires: dict[str, tuple[tuple[str, ...], str]] = {}

    def text(self) -> str:
        for name in "ABCD"[: self._draw(st.integers(1, 4))]:
            labels = self._draw(st.lists(st.sampled_from(sorted(AXES)), unique=True, max_size=3))
            dtype = self._draw(st.sampled_from(["f32", "f32", "bf16", "f16", "f64", "i32", "i1"]))
            self.wires[name] = (tuple(labels), dtype)
        params = ", ".join(f"{n}: {' '.join([*ls, t])}" for n, (ls, t) in self.wires.items())
        for number in range(self._draw(st.integers(1, 6))):
            self._statement(f"v{number}")
        outputs = self._draw(st.lists(st.sampled_from(sorted(self.wires)), min_size=1, max_size=3))
        body = "\n".join(f"  {line}" for line in self.lines)
        return f"{HEADER}\ndiagram f({params}) {{\n{body}\n  return {', '.join(outputs)}\n}}\n"

    def _statement(self, name: str) -> None:
        kinds = [self._map, self._map, self._contract, self._reduce, self._normalize, self._index]
        kinds += [self._cast, self._constant, self._pad]
        made = self._draw(st.sampled_from(kinds))()
        if made is not None:
            labels, dtype, expression = made
            self.wires[name] = (labels, dtype)
            self.lines.append(f"{name} = {expression}")

    def _pick(self, *dtypes: str) -> str | None:
        names = [n for n, (_, dtype) in self.wires.items() if dtype in dtypes]
        return self._draw(st.sampled_from(names)) if names else None

    def _float(self) -> str | None:
        return self._pick("f32", "bf16", "f16", "f64")

    def _labels_of(self, name: str) -> st.SearchStrategy[list[str]]:
        return st.lists(st.sampled_from(self.wires[name][0]), unique=True, min_size=1)

    def _contract(self) -> tuple[tuple[str, ...], str, str] | None:
        left, right = self._float(), self._float()
        if left is None or right is None:
            return None
        (llabels, ltype), (rlabels, rtype) = self.wires[left], self.wires[right]
        shared = [label for label in llabels if label in rlabels]
        over = self._draw(st.lists(st.sampled_from(shared), unique=True)) if shared else []
        joined = dict.fromkeys([*llabels, *rlabels])
        free = tuple(label for label in joined if label not in over)
        acc = self._draw(st.sampled_from(["", " acc f64"]))
        order = ("bf16", "f16", "f32", "f64")
        dtype = max(ltype, rtype, key=order.index)
        if {ltype, rtype} == {"bf16", "f16"}:
            dtype = "f32"
        return free, dtype, f"{left} . {right} over {' '.join(over) or '()'}{acc}"

    def _reduce(self) -> tuple[tuple[str, ...], str, str] | None:
        name = self._draw(st.sampled_from(sorted(self.wires)))
        labels, dtype = self.wires[name]
        if not labels:
            return None
        kinds = {"i1": ["any", "all"], "i32": ["sum", "max"]}
        kind = self._draw(st.sampled_from(kinds.get(dtype, ["sum", "mean", "max", "min", "prod"])))
        over = self._draw(self._labels_of(name))
        rest = tuple(label for label in labels if label not in over)
        return rest, dtype, f"{kind}({name}) over {' '.join(over)}"

    def _normalize(self) -> tuple[tuple[str, ...], str, str] | None:
        name = self._float()
        if name is None or not self.wires[name][0]:
            return None
        kind = self._draw(st.sampled_from(["softmax", "l2", "relu_sum", "rms", "layer"]))
        clauses = ["", " eps 1e-5", " eps 1e-5 inside", " eps 0.1 outside"]
        clause = self._draw(st.sampled_from(clauses))
        masks = [
            n
            for n, (ls, t) in self.wires.items()
            if t == "i1" and set(ls) <= set(self.wires[name][0])
        ]
        if masks and self._draw(st.booleans()):
            clause = f" where ({self._draw(st.sampled_from(masks))}){clause}"
        along = " ".join(self._draw(self._labels_of(name)))
        return (*self.wires[name], f"{kind}({name}) along {along}{clause}")

    def _index(self) -> tuple[tuple[str, ...], str, str] | None:
        names = [n for n, (ls, _) in self.wires.items() if "n" in ls and "m" not in ls]
        if not names:
            return None
        name = self._draw(st.sampled_from(names))
        labels, dtype = self.wires[name]
        new = tuple("m" if label == "n" else label for label in labels)
        position = self._draw(st.sampled_from(["2 * m", "m * 2 + 1", "5 - m", "(m + 7) / 2 % 6"]))
        return new, dtype, f"{name}[n = {position}]"

    def _cast(self) -> tuple[tuple[str, ...], str, str]:
        name = self._draw(st.sampled_from(sorted(self.wires)))
        dtype = self._draw(st.sampled_from(["f32", "bf16", "f64", "i32", "index", "i64"]))
        return self.wires[name][0], dtype, f"{dtype}({name})"

    def _constant(self) -> tuple[tuple[str, ...], str, str]:
        value = self._draw(st.floats(width=32))
        name = f"c{len(self.lines)}"
        self.lines.append(f"{name}: m = [{value}, 1, -2.5e-3]")
        return ("m",), "f32", name

    def _pad(self) -> tuple[tuple[str, ...], str, str] | None:
        names = [
            n
            for n, (ls, t) in self.wires.items()
            if "h" in ls and "d" not in ls and not t.startswith("i")
        ]
        if not names:
            return None
        name = self._draw(st.sampled_from(names))
        labels, dtype = self.wires[name]
        new = tuple("d" if label == "h" else label for label in labels)
        return new, dtype, f"pad({name}, 1, 1, -inf) along h as d"

    def _map(self) -> tuple[tuple[str, ...], str, str]:
        text, dtype = self._number(3)
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        labels = tuple(self._axes_of(text))
        self.wires[name] = (labels, dtype)
        if self._draw(st.booleans()):
            condition = f"{name} > 0.5 and not {name} == 2"
            return labels, "i1", condition
        return labels, dtype, f"where({name} < 1, {name}, {name} * 2)"

    def _axes_of(self, text: str) -> dict[str, None]:
        """Give the union of labels in order of appearance, as the language does."""
        found: dict[str, None] = {}
        for word in text.replace("(", " ").replace(")", " ").replace(",", " ").split():
            labels = self.wires[word][0] if word in self.wires else ()
            found |= dict.fromkeys((word,) if word in AXES else labels)
        return found

    def _number(self, depth: int) -> tuple[str, str]:
        """Draw an f32 expression with at least one wire."""
        kind = self._draw(st.integers(0, 6)) if depth else 0
        if kind <= 1:
            name = self._draw(st.sampled_from(sorted(n for n, (_, t) in self.wires.items())))
            return f"f32({name})", "f32"
        first, _ = self._number(depth - 1)
        if kind == 2:
            function = self._draw(st.sampled_from(["exp", "silu", "gelu", "abs", "square", "tanh"]))
            return f"{function}({first})", "f32"
        if kind == 3:
            literal = self._draw(st.floats(width=32, allow_nan=False))
            sign = self._draw(st.sampled_from(["+", "-", "*", "/", "%"]))
            return f"({first} {sign} {literal})", "f32"
        if kind == 4:
            axis = self._draw(st.sampled_from(sorted(AXES)))
            return f"where( {axis} % 2 == 0, {first}, -({first}) ** 2)", "f32"
        second, _ = self._number(depth - 1)
        sign = self._draw(st.sampled_from(["+", "-", "*", "/"]))
        if kind == 5:
            return f"({first} {sign} {second})", "f32"
        return f"max({first}, {second})", "f32"


@given(st.data())
@settings(ROBUST, max_examples=200)
def test_printing_is_the_inverse_of_parsing(data: st.DataObject) -> None:
    text = DiagramWriter(data).text()
    module = parse(text, "drawn.diag", CONTEXT)
    printed = print_module(module)
    again = parse(printed, "printed.diag", CONTEXT)
    assert generic(again) == generic(module), f"{text}\n{printed}"
    assert print_module(again) == printed
