"""Base class of models that translate scans between two domains: predictions, scores and checkpoint choice."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from seewhy.batch import MODALITIES, Batch, Prediction
from seewhy.errors import ConfigError
from seewhy.metrics.translation.similarity import DIRECTIONS, TranslationScores, centre_slices, subject_name
from seewhy.metrics.translation.sliced_wasserstein import TranslationDistance
from seewhy.models.protocols import MeasuresIntensities
from seewhy.models.translation.adversarial import AdversarialModule

if TYPE_CHECKING:
    from rich.table import Table

    from seewhy.figures.report.blocks import ReportTable

__all__ = ["UnpairedTranslation", "direction_of", "other_domain"]

CARRIED = ("id", "patient", "index", "source", "domain")
"""Keys of a batch that are copied to its prediction."""


def direction_of(domain: str) -> str:
    """The direction in which a domain's scans are translated.

    Raises:
        ConfigError: unknown domain.

    Example:
        >>> direction_of("a"), other_domain("a")
        ('a2b', 'b')
    """
    if domain not in DIRECTIONS:
        raise ConfigError(f"domain={domain!r} is unknown; valid: 'a', 'b'")
    return DIRECTIONS[domain]


def other_domain(domain: str) -> str:
    """`b` of `a` and `a` of `b`."""
    return direction_of(domain)[-1]


class UnpairedTranslation(AdversarialModule):
    """Translates whole subjects slice by slice, translates them back, and scores them.

    `val/loss`, which chooses the checkpoint, is the mean over directions of `TranslationDistance` plus `val_cycle`
    times the mean absolute error of cycles over the tissue, on a scale of 0 to 1. Cycle errors or similarity to the
    input alone would choose a network that changes nothing, whose distance is 1 here. A direction without validation
    subjects counts as 1.

    Expected hyperparameters, in addition to those of `AdversarialModule`:
        val_cycle: see above.

    Attributes:
        sample_scores: stage → scores of every slice, which the commands write to `evaluation/`.
        measured_buffers: buffers that are measured, not learned; averages of weights do not change them.
    """

    intensity_a: Tensor
    intensity_b: Tensor
    measured_buffers: tuple[str, ...] = ("intensity_a", "intensity_b")
    prediction_writer: ClassVar[str] = "seewhy.callbacks.translation.writer.TranslationWriter"
    result_pictures: ClassVar[Mapping[str, str]] = {"translation.png": "One head, two scanners"}

    @abstractmethod
    def translates(self, domain: str) -> bool:
        """Whether scans of a domain can be translated."""

    @abstractmethod
    def translate(self, stack: Tensor, *, domain: str, body: Tensor | None = None) -> Tensor:
        """Translate stacks [B, S * M, H, W] of a domain to centre slices [B, M, H, W] of the other domain."""

    @abstractmethod
    def reconstruct(self, translated: Tensor, *, domain: str, body: Tensor | None = None) -> Tensor:
        """Translate all slices [S, M, H, W] of a translated subject back to its first domain."""

    def configure_metrics(self) -> None:
        """Build the scores per stage, the distance of domains, and buffers for the intensities of -1 and 1."""
        self.sample_scores = {"val": TranslationScores(), "test": TranslationScores()}
        self.distance = TranslationDistance()
        for domain in DIRECTIONS:
            self.register_buffer(f"intensity_{domain}", torch.full((len(MODALITIES), 2), torch.nan))

    def typical_intensity(self, domain: str) -> Tensor:
        """Intensities [M, 2] of -1 and 1 in a typical training subject of a domain; NaN before training."""
        direction_of(domain)
        return self.get_buffer(f"intensity_{domain}")

    def result_tables(self, metrics: Mapping[str, float], *, phantom: bool) -> list[Table]:
        """Tables of the test's scores and of the lesion check; see `seewhy.models.protocols.ReportsResults`."""
        from seewhy.figures.translation.results import lesion_table, translation_table

        tables = [translation_table(metrics, phantom=phantom), lesion_table(metrics, phantom=phantom)]
        return [table for table in tables if table.row_count]

    def result_blocks(self, metrics: Mapping[str, float], *, phantom: bool) -> list[ReportTable]:
        """The same tables for the report."""
        from seewhy.figures.translation.results import lesion_blocks, translation_blocks

        return [*translation_blocks(metrics, phantom=phantom), *lesion_blocks(metrics, phantom=phantom)]

    def on_fit_start(self) -> None:
        """Measure the typical intensities of -1 and 1: the median over all training subjects."""
        datamodule = self.find_datamodule()
        if not isinstance(datamodule, MeasuresIntensities):
            return
        for domain in DIRECTIONS:
            values = torch.as_tensor(datamodule.intensities(domain), dtype=torch.float32)
            self.typical_intensity(domain).copy_(values.median(dim=0).values)

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> Prediction:
        """Translate all slices of one subject, and translate them back where the model can."""
        domain, body = batch["domain"][0], batch["body"]
        result: dict[str, Any] = {key: value for key, value in batch.items() if key in CARRIED}
        if self.translates(domain):
            result["translated"] = self.translate(cast(Tensor, batch["image"]), domain=domain, body=body)
            if self.translates(other_domain(domain)):
                result["reconstructed"] = self.reconstruct(result["translated"], domain=domain, body=body)
        return cast(Prediction, result)

    def on_validation_epoch_start(self) -> None:
        """Reset the scores of the last validation."""
        self.sample_scores["val"].reset()
        self.distance.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> Prediction:
        """Translate a subject and keep its scores."""
        prediction = self._evaluate(batch, "val")
        domain = batch["domain"][0]
        self.distance.update(
            centre_slices(cast(Tensor, batch["image"])),
            prediction.get("translated"),
            batch["body"],
            domain=domain,
            subject=subject_name(batch["id"][0], domain),
        )
        return prediction

    def on_validation_epoch_end(self) -> None:
        """Log the scores of all subjects, and `val/loss`, which chooses the checkpoint."""
        if self.trainer.sanity_checking:
            return
        scores, shares = self.sample_scores["val"].compute(), self.distance.compute()
        directions = [name for domain, name in DIRECTIONS.items() if self.translates(domain)]
        if missing := [name for name in directions if name not in shares]:
            rank_zero_warn(f"no validation subjects of both domains: the distance of {', '.join(missing)} counts as 1")
        cycles = [value for name, value in scores.items() if name.endswith("/cycle/mae")]
        loss = sum(shares.get(name, 1.0) for name in directions) / len(directions)
        loss += float(self.hparams["val_cycle"]) * sum(cycles) / max(len(cycles), 1)
        # The other scores, which are redundant or measure no quality, are logged only in the test.
        curves = {name: value for name, value in scores.items() if "/change/" not in name and not name.endswith("/mse")}
        self._log_all("val", {"loss": loss, **{f"{name}/distance": share for name, share in shares.items()}, **curves})

    def on_test_epoch_start(self) -> None:
        """Reset the scores of the last test."""
        self.sample_scores["test"].reset()

    def test_step(self, batch: Batch, batch_idx: int) -> Prediction:
        """Translate a subject and keep its scores."""
        return self._evaluate(batch, "test")

    def on_test_epoch_end(self) -> None:
        """Log the scores of all subjects."""
        self._log_all("test", self.sample_scores["test"].compute())

    def _evaluate(self, batch: Batch, stage: str) -> Prediction:
        prediction = self.predict_step(batch)
        if "translated" in prediction:
            self.sample_scores[stage].update(prediction, batch)
        return prediction

    def _log_all(self, stage: str, scores: dict[str, float]) -> None:
        """Log the scores; every rank computes them from the subjects of all ranks, so nothing is reduced."""
        self.log_dict({f"{stage}/{name}": value for name, value in scores.items()}, rank_zero_only=False)
