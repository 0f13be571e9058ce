"""Whole models of published widths, two layers each, on about 1000 tokens: forward on the CPU.

`torch.compile(…, backend="diagc")` against eager and against torch.compile; what diagc does not
take runs in Inductor on both sides. Each with attention as the model's own code writes it
("eager") and with torch's fused attention ("sdpa"). None may be slower than 0.95 times eager, and
all should be 1.2 times as fast as torch.compile.
"""

import copy
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from harness import Case, Gate, main

LAYERS, WIDTH, HEADS, TOKENS = 2, 768, 12, 1024

Model = tuple[torch.nn.Module, torch.Tensor]


def bert(way: str) -> Model:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        num_hidden_layers=LAYERS, max_position_embeddings=TOKENS, attn_implementation=way
    )
    return BertModel(config, add_pooling_layer=False), torch.randint(0, 30000, (1, TOKENS))


def vit(way: str) -> Model:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(num_hidden_layers=LAYERS, image_size=512, attn_implementation=way)
    return ViTModel(config, add_pooling_layer=False), torch.randn(1, 3, 512, 512)


def gpt2(way: str) -> Model:
    from transformers import GPT2Config, GPT2Model

    config = GPT2Config(n_layer=LAYERS, use_cache=False, attn_implementation=way)
    return GPT2Model(config), torch.randint(0, 50000, (1, TOKENS))


def result(model: Any, argument: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model(argument)[0]
    return found


def case(make: Callable[[str], Model], way: str) -> Case:
    model, argument = make(way)
    model.eval()
    exact = copy.deepcopy(model).double()
    values = argument.double() if argument.is_floating_point() else argument
    return Case(
        partial(result, torch.compile(model, backend="diagc"), argument),
        {
            "eager": partial(result, model, argument),
            "torch.compile": partial(result, torch.compile(model), argument),
        },
        [Gate("eager", 0.95), Gate("torch.compile", 1.2)],
        partial(result, exact, values),
        "eager",
    )


CASES = {
    f"{name}, {way} attention": partial(case, make, way)
    for name, make in (("BERT-base", bert), ("ViT-B", vit), ("GPT-2 small", gpt2))
    for way in ("eager", "sdpa")
}

if __name__ == "__main__":
    sys.exit(main("models", CASES, gated_threads=[1, 2]))
