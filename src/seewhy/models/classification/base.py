"""Classification of whole cases: losses, scores, calibration and freezing, shared by grading and diagnosis."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Protocol, cast, runtime_checkable

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from seewhy.batch import Batch, Prediction
from seewhy.errors import ConfigError, nearest
from seewhy.losses.classification import ClassWeights, build_loss
from seewhy.metrics.classification.cases import CaseScores
from seewhy.metrics.classification.probabilities import calibrated_probability, fit_temperature
from seewhy.metrics.gather import Row
from seewhy.models.base import BaseModule
from seewhy.models.exporting import ExportGraph, ExportParts
from seewhy.models.protocols import CountsClasses
from seewhy.nets.classifiers.backbones import load_timm_weights
from seewhy_run.steps.classify import Classify

__all__ = ["CARRIED", "Classification", "Freezing", "depth_of_parameters"]


def depth_of_parameters(network: nn.Module) -> dict[str, int]:
    """Name → depth of every parameter, 0 nearest to the image, without gaps.

    For a timm network, also inside another module, these are the layers of its own `group_matcher` (about one per
    block); for other networks, the children in the order of their registration, such as the stages 0…8 of a
    torchvision `features`. A module whose only child has all parameters is replaced by that child.

    Example:
        >>> from torch import nn
        >>> depth_of_parameters(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Linear(2, 1)))
        {'0.weight': 0, '0.bias': 0, '2.weight': 1, '2.bias': 1}
    """
    for prefix, part in network.named_modules():
        if isinstance(part, _GroupsParameters):
            return _rank_depths(_timm_depths(part), f"{prefix}." if prefix else "")
    prefix, part = "", network
    while True:
        children = [name for name, child in part.named_children() if any(True for _ in child.parameters())]
        if len(children) != 1 or any(True for _ in part.parameters(recurse=False)):
            break
        prefix, part = f"{prefix}{children[0]}.", part.get_submodule(children[0])
    # A parameter of the part itself, such as a position embedding, comes before all children.
    depths = {name: depth for depth, name in enumerate(children, start=1)}
    return _rank_depths({name: depths.get(name.split(".")[0], 0) for name, _ in part.named_parameters()}, prefix)


@runtime_checkable
class _GroupsParameters(Protocol):
    """Networks of timm."""

    def group_matcher(self) -> Any: ...


def _timm_depths(network: Any) -> dict[str, int]:
    from timm.models import group_parameters

    depths: dict[str, int] = group_parameters(network, network.group_matcher(), reverse=True)
    return depths


def _rank_depths(depths: dict[str, int], prefix: str) -> dict[str, int]:
    ranks = {depth: rank for rank, depth in enumerate(sorted(set(depths.values())))}
    return {prefix + name: ranks[depth] for name, depth in depths.items()}


class Freezing:
    """Freezes parameters by name for the whole training, and parts of a module for the first epochs.

    Batch normalisation follows its parameters: where these are frozen, its statistics are too.

    Args:
        module: owner of the parameters; matching ones are frozen at once.
        patterns: `fnmatch` patterns of parameter names, e.g. `net.branches.*.conv_stem.*`.
        epochs: number of first epochs in which the parts do not learn.
        parts: submodules, e.g. the backbones.

    Raises:
        ConfigError: a pattern that no parameter matches, or a negative number of epochs.
    """

    def __init__(
        self, module: nn.Module, *, patterns: Sequence[str] = (), epochs: int = 0, parts: Sequence[nn.Module] = ()
    ) -> None:
        if epochs < 0:
            raise ConfigError(f"model.freeze_backbone_epochs={epochs} must be 0 or more")
        names = [name for name, _ in module.named_parameters()]
        missed = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)]
        if missed:
            raise ConfigError(
                "; ".join(f"model.freeze: no parameter matches {p!r}; {nearest(p, names)}" for p in missed)
            )
        self.epochs = epochs
        self.active = False
        """Whether the parts are frozen in the running epoch."""
        self._module, self._parts = [module], list(parts)  # in lists, so that the modules have no second owner
        for name, parameter in module.named_parameters():
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                parameter.requires_grad_(False)
        self._later = [p for part in self._parts for p in part.parameters() if p.requires_grad]
        self._later_ids = {id(parameter) for parameter in self._later}

    def thaws(self, parameter: nn.Parameter) -> bool:
        """Whether a parameter that does not learn now will learn later."""
        return id(parameter) in self._later_ids

    def begin_epoch(self, epoch: int, *, distributed: bool) -> None:
        """Freeze or thaw the parts for this epoch, and put frozen normalisation into evaluation mode.

        Args:
            epoch: counted from 0.
            distributed: DDP expects a gradient of every parameter during the whole training, so the parts get
                gradients and only `drop_gradients` keeps them from learning.
        """
        self.active = epoch < self.epochs
        if self.epochs:
            for parameter in self._later:
                parameter.requires_grad_(distributed or not self.active)
            for part in self._parts:
                part.train(not self.active)
        for layer in self._module[0].modules():
            params = list(layer.parameters(recurse=False))
            is_norm = isinstance(layer, nn.modules.batchnorm._BatchNorm)
            if is_norm and params and not any(p.requires_grad for p in params):
                layer.eval()

    def drop_gradients(self) -> None:
        """Drop the gradients of parts frozen in this epoch; an optimiser skips a parameter without a gradient."""
        if self.active:
            for parameter in self._later:
                parameter.grad = None


class _ScoresOf(nn.Module):
    """The scores of a model as a function of tensors: one image, or a stack of named ones and which are present."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)

    def forward(self, image: Tensor, present: Tensor | None = None) -> Tensor:
        if present is None:
            return cast(Tensor, self.model(image))
        inputs = {name: image[:, k] for k, name in enumerate(self.names)}
        return cast(Tensor, self.model({**inputs, "present": present}))


