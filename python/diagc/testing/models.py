"""Published model architectures, built small from configs with random weights, and their calls."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagc.testing import library_models
from diagc.testing.scale import SMALL, Scale

__all__ = ["MODELS", "Model"]


Built = tuple[Any, tuple[Any, ...]]


@dataclass(frozen=True)
class Model:
    """A model for tests.

    Args:
        name: for messages.
        make: makes it, in training mode with every dropout at 0, and positional arguments of a
            call, from the way of attention, "eager" or "sdpa" where there is a choice, and sizes.
        attentions: layers of attention in it, each of which has to become a region.
        ways: of attention.
        library: that it needs, beside torch and transformers.
    """

    name: str
    make: Callable[[str, Scale], Built]
    attentions: int
    ways: tuple[str, ...] = ("eager", "sdpa")
    library: str | None = None

    def build(self, way: str, scale: Scale = SMALL) -> Built:
        """Give the model with fresh random weights, and arguments of a call."""
        return self.make(way, scale)


def _tokens(scale: Scale) -> Any:
    import torch

    return torch.randint(0, scale.vocabulary, (scale.batch, scale.tokens))


def _images(scale: Scale) -> Any:
    import torch

    return torch.randn(scale.batch, 3, scale.pixels, scale.pixels)


def _sizes(scale: Scale) -> dict[str, int]:
    return {
        "hidden_size": scale.width,
        "num_hidden_layers": 2,
        "num_attention_heads": scale.heads,
        "intermediate_size": scale.inner,
    }


def _text_sizes(scale: Scale) -> dict[str, int]:
    lengths = {"vocab_size": scale.vocabulary, "max_position_embeddings": scale.tokens}
    return {**_sizes(scale), **lengths}


def _bert(way: str, scale: Scale) -> Built:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        **_text_sizes(scale),
        attn_implementation=way,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertModel(config, add_pooling_layer=False), (_tokens(scale),)


def _gpt2(way: str, scale: Scale) -> Built:
    from transformers import GPT2Config, GPT2Model

    widths = {"n_embd": scale.width, "n_head": scale.heads, "n_layer": 2}
    sizes = {**widths, "vocab_size": scale.vocabulary, "n_positions": scale.tokens}
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "use_cache": False}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(**sizes, **off, **ends, attn_implementation=way)
    return GPT2Model(config), (_tokens(scale),)


def _llama(way: str, scale: Scale) -> Built:
    from transformers import LlamaConfig, LlamaModel

    sizes = {**_text_sizes(scale), "num_key_value_heads": scale.heads // 2}
    config = LlamaConfig(**sizes, attn_implementation=way, use_cache=False)
    return LlamaModel(config), (_tokens(scale),)


def _qwen3(way: str, scale: Scale) -> Built:
    from transformers import Qwen3Config, Qwen3Model

    heads = {"num_key_value_heads": scale.heads // 2, "head_dim": scale.width // scale.heads}
    sizes = {**_text_sizes(scale), **heads}
    config = Qwen3Config(**sizes, attn_implementation=way, use_cache=False)
    return Qwen3Model(config), (_tokens(scale),)


def _t5(way: str, scale: Scale) -> Built:
    from transformers import T5Config, T5EncoderModel

    sizes = {"vocab_size": scale.vocabulary, "d_model": scale.width, "d_ff": scale.inner}
    heads = {"num_heads": scale.heads, "d_kv": scale.width // scale.heads}
    counts = {"num_layers": 2, "dropout_rate": 0.0, **heads}
    return T5EncoderModel(T5Config(**sizes, **counts, attn_implementation=way)), (_tokens(scale),)


def _vit(way: str, scale: Scale) -> Built:
    from transformers import ViTConfig, ViTModel

    sizes = {**_sizes(scale), "image_size": scale.pixels, "patch_size": scale.patch}
    config = ViTConfig(**sizes, attn_implementation=way)
    return ViTModel(config, add_pooling_layer=False), (_images(scale),)


def _whisper(way: str, scale: Scale) -> Built:
    import torch
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    heads = {"encoder_attention_heads": scale.heads, "encoder_ffn_dim": scale.inner}
    sizes = {"d_model": scale.width, "num_mel_bins": 16, "max_source_positions": scale.tokens}
    config = WhisperConfig(**heads, **sizes, encoder_layers=2, dropout=0.0, attn_implementation=way)
    return WhisperEncoder(config), (torch.randn(scale.batch, 16, 2 * scale.tokens),)


def _multihead(way: str, scale: Scale) -> Built:
    import torch

    class SelfAttention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(scale.width, scale.heads, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.attention(x, x, x, need_weights=False)

    return SelfAttention(), (torch.randn(scale.batch, scale.tokens, scale.width),)


def _transformer(way: str, scale: Scale) -> Built:
    import torch

    sizes = (scale.width, scale.heads, 2, 2, scale.inner)
    model = torch.nn.Transformer(*sizes, dropout=0.0, batch_first=True)
    lengths = (scale.tokens, scale.tokens * 7 // 8)  # of source and target
    return model, tuple(torch.randn(scale.batch, n, scale.width) for n in lengths)


def _gru(way: str, scale: Scale) -> Built:
    import torch

    model = torch.nn.GRU(scale.width // 2, scale.width, batch_first=True)
    return model, (torch.randn(scale.batch, scale.tokens // 16, scale.width // 2),)


def _graph_layer(way: str, scale: Scale) -> Built:
    import torch

    nodes, width = scale.tokens, scale.width

    class MessagePassing(torch.nn.Module):
        """Sums messages over the edges of a graph that comes as data."""

        def __init__(self) -> None:
            super().__init__()
            self.message, self.update = (torch.nn.Linear(2 * width, width) for _ in range(2))

        def forward(self, nodes: Any, source: Any, target: Any) -> Any:
            pairs = torch.cat([nodes[source], nodes[target]], -1)
            sums = torch.zeros_like(nodes).index_add(0, target, self.message(pairs).relu())
            return (self.update(torch.cat([nodes, sums], -1)),)

    edges = [torch.randint(0, nodes, (4 * nodes,)) for _ in range(2)]
    return MessagePassing(), (torch.randn(nodes, width), *edges)


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
