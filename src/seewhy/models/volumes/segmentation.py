"""Supervised segmentation of volumes, trained on patches and evaluated on whole volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, cast

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from seewhy.batch import Batch, Prediction
from seewhy.data.case_files import Reading
from seewhy.errors import ConfigError, nearest
from seewhy.losses.segmentation import DeepSupervision, DiceCrossEntropy, region_masks
from seewhy.metrics.gather import Row
from seewhy.metrics.segmentation.volume_scores import VolumeScores
from seewhy.models.base import BaseModule, OptimizerOptions, SchedulerOptions
from seewhy.models.exporting import ExportGraph, ExportParts
from seewhy.models.protocols import DescribesVolumes
from seewhy.models.volumes.networks import VolumeNetwork, build_volume_network
from seewhy.option_types import NonNegativeInt, PositiveInt
from seewhy.options import OptionsOf, call_with_options
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.predictor import PatchPredictor, predict_array
from seewhy_run.steps.volumes import WriteVolume
from seewhy_run.steps.windows import SegmentWindows

__all__ = ["VolumeSegmentation"]

THRESHOLD = 0.5
"""Probability above which a voxel belongs to a region."""


class VolumeSegmentation(BaseModule):
    """Predicts a class, or overlapping regions, for every voxel with a network of MONAI.

    `forward(image)` gives logits [B, K, Z, Y, X] of patches. Whole volumes are evaluated with the engine of
    `seewhy.volumes` that also predicts volumes of any size, so scores are those of predictions. Classes exclude each
    other (softmax; K includes the background); regions are sets of labels with a sigmoid each.

    The hyperparameters have everything that a prediction needs: `normalization` and `spacing` of the training data
    are taken from the DataModule when a fit begins.

    Args:
        network: `name` and options of `seewhy.models.volumes.networks.build_volume_network`.
        optimizer: `name`, `lr` and options of the optimiser.
        scheduler: `name` and options of `seewhy.models.base.learning_rate_factor`.
        classes: names of the labels 0, 1, 2 …; the first is the background.
        patch: voxels of a patch along Z, Y and X.
        in_channels: channels of an image.
        regions: name → labels, e.g. nnU-Net's; None learns the classes. In stored labels, later regions overwrite
            earlier ones, and each has the number of its last label.
        ignore_label: label of voxels that count in neither loss nor scores.
        loss: options of `seewhy.losses.segmentation.DiceCrossEntropy`.
        overlap: of neighbouring windows in whole volumes, as a share of the patch.
        window: weights of a window's voxels: gaussian, nnunet, hann or constant.
        window_batch: windows per forward.
        mirror_axes: axes (0 is Z) along which windows are mirrored and averaged in the test.
        normalization: of each channel, as `seewhy.volumes.normalization` takes it.
        spacing: mm along Z, Y and X that it was trained at.
        seed: seed of every draw in training and of bootstraps.

    Example:
        >>> import torch
        >>> model = VolumeSegmentation(
        ...     network={"name": "unet", "channels": [4, 8], "strides": [2]}, classes=["background", "atrium"],
        ...     patch=[8, 8, 8], optimizer={"name": "adamw", "lr": 1e-3}, scheduler={"name": "constant"},
        ... ).eval()
        >>> model(torch.zeros(1, 1, 8, 8, 8)).shape
        torch.Size([1, 2, 8, 8, 8])

    Attributes:
        patient_scores: stage → scores of volumes, which the commands write to `patients.csv`.
    """

    prediction_writer: ClassVar[str] = "seewhy.callbacks.volumes.segmentations.SegmentationWriter"

    def __init__(
        self,
        *,
        network: Mapping[str, Any],
        optimizer: OptimizerOptions,
        scheduler: SchedulerOptions,
        classes: Sequence[str],
        patch: tuple[PositiveInt, PositiveInt, PositiveInt],
        in_channels: PositiveInt = 1,
        regions: Mapping[str, Sequence[int]] | None = None,
        ignore_label: NonNegativeInt | None = None,
        loss: Annotated[Mapping[str, Any] | None, OptionsOf(DiceCrossEntropy, ("regions", "ignore_label"))] = None,
        overlap: Annotated[float, Ge(0), Lt(1)] = 0.5,
        window: str = "gaussian",
        window_batch: PositiveInt = 2,
        mirror_axes: Sequence[int] = (),
        normalization: Sequence[Mapping[str, Any]] | None = None,
        spacing: Sequence[float] | None = None,
        seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.configure()

    # -- classes ----------------------------------------------------------------------------------------------

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the foreground classes, or of the regions."""
        regions = self.hparams["regions"]
        return tuple(self.hparams["classes"][1:]) if regions is None else tuple(regions)

    @property
    def regions(self) -> list[list[int]] | None:
        """Labels of each region; None where classes are learned."""
        regions = self.hparams["regions"]
        return None if regions is None else [list(labels) for labels in regions.values()]

    @property
    def heads(self) -> dict[str, Any]:
        """Meaning of the logits' channels, as options of `seewhy.volumes.output_format.OutputFormat`."""
        if self.regions is None:
            return {"mode": "multiclass", "channels": len(self.hparams["classes"])}
        return {
            "mode": "regions", "channels": len(self.regions), "class_order": [labels[-1] for labels in self.regions],
        }  # fmt: skip

    # -- slots ------------------------------------------------------------------------------------------------

    def configure_nets(self) -> None:
        """Build the network, and check that it takes the patch."""
        _check(self.hparams)
        self.parts: VolumeNetwork = build_volume_network(
            self.hparams["network"], in_channels=self.hparams["in_channels"], out_channels=self.heads["channels"]
        )
        self.network = self.parts.module
        _check_patch(self.hparams, self.parts.steps)

    def configure_losses(self) -> None:
        """Build Dice and cross-entropy over all outputs of the network."""
        ignore = self.hparams["ignore_label"]
        loss = call_with_options(
            DiceCrossEntropy, self.hparams["loss"], "model.loss", regions=self.regions, ignore_label=ignore
        )
        self.loss = DeepSupervision(loss)

    def configure_metrics(self) -> None:
        """Build the scores per stage; structure, floors and intervals, which take longer, only in the test."""
        seed = self.hparams["seed"]
        self.patient_scores = {
            "val": VolumeScores(classes=self.classes, structure=False, with_floors=False, resamples=0, seed=seed),
            "test": VolumeScores(classes=self.classes, seed=seed),
        }

    def export(self, reading: Reading) -> ExportParts:
        """The network on windows, and how they are placed and blended over a volume."""
        hp, heads = self.hparams, self.heads
        binary = heads["mode"] == "multiclass" and heads["channels"] == 2
        step = SegmentWindows(
            graph="network",
            patch=tuple(hp["patch"]),
            overlap=float(hp["overlap"]),
            window=hp["window"],
            batch=int(hp["window_batch"]),
            mirror_axes=tuple(hp["mirror_axes"]),
            skip_empty=True,
            mode="binary" if binary else heads["mode"],
            threshold=THRESHOLD,
            class_order=tuple(heads.get("class_order", ())),
        )
        names = {str(number): name for number, name in enumerate(hp["classes"])}
        if hp["regions"] is not None:
            names = {str(labels[-1]): name for name, labels in hp["regions"].items()}
        graph = ExportGraph(
            module=self,
            inputs={"image": torch.rand(2, hp["in_channels"], *hp["patch"])},
            free={},
            outputs=["logits"],
            definition={"_target_": type(self.network).__name__, **self.parts.arguments},
            defined=self.network,
        )
        return ExportParts(graphs={"network": graph}, steps=[step, WriteVolume(classes=names)], classes=self.classes)

    # -- learning ---------------------------------------------------------------------------------------------

    def forward(self, image: Tensor) -> Tensor:
        """Logits [B, K, Z, Y, X] of patches at full size."""
        return self._outputs(image)[0]

    def on_fit_start(self) -> None:
        """Copy normalisation and spacing of the training data, so that a checkpoint can predict alone."""
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(datamodule, DescribesVolumes):
            return
        expected, channels = self.hparams["in_channels"], datamodule.channels
        if channels not in (None, expected):
            raise ConfigError(
                f"model.in_channels={expected}, but the volumes have {channels} channels; set it to {channels}"
            )
        self.hparams["normalization"], self.hparams["spacing"] = datamodule.normalization, datamodule.spacing

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch of patches."""
        loss: Tensor = self.loss(self._outputs(cast(Tensor, batch["image"])), batch["mask"])
        self.log("train/loss", loss.detach())
        return loss

    # -- whole volumes ----------------------------------------------------------------------------------------

    def probabilities(self, image: Tensor, *, mirror_axes: Sequence[int] = ()) -> Tensor:
        """Probabilities of every voxel of a volume, window by window.

        Args:
            image: [C, Z, Y, X], normalised.
            mirror_axes: axes along which windows are mirrored and averaged.

        Returns:
            [K, Z, Y, X] float32 in [0, 1] on the CPU: the foreground classes, or the regions.
        """
        hp = self.hparams
        training = self.network.training
        # Autocast is the Trainer's, since this runs inside its step.
        predictor = PatchPredictor(
            [self.network], mirror_axes=mirror_axes, batch_size=hp["window_batch"], device=self.device
        )
        values = predict_array(
            image.float().cpu().numpy(), predictor, patch=hp["patch"],
            output_format=OutputFormat(**self.heads, stored="float32"),
            overlap=hp["overlap"], window=hp["window"], batch_size=hp["window_batch"], device=self.device,
        )  # fmt: skip
        self.network.train(training)
        return torch.from_numpy(values[1:] if self.regions is None else values)

    def on_validation_epoch_start(self) -> None:
        """Reset the scores of the last validation."""
        self.reset_scores("val")

    def validation_step(self, batch: Batch, batch_idx: int) -> Prediction:
        """Predict one volume and score it."""
        return self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Log the scores of all volumes."""
        if not self.trainer.sanity_checking:
            self._log_scores("val")

    def on_test_epoch_start(self) -> None:
        """Reset the scores of the last test."""
        self.reset_scores("test")

    def test_step(self, batch: Batch, batch_idx: int) -> Prediction:
        """Predict one volume and score it."""
        return self._evaluate(batch, "test")

    def on_test_epoch_end(self) -> None:
        """Log the scores of all volumes."""
        self._log_scores("test")

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> Prediction:
        """Predict one volume."""
        return self._predict(batch, self.hparams["mirror_axes"])

    def _outputs(self, image: Tensor) -> Sequence[Tensor]:
        """Logits of all outputs, the finest first; only training has several."""
        output = self.network(image)
        if isinstance(output, Tensor):
            # DynUNet stacks its outputs, all at full size, as [B, outputs, K, Z, Y, X].
            return output.unbind(dim=1) if output.ndim == image.ndim + 1 else [output]
        return list(output)

    def _predict(self, batch: Batch, mirror_axes: Sequence[int]) -> Prediction:
        volumes = [self.probabilities(image, mirror_axes=mirror_axes) for image in cast(Tensor, batch["image"])]
        carried = {key: value for key, value in batch.items() if key in ("id", "patient", "source", "index")}
        return cast(Prediction, {**carried, "maps": {"segmentation": torch.stack(volumes)}})

    def _evaluate(self, batch: Batch, stage: str) -> Prediction:
        prediction = self._predict(batch, self.hparams["mirror_axes"] if stage == "test" else ())
        self.update_scores(prediction, batch, stage)
        return prediction

    def update_scores(self, prediction: Prediction, batch: Batch, stage: str) -> None:
        """Score the volumes of a batch with masks; see `seewhy.models.protocols.ScoresPredictions`."""
        if "mask" not in batch:
            return
        for i, name in enumerate(batch["id"]):
            spacing = batch["spacing"][i].tolist() if "spacing" in batch else []
            labels = cast(Tensor, batch["mask"])[i].cpu()
            ignore = self.hparams["ignore_label"]
            self.patient_scores[stage].update(
                self.probability_masks(prediction["maps"]["segmentation"][i]),
                self.label_masks(labels),
                image=cast(Tensor, batch["image"])[i],
                name=name,
                patient=batch["patient"][i],
                spacing=spacing if spacing and all(step == step for step in spacing) else None,
                known=None if ignore is None else labels != ignore,
            )

    def probability_masks(self, probability: Tensor) -> Tensor:
        """Masks [K, Z, Y, X] bool of probabilities: the most likely class, or every region above one half."""
        if self.regions is not None:
            return probability > THRESHOLD
        highest, best = probability.max(dim=0)
        foreground = highest > 1 - probability.sum(dim=0)
        return torch.stack([foreground & (best == k) for k in range(len(probability))])

    def label_masks(self, labels: Tensor) -> Tensor:
        """Masks [K, Z, Y, X] bool of labels [Z, Y, X], in the order of `probability_masks`."""
        parts = self.regions or [[number + 1] for number in range(len(self.classes))]
        return region_masks(labels[None].long(), parts)[0]

    def reset_scores(self, stage: str) -> None:
        """Forget all volumes; see `seewhy.models.protocols.ScoresPredictions`."""
        self.patient_scores[stage].reset()

    def take_rows(self, stage: str) -> dict[str, list[Row]]:
        """Rows of the volumes since the last call; see `seewhy.models.protocols.SharesScores`."""
        return {"volumes": self.patient_scores[stage].take_rows()}

    def add_rows(self, rows: Mapping[str, list[Row]], stage: str) -> None:
        """Add rows of another process; see `seewhy.models.protocols.SharesScores`."""
        self.patient_scores[stage].add_rows(rows["volumes"])

    def compute_scores(self, stage: str) -> dict[str, float]:
        """Scores of all volumes; see `seewhy.models.protocols.ScoresPredictions`."""
        return self.patient_scores[stage].compute()

    def _log_scores(self, stage: str) -> None:
        """Log the scores; every rank computes them from the volumes of all ranks, so nothing is reduced."""
        scores = self.compute_scores(stage)
        self.log_dict({f"{stage}/{name}": value for name, value in scores.items()}, rank_zero_only=False)