CARRIED = ("id", "patient", "source", "index", "label", "placement")
"""Keys of a batch that are copied to its prediction."""


class Classification(BaseModule):
    """One class for each case; `forward(image)` gives raw class scores [B, K].

    A subclass calls `save_hyperparameters()` and then `configure()`; it implements `configure_nets`, `forward`,
    `backbones` and `explainable`. This class has losses, scores, calibration, freezing and the groups of the
    optimiser.

    With `loss.name` = `binary` the scores are one logit [B, 1] for two classes (1 is its sigmoid); with every
    other loss they are one score per class. Either way a prediction's `probability` has one column per class.

    **Calibration** (Guo 2017): after each validation one temperature T is fitted to the scores of all validation
    cases and kept in the buffer `temperature`, so that every checkpoint carries its own. `probability` is
    softmax(scores / T); `logits`, losses and explanations use the scores as they are.

    Expected hyperparameters, all plain data, in addition to those of `BaseModule`:
        classes: names of the classes, in order of their index.
        ordinal: the classes are ordered grades; kappa is quadratic and the error is counted in grades.
        loss: `name` and options of `seewhy.losses.classification.build_loss`.
        calibrate: fit the temperature; otherwise it stays 1.
        freeze: patterns (`fnmatch`) of names of parameters that never learn.
        freeze_backbone_epochs: number of first epochs in which the backbones do not learn.
        pretrained: give the backbones timm's published weights when training starts (downloaded); may be missing.
        layer_decay: each layer of a backbone learns at this factor of the layer above it; 1 is off.
        head_lr: factor on the learning rate of everything but the backbones.
        seed: seed of draws in training and of bootstraps.

    Attributes:
        patient_scores: stage → scores with one row per case, which the commands write to `patients.csv`.
        measured_buffers: names of buffers that are measured, not learned; averages of weights do not change them.
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
        """Networks that `pretrained`, `weights`, `freeze_backbone_epochs` and `layer_decay` apply to."""
        return ()

    def configure(self) -> None:
        """Fill the slots and freeze parameters."""
        if len(set(self.classes)) < 2 or len(set(self.classes)) < len(self.classes):
            raise ConfigError(f"model.classes={list(self.classes)}: expected two or more different names")
        super().configure()
        self.register_buffer("temperature", torch.ones(()))
        self.freezing = Freezing(
            self, patterns=self.hparams["freeze"], epochs=self.hparams["freeze_backbone_epochs"], parts=self.backbones()
        )

    def configure_losses(self) -> None:
        """Build the loss of class scores."""
        self.loss = build_loss(num_classes=len(self.classes), options=self.hparams["loss"])

    def configure_metrics(self) -> None:
        """Build the scores per stage; intervals and floors, which take seconds, only in the test."""
        h = self.hparams
        common = {"classes": self.classes, "ordinal": h["ordinal"], "seed": h["seed"]}
        self.patient_scores = {
            "val": CaseScores(**common, resamples=0, permutations=0),
            "test": CaseScores(**common),
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Group backbones by depth for `layer_decay`, and everything else for `head_lr`.

        Parameters of the same depth in several backbones share a group. Permanently frozen parameters have no group.
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
        """Load pretrained weights for a new training; a continued one has the weights of its checkpoint."""
        if stage == "fit" and self.hparams.get("pretrained") and self.trainer.ckpt_path is None:
            load_timm_weights(self.backbones())

    def on_fit_start(self) -> None:
        """Count the training cases of each class for a loss with `class_weights=balanced`."""
        if isinstance(self.loss, ClassWeights) and self.loss.balanced:
            datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
            if not isinstance(datamodule, CountsClasses):
                raise ConfigError("model.loss.class_weights=balanced needs a DataModule that has class_counts()")
            empty = self.loss.balance(list(datamodule.class_counts()))
            if empty:
                names = ", ".join(self.classes[k] for k in empty)
                rank_zero_warn(f"no training case of class {names}: it cannot be learned")

    def on_train_epoch_start(self) -> None:
        """Freeze or thaw the backbones, and put frozen parts into evaluation mode."""
        self.freezing.begin_epoch(self.current_epoch, distributed=self.trainer.world_size > 1)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Drop the gradients of parts that are frozen in this epoch."""
        self.freezing.drop_gradients()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        logits, label = self(batch["image"]), batch["label"]
        loss: Tensor = self.loss(logits, label)
        self.log("train/loss", loss.detach(), batch_size=len(label))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Reset the scores of the last validation."""
        self.reset_scores("val")

    def validation_step(self, batch: Batch, batch_idx: int) -> Prediction:
        """Predict some cases and keep their scores."""
        return self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Fit the temperature to all validation cases, then log their scores."""
        if not self.trainer.sanity_checking:
            self._log_scores("val", calibrate=bool(self.hparams["calibrate"]))

    def on_test_epoch_start(self) -> None:
        """Reset the scores of the last test."""
        self.reset_scores("test")

    def test_step(self, batch: Batch, batch_idx: int) -> Prediction:
        """Predict some cases and keep their scores."""
        return self._evaluate(batch, "test")

    def on_test_epoch_end(self) -> None:
        """Log the scores of all cases."""
        self._log_scores("test")

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> Prediction:
        """Scores and calibrated probabilities of some cases."""
        logits = self(batch["image"]).float()
        carried = {key: value for key, value in batch.items() if key in CARRIED}
        return cast(Prediction, {**carried, "logits": logits, "probability": self.probability(logits)})

    def describe_export(
        self, inputs: Mapping[str, Tensor], free: Mapping[str, Mapping[int, str]], *, names: Sequence[str] = ()
    ) -> ExportParts:
        """An export of this network, with its classes and the calibration.

        Args:
            inputs: see `seewhy.models.exporting.ExportGraph`.
            free: see there.
            names: of the images that are stacked in one input; empty for a model of one image.
        """
        graph = ExportGraph(module=_ScoresOf(self, names), inputs=inputs, free=free, outputs=["logits"])
        step = Classify(
            graph="network", inputs=tuple(inputs), classes=self.classes, temperature=self.score_temperature()
        )
        return ExportParts(graphs={"network": graph}, steps=[step], classes=self.classes)

    def score_temperature(self) -> float:
        """The temperature that calibrates the scores, 1 without calibration."""
        return float(self.temperature)

    def probability(self, logits: Tensor) -> Tensor:
        """Calibrated probability [B, classes] of raw class scores [B, K]."""
        return calibrated_probability(logits, self.temperature)

    def reset_scores(self, stage: str) -> None:
        """Forget all cases; see `seewhy.models.protocols.ScoresPredictions`."""
        self.patient_scores[stage].reset()

    def update_scores(self, prediction: Prediction, batch: Batch, stage: str) -> None:
        """Keep the scores of some cases; see `seewhy.models.protocols.ScoresPredictions`."""
        self.patient_scores[stage].update(prediction, batch)

    def take_rows(self, stage: str) -> dict[str, list[Row]]:
        """Rows of the cases since the last call; see `seewhy.models.protocols.SharesScores`."""
        return {"cases": self.patient_scores[stage].take_rows()}

    def add_rows(self, rows: Mapping[str, list[Row]], stage: str) -> None:
        """Add rows of another process; see `seewhy.models.protocols.SharesScores`."""
        self.patient_scores[stage].add_rows(rows["cases"])

    def compute_scores(self, stage: str) -> dict[str, float]:
        """Scores of all cases; see `seewhy.models.protocols.ScoresPredictions`."""
        scores = self.patient_scores[stage]
        scores.temperature = float(self.temperature)
        return scores.compute()

    def _evaluate(self, batch: Batch, stage: str) -> Prediction:
        prediction = self.predict_step(batch)
        self.update_scores(prediction, batch, stage)
        return prediction

    def _log_scores(self, stage: str, *, calibrate: bool = False) -> None:
        """Log the scores; every rank computes them from the cases of all ranks, so nothing is reduced."""
        scores = self.patient_scores[stage]
        logits, label = scores.outputs()
        if not len(label):
            return
        if calibrate:
            self.temperature.fill_(fit_temperature(logits, label))
        # One loss over all cases: the mean over batches would depend on their size where classes are weighted.
        loss = self.loss(logits.to(self.device), label.to(self.device))
        logged = {"loss": float(loss), "temperature": float(self.temperature), **self.compute_scores(stage)}
        self.log_dict({f"{stage}/{name}": value for name, value in logged.items()}, rank_zero_only=False)
