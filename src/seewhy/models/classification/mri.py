"""Classification of MRI volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from seewhy.data.case_files import Reading
from seewhy.errors import ConfigError
from seewhy.explain import Explainable
from seewhy.losses.classification import find_loss_problems
from seewhy.models.base import OptimizerOptions, SchedulerOptions
from seewhy.models.classification.base import Classification
from seewhy.models.exporting import ExportParts
from seewhy.nets.classifiers.volume_views import SliceView, build_view
from seewhy.option_types import Fraction, NonNegativeInt, PositiveFloat, PositiveInt

__all__ = ["MRIClassification"]


class MRIClassification(Classification):
    """One class per volume, with one of three views of it.

    `forward(image)` takes volumes [B, 1, D, H, W], D being the slices along the axis that the data set chose, and
    gives raw class scores [B, K]. `view` chooses the input of the network:

    - `channels`: all slices as the channels of one image (2D network). It is the cheapest view and can start from
      pretrained weights, but has one feature map for all slices, so CAMs cannot distinguish slices.
    - `slices`: each slice separately (2D network), pooled by gated attention; see `slice_weights`.
    - `volume`: the whole volume (3D network), whose feature map has a depth.

    Args:
        optimizer: `name`, `lr` and options of the optimiser.
        scheduler: `name` and options of `seewhy.models.base.learning_rate_factor`.
        backbone: `name` and options of `seewhy.nets.classifiers.backbones.PlanarFeatures`, or with view=volume of
            `seewhy.nets.classifiers.backbones.SpatialFeatures`.
        classes: names of the classes, in order of their index.
        view: `channels`, `slices` or `volume`.
        slices: first slice and the one after the last, as the data set cuts them.
        depth: slices of a volume where the data set resizes to a number; `channels` needs one of the two.
        pretrained: start from timm's published weights of the backbone, which are downloaded; for a file use the
            command's `weights` instead.
        weights_by: match the tensors of the command's `weights` file by `name`, or by `position` for files with
            other names but the same order and shapes.
        dropout: before the last layer.
        attention_dim: width of the attention over slices (`slices`).
        chunk_size: slices at a time in evaluation (`slices`); bounds memory, changes no score.
        ordinal: see `Classification`.
        loss: see `Classification`.
        calibrate: see `Classification`.
        freeze: see `Classification`.
        freeze_backbone_epochs: see `Classification`.
        layer_decay: see `Classification`.
        head_lr: see `Classification`.
        seed: seed of every draw in training and of bootstraps.

    Raises:
        ConfigError: unknown view, network or option.

    Example:
        >>> import torch
        >>> model = MRIClassification(
        ...     optimizer={"name": "adamw", "lr": 1e-3}, scheduler={"name": "constant"}, view="volume",
        ...     backbone={"name": "densenet", "init_features": 4, "growth_rate": 4, "block_config": [1]},
        ... ).eval()
        >>> model(torch.zeros(2, 1, 16, 16, 16)).shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        *,
        optimizer: OptimizerOptions,
        scheduler: SchedulerOptions,
        backbone: Mapping[str, Any],
        classes: Sequence[str] = ("HC", "TLE"),
        view: str = "channels",
        slices: Sequence[int] | None = None,
        depth: PositiveInt | None = None,
        pretrained: bool = False,
        weights_by: str = "name",
        dropout: Fraction = 0.0,
        attention_dim: PositiveInt = 128,
        chunk_size: PositiveInt = 32,
        ordinal: bool = False,
        loss: Annotated[Mapping[str, Any] | None, find_loss_problems] = None,
        calibrate: bool = True,
        freeze: Sequence[str] = (),
        freeze_backbone_epochs: NonNegativeInt = 0,
        layer_decay: PositiveFloat = 1.0,
        head_lr: PositiveFloat = 1.0,
        seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        loss = {"name": "cross_entropy"} if loss is None else dict(loss)
        self.save_hyperparameters()
        self.configure()

    def configure_nets(self) -> None:
        """Build the network of the chosen view."""
        h = self.hparams
        self.net = build_view(
            h["view"],
            h["backbone"],
            outputs=self.num_outputs,
            dropout=h["dropout"],
            depth=self._depth(),
            hidden=h["attention_dim"],
            chunk=h["chunk_size"],
        )

    def _depth(self) -> int | None:
        """Number of slices of a volume; None where the options do not fix it."""
        slices, depth = self.hparams["slices"], self.hparams["depth"]
        return int(slices[1]) - int(slices[0]) if depth is None and slices is not None else depth

    def backbones(self) -> Sequence[nn.Module]:
        """The network before its pooling."""
        return (self.net.encoder,)

    def forward(self, image: Tensor) -> Tensor:
        """Raw class scores [B, K] of volumes [B, 1, D, H, W]."""
        scores: Tensor = self.net(image)
        return scores

    def slice_weights(self, image: Tensor) -> Tensor:
        """Weight of each slice of volumes [B, 1, D, H, W] in the score: [B, D] float32, rows sum to 1.

        Raises:
            ConfigError: the model has no attention over slices.
        """
        if not isinstance(self.net, SliceView):
            raise ConfigError(f"only view=slices weighs slices; this model has view={self.hparams['view']}")
        return self.net.slice_weights(image)

    def export(self, reading: Reading) -> ExportParts:
        """The network, on volumes of the size of the training data."""
        if reading.size is None:
            raise ConfigError("the volumes have different sizes, but an export needs one; set data.size and data.depth")
        return self.describe_export({"image": torch.rand(2, 1, *reading.size)}, {})

    def explainable(self) -> Explainable:
        """The last feature map: [B, C, h, w] for all slices, [B · D, C, h, w], or [B, C, d, h, w], by view."""
        return Explainable(layers={"image": "net.encoder"}, classes=self.classes, temperature=self.score_temperature())
