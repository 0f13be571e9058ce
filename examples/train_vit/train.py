"""Training on small synthetic images, compiled by diagc or in eager mode, and its memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from diagc.testing.memory import peak_of
from diagc.torch_backend.report import collecting
from examples.train_vit.model import PATCH, VisionTransformer

__all__ = ["Run", "Settings", "peak_of_a_step", "train"]

_OBJECT = 2 * PATCH
"""Pixels along each side of what an image shows."""


@dataclass(frozen=True)
class Settings:
    """Of Adam, of the images and of the model; the same for all runs."""

    steps: int = 200
    batch: int = 8
    learning_rate: float = 1e-3
    classes: int = 10
    size: int = 32
    width: int = 64
    depth: int = 4
    held_out: int = 512
    rest: str = "inductor"

    def model(self, weights: str) -> VisionTransformer:
        """A model with new parameters, drawn from torch's generator."""
        shape = (self.size, self.size)
        return VisionTransformer(weights, shape, self.classes, self.width, depth=self.depth)


@dataclass(frozen=True)
class Run:
    """What one training gave.

    Args:
        losses: of each step.
        final: the mean loss of images that were held out, at the end.
        streams: regions that diagc computed in a stream.
    """

    losses: list[float]
    final: float
    streams: int = 0


def train(weights: str, seed: int, settings: Settings, *, compiled: bool) -> Run:
    """Train one model.

    Parameters and images depend on the seed alone, so that two runs differ by the compiler only.
    """
    torch.manual_seed(seed)
    model = settings.model(weights)
    images = _Images(seed, settings)
    optimizer = torch.optim.Adam(model.parameters(), settings.learning_rate)
    predict = _compiled(model, settings.rest) if compiled else model
    losses = []
    with collecting() as reports:
        for _ in range(settings.steps):
            batch, labels = images.draw(settings.batch)
            loss = cross_entropy(predict(batch), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    kernels = [region.compiled.kernels for report in reports for region in report.regions]
    streams = sum(any(kernel.streams for kernel in each) for each in kernels)
    with torch.no_grad():
        batch, labels = images.draw(settings.held_out)
        return Run(losses, cross_entropy(model(batch), labels).item(), streams)


def peak_of_a_step(weights: str, shape: tuple[int, int], rest: str | None) -> float:
    """Megabytes by which the process grows at the peak of a forward and backward pass.

    Args:
        weights: "softmax" or "spherical"
        shape: height and width of the one image
        rest: who runs what diagc does not take; None to leave all to eager torch
    """
    torch.manual_seed(0)
    model = VisionTransformer(weights, shape, heads=2)
    predict = _compiled(model, rest) if rest else model
    image, label = torch.randn(1, 3, *shape), torch.zeros(1, dtype=torch.int64)

    def step() -> Tensor:
        loss = cross_entropy(predict(image), label)
        loss.backward()
        return loss

    step()  # compiles, and makes room for the gradients
    return peak_of(step)[0]


def _compiled(model: nn.Module, rest: str) -> Callable[[Tensor], Tensor]:
    torch._dynamo.reset()
    options: dict[str, Any] = {"rest": rest, "take": "streams"}
    return torch.compile(model, backend="diagc", options=options)


class _Images:
    """Noise, in which an object of a class is hidden; it may lie on any four patches.

    Objects are the same for all seeds, images are not.
    """

    def __init__(self, seed: int, settings: Settings) -> None:
        shape = (settings.classes, 3, _OBJECT, _OBJECT)
        self.objects = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        self.generator = torch.Generator().manual_seed(seed)
        self.size = settings.size

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Images [count, 3, size, size], and their classes [count]."""
        labels = torch.randint(len(self.objects), (count,), generator=self.generator)
        images = torch.randn(count, 3, self.size, self.size, generator=self.generator)
        places = (self.size - _OBJECT) // PATCH + 1
        corners = PATCH * torch.randint(places, (count, 2), generator=self.generator)
        for image, label, (row, column) in zip(images, labels, corners.tolist(), strict=True):
            image[:, row : row + _OBJECT, column : column + _OBJECT] += 2 * self.objects[label]
        return images, labels
