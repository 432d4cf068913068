"""Grad-CAM and its variants: Grad-CAM++, HiResCAM, XGrad-CAM, LayerCAM and Finer-CAM."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.cam.base import ActivationMap, Reshape, weighted_sum
from seewhy.explain.capture.layers import Layers
from seewhy.explain.explained_model import ExplainedModel
from seewhy.option_types import PositiveFloat

__all__ = ["FinerCAM", "GradCAM", "GradCAMPlusPlus", "HiResCAM", "LayerCAM", "XGradCAM"]


class GradCAM(ActivationMap):
    """Channels weighted by the mean of their gradients (Selvaraju 2017, equations 1 and 2).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import GradCAM
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3))
        >>> maps = GradCAM(layers="1")(net, torch.rand(2, 1, 8, 8), target=1)
        >>> maps.maps["image"].shape, maps.scores.shape, maps.layers
        (torch.Size([2, 8, 8]), torch.Size([2, 3]), {'image': '1'})
        >>> GradCAM(layers="0.conv")(net, torch.rand(2, 1, 8, 8))
        Traceback (most recent call last):
        seewhy.errors.ConfigError: Sequential has no layer '0.conv'; valid: '0', '1', '2', '3'
    """

    method: str = "grad_cam"

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Compute Σ_c mean(G_c) A_c."""
        return weighted_sum(activation, gradient.flatten(2).mean(dim=2))


class HiResCAM(ActivationMap):
    """Activations times their gradients (Draelos and Carin 2020, arXiv 2011.08891).

    If the layers after the chosen one are linear, the map sums to the score minus its bias: it shows what the model
    used.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import HiResCAM
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        >>> maps = HiResCAM(layers="1")(net, torch.rand(2, 1, 4, 4), target=1)
        >>> torch.allclose(maps.maps["image"].sum(dim=(1, 2)), maps.scores[:, 1] - net[3].bias[1], atol=1e-6)
        True
    """

    method = "hires_cam"

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Compute Σ_c G_c ⊙ A_c."""
        return (gradient * activation).sum(dim=1)


SMALL = 1e-7
"""Keeps the division by the sum of an inactive channel finite."""


class XGradCAM(ActivationMap):
    """Channels weighted by the activation-weighted mean of their gradients (Fu 2020, arXiv 2008.02312).

    The paper assumes activations of one sign (after a ReLU). If a channel's activations cancel, as after SiLU, its
    weight can become very large; HiResCAM, which distributes the same sum over positions in another way, is safer.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import XGradCAM
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        >>> XGradCAM(layers="1")(net, torch.rand(2, 1, 4, 4)).maps["image"].shape
        torch.Size([2, 4, 4])
    """

    method = "xgrad_cam"

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Compute Σ_c (Σ G_c A_c ÷ Σ A_c) A_c."""
        products, sums = (gradient * activation).flatten(2).sum(dim=2), activation.flatten(2).sum(dim=2)
        return weighted_sum(activation, products / (sums + SMALL))


class LayerCAM(ActivationMap):
    """Activations times the positive part of their gradients (Jiang 2021, IEEE TIP 30).

    Unlike methods that average gradients, it works for early layers, too, whose maps are finer.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import LayerCAM
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
        >>> maps = LayerCAM(layers="1")(net, torch.rand(2, 1, 7, 7))
        >>> maps.maps["image"].shape, bool((maps.maps["image"] >= 0).all())
        (torch.Size([2, 7, 7]), True)
    """

    method = "layer_cam"

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Compute Σ_c relu(G_c) ⊙ A_c."""
        return (gradient.relu() * activation).sum(dim=1)


class GradCAMPlusPlus(ActivationMap):
    """Channels weighted by their positive gradients, positions by higher derivatives (Chattopadhay 2018).

    The weight of a channel is Σ α relu(G), α = G² ÷ (2 G² + ΣA · G³) (equations 7 and 19, with the exponential of the
    score as the smooth function; the exponential itself only scales the whole map and is omitted). The paper assumes
    non-negative activations.

    Args:
        layers: see `seewhy.explain.capture.layers.Layers`.
        reshape: see `ActivationMap`.
        eps: added to the denominator of α; 1e-6 as in the grad-cam package. It matters if gradients are below about
            1e-3, e.g. before a mean over a large grid; 0 is the formula of the paper, as 1 ÷ (2 + ΣA · G).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import GradCAMPlusPlus
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        >>> GradCAMPlusPlus(layers="1")(net, torch.rand(2, 1, 4, 4), target=[0, 1]).maps["image"].shape
        torch.Size([2, 4, 4])
    """

    method = "grad_cam_plus_plus"

    def __init__(self, *, layers: Layers = None, reshape: Reshape | None = None, eps: PositiveFloat = 1e-6) -> None:
        super().__init__(layers=layers, reshape=reshape)
        if eps < 0:
            raise ConfigError(f"grad_cam_plus_plus: eps={eps}; expected at least 0")
        self.eps = eps

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Compute Σ_c (Σ α_c relu(G_c)) A_c."""
        sums = activation.flatten(2).sum(dim=2).reshape(*activation.shape[:2], *[1] * (activation.ndim - 2))
        positive = gradient.relu()
        if self.eps:
            alpha = gradient**2 / (2 * gradient**2 + sums * gradient**3 + self.eps)
        else:
            alpha = torch.where(positive > 0, 1 / (2 + sums * positive), 0)
        return weighted_sum(activation, (alpha * positive).flatten(2).sum(dim=2))


