"""Models of timm, diffusers and e3nn, built small from configs; each needs that library."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

from diagc.testing.scale import Scale

__all__ = ["dit", "resnet18", "swin", "tensor_product", "timm_vit"]


def timm_vit(way: str, scale: Scale) -> tuple[Any, tuple[Any, ...]]:
    """A vision transformer with a token for the class."""
    with _without_torchvision():
        from timm.models.vision_transformer import VisionTransformer

    sizes = {"img_size": scale.pixels, "patch_size": scale.patch, "embed_dim": scale.width}
    model = VisionTransformer(**sizes, depth=2, num_heads=scale.heads, num_classes=10)
    return model, (_images(scale),)


def _images(scale: Scale) -> torch.Tensor:
    return torch.randn(scale.batch, 3, scale.pixels, scale.pixels)


def swin(way: str, scale: Scale) -> tuple[Any, tuple[Any, ...]]:
    """Attention in windows of 8 x 8 with a learned bias, the second time with shifted windows."""
    with _without_torchvision():
        from timm.models.swin_transformer import SwinTransformer

    sizes = {"img_size": scale.pixels, "patch_size": 4, "window_size": 8, "num_classes": 10}
    layers = {"embed_dim": scale.width // 2, "depths": (2,), "num_heads": (scale.heads // 2,)}
    return SwinTransformer(**sizes, **layers, drop_path_rate=0.0), (_images(scale),)


def resnet18(way: str, scale: Scale) -> tuple[Any, tuple[Any, ...]]:
    """Convolutions and batch norms only."""
    with _without_torchvision():
        from timm.models.resnet import resnet18

    return resnet18(num_classes=10), (_images(scale),)


def dit(way: str, scale: Scale) -> tuple[Any, tuple[Any, ...]]:
    """A diffusion transformer: noise, times, classes."""
    from diffusers import DiTTransformer2DModel

    depth, pixels = scale.width // scale.heads, 2 * scale.side
    heads = {"num_attention_heads": scale.heads, "attention_head_dim": depth, "num_layers": 2}
    model = DiTTransformer2DModel(**heads, in_channels=4, sample_size=pixels, patch_size=2)
    for module in model.modules():
        if hasattr(module, "dropout_prob"):  # of class labels
            module.dropout_prob = 0.0
    times, classes = (torch.randint(0, 1000, (scale.batch,)) for _ in range(2))
    return model, (torch.randn(scale.batch, 4, pixels, pixels), times, classes)


def tensor_product(way: str, scale: Scale) -> tuple[Any, tuple[Any, ...]]:
    """An equivariant product of scalars and vectors with learned weights."""
    import e3nn
    from e3nn.o3 import FullyConnectedTensorProduct

    saved = e3nn.get_optimization_defaults()
    e3nn.set_optimization_defaults(jit_mode="eager")  # TorchScript hides what is computed
    try:
        irreps = f"{scale.width // 8}x0e + {scale.width // 8}x1o"
        model = FullyConnectedTensorProduct(irreps, irreps, irreps)
    finally:
        e3nn.set_optimization_defaults(**saved)
    return model, tuple(torch.randn(scale.tokens, scale.width // 2) for _ in range(2))


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
