"""Explanations after a fit, after a prediction, or every few epochs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from seewhy.batch import Batch, Prediction
from seewhy.data.base import BaseDataModule
from seewhy.errors import ConfigError
from seewhy.explain.base import Explainer
from seewhy.io.atomic import file_sha256
from seewhy.metrics.gather import gather_rows
from seewhy.reporting.finish import finish
from seewhy.reporting.judging import TUNING
from seewhy.reporting.pictures import log_explanations
from seewhy.reporting.selection import ExplanationSettings, SampleChoice, prediction_rows
from seewhy.reporting.session import Session
from seewhy.reporting.store import ExplanationStore

__all__ = ["ExplainCallback"]

LOGGER = logging.getLogger(__name__)
PARTS = {"test": "test", "validate": "val", "predict": "predict"}
"""Trainer's loops, and the part of the data they go through."""


class ExplainCallback(Callback):
    """Makes maps of chosen samples, scores, pictures and tables below `<folder>/explanations`.

    Samples that are chosen by their names are explained as their batches pass; those chosen by their predictions
    after the loop, when all predictions are known. What was finished by an earlier, interrupted run of the same
    weights and options is not computed again.

    Args:
        folder: the run folder.
        explainers: method name → explainer.
        settings: what to explain and to write.
        options: method name → options of its explainer as plain data, which records and restarts go by.
        context: plain data of the model and the data, which restarts go by too.
        after_fit: explain test samples; after a training these are predicted by the best checkpoint.
        after_predict: explain predicted samples.
        every_n_epochs: explain validation samples after every so many epochs, in `epoch_<n>`; 0 is never.

    Attributes:
        checkpoint: the file the weights come from, where the Trainer was not the one to load it.
        results: the files and tables of the last session, on the first process.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        explainers: Mapping[str, Explainer],
        settings: ExplanationSettings | None = None,
        options: Mapping[str, Any] | None = None,
        context: object = None,
        after_fit: bool = True,
        after_predict: bool = False,
        every_n_epochs: int = 0,
    ) -> None:
        if not explainers:
            raise ConfigError("no explainers: name some in explain.methods, e.g. [grad_cam]")
        self.folder = Path(folder) / "explanations"
        self.explainers, self.options, self.context = dict(explainers), dict(options or {}), context
        self.settings = settings or ExplanationSettings()
        self.after_fit, self.after_predict, self.every_n_epochs = after_fit, after_predict, every_n_epochs
        self.checkpoint: Path | None = None
        self.results: dict[str, Any] = {}
        self._session: Session | None = None
        self._chosen: set[str] | None = None
        self._rows: list[dict[str, Any]] = []

    # -- Lightning's hooks -----------------------------------------------------------------------------------

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, if test samples are to be explained."""
        if self.after_fit:
            self._begin(trainer, pl_module, "test", self.folder)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, if predicted samples are to be explained."""
        if self.after_predict:
            self._begin(trainer, pl_module, "predict", self.folder)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, if this epoch's validation samples are to be explained."""
        due = self.every_n_epochs > 0 and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if due and not trainer.sanity_checking:
            folder = self.folder / f"epoch_{trainer.current_epoch + 1}"
            self._begin(trainer, pl_module, "validate", folder)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Explain the chosen samples of a batch, or note its predictions."""
        self._see(outputs, batch)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Explain the chosen samples of a batch, or note its predictions."""
        self._see(outputs, batch)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Explain the chosen samples of a batch, or note its predictions."""
        self._see(outputs, batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explain what was chosen by its predictions; draw and write everything."""
        self._end(trainer, pl_module, "test")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explain what was chosen by its predictions; draw and write everything."""
        self._end(trainer, pl_module, "predict")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explain what was chosen by its predictions; draw and write everything."""
        self._end(trainer, pl_module, "validate")

    # -- the same for all loops ------------------------------------------------------------------------------

    def _begin(self, trainer: Trainer, module: LightningModule, loop: str, folder: Path) -> None:
        datamodule = _datamodule(trainer)
        path = Path(str(trainer.ckpt_path)) if trainer.ckpt_path and loop != "validate" else self.checkpoint
        facts = {
            "checkpoint": str(path) if path else None,
            "sha256": file_sha256(path) if path else _weights_digest(module),
            "phantom": datamodule.is_phantom,
        }
        choice = self.settings.choice()
        known = datamodule.sample_ids(PARTS[loop])
        self._session = Session(
            module,
            datamodule,
            self.explainers,
            self.options,
            self.settings,
            ExplanationStore(folder),
            facts,
            context=self.context,
            count=min(self.settings.max_samples or len(known), len(known)),
            validation=lambda: self._validation(trainer, module, loop),
        )
        self._rows, self._chosen = [], None
        if not choice.needs_predictions:
            self._chosen = set(choice.by_name(known))

    def _see(self, prediction: Prediction, batch: Batch) -> None:
        if self._session is None:
            return
        if self._chosen is None:
            self._rows += prediction_rows(prediction)
        else:
            self._session.explain(batch, self._chosen)

    def _end(self, trainer: Trainer, module: LightningModule, loop: str) -> None:
        session = self._session
        if session is None:
            return
        self._session = None
        if self._chosen is None:
            rows = gather_rows(self._rows, key=("id",))
            self._explain_again(trainer, module, session, loop, self.settings.choice().by_prediction(rows))
        self.results = finish(trainer, session)
        if self.results:
            name = "explanations" if loop != "validate" else "val/explanations"
            log_explanations(trainer, self.results["folder"], self.results["records"], name=name)

    def _explain_again(
        self, trainer: Trainer, module: LightningModule, session: Session, loop: str, chosen: list[str]
    ) -> None:
        """Go through the chosen samples alone, now that predictions told which they are."""
        for batch in _batches(trainer, module, chosen, PARTS[loop]):
            session.explain(batch, set(chosen))

    def _validation(self, trainer: Trainer, module: LightningModule, loop: str) -> Iterator[Batch]:
        """Some validation samples, unless they are among those that are explained."""
        datamodule = _datamodule(trainer)
        if loop == "validate" or (loop == "predict" and datamodule.predict_on in ("val", "all")):
            return
        names = SampleChoice("spread", count=TUNING).by_name(datamodule.sample_ids("val"))
        yield from _batches(trainer, module, names, "val")


def _batches(trainer: Trainer, module: LightningModule, ids: Collection[str], part: str) -> Iterator[Batch]:
    """Batches with those samples, on the module's device."""
    for batch in _datamodule(trainer).loader_of(ids, part):
        with torch.inference_mode(False):
            moved = trainer.strategy.batch_to_device(batch, module.device)
        yield moved


def _datamodule(trainer: Trainer) -> BaseDataModule:
    datamodule = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, BaseDataModule):
        raise ConfigError("ExplainCallback needs a DataModule of seewhy.data.base.BaseDataModule in the Trainer's call")
    return datamodule


def _weights_digest(module: LightningModule) -> str:
    """SHA-256 over the weights at hand, where they come from no file."""
    import hashlib

    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
