"""Maps that know nothing of the network: what every method must beat."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from seewhy.explain.base import Attribution, Explainer, TargetwiseExplainer
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.judging.perturbation import make_generators, smooth

__all__ = ["CentreControl", "Control", "EdgeControl", "IntensityControl", "RandomControl", "make_controls"]


class Control(TargetwiseExplainer):
    """A map made of the image alone, the same whatever the module and the target."""

    def attribute(self, subject: ExplainedModel, target: Tensor, scores: Tensor) -> Attribution:
        """See `TargetwiseExplainer.attribute`."""
        maps = {name: self.draw(image.detach().float().mean(dim=1)) for name, image in subject.inputs.items()}
        return Attribution(maps=maps, notes=("a control: made without the network",))

    @abstractmethod
    def draw(self, image: Tensor) -> Tensor:
        """Non-negative map [B, *s] of an image [B, *s] averaged over its channels."""


class CentreControl(Control):
    """A Gaussian in the middle, a quarter of each side wide."""

    method = "control_centre"

    def draw(self, image: Tensor) -> Tensor:
        """The density, 1 in the middle."""
        exponent = torch.zeros(image.shape[1:], device=image.device)
        for axis, size in enumerate(image.shape[1:]):
            place = torch.arange(size, device=image.device) - (size - 1) / 2
            exponent = exponent + ((place / (size / 4)) ** 2).reshape(-1, *[1] * (exponent.ndim - axis - 1))
        return torch.exp(-0.5 * exponent).expand(image.shape).clone()


class IntensityControl(Control):
    """Brighter is more important; each image's darkest pixel is 0."""

    method = "control_intensity"

    def draw(self, image: Tensor) -> Tensor:
        """The image less its minimum."""
        return image - image.flatten(1).amin(dim=1).reshape(-1, *[1] * (image.ndim - 1))


class EdgeControl(Control):
    """The length of the image's gradient, by central differences."""

    method = "control_edges"

    def draw(self, image: Tensor) -> Tensor:
        """√Σ of squared differences along all axes longer than one pixel."""
        squares = torch.zeros_like(image)
        for axis in range(1, image.ndim):
            if image.shape[axis] > 1:
                squares = squares + torch.gradient(image, dim=axis)[0] ** 2
        return squares.sqrt()


class RandomControl(Control):
    """Noise smoothed over a sixteenth of each side, another for each image.

    Args:
        seed: of the noise, together with the image's content, so that a map does not depend on the batch.
    """

    method = "control_random"

    def __init__(self, *, seed: int = 0) -> None:
        self.seed: int = seed

    def draw(self, image: Tensor) -> Tensor:
        """Smoothed noise less its minimum."""
        drawn = [
            torch.randn(image.shape[1:], generator=one) for one in make_generators({"image": image}, seed=self.seed)
        ]
        widths = torch.tensor([[size / 16 for size in image.shape[1:]]])
        blurred = smooth(torch.stack(drawn), widths).to(image.device)
        blurred = blurred - blurred.flatten(1).amin(dim=1).reshape(-1, *[1] * (image.ndim - 1))
        return blurred / blurred.flatten(1).amax(dim=1).clamp_min(1e-12).reshape(-1, *[1] * (image.ndim - 1))


def make_controls(*, seed: int = 0) -> tuple[Explainer, ...]:
    """All of them."""
    return (CentreControl(), IntensityControl(), EdgeControl(), RandomControl(seed=seed))
