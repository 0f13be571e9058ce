"""Models of timm, diffusers and e3nn, built small from configs; each needs that library."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

__all__ = ["dit", "resnet18", "swin", "tensor_product", "timm_vit"]


def timm_vit(way: str) -> tuple[Any, tuple[Any, ...]]:
    """A vision transformer of 145 tokens."""
    with _without_torchvision():
        from timm.models.vision_transformer import VisionTransformer

    sizes = {"img_size": 96, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 4}
    return VisionTransformer(**sizes, num_classes=10), (torch.randn(2, 3, 96, 96),)


def swin(way: str) -> tuple[Any, tuple[Any, ...]]:
    """Attention in windows of 8 x 8 with a learned bias, the second time with shifted windows."""
    with _without_torchvision():
        from timm.models.swin_transformer import SwinTransformer

    sizes = {"img_size": 64, "patch_size": 4, "window_size": 8, "embed_dim": 32, "num_classes": 10}
    model = SwinTransformer(**sizes, depths=(2,), num_heads=(2,), drop_path_rate=0.0)
    return model, (torch.randn(2, 3, 64, 64),)


def resnet18(way: str) -> tuple[Any, tuple[Any, ...]]:
    """Convolutions and batch norms only."""
    with _without_torchvision():
        from timm.models.resnet import resnet18

    return resnet18(num_classes=10), (torch.randn(2, 3, 64, 64),)


def dit(way: str) -> tuple[Any, tuple[Any, ...]]:
    """A diffusion transformer of 144 tokens: noise, times, classes."""
    from diffusers import DiTTransformer2DModel

    heads = {"num_attention_heads": 4, "attention_head_dim": 16, "num_layers": 2}
    model = DiTTransformer2DModel(**heads, in_channels=4, sample_size=24, patch_size=2)
    for module in model.modules():
        if hasattr(module, "dropout_prob"):  # of class labels
            module.dropout_prob = 0.0
    times, classes = torch.randint(0, 1000, (2,)), torch.randint(0, 1000, (2,))
    return model, (torch.randn(2, 4, 24, 24), times, classes)


def tensor_product(way: str) -> tuple[Any, tuple[Any, ...]]:
    """An equivariant product of scalars and vectors with learned weights."""
    import e3nn
    from e3nn.o3 import FullyConnectedTensorProduct

    saved = e3nn.get_optimization_defaults()
    e3nn.set_optimization_defaults(jit_mode="eager")  # TorchScript hides what is computed
    try:
        irreps = "8x0e + 8x1o"
        model = FullyConnectedTensorProduct(irreps, irreps, irreps)
    finally:
        e3nn.set_optimization_defaults(**saved)
    return model, (torch.randn(50, 32), torch.randn(50, 32))


class _AnyName(type):
    """A class that has every attribute: its name."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Placeholder(ModuleType):
    """A module in which every name is an empty class."""

    __path__: list[str] = []  # noqa: RUF012 (as ModuleType declares it)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyName(name, (), {})


class _Placeholders:
    """Finds `torchvision` and all modules in it."""

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        mine = name.split(".")[0] == "torchvision"
        return ModuleSpec(name, self, is_package=True) if mine else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Placeholder(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is in it."""


@contextmanager
def _without_torchvision() -> Iterator[None]:
    """Let timm be imported alone: it imports torchvision for images, of which models need nothing.

    A wheel of torchvision loads beside one build of torch only (CPU, or a version of CUDA).
    """
    finder: Any = _Placeholders()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
