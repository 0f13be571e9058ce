"""Every example runs through both importers and equals eager torch."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import diagc

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
PROGRAMS = [
    ("spherical_attention", "spherical_attention"),
    ("softmax_causal", "causal_attention"),
    ("encoder_layer", "encoder_layer"),
    ("bert", "bert_eager"),
    ("bert", "bert_sdpa"),
]


def load(file: str) -> Any:
    spec = importlib.util.spec_from_file_location(file, EXAMPLES / f"{file}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_examples_are_tested() -> None:
    assert {file for file, _ in PROGRAMS} == {path.stem for path in EXAMPLES.glob("*.py")}


@pytest.mark.slow
@pytest.mark.parametrize("importer", ["torch-mlir", "fx"])
@pytest.mark.parametrize(("file", "name"), PROGRAMS)
@torch.no_grad()
def test_example_equals_eager(file: str, name: str, importer: str) -> None:
    module = load(file)
    inputs = module.example_inputs()
    function = getattr(module, name)
    if file in ("encoder_layer", "bert"):
        function = function()
    compiled = diagc.compile(function, *inputs, importer=importer)
    assert not json.loads(compiled.explain("json"))["fall_back"]
    torch.testing.assert_close(compiled(*inputs), function(*inputs), rtol=1e-4, atol=1e-4)
