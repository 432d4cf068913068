"""One backbone for each of several images of a case, and a head that weighs them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.nets.classifiers.planar_features import PlanarFeatures

__all__ = ["PRESENT", "SHARED", "MultiInputClassifier"]

PRESENT = "present"
"""Entry of an input dict that says which inputs were given, [B, number of inputs] bool."""
SHARED = "shared"
"""Name of the one backbone of all inputs."""


class MultiInputClassifier(nn.Module):
    """Class scores of a case from its named images: one backbone each, features pooled and joined, one head.

    **Missing inputs.** Where `present` is False the input's pooled features are exactly zero, so its image has no
    influence, no gradient and an empty map. (Zeros, not a learned vector: nothing has to be learned for them, and a
    network without missing inputs has no parameters for them. `input_dropout` teaches the head to do without.) In
    training its place in the backbone is taken by an image of the batch that is there, so that empty images
    do not move the statistics of batch normalisation.

    Names of the parameters: `stem.*`, `branches.<input>.net.*` in the library's own layout (with `shared`,
    `branches.shared.net.*` for all inputs), `head.0.*` and `head.3.*`. The AMD reference system's `to3`,
    `backbone1` … and `classifier` are `stem`, `branches.<first input>.net.features` … and `head`.

    Args:
        inputs: names of the images, in the order in which they are computed and their features joined.
        num_outputs: K, class scores.
        backbone: `name` and options of `seewhy.nets.classifiers.planar_features.PlanarFeatures`.
        in_channels: of each image.
        shared: one backbone for all inputs, called once per input, instead of one each.
        stem: `conv1x1` puts a 1 x 1 convolution to three channels, shared by all inputs, before the backbones, as
            the AMD reference system has it; None gives the images to the backbones as they are.
        hidden: width of the head's hidden layer.
        dropout: of the hidden layer.
        input_dropout: probability with which training leaves out an input of a case; one input is always left.
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
            raise ConfigError(f"model.input_dropout={input_dropout} must be within 0 … 1")
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
    def shared(self) -> bool:
        """Whether all inputs have one backbone."""
        return SHARED in self.branches

    def branch(self, name: str) -> PlanarFeatures:
        """The backbone of an input; its output is the last feature map [B, channels, h, w]."""
        return cast(PlanarFeatures, self.branches[SHARED if self.shared else name])

    def layers(self) -> dict[str, str]:
        """Input → name of the submodule that gives its last feature map."""
        return {name: f"branches.{SHARED if self.shared else name}" for name in self.inputs}

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        """Class scores [B, K].

        Args:
            images: input → [B, C, H, W]; and `present` [B, inputs] bool where some are missing.

        Raises:
            ConfigError: an input is not there at all.
        """
        missing = [name for name in self.inputs if name not in images]
        if missing:
            raise ConfigError(f"no image for {', '.join(missing)}; expected all of {', '.join(self.inputs)}")
        scores: Tensor = self.head(self._features(images, self._present(images)))
        return scores

    def _features(self, images: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Pooled features [B, inputs · width], zero where an input is missing."""
        given = images.get(PRESENT)
        found = []
        for k, name in enumerate(self.inputs):
            image = images[name]
            if self.training and given is not None:
                image = image[_stand_ins(given[:, k])]
            if self.stem is not None:
                image = self.stem(image)
            pooled = self.branch(name)(image).mean(dim=(2, 3))
            found.append(pooled.masked_fill(~present[:, k, None], 0.0))
        return torch.cat(found, dim=1)

    def _present(self, images: Mapping[str, Tensor]) -> Tensor:
        """[B, inputs] bool: given, and in training not dropped."""
        first = images[self.inputs[0]]
        shape = (len(first), len(self.inputs))
        given = images.get(PRESENT)
        present = torch.ones(shape, dtype=torch.bool, device=first.device) if given is None else given.bool()
        if present.shape != shape:
            raise ConfigError(f"present has shape {tuple(present.shape)}; expected {shape}: a column for each input")
        if not self.training or self.input_dropout == 0:
            return present
        left = present & (torch.rand(shape, device=first.device) >= self.input_dropout)
        return torch.where(left.any(dim=1, keepdim=True), left, present)


def _stand_ins(given: Tensor) -> Tensor:
    """For each sample itself where it is given, else the first one that is; without any, itself."""
    own = torch.arange(len(given), device=given.device)
    return torch.where(given | ~given.any(), own, given.to(torch.uint8).argmax())


def _check_names(inputs: Sequence[str]) -> None:
    """Names become parts of parameter names and files."""
    taken = [
        name for name in inputs if name in (PRESENT, SHARED) or hasattr(nn.ModuleDict, name) or not name.isidentifier()
    ]
    if not inputs or len(set(inputs)) < len(inputs) or taken:
        raise ConfigError(
            f"model.inputs={list(inputs)}: expected different names of letters, digits and _"
            + (f"; not possible: {', '.join(taken)}" if taken else "")
        )
