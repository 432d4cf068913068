"""Weakly-supervised segmentation: pixels learned from image-level classes alone, in three phases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Annotated, Any, cast

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from seewhy.batch import Batch, Prediction
from seewhy.data.base import BaseDataModule
from seewhy.errors import ConfigError, nearest
from seewhy.losses.segmentation import AffinityLoss, BalancedCrossEntropy, MultiLabelLoss
from seewhy.metrics.classification.slice_labels import SliceLabelScores
from seewhy.metrics.gather import Row
from seewhy.metrics.segmentation.patient_scores import PatientScores
from seewhy.models.base import OptimizerOptions, SchedulerOptions
from seewhy.models.weakly_supervised.activation_maps import ActivationMapModule, check_map, complete_loss_weights
from seewhy.nets.affinity import IGNORE, RandomWalk, affinity_labels, attention_affinity
from seewhy.nets.cam import MultiScaleCAM, View
from seewhy.nets.encoders import build_encoder
from seewhy.nets.encoders.base import Features
from seewhy.nets.heads import ClassificationHead, Pooling, SegFormerHead
from seewhy.nets.pseudo_labels import PseudoLabels, label_shares
from seewhy.nets.refinement import PixelAdaptiveRefinement, refine_regions
from seewhy.option_types import Fraction, NonNegativeInt, PositiveFloat, PositiveInt
from seewhy.options import OptionsOf, call_with_options

__all__ = ["Phase", "Phases", "WeaklySupervisedSegmentation"]


class Phase(IntEnum):
    """Phase of a training; each includes the ones before."""

    CLASSIFICATION = 0
    CAM_LABELS = 1
    WALK_LABELS = 2

    def __str__(self) -> str:
        return ("classification only", "pixel labels from CAM", "pixel labels from CAM and random walk")[self]


class Phases:
    """First steps of the phases of a training, in optimiser steps counted from 0.

    They are an int, a number of steps, or a float in [0, 1], a share of all steps of the fit (so `1` is one step and
    `1.0` the end); None is never.

    Args:
        cam_iters: step from which pixel losses count, with labels from the CAM.
        walk_iters: step from which their labels come from the random walk.

    Example:
        >>> phases = Phases(cam_iters=0.1, walk_iters=30)
        >>> phases.settle(lambda: 100)
        >>> [int(phases.at(step)) for step in (9, 10, 30)]
        [0, 1, 2]
    """

    def __init__(self, *, cam_iters: int | float | None, walk_iters: int | float | None) -> None:
        self.borders = {"cam_iters": cam_iters, "walk_iters": walk_iters}
        for name, border in self.borders.items():
            if border is not None and (border < 0 or (isinstance(border, float) and border > 1)):
                raise ConfigError(
                    f"model.{name}={border!r} is neither a number of steps (an int ≥ 0) nor a share of all steps "
                    "(a float in 0 … 1)"
                )
        self._steps: tuple[float, float] | None = None

    def settle(self, total: Callable[[], int]) -> None:
        """Turn shares into steps.

        Args:
            total: gives the number of steps of the fit; called only for shares.

        Raises:
            ConfigError: `walk_iters` lies before `cam_iters`.
        """
        cam, walk = (
            float("inf") if border is None else round(border * total()) if isinstance(border, float) else border
            for border in self.borders.values()
        )
        if walk < cam:
            raise ConfigError(
                f"model.walk_iters={self.borders['walk_iters']!r} (step {walk:g}) lies before "
                f"model.cam_iters={self.borders['cam_iters']!r} (step {cam:g})"
            )
        self._steps = (cam, walk)

    def at(self, step: int) -> Phase:
        """The phase of a step; call `settle` first."""
        if self._steps is None:
            raise RuntimeError("Phases.settle must be called before Phases.at")
        return Phase(sum(step >= border for border in self._steps))


LABEL_SOURCES = ("cam", "walk")
FROM_MODEL = ("image", "evidence", "body", "fill_holes", "unclear_level")
"""Arguments of `refine_regions` that are not among the options `regions`."""


class WeaklySupervisedSegmentation(ActivationMapModule):
    """Classifier whose activation maps teach its own affinities and a segmentation head (after AFA, Ru 2022).

    A training has three phases (see `Phase`): classification only; then also the segmentation head and, where the
    encoder has attention, affinities, with labels from the CAM; then segmentation labels from the CAM after a random
    walk along the affinities. Masks are never read in training.

    `forward(image)` gives logits [B, K]; the maps of a prediction are those of `ActivationMapModule`.

    Args:
        encoder: `name` and options of `seewhy.nets.encoders.build_encoder`.
        optimizer: `name`, `lr` and options of the optimiser.
        scheduler: `name` and options of `seewhy.models.base.learning_rate_factor`.
        in_channels: channels of an image.
        num_classes: classes with background, so 2 for lesion or not.
        pooling: `name` and options of `seewhy.nets.heads.Pooling`.
        classifier: options of `seewhy.nets.heads.ClassificationHead`.
        decoder: options of `seewhy.nets.heads.SegFormerHead`.
        cam: options of `seewhy.nets.cam.MultiScaleCAM`.
        labels: background scores `low`, `high`, `background` of `seewhy.nets.pseudo_labels.PseudoLabels`.
        min_probability: an image whose class has a lower predicted probability gives no pixel labels.
        refinement: options of `seewhy.nets.refinement.PixelAdaptiveRefinement`; None leaves it out.
        affinity: options of `seewhy.nets.affinity.RandomWalk`; None learns no affinities and takes no walk.
        affinity_labels: labels of affinities in the last phase: `cam`, or `walk` (their own output).
        affinity_detach: keep the affinity loss out of the encoder.
        seg_detach: keep the segmentation loss out of the encoder.
        cam_iters: start of the second phase: steps (int) or share of all steps (float).
        walk_iters: start of the third phase, likewise; None is never.
        loss_weights: of `classification`, `segmentation` and `affinity`; 0 leaves a part out altogether.
        loss: options of `seewhy.losses.segmentation.MultiLabelLoss`.
        head_lr: factor on the learning rate of everything except the encoder.
        freeze_norm: keep the encoder's normalisation as initialised.
        gate: classes whose predicted probability is not above this have empty maps; None gates nothing.
        evidence: the map that chooses regions.
        regions: options of `seewhy.nets.refinement.refine_regions`; None gives no `refined` map.
        fill_holes: fill holes of regions within slices; None: unless the training data says that what it shows may be
            a ring (`solid` in dataset.json), e.g. an enhancing tumour.
        weigh_slices: multiply the evidence of regions by the predicted probability of its slice, so that regions do not
            reach into slices without the class.
        decide_absence: learn from the labels of the validation slices how high the probability of a patient's most
            probable slice must be for the class to be present, and draw no regions in patients below. Masks are not
            used. Without validation patients every patient gets regions.
        region_channel: channel whose intensities tell regions apart.
        validation_maps: maps that are also made in validation.
        chunk_size: slices per forward in evaluation.
        seed: seed of every draw in training.

    Example:
        >>> import torch
        >>> model = WeaklySupervisedSegmentation(
        ...     encoder={"name": "cnn"}, optimizer={"name": "adamw", "lr": 1e-3}, scheduler={"name": "constant"}
        ... ).eval()
        >>> model(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        *,
        encoder: Annotated[Mapping[str, Any], OptionsOf(build_encoder)],
        optimizer: OptimizerOptions,
        scheduler: SchedulerOptions,
        in_channels: PositiveInt = 1,
        num_classes: PositiveInt = 2,
        pooling: Annotated[Mapping[str, Any] | None, OptionsOf(Pooling)] = None,
        classifier: Annotated[
            Mapping[str, Any] | None, OptionsOf(ClassificationHead, ("in_channels", "num_outputs", "pooling"))
        ] = None,
        decoder: Annotated[Mapping[str, Any] | None, OptionsOf(SegFormerHead, ("channels", "num_classes"))] = None,
        cam: Annotated[Mapping[str, Any] | None, OptionsOf(MultiScaleCAM)] = None,
        labels: Annotated[Mapping[str, Any] | None, OptionsOf(PseudoLabels, ("refine", "walk"))] = None,
        min_probability: Fraction = 0.0,
        refinement: Annotated[Mapping[str, Any] | None, OptionsOf(PixelAdaptiveRefinement)] = None,
        affinity: Annotated[Mapping[str, Any] | None, OptionsOf(RandomWalk)] = None,
        affinity_labels: str = "cam",
        affinity_detach: bool = False,
        seg_detach: bool = False,
        cam_iters: int | float | None = 0.1,
        walk_iters: int | float | None = 0.3,
        loss_weights: Annotated[Mapping[str, float] | None, OptionsOf(complete_loss_weights)] = None,
        loss: Annotated[Mapping[str, Any] | None, OptionsOf(MultiLabelLoss)] = None,
        head_lr: PositiveFloat = 1.0,
        freeze_norm: bool = False,
        gate: float | None = None,
        evidence: str = "cam",
        regions: Annotated[Mapping[str, Any] | None, OptionsOf(refine_regions, FROM_MODEL)] = None,
        fill_holes: bool | None = None,
        weigh_slices: bool = True,
        decide_absence: bool = True,
        region_channel: NonNegativeInt = 0,
        validation_maps: Sequence[str] = ("cam",),
        chunk_size: PositiveInt = 16,
        seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.configure()

    def configure_losses(self) -> None:
        """Build the three losses and the phases."""
        h = self.hparams
        self.classification_loss = call_with_options(MultiLabelLoss, h["loss"], "model.loss")
        self.segmentation_loss = BalancedCrossEntropy(ignore_index=IGNORE)
        self.affinity_loss = AffinityLoss()
        if h["affinity_labels"] not in LABEL_SOURCES:
            raise ConfigError(
                f"model.affinity_labels={h['affinity_labels']!r} is unknown; "
                f"{nearest(h['affinity_labels'], LABEL_SOURCES)}"
            )
        self.phases = Phases(cam_iters=h["cam_iters"], walk_iters=h["walk_iters"] if self.has_affinity else None)

    def configure_metrics(self) -> None:
        """Build the scores per stage: of the classes over all samples, of the maps per patient with masks."""
        for name in self.hparams["validation_maps"]:
            check_map("model.validation_maps", name, self.map_names)
        self.classification_scores = {stage: SliceLabelScores() for stage in ("val", "test")}
        self.patient_scores = {
            "val": PatientScores(distances=False, with_floors=False),
            "test": PatientScores(),
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The encoder, and everything else at `head_lr` times its learning rate; frozen parameters are in neither."""
        encoder = [p for p in self.encoder.parameters() if p.requires_grad]
        ids = {id(p) for p in encoder}
        heads = [p for p in self.parameters() if p.requires_grad and id(p) not in ids]
        return [{"params": encoder, "lr_scale": 1.0}, {"params": heads, "lr_scale": self.hparams["head_lr"]}]

    def on_train_start(self) -> None:
        """Turn the phases' shares into steps, and learn whether what the data show is solid."""
        self.phases.settle(self.total_steps)
        datamodule = self.find_datamodule()
        if isinstance(datamodule, BaseDataModule):
            self.solid.fill_(datamodule.solid)
        self._announced: Phase | None = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the draws of this step, and report the start of a phase."""
        super().on_train_batch_start(batch, batch_idx)
        phase = self.phases.at(self.global_step)
        if phase != self._announced:
            rank_zero_info(f"step {self.global_step}: {phase}")
            self._announced = phase

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch of images and their classes."""
        image, label = cast(Tensor, batch["image"]), batch["label"]
        phase = self.phases.at(self.global_step)
        pixels = phase > Phase.CLASSIFICATION and (self.has_affinity or self.has_segmentation)
        features = self.encoder(image, attention=pixels and self.has_affinity)
        logits = self.classifier(features.maps[-1])
        losses = {"classification": self.classification_loss(logits, label)}
        shares: dict[str, Tensor] = {}
        if pixels:
            routes = self._choose_routes(phase)
            labels = self._training_labels(image, label, logits, features, routes)
            losses |= self._pixel_losses(features, labels, routes)
            shares = label_shares(labels)
        total = sum((self.weights[name] * loss for name, loss in losses.items()), self._zero_gradients(phase))
        logged = {"loss": total, **{f"{name}_loss": value for name, value in losses.items()}, **shares}
        self.log_dict({f"train/{name}": value.detach() for name, value in logged.items()})
        return total

    def _choose_routes(self, phase: Phase) -> dict[str, str]:
        """Source of each head's labels; affinities learn from their own output only by explicit choice."""
        walking = phase == Phase.WALK_LABELS
        return {
            "segmentation": "walk" if walking else "cam",
            "affinity": self.hparams["affinity_labels"] if walking else "cam",
        }

    def _training_labels(
        self, image: Tensor, label: Tensor, logits: Tensor, features: Features, routes: dict[str, str]
    ) -> dict[str, Tensor]:
        """Pixel labels by route; images whose class the classifier does not see get none."""
        present = label > 0.5
        doubted = present & (logits.detach().sigmoid() < self.hparams["min_probability"])
        view = View(self.classifier.activation_map(features.maps[-1]), features.attention).detach()
        learners = {"segmentation": self.has_segmentation, "affinity": self.has_affinity}
        wanted = sorted({routes[name] for name, learns in learners.items() if learns})
        return self.pixel_labels(image, present, view, doubted=doubted.any(dim=1), routes=wanted)

    def _pixel_losses(self, features: Features, labels: dict[str, Tensor], routes: dict[str, str]) -> dict[str, Tensor]:
        losses = {}
        if self.has_segmentation:
            maps = [level.detach() for level in features.maps] if self.hparams["seg_detach"] else features.maps
            losses["segmentation"] = self.segmentation_loss(self.decoder(maps), labels[routes["segmentation"]])
        if self.has_affinity:
            detach = self.hparams["affinity_detach"]
            attention = [layer.detach() if detach else layer for layer in features.attention]
            height, width = features.maps[-1].shape[-2:]
            target = affinity_labels(labels[routes["affinity"]], size=(height, width), radius=self.radius)
            losses["affinity"] = self.affinity_loss(attention_affinity(attention, self.attn_proj), target)
        return losses

    def _zero_gradients(self, phase: Phase) -> Tensor:
        """A loss of 0, which under DDP depends on the unused heads, because DDP expects every gradient."""
        zero = torch.zeros((), device=self.device)
        if phase == Phase.CLASSIFICATION and self.trainer.world_size > 1:
            zero = zero + sum(0.0 * parameter.sum() for parameter in self._pixel_parameters())
        return zero

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Drop these zero gradients: Adam would average them and overshoot at the first real one."""
        if self.phases.at(self.global_step) == Phase.CLASSIFICATION:
            for parameter in self._pixel_parameters():
                parameter.grad = None

    def _pixel_parameters(self) -> Iterator[nn.Parameter]:
        for has, name in ((self.has_segmentation, "decoder"), (self.has_affinity, "attn_proj")):
            if has:
                yield from self.get_submodule(name).parameters()

    def on_validation_epoch_start(self) -> None:
        """Reset the scores of the last validation."""
        self.reset_scores("val")

    def validation_step(self, batch: Batch, batch_idx: int) -> Prediction:
        """Predict one patient, with `validation_maps`, and score it."""
        return self._evaluate(batch, "val", self.hparams["validation_maps"])

    def on_validation_epoch_end(self) -> None:
        """Fit the thresholds of presence to the labels of all patients, and log the scores."""
        if self.trainer.sanity_checking:
            return
        if self.hparams["decide_absence"] and self.trainer.state.fn == "fit":
            thresholds = self.classification_scores["val"].presence_thresholds()
            if thresholds:
                self.presence_threshold.copy_(torch.tensor(thresholds))
        self._log_scores("val")

    def on_test_epoch_start(self) -> None:
        """Reset the scores of the last test, and take the names of the channels for the floors."""
        datamodule = self.find_datamodule()
        if isinstance(datamodule, BaseDataModule):
            scores = self.patient_scores["test"]
            scores.channels, scores.channel = tuple(datamodule.channel_sources), int(self.hparams["region_channel"])
        self.reset_scores("test")

    def test_step(self, batch: Batch, batch_idx: int) -> Prediction:
        """Predict one patient, with all maps, and score it."""
        return self._evaluate(batch, "test", self.map_names)

    def on_test_epoch_end(self) -> None:
        """Log the scores of all patients."""
        self._log_scores("test")

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> Prediction:
        """Probabilities and all maps of the slices of one patient."""
        return self.predict(batch, self.map_names)[0]

    def _evaluate(self, batch: Batch, stage: str, names: Sequence[str]) -> Prediction:
        """Shared step of validation and test: predict, log the loss, keep the scores."""
        prediction, logits = self.predict(batch, names)
        loss = self.classification_loss(logits, batch["label"])
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(logits))
        self.update_scores(prediction, batch, stage)
        return prediction

    def reset_scores(self, stage: str) -> None:
        """Forget all patients; see `seewhy.models.protocols.ScoresPredictions`."""
        self.classification_scores[stage].reset()
        self.patient_scores[stage].reset()

    def update_scores(self, prediction: Prediction, batch: Batch, stage: str) -> None:
        """Keep the scores of a patient; see `seewhy.models.protocols.ScoresPredictions`."""
        if "label" in batch:
            self.classification_scores[stage].update(prediction, batch)
        self.patient_scores[stage].update(prediction, batch)

    def take_rows(self, stage: str) -> dict[str, list[Row]]:
        """Rows of the patients since the last call; see `seewhy.models.protocols.SharesScores`."""
        return {"slices": self.classification_scores[stage].take_rows(), "maps": self.patient_scores[stage].take_rows()}

    def add_rows(self, rows: Mapping[str, list[Row]], stage: str) -> None:
        """Add rows of another process; see `seewhy.models.protocols.SharesScores`."""
        self.classification_scores[stage].add_rows(rows["slices"])
        self.patient_scores[stage].add_rows(rows["maps"])

    def compute_scores(self, stage: str) -> dict[str, float]:
        """Scores of all patients; see `seewhy.models.protocols.ScoresPredictions`."""
        return self.classification_scores[stage].compute() | self.patient_scores[stage].compute()

    def _log_scores(self, stage: str) -> None:
        """Log the scores; every rank computes them from the patients of all ranks, so nothing is reduced."""
        scores = self.compute_scores(stage)
        self.log_dict({f"{stage}/{name}": value for name, value in scores.items()}, rank_zero_only=False)
