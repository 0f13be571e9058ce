"""The examples of dialects/README.md verify, and it describes every op."""

import re
from pathlib import Path

import pytest

from diagc.context import make_context
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.normalizers import register_normalizer
from diagc.scalars import exp

TEXT = (Path(__file__).resolve().parents[3] / "dialects" / "README.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```mlir\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)

_USE = re.compile(r'"diag\.\w+"\((?P<names>%[^)]+)\).*? : \((?P<types>.*)\) ->')
_DEFINED = re.compile(r"^\s*(%\w+) =|(%\w+): tensor", re.MULTILINE)


def function(example: str) -> str:
    """Put an example in a function whose arguments are the wires that it uses."""
    defined = {name for pair in _DEFINED.findall(example) for name in pair}
    arguments: dict[str, str] = {}
    for match in _USE.finditer(example):
        types = re.split(r", (?=tensor|f32)", match["types"])
        arguments |= dict(zip(match["names"].split(", "), types, strict=True))
    free = [f"{name}: {type_}" for name, type_ in arguments.items() if name not in defined]
    return f"func.func @example({', '.join(free)}) {{\n{example}  return\n}}"


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split('"')[1])
def test_an_example_verifies(example: str) -> None:
    register_normalizer("sink", exp, [exp], lambda z, s: z + exp(s), params={"s": "h"})
    with make_context():
        module = ir.Module.parse(function(example))
        diag.verify_labels(module)
        assert module.operation.verify()


def test_every_op_is_described_with_an_example() -> None:
    classes = {name for name in diag.__all__ if name.endswith("Op") and name != "DiagOp"}
    words = {name: re.findall(r"[A-Z][a-z]*", name.removesuffix("Op")) for name in classes}
    names = {f"diag.{'_'.join(parts).lower()}" for parts in words.values()}
    shown = "".join(EXAMPLES)
    assert {name for name in names if f'"{name}"' not in shown} == set()
