"""Whole models: their own output in float64, no structure lost on the way."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diagc.frontend.torch import ImportedProgram, Parameter, import_torch

Check = Callable[..., ImportedProgram]
Ops = Callable[[ImportedProgram], list[str]]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Libraries warn about themselves."""
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class SelfAttention(nn.Module):
    def __init__(self, need_weights: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x: Tensor) -> Any:
        return self.attention(x, x, x, need_weights=self.need_weights)


@pytest.mark.parametrize("need_weights", [False, True])
def test_multihead_attention(need_weights: bool, check_import: Check, ops: Ops) -> None:
    program = check_import(SelfAttention(need_weights).eval(), torch.randn(2, 16, 32))
    assert not program.externs
    assert ops(program).count("contract") == 4
    assert ops(program).count("normalize") == 1


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_encoder_layer(norm_first: bool, check_import: Check, ops: Ops) -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=norm_first).eval()
    program = check_import(layer, torch.randn(2, 16, 32))
    assert not program.externs
    assert ops(program).count("contract") == 6
    assert ops(program).count("normalize") == 3


def test_heads_reach_the_weights() -> None:
    program = import_torch(SelfAttention(False).eval(), (torch.randn(2, 16, 32),))
    weight = next(p for p in program.parameters if isinstance(p, Parameter))
    assert weight.name == "attention.in_proj_weight"
    assert "tensor<3x4x8x32xf32" in str(program.module)  # q, k, v; heads; features; model


def test_encoder_stack(check_import: Check) -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    assert not check_import(encoder, torch.randn(2, 8, 32)).externs


def test_recurrent_layer_stays_whole(check_import: Check) -> None:
    (note,) = check_import(nn.GRU(8, 16, batch_first=True), torch.randn(2, 5, 8)).notes
    assert note.op == "aten.gru.input"


def test_convolution_stays_in_torch(check_import: Check) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    (note,) = check_import(model, torch.randn(2, 3, 8, 8)).notes
    assert note.op == "aten.conv2d.default"


def test_function_over_a_module_names_its_parameters() -> None:
    model = nn.Linear(4, 3)
    program = import_torch(lambda x: model(x).relu(), (torch.randn(2, 4),))
    names = [p.name for p in program.parameters if isinstance(p, Parameter)]
    assert names == ["model.weight", "model.bias"]
    assert all(p.tensor is not None for p in program.parameters if isinstance(p, Parameter))
    assert 'diag.kind = "param"' in str(program.module)


# --- HuggingFace --------------------------------------------------------------------------------


class Output(nn.Module):
    """One field of a model's output."""

    def __init__(self, model: nn.Module, field: str, **options: Any) -> None:
        super().__init__()
        self.model = model
        self.field = field
        self.options = options

    def forward(self, *inputs: Tensor) -> Any:
        return getattr(self.model(*inputs, **self.options), self.field)


def _bert(attention: str) -> nn.Module:
    from transformers import BertConfig, BertModel

    config: Any = BertConfig(
        vocab_size=100,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
    )
    config._attn_implementation = attention
    return Output(BertModel(config), "last_hidden_state").eval()


def _gpt2(attention: str) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config: Any = GPT2Config(
        vocab_size=100,
        n_embd=64,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=1,
    )
    config._attn_implementation = attention
    return Output(GPT2LMHeadModel(config), "logits", use_cache=False).eval()


def _llama(attention: str) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config: Any = LlamaConfig(
        vocab_size=100,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
    )
    config._attn_implementation = attention
    return Output(LlamaForCausalLM(config), "logits", use_cache=False).eval()


def _ids() -> Tensor:
    return torch.randint(0, 100, (2, 16))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_bert(attention: str, check_import: Check, ops: Ops) -> None:
    program = check_import(_bert(attention), _ids())
    assert {note.op.split(".")[1] for note in program.notes} <= {"embedding", "gather"}
    names = ops(program)
    assert names.count("contract") == 2 * 8  # four projections, two products, two of the MLP
    assert names.count("normalize") == 1 + 2 * 3
    assert names.count("relabel") == 2 * 2  # keys and values, once in each layer


def test_bert_with_a_padding_mask(check_import: Check) -> None:
    mask = torch.ones(2, 16, dtype=torch.int64)
    mask[1, 10:] = 0
    program = check_import(_bert("sdpa"), _ids(), mask)
    assert '"diag.normalize"' in str(program.module)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_gpt2(attention: str, check_import: Check) -> None:
    program = check_import(_gpt2(attention), _ids())
    assert {note.op for note in program.notes} == {"aten.embedding.default"}
    keep = [x for x in str(program.module).splitlines() if "diag.normalize" in x and "xi1" in x]
    assert len(keep) == (2 if attention == "sdpa" else len(keep))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_llama_with_groups_and_rotary_positions(
    attention: str, check_import: Check, ops: Ops
) -> None:
    # its rotary embedding and norms convert to f32 whatever the model's type is
    program = check_import(_llama(attention), _ids(), tolerance=1e-6)
    assert {note.op for note in program.notes} == {"aten.embedding.default"}
    assert "concat" not in ops(program)
