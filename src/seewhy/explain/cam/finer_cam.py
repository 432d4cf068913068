"""FinerCAM: Grad-CAM of the difference to similar classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.cam.base import Reshape
from seewhy.explain.cam.grad_cam import GradCAM
from seewhy.explain.capture.layers import Layers
from seewhy.explain.explained_model import ExplainedModel

__all__ = ["FinerCAM"]


class FinerCAM(GradCAM):
    """Grad-CAM of what separates the target from similar classes (Zhang 2025, CVPR, arXiv 2501.11309).

    Explains the mean of y_c − α y_d over reference classes d, weighted by their softmax probabilities, as in the
    authors' code. With a single column of scores the map equals Grad-CAM, since that score is already the difference
    between the two classes.

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
        if scores.shape[1] == 1:
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