def _check_patch(options: Mapping[str, Any], steps: Sequence[int]) -> None:
    """Check that the network can halve the patch, and that its coarsest grid has more than one voxel.

    A single voxel has no standard deviation, which instance normalisation needs.

    Raises:
        ConfigError: with the nearest valid patch.
    """
    patch = list(options["patch"])
    single = patch == list(steps)
    if single or any(size % step for size, step in zip(patch, steps, strict=True)):
        near = [
            max(step, round(size / step) * step) * (2 if single else 1) for size, step in zip(patch, steps, strict=True)
        ]
        raise ConfigError(
            f"model.patch={patch}: {options['network']['name']} as it is takes multiples of {list(steps)}"
            + (", two along some axis" if single else "")
            + f"; nearest: data.patch={near}"
        )


def _check(options: Mapping[str, Any]) -> None:
    """Check classes, regions, patch and axes.

    Raises:
        ConfigError: with all problems.
    """
    problems, labels = [], len(options["classes"])
    if labels < 2:
        problems.append(f"model.classes={list(options['classes'])} must name the background and one class at least")
    for name, region in (options["regions"] or {}).items():
        if not region or any(not 1 <= label < labels for label in region):
            problems.append(f"model.regions.{name}={list(region)} must list labels from 1 to {labels - 1}")
    if len(options["patch"]) != 3:
        problems.append(f"model.patch={list(options['patch'])} must be three numbers")
    wrong = [axis for axis in options["mirror_axes"] if axis not in (0, 1, 2)]
    if wrong:
        problems.append(f"model.mirror_axes={list(options['mirror_axes'])}: {nearest(str(wrong[0]), ('0', '1', '2'))}")
    if problems:
        raise ConfigError("; ".join(problems))
