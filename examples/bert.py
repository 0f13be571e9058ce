"""HuggingFace BERT built from a small configuration, with its eager and its SDPA attention."""

from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertModel

_SETTINGS: dict[str, Any] = {
    "vocab_size": 1000,
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
}


class _LastHiddenState(nn.Module):
    """A BERT that gives its last hidden state only."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = BertConfig(**{**_SETTINGS, "attn_implementation": attention})
        self.model = BertModel(config, add_pooling_layer=False).eval()

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Encode tokens [batch, positions]; mask is 0 where there is only padding."""
        return self.model(input_ids=tokens, attention_mask=mask).last_hidden_state


def bert_eager() -> nn.Module:
    """Attention written out: matmul, add the mask, softmax, matmul."""
    return _LastHiddenState("eager").eval()


def bert_sdpa() -> nn.Module:
    """Attention by torch's scaled_dot_product_attention."""
    return _LastHiddenState("sdpa").eval()


def example_inputs() -> tuple[torch.Tensor, ...]:
    """A batch of token sequences of different lengths."""
    torch.manual_seed(1)
    tokens = torch.randint(0, 1000, (2, 128))
    lengths = torch.tensor([128, 77])
    mask = (torch.arange(128)[None, :] < lengths[:, None]).long()
    return tokens, mask
