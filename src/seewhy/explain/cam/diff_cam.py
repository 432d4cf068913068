"""DiffCAM: channels weighted by how a sample's features differ from those of reference examples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.cam.base import ActivationMap, Reshape, weighted_sum
from seewhy.explain.capture.layers import Capture, Layers, capture, resolve_layers
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.io.npy import read_npz

__all__ = ["DiffCAM"]


class DiffCAM(ActivationMap):
    """Channels weighted by the difference of their means to those of reference examples (after Li 2025).

    It shows where the features are that set a sample apart from the references, whatever a head makes of them: scores
    and gradients are not used, so that encoders, regressions and image translators can be explained. The direction is
    the plain difference of the pooled features. The map is the same for every target.

    Args:
        layers: see `seewhy.explain.capture.layers.Layers`.
        reshape: see `ActivationMap`.
        references: examples to differ from, e.g. healthy patients: inputs like those of the module, or the path of an
            `.npz` with an array for each input (`image` for a single one). None: the other samples of the batch, so
            that a map depends on its batch.

    Raises:
        ConfigError: references of other inputs; or none, for a batch of one sample.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import DiffCAM
        >>> encoder = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> healthy, image = torch.zeros(5, 1, 4, 4), torch.rand(2, 1, 4, 4)
        >>> DiffCAM(layers="1", references=healthy)(encoder, image).maps["image"].shape
        torch.Size([2, 4, 4])
    """

    method = "diff_cam"
    needs_gradient = False
    joins_slices = True

    def __init__(
        self, *, layers: Layers = None, reshape: Reshape | None = None, references: Inputs | str | None = None
    ) -> None:
        super().__init__(layers=layers, reshape=reshape)
        self.references = references

    @torch.no_grad()
    def prepare(self, subject: ExplainedModel, activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the mean features that each sample is compared with, [B, C] by input."""
        means = {name: _pool(activation) for name, activation in activations.items()}
        if self.references is None:
            if subject.batch < 2:
                raise ConfigError(
                    "diff_cam compares with the other samples of the batch, and there is one; give references"
                )
            return {name: (one.sum(dim=0) - one) / (len(one) - 1) for name, one in means.items()}
        device = next(iter(subject.inputs.values())).device
        others = ExplainedModel(subject.module, self._load_references(subject, device))
        with torch.enable_grad():
            captured = capture(others, resolve_layers(others, self.layers))
        grids = self._to_grids(others, captured.activations)
        return {name: _pool(grid).mean(dim=0).expand_as(means[name]) for name, grid in grids.items()}

    def coarse(
        self,
        subject: ExplainedModel,
        activations: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        trials: Mapping[str, Tensor],
        target: Tensor,
    ) -> dict[str, Tensor]:
        """Compute Σ_c (mean A_c − mean of the references) A_c."""
        return {name: weighted_sum(one, _pool(one) - trials[name]) for name, one in activations.items()}

    def _compute_gradients(
        self, subject: ExplainedModel, captured: Capture, target: Tensor, *, last: bool
    ) -> dict[str, Tensor]:
        """Return ones: no score decides which positions count."""
        ones = {name: torch.ones_like(one) for name, one in captured.activations.items()}
        return self._to_grids(subject, ones)

    def _load_references(self, subject: ExplainedModel, device: torch.device) -> Inputs:
        """Return the references as the module takes them."""
        given = self.references
        if isinstance(given, str | Path):
            arrays = read_npz(given)
            if set(arrays) != set(subject.inputs):
                raise ConfigError(
                    f"diff_cam: references={given} has {', '.join(arrays)}; expected {', '.join(subject.inputs)}"
                )
            named = {name: torch.from_numpy(array).float().to(device) for name, array in arrays.items()}
            return named["image"] if list(named) == ["image"] else named
        if isinstance(given, Tensor):
            return given.to(device)
        if isinstance(given, Mapping):
            return {name: one.to(device) for name, one in given.items()}
        return [one.to(device) for one in given or ()]


def _pool(activation: Tensor) -> Tensor:
    """Average activations [N, C, *s] over positions, [N, C]."""
    return activation.flatten(2).mean(dim=2)
