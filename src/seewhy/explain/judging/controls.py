"""Control maps, made without the network; every method must beat them."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from seewhy.explain.base import Attribution, TargetwiseExplainer
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.judging.perturbation import make_generators, smooth
from seewhy.explain.maps import Maps

__all__ = ["CentreControl", "Control", "EdgeControl", "IntensityControl", "RandomControl", "make_controls"]


NOTE = "a control, made without the network"


class Control(TargetwiseExplainer):
    """A map made from the image only, the same for every module and target."""

    def attribute(self, subject: ExplainedModel, target: Tensor, scores: Tensor) -> Attribution:
        """See `TargetwiseExplainer.attribute`."""
        maps = {name: self.draw(image.detach().float().mean(dim=1)) for name, image in subject.inputs.items()}
        return Attribution(maps=maps, notes=(NOTE,))

    def redraw(self, base: Maps, module: nn.Module, inputs: Inputs) -> Maps:
        """Make this control's maps without a forward of the network.

        Args:
            base: of any method on the same batch, for scores and target.
            module: the explained module, for the names of the inputs.
            inputs: the batch.
        """
        subject = ExplainedModel(module, inputs)
        maps = {name: self.draw(image.detach().float().mean(dim=1)).float() for name, image in subject.inputs.items()}
        return Maps(
            method=self.method, maps=maps, target=base.target, reference=base.reference, probability=base.probability,
            scores=base.scores, seed=self.seed, notes=(NOTE, *subject.describe_column(base.scores)),
        )  # fmt: skip

    @abstractmethod
    def draw(self, image: Tensor) -> Tensor:
        """Make a non-negative map [B, *s] from an image [B, *s] averaged over its channels."""


class CentreControl(Control):
    """A Gaussian in the image centre, a quarter of each side wide."""

    method = "control_centre"

    def draw(self, image: Tensor) -> Tensor:
        """Return the density, 1 in the centre."""
        exponent = torch.zeros(image.shape[1:], device=image.device)
        for axis, size in enumerate(image.shape[1:]):
            offset = torch.arange(size, device=image.device) - (size - 1) / 2
            exponent = exponent + ((offset / (size / 4)) ** 2).reshape(-1, *[1] * (exponent.ndim - axis - 1))
        return torch.exp(-0.5 * exponent).expand(image.shape).clone()


class IntensityControl(Control):
    """Image intensity; the darkest pixel of each image is 0."""

    method = "control_intensity"

    def draw(self, image: Tensor) -> Tensor:
        """Subtract the minimum of each image."""
        return image - image.flatten(1).amin(dim=1).reshape(-1, *[1] * (image.ndim - 1))


class EdgeControl(Control):
    """Magnitude of the image gradient, by central differences."""

    method = "control_edges"

    def draw(self, image: Tensor) -> Tensor:
        """Compute the root of the sum of squared differences along all axes longer than one pixel."""
        squares = torch.zeros_like(image)
        for axis in range(1, image.ndim):
            if image.shape[axis] > 1:
                squares = squares + torch.gradient(image, dim=axis)[0] ** 2
        return squares.sqrt()


class RandomControl(Control):
    """Noise smoothed over a sixteenth of each side, different for each image.

    Args:
        seed: seed of the noise; together with the content of the image, so that a map does not depend on the batch.
    """

    method = "control_random"

    def __init__(self, *, seed: int = 0) -> None:
        self.seed: int = seed

    def draw(self, image: Tensor) -> Tensor:
        """Draw smoothed noise, scaled to [0, 1]."""
        sources = make_generators({"image": image}, seed=self.seed)
        drawn = [torch.randn(image.shape[1:], generator=source) for source in sources]
        widths = torch.tensor([[size / 16 for size in image.shape[1:]]])
        blurred = smooth(torch.stack(drawn), widths).to(image.device)
        blurred = blurred - blurred.flatten(1).amin(dim=1).reshape(-1, *[1] * (image.ndim - 1))
        return blurred / blurred.flatten(1).amax(dim=1).clamp_min(1e-12).reshape(-1, *[1] * (image.ndim - 1))


def make_controls(*, seed: int = 0) -> tuple[Control, ...]:
    """Make all control maps.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import make_controls
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
        >>> for control in make_controls():
        ...     print(control.method, tuple(control(net, torch.rand(1, 1, 4, 4)).maps["image"].shape))
        control_centre (1, 4, 4)
        control_intensity (1, 4, 4)
        control_edges (1, 4, 4)
        control_random (1, 4, 4)
    """
    return (CentreControl(), IntensityControl(), EdgeControl(), RandomControl(seed=seed))
