"""Published model architectures, built small from configs with random weights, and their calls."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagc.testing import library_models

__all__ = ["MODELS", "Model"]


@dataclass(frozen=True)
class Model:
    """A model for tests.

    Args:
        name: for messages.
        build: makes it, in training mode with every dropout at 0, and positional arguments of a
            call; the argument is the way of attention, "eager" or "sdpa", where there is a choice.
        attentions: layers of attention in it, each of which has to become a region.
        ways: of attention.
        library: that it needs, beside torch and transformers.
    """

    name: str
    build: Callable[[str], tuple[Any, tuple[Any, ...]]]
    attentions: int
    ways: tuple[str, ...] = ("eager", "sdpa")
    library: str | None = None


def _tokens(length: int = 160) -> Any:
    import torch

    return torch.randint(0, 100, (2, length))


_WIDTHS = {
    "vocab_size": 100,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}


def _bert(way: str) -> tuple[Any, tuple[Any, ...]]:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        **_WIDTHS,
        attn_implementation=way,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertModel(config), (_tokens(),)


def _gpt2(way: str) -> tuple[Any, tuple[Any, ...]]:
    from transformers import GPT2Config, GPT2Model

    sizes = {"vocab_size": 100, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256}
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "use_cache": False}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(**sizes, **off, **ends, attn_implementation=way)
    return GPT2Model(config), (_tokens(),)


def _llama(way: str) -> tuple[Any, tuple[Any, ...]]:
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(**_WIDTHS, num_key_value_heads=2, attn_implementation=way, use_cache=False)
    return LlamaModel(config), (_tokens(),)


def _qwen3(way: str) -> tuple[Any, tuple[Any, ...]]:
    from transformers import Qwen3Config, Qwen3Model

    heads = {"num_key_value_heads": 2, "head_dim": 16}
    config = Qwen3Config(**_WIDTHS, **heads, attn_implementation=way, use_cache=False)
    return Qwen3Model(config), (_tokens(),)


def _t5(way: str) -> tuple[Any, tuple[Any, ...]]:
    from transformers import T5Config, T5EncoderModel

    sizes = {"vocab_size": 100, "d_model": 64, "d_kv": 16, "d_ff": 128}
    counts = {"num_layers": 2, "num_heads": 4, "dropout_rate": 0.0}
    return T5EncoderModel(T5Config(**sizes, **counts, attn_implementation=way)), (_tokens(),)


def _vit(way: str) -> tuple[Any, tuple[Any, ...]]:
    import torch
    from transformers import ViTConfig, ViTModel

    sizes = {name: size for name, size in _WIDTHS.items() if name != "vocab_size"}
    config = ViTConfig(**sizes, image_size=64, patch_size=8, attn_implementation=way)
    return ViTModel(config), (torch.randn(2, 3, 64, 64),)


def _whisper(way: str) -> tuple[Any, tuple[Any, ...]]:
    import torch
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    layers = {"encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 128}
    sizes = {"d_model": 64, "num_mel_bins": 16, "max_source_positions": 150, "dropout": 0.0}
    config = WhisperConfig(**layers, **sizes, attn_implementation=way)
    return WhisperEncoder(config), (torch.randn(2, 16, 300),)


def _multihead(way: str) -> tuple[Any, tuple[Any, ...]]:
    import torch

    class SelfAttention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(64, 4, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.attention(x, x, x, need_weights=False)

    return SelfAttention(), (torch.randn(2, 160, 64),)


def _transformer(way: str) -> tuple[Any, tuple[Any, ...]]:
    import torch

    model = torch.nn.Transformer(64, 4, 2, 2, 128, dropout=0.0, batch_first=True)
    return model, (torch.randn(2, 160, 64), torch.randn(2, 140, 64))


def _gru(way: str) -> tuple[Any, tuple[Any, ...]]:
    import torch

    return torch.nn.GRU(32, 64, batch_first=True), (torch.randn(2, 10, 32),)


def _graph_layer(way: str) -> tuple[Any, tuple[Any, ...]]:
    import torch

    class MessagePassing(torch.nn.Module):
        """Sums messages over the edges of a graph that comes as data."""

        def __init__(self) -> None:
            super().__init__()
            self.message, self.update = torch.nn.Linear(64, 32), torch.nn.Linear(64, 32)

        def forward(self, nodes: Any, source: Any, target: Any) -> Any:
            pairs = torch.cat([nodes[source], nodes[target]], -1)
            sums = torch.zeros_like(nodes).index_add(0, target, self.message(pairs).relu())
            return (self.update(torch.cat([nodes, sums], -1)),)

    edges = [torch.randint(0, 50, (200,)) for _ in range(2)]
    return MessagePassing(), (torch.randn(50, 32), *edges)


MODELS = (
    Model("bert", _bert, 2),
    Model("gpt2", _gpt2, 2),
    Model("llama", _llama, 2),
    Model("qwen3", _qwen3, 2),
    Model("t5", _t5, 2),
    Model("vit", _vit, 2),
    Model("whisper", _whisper, 2),
    Model("multihead", _multihead, 1, ("torch",)),
    Model("transformer", _transformer, 6, ("torch",)),
    Model("gru", _gru, 0, ("torch",)),
    Model("graph", _graph_layer, 0, ("torch",)),
    Model("timm_vit", library_models.timm_vit, 2, ("torch",), "timm"),
    Model("swin", library_models.swin, 2, ("torch",), "timm"),
    Model("resnet18", library_models.resnet18, 0, ("torch",), "timm"),
    Model("dit", library_models.dit, 2, ("torch",), "diffusers"),
    Model("tensor_product", library_models.tensor_product, 0, ("torch",), "e3nn"),
)
"""The expected counts are the acceptance of the front end: at least so many regions are taken."""
