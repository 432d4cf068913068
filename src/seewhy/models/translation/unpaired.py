"""What models share that translate scans between two domains: predictions, scores, the choice of a checkpoint."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from seewhy.batch import MODALITIES, Batch, Prediction
from seewhy.errors import ConfigError
from seewhy.metrics.translation.similarity import DIRECTIONS, TranslationScores, centre_slices, subject_name
from seewhy.metrics.translation.sliced_wasserstein import TranslationDistance
from seewhy.models.translation.adversarial import AdversarialModule

__all__ = ["UnpairedTranslation", "direction_of", "other_domain"]

CARRIED = ("id", "patient", "index", "source", "domain")
"""Keys of a batch that its prediction keeps."""


def direction_of(domain: str) -> str:
    """The direction that a domain's scans are translated in.

    Raises:
        ConfigError: no such domain.
    """
    if domain not in DIRECTIONS:
        raise ConfigError(f"domain={domain!r} is unknown; valid: 'a', 'b'")
    return DIRECTIONS[domain]


def other_domain(domain: str) -> str:
    """`b` of `a` and `a` of `b`."""
    return direction_of(domain)[-1]


class UnpairedTranslation(AdversarialModule):
    """Whole subjects, slice by slice: translated, taken back, and scored.

    `val/loss`, which chooses the checkpoint, is the mean over directions of `TranslationDistance` plus `val_cycle`
    times the mean absolute error of cycles over the tissue, on a scale of 0 to 1. Cycle errors and similarity to the
    input alone would choose a network that changes nothing; with this one it has 1. A direction that the validation
    subjects do not show counts as 1.

    Expected hyperparameters, besides those of `AdversarialModule`:
        val_cycle: see above.

    Attributes:
        sample_scores: stage → scores of every slice, which the commands write to `evaluation/`.
        measured_buffers: buffers that are measured, not learned; averages of weights leave them alone.
    """

    intensity_a: Tensor
    intensity_b: Tensor
    measured_buffers: tuple[str, ...] = ("intensity_a", "intensity_b")

    @abstractmethod
    def translates(self, domain: str) -> bool:
        """Whether scans of a domain can be translated."""

    @abstractmethod
    def translate(self, stack: Tensor, *, domain: str, body: Tensor | None = None) -> Tensor:
        """Centre slices [B, M, H, W] of stacks [B, S * M, H, W] of a domain, as the other one's scanner shows them."""

    @abstractmethod
    def reconstruct(self, translated: Tensor, *, domain: str, body: Tensor | None = None) -> Tensor:
        """All slices [S, M, H, W] of a translated subject as the scanner of its own domain shows them."""

    def configure_metrics(self) -> None:
        """Scores per stage, the distance of domains, and what -1 and 1 stand for in each."""
        self.sample_scores = {"val": TranslationScores(), "test": TranslationScores()}
        self.distance = TranslationDistance()
        for domain in DIRECTIONS:
            self.register_buffer(f"intensity_{domain}", torch.full((len(MODALITIES), 2), torch.nan))

    def typical_intensity(self, domain: str) -> Tensor:
        """[M, 2], what -1 and 1 stand for in a typical training subject of a domain; NaN where none was seen."""
        direction_of(domain)
        return self.get_buffer(f"intensity_{domain}")

    def on_fit_start(self) -> None:
        """Measure what -1 and 1 stand for: the median of all training subjects."""
        datamodule: Any = getattr(self.trainer, "datamodule", None)
        for domain in DIRECTIONS if hasattr(datamodule, "intensities") else ():
            values = torch.as_tensor(datamodule.intensities(domain), dtype=torch.float32)
            self.typical_intensity(domain).copy_(values.median(dim=0).values)

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> Prediction:
        """All slices of one subject: translated, and taken back where there is a way back."""
        domain, body = batch["domain"][0], batch["body"]
        found: dict[str, Any] = {key: value for key, value in batch.items() if key in CARRIED}
        if self.translates(domain):
            found["translated"] = self.translate(cast(Tensor, batch["image"]), domain=domain, body=body)
            if self.translates(other_domain(domain)):
                found["reconstructed"] = self.reconstruct(found["translated"], domain=domain, body=body)
        return cast(Prediction, found)

    def on_validation_epoch_start(self) -> None:
        """Forget the scores of the last validation."""
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
        """Log the scores of all subjects, and what chooses the checkpoint."""
        if self.trainer.sanity_checking:
            return
        scores, shares = self.sample_scores["val"].compute(), self.distance.compute()
        known = [name for domain, name in DIRECTIONS.items() if self.translates(domain)]
        if unknown := [name for name in known if name not in shares]:
            rank_zero_warn(f"no validation subjects of both domains: the distance of {', '.join(unknown)} counts as 1")
        cycles = [value for name, value in scores.items() if name.endswith("/cycle/mae")]
        loss = sum(shares.get(name, 1.0) for name in known) / len(known)
        loss += float(self.hparams["val_cycle"]) * sum(cycles) / max(len(cycles), 1)
        # Of the others, which say the same or no quality, the test has all.
        curves = {name: value for name, value in scores.items() if "/change/" not in name and not name.endswith("/mse")}
        self._log_all("val", {"loss": loss, **{f"{name}/distance": share for name, share in shares.items()}, **curves})

    def on_test_epoch_start(self) -> None:
        """Forget the scores of the last test."""
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

    def _log_all(self, stage: str, found: dict[str, float]) -> None:
        """Every rank computes the same from all ranks' subjects, so there is nothing to reduce."""
        self.log_dict({f"{stage}/{name}": value for name, value in found.items()}, rank_zero_only=False)
