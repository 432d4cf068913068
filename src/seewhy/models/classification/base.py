"""Classification of whole cases: everything that grading and diagnosis share, whatever the images look like."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from seewhy.batch import Batch, Prediction
from seewhy.errors import ConfigError
from seewhy.losses.classification import build_loss
from seewhy.metrics.classification.calibration import calibrated_probability, fit_temperature
from seewhy.metrics.classification.cases import CaseScores
from seewhy.models.base import BaseModule
from seewhy.models.classification.freezing import Freezing, depth_of_parameters
from seewhy.nets.classifiers.planar_features import load_timm_weights

__all__ = ["CARRIED", "Classification"]

CARRIED = ("id", "patient", "source", "index", "label", "placement")
"""Keys of a batch that its prediction keeps."""


class Classification(BaseModule):
    """One class for each case; `forward(image)` gives raw class scores [B, K].

    A subclass calls `save_hyperparameters()` and then `configure()`; it fills `configure_nets`, `forward` and
    `backbones`, and says in `explainable` how it is explained. Losses, scores, calibration, freezing and the
    groups of the optimiser are here.

    With `loss.name` = `binary` the scores are one logit [B, 1] for two classes (1 is its sigmoid); with every
    other loss they are one score per class. Either way a prediction's `probability` has one column per class.

    **Calibration** (Guo 2017): after each validation one temperature T is fitted to the scores of all validation
    cases and kept in the buffer `temperature`, so that every checkpoint carries its own. `probability` is
    softmax(scores / T); `logits`, losses and explanations use the scores as they are.

    Expected hyperparameters, all plain data, besides those of `BaseModule`:
        classes: names of the classes, in order of their index.
        ordinal: whether that order means something; then kappa is quadratic and the error is counted in grades.
        loss: `name` and options of `seewhy.losses.classification.build_loss`.
        calibrate: fit the temperature; otherwise it stays 1.
        freeze: patterns (`fnmatch`) of names of parameters that never learn.
        freeze_backbone_epochs: epochs in which the backbones do not learn yet.
        pretrained: give the backbones timm's published weights when training starts (downloaded); may be missing.
        layer_decay: each layer of a backbone learns at this factor of the layer above it; 1 is off.
        head_lr: factor on the learning rate of everything but the backbones.
        seed: of draws in training and of bootstraps.

    Attributes:
        patient_scores: stage → scores with one row per case, which the commands write to `patients.csv`.
        measured_buffers: names of buffers that are measured, not learned; averages of weights leave them alone.
    """

    temperature: Tensor
    measured_buffers: tuple[str, ...] = ("temperature",)

    @property
    def num_outputs(self) -> int:
        """K, the columns of the class scores."""
        return 1 if self.hparams["loss"]["name"] == "binary" else len(self.hparams["classes"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.hparams["classes"])

    @abstractmethod
    def forward(self, image: Any) -> Tensor:
        """Raw class scores [B, K] of a batch's `image`."""

    def backbones(self) -> Sequence[nn.Module]:
        """Networks that come pretrained: they are what `freeze_backbone_epochs`, `layer_decay` and `weights` mean."""
        return ()

    def configure(self) -> None:
        """Fill the slots, and settle what is frozen."""
        if len(set(self.classes)) < 2 or len(set(self.classes)) < len(self.classes):
            raise ConfigError(f"model.classes={list(self.classes)}: expected two or more different names")
        super().configure()
        self.register_buffer("temperature", torch.ones(()))
        self.freezing = Freezing(
            self, patterns=self.hparams["freeze"], epochs=self.hparams["freeze_backbone_epochs"], parts=self.backbones()
        )

    def configure_losses(self) -> None:
        """The loss of class scores."""
        self.loss = build_loss(num_classes=len(self.classes), options=self.hparams["loss"])

    def configure_metrics(self) -> None:
        """Scores per stage; intervals and floors, which take seconds, in the test only."""
        h = self.hparams
        common = {"classes": self.classes, "ordinal": h["ordinal"], "seed": h["seed"]}
        self.patient_scores = {
            "val": CaseScores(**common, resamples=0, permutations=0),
            "test": CaseScores(**common),
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Backbones, by depth where `layer_decay` asks for it, and everything else at `head_lr`.

        Parameters of the same depth in several backbones share a group. What is frozen for good is in none.
        """
        decay, head_lr = float(self.hparams["layer_decay"]), float(self.hparams["head_lr"])
        scales: dict[int, float] = {}
        for backbone in self.backbones():
            depths = depth_of_parameters(backbone)
            top = max(depths.values(), default=0)
            for name, parameter in backbone.named_parameters():
                scales[id(parameter)] = decay ** (top - depths[name])
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in self.parameters():
            if parameter.requires_grad or self.freezing.thaws(parameter):
                groups.setdefault(scales.get(id(parameter), head_lr), []).append(parameter)
        if not groups:
            raise ConfigError(f"model.freeze={self.hparams['freeze']!r} leaves nothing to learn")
        return [{"params": groups[scale], "lr_scale": scale} for scale in sorted(groups)]

    def setup(self, stage: str) -> None:
        """Get pretrained weights for a training from its start; a checkpoint needs none."""
        if stage == "fit" and self.hparams.get("pretrained") and self.trainer.ckpt_path is None:
            load_timm_weights(self.backbones())

    def on_fit_start(self) -> None:
        """Count the training cases of each class, where the loss weighs classes by them."""
        if getattr(self.loss, "balanced", False):
            counts = getattr(self.trainer.datamodule, "class_counts", None)  # type: ignore[attr-defined]
            if counts is None:
                raise ConfigError("model.loss.class_weights=balanced needs a DataModule that has class_counts()")
            empty = self.loss.balance(list(counts()))
            if empty:
                names = ", ".join(self.classes[k] for k in empty)
                rank_zero_warn(f"no training case of class {names}: it cannot be learned")

    def on_train_epoch_start(self) -> None:
        """Freeze or thaw, and put what is frozen into evaluation mode."""
        self.freezing.begin_epoch(self.current_epoch, distributed=self.trainer.world_size > 1)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep the optimiser's hands off what is frozen for now."""
        self.freezing.drop_gradients()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        logits, label = self(batch["image"]), batch["label"]
        loss: Tensor = self.loss(logits, label)
        self.log("train/loss", loss.detach(), batch_size=len(label))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the scores of the last validation."""
        self.patient_scores["val"].reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> Prediction:
        """Predict some cases and keep their scores."""
        return self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Fit the temperature to all validation cases, then log their scores."""
        if not self.trainer.sanity_checking:
            self._log_scores("val", calibrate=bool(self.hparams["calibrate"]))

    def on_test_epoch_start(self) -> None:
        """Forget the scores of the last test."""
        self.patient_scores["test"].reset()

    def test_step(self, batch: Batch, batch_idx: int) -> Prediction:
        """Predict some cases and keep their scores."""
        return self._evaluate(batch, "test")

    def on_test_epoch_end(self) -> None:
        """Log the scores of all cases."""
        self._log_scores("test")

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> Prediction:
        """Scores and calibrated probabilities of some cases."""
        logits = self(batch["image"]).float()
        known = {key: value for key, value in batch.items() if key in CARRIED}
        return cast(Prediction, {**known, "logits": logits, "probability": self.probability(logits)})

    def probability(self, logits: Tensor) -> Tensor:
        """Calibrated probability [B, classes] of raw class scores [B, K]."""
        return calibrated_probability(logits, self.temperature)

    def _evaluate(self, batch: Batch, stage: str) -> Prediction:
        prediction = self.predict_step(batch)
        self.patient_scores[stage].update(prediction, batch)
        return prediction

    def _log_scores(self, stage: str, *, calibrate: bool = False) -> None:
        """Every rank computes the same from all ranks' cases, so there is nothing to reduce."""
        scores = self.patient_scores[stage]
        logits, label = scores.outputs()
        if not len(label):
            return
        if calibrate:
            self.temperature.fill_(fit_temperature(logits, label))
        scores.temperature = float(self.temperature)
        # One loss over all cases: that of batches, averaged, would depend on their size where classes are weighted.
        loss = self.loss(logits.to(self.device), label.to(self.device))
        logged = {"loss": float(loss), "temperature": scores.temperature, **scores.compute()}
        self.log_dict({f"{stage}/{name}": value for name, value in logged.items()}, rank_zero_only=False)
