"""A deep model: equal layers share kernels, and a comment in its source costs nothing."""

import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import diagc
from diagc import debug

SOURCE = """
import torch
from torch import nn
from transformers import BertConfig, BertModel

class Model(nn.Module):
    def __init__(self, attention):
        super().__init__()
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=50, hidden_size=64, num_hidden_layers=12, num_attention_heads=2,
            intermediate_size=128, attn_implementation=attention,
        )
        self.model = BertModel(config, add_pooling_layer=False)

    def forward(self, tokens, mask):
        return self.model(input_ids=tokens, attention_mask=mask).last_hidden_state
"""
COUNT = itertools.count()


@pytest.fixture
def fresh_cache(tmp_path: Path) -> Iterator[None]:
    with debug.CACHE_DIR.override(tmp_path / "cache"):
        yield


def model(path: Path, source: str, attention: str) -> nn.Module:
    """An instance of the class of a file that is written and imported."""
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(f"bert_{next(COUNT)}", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: nn.Module = module.Model(attention).eval()
    return made


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(0, 50, (2, 24), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(24)[None, :] < torch.tensor([[24], [17]])).long()
    return tokens, mask


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_twelve_layers_are_four_kernels_and_a_comment_misses_none(
    attention: str, tmp_path: Path, fresh_cache: None
) -> None:
    bert = model(tmp_path / "bert.py", SOURCE, attention)
    compiled = diagc.compile(bert, *inputs())
    names = {kernel.name for kernel in compiled.kernels}
    assert len(names) <= 4, sorted(names)
    assert {kernel.cache for kernel in compiled.kernels} == {"miss"}
    torch.testing.assert_close(compiled(*inputs()), bert(*inputs()), rtol=1e-4, atol=1e-4)
    commented = "# a comment\n" + SOURCE.replace("        return", "        # hm\n        return")
    again = diagc.compile(model(tmp_path / "bert.py", commented, attention), *inputs())
    assert {kernel.cache for kernel in again.kernels} <= {"hit", "memory"}
    assert "cache" in again.program.report.seconds  # the whole program, without a pass