class FinerCAM(GradCAM):
    """Grad-CAM of what separates the target from similar classes (Zhang 2025, CVPR, arXiv 2501.11309).

    Explains the mean of y_c − α y_d over reference classes d, weighted by their softmax probabilities, as in the
    authors' code. With a single column of scores the map equals Grad-CAM, since that score is already the difference
    between the two classes; likewise for a contrast as the target, which has its own reference.

    Args:
        layers: see `seewhy.explain.capture.layers.Layers`.
        reshape: see `ActivationMap`.
        alpha: weight of the references' scores; 0 is Grad-CAM.
        references: number of reference classes, those with the scores nearest to the target's; or the indices of the
            reference classes (the target itself is ignored).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import FinerCAM, GradCAM
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
        >>> image = torch.rand(1, 1, 4, 4)
        >>> finer = FinerCAM(layers="1", alpha=0)(net, image, target=2).maps["image"]
        >>> torch.allclose(finer, GradCAM(layers="1")(net, image, target=2).maps["image"])
        True
    """

    method: str = "finer_cam"

    def __init__(
        self,
        *,
        layers: Layers = None,
        reshape: Reshape | None = None,
        alpha: float = 1.0,
        references: int | Sequence[int] = 3,
    ) -> None:
        super().__init__(layers=layers, reshape=reshape)
        if not references or (isinstance(references, int) and references < 1):
            raise ConfigError(f"finer_cam: references={references!r}; expected at least one class")
        self.alpha = alpha
        self.references = references if isinstance(references, int) else tuple(references)

    def score(self, subject: ExplainedModel, scores: Tensor, target: Tensor) -> Tensor:
        """Compute the weighted mean of the differences to the references, [B]."""
        target_scores = subject.target_scores(scores, target)
        if scores.shape[1] == 1 or target.ndim == 2:
            return target_scores
        references = self._select_references(scores.detach(), target)
        # Softmax over the references only: their probabilities, renormalised without loss of precision.
        weights = scores.masked_fill(~references, -torch.inf).softmax(dim=1)
        return target_scores - self.alpha * (weights * scores).sum(dim=1)

    def _select_references(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return [B, K] bool, whether a class is a reference of the sample."""
        classes = scores.shape[1]
        others = torch.ones_like(scores, dtype=torch.bool).scatter_(1, target[:, None], False)
        if isinstance(self.references, int):
            distance = (scores - scores.gather(1, target[:, None])).abs()
            distance = distance.masked_fill(~others, torch.inf)
            nearest = distance.argsort(dim=1, stable=True)[:, : min(self.references, classes - 1)]
            return torch.zeros_like(others).scatter_(1, nearest, True)
        wrong = [index for index in self.references if not 0 <= index < classes]
        if wrong:
            raise ConfigError(f"finer_cam: references={wrong} are out of range; expected classes 0 to {classes - 1}")
        named = torch.zeros_like(others)
        named[:, list(self.references)] = True
        chosen = named & others
        without = sorted(set(target[~chosen.any(dim=1)].tolist()))
        if without:
            raise ConfigError(
                f"finer_cam: references={list(self.references)} contain no class other than the target {without}"
            )
        return chosen
