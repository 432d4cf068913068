"""FinerCAM."""

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
    """Grad-CAM of what sets the target apart from similar classes (Zhang 2025, CVPR, arXiv 2501.11309).

    Explained is the mean of y_c − α y_d over reference classes d, each weighted by its softmax probability, as in
    the authors' code. A module with one column of scores has one reference, the other class, and the map is that of
    Grad-CAM: its score is the difference of the two.

    Args:
        layers: see `seewhy.explain.capture.layers.Layers`.
        reshape: see `ActivationMap`.
        alpha: how much of the references' scores is taken off; 0 is Grad-CAM.
        references: how many classes, those with the scores nearest to the target's; or the indices of the classes
            to compare with (the target itself is left out where it is one of them).
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
            raise ConfigError(f"finer_cam: references={references!r} must name or count at least one class")
        self.alpha = alpha
        self.references = references if isinstance(references, int) else tuple(references)

    def score(self, subject: ExplainedModel, scores: Tensor, target: Tensor) -> Tensor:
        """Weighted mean of the differences to the references, [B]."""
        own = subject.target_scores(scores, target)
        if scores.shape[1] == 1:
            return own
        compared = self._compared(scores.detach(), target)
        # Softmax over the references alone: their probabilities renormalised, however small they are.
        weights = scores.masked_fill(~compared, -torch.inf).softmax(dim=1)
        return own - self.alpha * (weights * scores).sum(dim=1)

    def _compared(self, scores: Tensor, target: Tensor) -> Tensor:
        """[B, K] bool, whether a class is a reference of the sample."""
        classes = scores.shape[1]
        others = torch.ones_like(scores, dtype=torch.bool).scatter_(1, target[:, None], False)
        if isinstance(self.references, int):
            distance = (scores - scores.gather(1, target[:, None])).abs()
            distance = distance.masked_fill(~others, torch.inf)
            nearest = distance.argsort(dim=1, stable=True)[:, : min(self.references, classes - 1)]
            return torch.zeros_like(others).scatter_(1, nearest, True)
        wrong = [one for one in self.references if not 0 <= one < classes]
        if wrong:
            raise ConfigError(f"finer_cam: references {wrong} are no classes; expected 0 to {classes - 1}")
        named = torch.zeros_like(others)
        named[:, list(self.references)] = True
        chosen = named & others
        alone = sorted(set(target[~chosen.any(dim=1)].tolist()))
        if alone:
            raise ConfigError(f"finer_cam: references={list(self.references)} leave target {alone} nothing to compare")
        return chosen
