"""Classifier of several named images of a case: one backbone per image, and one head on the joined features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.nets.classifiers.backbones import PlanarFeatures

__all__ = ["PRESENT", "SHARED", "MultiInputClassifier"]

PRESENT = "present"
"""Entry of an input dict that marks available inputs, [B, number of inputs] bool."""
SHARED = "shared"
"""Name of the backbone that all inputs share."""


class MultiInputClassifier(nn.Module):
    """Class scores of a case from its named images: one backbone each, pooled and joined features, one head.

    **Missing inputs.** If `present` is False, the pooled features of the input are exactly zero, so its image has no
    effect, no gradient and an empty map. (Zeros need no training and no parameters, unlike a learned vector;
    `input_dropout` trains the head for missing inputs.) In training, the missing image is replaced by an available
    image of the batch in the backbone, so that empty images do not change the statistics of batch normalisation.

    Names of the parameters: `stem.*`, `branches.<input>.net.*` in the layout of the library (with `shared`,
    `branches.shared.net.*` for all inputs), `head.0.*` and `head.3.*`. The AMD reference system's `to3`,
    `backbone1` … and `classifier` are `stem`, `branches.<first input>.net.features` … and `head`.

    Args:
        inputs: names of the images, in the order in which they are processed and their features are joined.
        num_outputs: K, class scores.
        backbone: `name` and options of `seewhy.nets.classifiers.backbones.PlanarFeatures`.
        in_channels: channels of each image.
        shared: whether one backbone serves all inputs: called once per input to predict, and once for all of them in
            training if they have the same size.
        stem: `conv1x1` adds a 1 x 1 convolution to three channels, shared by all inputs, before the backbones, as in
            the AMD reference system; None adds nothing.
        hidden: width of the head's hidden layer.
        dropout: dropout of the hidden layer.
        input_dropout: probability of dropping an input of a case in training; one input always remains.

    Example:
        >>> import torch
        >>> from seewhy.nets.classifiers.multi_input import MultiInputClassifier
        >>> net = MultiInputClassifier(
        ...     inputs=["oct", "fundus"], num_outputs=3, backbone={"name": "test_efficientnet"}, hidden=8
        ... ).eval()
        >>> images = {"oct": torch.rand(2, 1, 32, 32), "fundus": torch.rand(2, 1, 32, 32)}
        >>> net(images).shape, net.layers()
        (torch.Size([2, 3]), {'oct': 'branches.oct', 'fundus': 'branches.fundus'})
        >>> missing = {**images, "present": torch.tensor([[True, False]] * 2)}
        >>> torch.equal(net(missing), net({**missing, "fundus": torch.zeros(2, 1, 32, 32)}))
        True
    """

    def __init__(
        self,
        *,
        inputs: Sequence[str],
        num_outputs: int,
        backbone: Mapping[str, Any],
        in_channels: int = 1,
        shared: bool = False,
        stem: str | None = None,
        hidden: int = 512,
        dropout: float = 0.3,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check_names(inputs)
        if stem not in (None, "conv1x1"):
            raise ConfigError(f"model.stem={stem!r} is unknown; expected conv1x1 or null")
        if not 0.0 <= input_dropout < 1.0:
            raise ConfigError(f"model.input_dropout={input_dropout}; expected at least 0 and below 1")
        self.inputs = tuple(inputs)
        self.input_dropout = float(input_dropout)
        self.stem = nn.Conv2d(in_channels, 3, 1) if stem else None
        channels = 3 if stem else in_channels
        names = (SHARED,) if shared else self.inputs
        self.branches = nn.ModuleDict({name: PlanarFeatures(**backbone, in_channels=channels) for name in names})
        width = self.branch(self.inputs[0]).channels
        self.head = nn.Sequential(
            nn.Linear(len(self.inputs) * width, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_outputs),
        )

    @property
    def shares_backbone(self) -> bool:
        """Whether one backbone serves all inputs."""
        return SHARED in self.branches

    def branch(self, name: str) -> PlanarFeatures:
        """Return the backbone of an input; its output is the last feature map [B, channels, h, w]."""
        return cast(PlanarFeatures, self.branches[SHARED if self.shares_backbone else name])

    def layers(self) -> dict[str, str]:
        """Return input → name of the submodule that returns its last feature map."""
        return {name: f"branches.{SHARED if self.shares_backbone else name}" for name in self.inputs}

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        """Compute class scores [B, K].

        Args:
            images: input → [B, C, H, W]; and `present` [B, inputs] bool if some are missing.

        Raises:
            ConfigError: no image for an input.
        """
        missing = [name for name in self.inputs if name not in images]
        if missing:
            raise ConfigError(f"no image for {', '.join(missing)}; expected all of {', '.join(self.inputs)}")
        scores: Tensor = self.head(self._compute_features(images, self._get_present(images)))
        return scores

    def _compute_features(self, images: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Compute pooled features [B, inputs · width], zero for missing inputs."""
        given = images.get(PRESENT)
        used = [images[name] for name in self.inputs]
        if self.training and given is not None:
            used = [image[_choose_replacements(given[:, k])] for k, image in enumerate(used)]
        if self.training and self.shares_backbone and len({image.shape for image in used}) == 1:
            # One batch of all inputs: batch normalisation learns with the statistics that it will predict with.
            pooled = self._pool(SHARED, torch.cat(used)).chunk(len(used))
        else:
            pooled = tuple(self._pool(name, image) for name, image in zip(self.inputs, used, strict=True))
        return torch.cat([features.masked_fill(~present[:, k, None], 0.0) for k, features in enumerate(pooled)], dim=1)

    def _pool(self, name: str, image: Tensor) -> Tensor:
        """Pooled features [B, width] of the backbone of an input."""
        if self.stem is not None:
            image = self.stem(image)
        pooled: Tensor = self.branch(name)(image).mean(dim=(2, 3))
        return pooled

    def _get_present(self, images: Mapping[str, Tensor]) -> Tensor:
        """Return [B, inputs] bool: available, and in training not dropped."""
        first = images[self.inputs[0]]
        shape = (first.shape[0], len(self.inputs))  # len() would fix the batch of an exported network
        given = images.get(PRESENT)
        present = torch.ones(shape, dtype=torch.bool, device=first.device) if given is None else given.bool()
        if present.shape != shape:
            raise ConfigError(f"present has shape {tuple(present.shape)}; expected {shape}, one column per input")
        if not self.training or self.input_dropout == 0:
            return present
        left = present & (torch.rand(shape, device=first.device) >= self.input_dropout)
        return torch.where(left.any(dim=1, keepdim=True), left, present)


def _choose_replacements(given: Tensor) -> Tensor:
    """Return the index of each sample if it is available, else of the first available one; its own if none is."""
    rows = torch.arange(len(given), device=given.device)
    return torch.where(given | ~given.any(), rows, given.to(torch.uint8).argmax())


def _check_names(inputs: Sequence[str]) -> None:
    """Check that names can be parts of parameter names and of file names."""
    reserved = {PRESENT, SHARED, *dir(nn.ModuleDict)}
    wrong = [name for name in inputs if name in reserved or not name.isidentifier()]
    if not inputs or len(set(inputs)) < len(inputs) or wrong:
        raise ConfigError(
            f"model.inputs={list(inputs)}: expected different names of letters, digits and _"
            + (f"; not allowed: {', '.join(wrong)}" if wrong else "")
        )
