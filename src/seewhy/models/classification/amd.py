"""Grading of age-related macular degeneration from en-face images of one eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from seewhy.errors import ConfigError, nearest
from seewhy.explain.base import Explainer
from seewhy.explain.explained_model import Explainable, Target
from seewhy.models.classification.answer import Answer, Image, as_batch, explainer_named, summarised, write_answer
from seewhy.models.classification.base import Classification
from seewhy.nets.classifiers.multi_input import MultiInputClassifier
from seewhy.options import call_with_options

__all__ = ["AMDGrading"]


class AMDGrading(Classification):
    """A grade from several registered images, each seen by a backbone of its own, joined by one head.

    `forward(image)` takes a dict of inputs, each [B, 1, H, W], and `present` [B, inputs] bool where some are
    missing; it gives raw class scores [B, K].

    Args:
        optimizer: `name`, `lr` and options of the optimiser.
        scheduler: `name` and options of `seewhy.models.base.learning_rate_factor`.
        inputs: names of the images, in order.
        classes: names of the grades, in order.
        in_channels: channels of each image.
        backbone: `name` and options of `seewhy.nets.classifiers.planar_features.PlanarFeatures`.
        pretrained: start from timm's published weights of the backbone, which are downloaded; a file is given by
            the command's `weights` instead.
        weights_by: how the command's `weights` file is matched: by `name`, or by `position`, for files whose
            tensors have other names but the same order and shapes.
        shared: one backbone for all inputs.
        stem: `conv1x1` or None, see `seewhy.nets.classifiers.multi_input.MultiInputClassifier`.
        head: `hidden` and `dropout` of the head, see there.
        input_dropout: probability with which training leaves out an input.
        ordinal: see `Classification`, as all that follow.
        loss: see `Classification`.
        calibrate: see `Classification`.
        freeze: see `Classification`.
        freeze_backbone_epochs: see `Classification`.
        layer_decay: see `Classification`.
        head_lr: see `Classification`.
        seed: of every draw in training and of bootstraps.
    """

    def __init__(
        self,
        *,
        optimizer: Mapping[str, Any],
        scheduler: Mapping[str, Any],
        inputs: Sequence[str] = ("mnv", "fluid", "ga", "drusen"),
        classes: Sequence[str] = ("normal", "early", "intermediate", "advanced"),
        in_channels: int = 1,
        backbone: Mapping[str, Any] | None = None,
        pretrained: bool = False,
        weights_by: str = "name",
        shared: bool = False,
        stem: str | None = None,
        head: Mapping[str, Any] | None = None,
        input_dropout: float = 0.0,
        ordinal: bool = True,
        loss: Mapping[str, Any] | None = None,
        calibrate: bool = True,
        freeze: Sequence[str] = (),
        freeze_backbone_epochs: int = 0,
        layer_decay: float = 1.0,
        head_lr: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        backbone = {"name": "efficientnet_b0"} if backbone is None else dict(backbone)
        loss = {"name": "cross_entropy"} if loss is None else dict(loss)
        self.save_hyperparameters()
        self.configure()

    def configure_nets(self) -> None:
        """Build backbones and head."""
        h = self.hparams
        self.net = call_with_options(
            MultiInputClassifier,
            h["head"],
            "model.head",
            inputs=h["inputs"],
            num_outputs=self.num_outputs,
            backbone=h["backbone"],
            in_channels=h["in_channels"],
            shared=h["shared"],
            stem=h["stem"],
            input_dropout=h["input_dropout"],
        )

    def backbones(self) -> Sequence[nn.Module]:
        """One network per input, or the one they share."""
        return list(self.net.branches.values())

    def forward(self, image: Mapping[str, Tensor]) -> Tensor:
        """Raw class scores [B, K]."""
        scores: Tensor = self.net(image)
        return scores

    def explainable(self) -> Explainable:
        """Every input with the last feature map of its backbone."""
        return Explainable(
            inputs=self.net.inputs,
            layers={name: f"net.{layer}" for name, layer in self.net.layers().items()},
            classes=self.classes,
        )

    def explain(
        self,
        *,
        target: Target = None,
        save_dir: str | Path | None = None,
        sample_id: str = "sample",
        method: str | Explainer = "grad_cam",
        **images: Image,
    ) -> Answer:
        """Grade an eye and say why, e.g. `model.explain(mnv=…, fluid=…, ga=…, drusen=…, save_dir="here")`.

        Args:
            target: class to explain, one for all cases or one each; None is the predicted one.
            save_dir: folder for `<id>_gradcam_visualization.png` (other methods: `<id>_<method>_…`) and
                `<id>_heatmaps/<id>_<input>.png`; None writes nothing.
            sample_id: name of the files; several cases get `_0`, `_1`, … behind it.
            method: name of a method in `seewhy.explain`, or an explainer.
            images: one for each input, normalised as the data set gives it: an array or tensor [H, W],
                [C, H, W] or [B, C, H, W]; an input that is None or left out counts as missing.

        Raises:
            ConfigError: an image that is no input, shapes that do not fit, no such method or target.
        """
        unknown = [name for name in images if name not in self.net.inputs]
        if unknown:
            raise ConfigError("; ".join(f"{name!r} is no input; {nearest(name, self.net.inputs)}" for name in unknown))
        ordered = {name: images.get(name) for name in self.net.inputs}
        batch = as_batch(ordered, channels=self.hparams["in_channels"], device=self.device)
        maps = explainer_named(method)(self, batch, target)
        answer = summarised(maps, self.probability(maps.scores.to(self.device)))
        if save_dir is not None:
            count = len(maps.target)
            names = [sample_id] if count == 1 else [f"{sample_id}_{i}" for i in range(count)]
            answer["files"] = write_answer(answer, batch, save_dir, names, classes=self.classes)
        return answer
