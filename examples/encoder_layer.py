"""torch.nn.TransformerEncoderLayer as it stands: attention, residuals, LayerNorms, feed-forward."""

import torch
from torch import nn


def encoder_layer() -> nn.Module:
    """A layer of 512 features and 8 heads with random weights."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(
        d_model=512, nhead=8, dim_feedforward=2048, activation="gelu", batch_first=True
    )
    return layer.eval()


def example_inputs() -> tuple[torch.Tensor, ...]:
    """A batch of sequences."""
    torch.manual_seed(1)
    return (torch.randn(4, 256, 512),)
