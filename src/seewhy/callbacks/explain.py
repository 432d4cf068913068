"""Explanations after a fit, after a prediction, or every few epochs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from seewhy.batch import Batch, Prediction
from seewhy.data.base import BaseDataModule, find_datamodule
from seewhy.errors import ConfigError
from seewhy.explain.base import Explainer
from seewhy.io.atomic import file_sha256
from seewhy.metrics.gather import gather_rows
from seewhy.option_types import NonNegativeInt
from seewhy.progress import slow_bar
from seewhy.reporting.loaders.batches import LoaderSamples
from seewhy.reporting.loaders.explain_loader import hash_weights
from seewhy.reporting.pictures import log_explanations
from seewhy.reporting.report import write_session_results
from seewhy.reporting.sample import select_rows
from seewhy.reporting.selection import ExplanationSettings, SampleChoice, list_candidates, prediction_rows
from seewhy.reporting.session import Session
from seewhy.reporting.shared import SharedSession
from seewhy.reporting.store import ExplanationStore

__all__ = ["ExplainCallback"]

PARTS = {"test": "test", "validate": "val", "predict": "predict"}
"""Loop of the Trainer → part of the data."""


class ExplainCallback(Callback):
    """Explains chosen samples: maps, scores, pictures and tables in `<folder>/explanations`.

    Samples are explained at the end of a loop, when all predictions are known and written, so that a failure costs none
    of them. Maps that an earlier, interrupted run finished with the same weights and options are not computed again.

    The Trainer may be given a DataModule of seewhy or any DataLoader, whose batches are read as
    `seewhy.reporting.loaders.batches.read_batches` does. Such a loader must not shuffle, and is read on one process.

    Args:
        folder: the run folder.
        explainers: method name → explainer.
        settings: samples, targets and files.
        options: method name → options of its explainer as plain data; they are recorded, and identify finished maps.
        context: plain data of the model and the data, which identify finished maps too.
        after_fit: explain test samples; after a training these are predicted by the best checkpoint.
        after_predict: explain predicted samples.
        every_n_epochs: epochs between two explanations of validation samples, in `epoch_<n>`; 0 is never.
        lease: share the samples of a prediction with all processes that start the same command, of which one counts as
            lost after these seconds without a heartbeat; None does not share them.
        title: of figures, e.g. the name of the experiment; empty is the name of the model's class.

    Attributes:
        checkpoint: file of the weights, where the Trainer has not loaded it.
        results: files and tables of the last session, on the first process or the one that has written them.
        shared: the last session if its samples were shared.
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
        every_n_epochs: NonNegativeInt = 0,
        lease: float | None = None,
        title: str = "",
    ) -> None:
        if not explainers:
            raise ConfigError("no explainers: name some in explain.methods, e.g. [grad_cam]")
        self.folder = Path(folder) / "explanations"
        self.explainers, self.options, self.context = dict(explainers), dict(options or {}), context
        self.settings = settings or ExplanationSettings()
        self.after_fit, self.after_predict, self.every_n_epochs = after_fit, after_predict, every_n_epochs
        self.lease, self.title = lease, title
        self.checkpoint: Path | None = None
        self.results: dict[str, Any] = {}
        self.shared: SharedSession | None = None
        self._session: Session | None = None
        self._chosen: set[str] | None = None
        self._samples: BaseDataModule | LoaderSamples | None = None
        self._at_once, self._steps = True, 0
        self._rows: list[dict[str, Any]] = []
        self._bar = ExitStack()
        self._advance: Callable[[int], object] = lambda steps: None

    # -- Lightning's hooks -----------------------------------------------------------------------------------

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start a session if test samples are explained."""
        if self.after_fit:
            self._start(trainer, pl_module, "test", self.folder)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start a session if predicted samples are explained."""
        if self.after_predict:
            self._start(trainer, pl_module, "predict", self.folder)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start a session if this epoch's validation samples are explained."""
        due = self.every_n_epochs > 0 and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if due and not trainer.sanity_checking:
            folder = self.folder / f"epoch_{trainer.current_epoch + 1}"
            self._start(trainer, pl_module, "validate", folder)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Explain the chosen samples of a batch, or keep its predictions."""
        self._process(outputs, batch)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Explain the chosen samples of a batch, or keep its predictions."""
        self._process(outputs, batch)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Explain the chosen samples of a batch, or keep its predictions."""
        self._process(outputs, batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explain samples chosen by their predictions, and write all results."""
        self._finish(trainer, pl_module, "test")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explain samples chosen by their predictions, and write all results."""
        self._finish(trainer, pl_module, "predict")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explain samples chosen by their predictions, and write all results."""
        self._finish(trainer, pl_module, "validate")

    # -- shared by all loops ---------------------------------------------------------------------------------

    def _start(self, trainer: Trainer, module: LightningModule, loop: str, folder: Path) -> None:
        datamodule = find_datamodule(trainer)
        self._samples = LoaderSamples(trainer, module, loop) if datamodule is None else datamodule
        if datamodule is None and self.lease is not None:
            raise ConfigError("samples can only be shared by processes that read them from a DataModule of seewhy")
        path = Path(str(trainer.ckpt_path)) if trainer.ckpt_path and loop != "validate" else self.checkpoint
        facts = {
            "checkpoint": str(path) if path else None,
            "sha256": file_sha256(path) if path else hash_weights(module),
            "phantom": self._samples.is_phantom,
        }
        choice = self.settings.choice()
        ids = self._samples.sample_ids(PARTS[loop])
        all_of_them = choice.ids is not None or choice.count == 0
        candidates = ids if all_of_them else list_candidates(ids, self._samples.tissue_shares(PARTS[loop]))
        self._chosen = None if choice.needs_predictions else set(choice.by_name(candidates))
        count = min(self.settings.max_samples, len(ids)) if self._chosen is None else len(self._chosen)
        self._session = Session(
            module,
            datamodule,
            explainers=self.explainers,
            settings=self.settings,
            store=ExplanationStore(folder),
            options=self.options,
            facts=facts,
            context=self.context,
            count=count,
            validation=lambda count: _validation_batches(trainer, module, loop, count),
            calibration=lambda count: _calibration_batches(trainer, module, loop, count),
            masked=lambda part, count: _masked_batches(trainer, module, loop, part, count),
            advance=lambda steps: self._advance(steps),
            title=self.title,
        )
        self._steps = count * self._session.steps_per_sample
        self._rows = []
        # Where nothing else is predicted or written, the batches of the loop are explained at once.
        self._at_once = datamodule is not None and (
            loop == "validate" or (datamodule.only is not None and self.lease is None)
        )
        if self._at_once:
            self._open_bar(trainer)

    def _open_bar(self, trainer: Trainer) -> None:
        """Show what is left to do; on one process, since each has its share of the samples."""
        self._bar.close()
        title = (
            f"explaining by {', '.join(self.explainers)}"
            if len(self.explainers) < 4
            else (f"explaining by {len(self.explainers)} methods")
        )
        steps = -(-self._steps // trainer.world_size)
        self._advance = self._bar.enter_context(slow_bar(title, steps, shown=trainer.is_global_zero))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the bar from the terminal."""
        self._bar.close()

    def _process(self, prediction: Prediction, batch: Batch) -> None:
        if self._session is None:
            return
        if self._chosen is None:
            if isinstance(self._samples, LoaderSamples):
                prediction = self._samples.name_prediction(prediction, batch)
            self._rows += prediction_rows(prediction)
        elif self._at_once:
            self._session.explain(batch, self._chosen)

    def _finish(self, trainer: Trainer, module: LightningModule, loop: str) -> None:
        session = self._session
        if session is None:
            return
        self._session = None
        chosen = self._chosen
        if chosen is None:
            chosen = set(self.settings.choice().by_prediction(gather_rows(self._rows, key=("id",))))
        if self.lease is not None or self._chosen is None or not self._at_once:
            self._open_bar(trainer)
        if self.lease is not None:
            self.shared = _share(trainer, module, session, chosen, PARTS[loop], lease=self.lease)
            self.results = self.shared.run()
        else:
            if self._chosen is None or not self._at_once:
                for batch in _load_batches(trainer, module, chosen, PARTS[loop], self._samples):
                    session.explain(batch, chosen)
            self._bar.close()
            self.results = write_session_results(trainer, session)
        self._bar.close()
        if self.results:
            name = "explanations" if loop != "validate" else "val/explanations"
            log_explanations(trainer, self.results["folder"], self.results["records"], name=name)


def _share(
    trainer: Trainer, module: LightningModule, session: Session, chosen: Collection[str], part: str, *, lease: float
) -> SharedSession:
    """A session whose samples several processes share, each of which reads its own."""
    datamodule = _require_datamodule(trainer)
    datamodule.num_workers = 0  # loaders of single batches, which would start processes for each
    return SharedSession(
        session,
        datamodule.group_ids(chosen, part),
        chosen,
        load=lambda ids: _load_batches(trainer, module, ids, part, datamodule),
        lease=lease,
    )


def _validation_batches(trainer: Trainer, module: LightningModule, loop: str, count: int) -> Iterator[Batch]:
    """Some validation samples to tune thresholds on; none where validation samples are explained."""
    datamodule = find_datamodule(trainer)
    if datamodule is None or loop == "validate" or (loop == "predict" and datamodule.predict_on in ("val", "all")):
        return
    names = SampleChoice("spread", count=count).by_name(datamodule.sample_ids("val"))
    yield from _load_batches(trainer, module, names, "val", datamodule)


def _calibration_batches(trainer: Trainer, module: LightningModule, loop: str, count: int) -> Iterator[Batch]:
    """Some validation samples to calibrate regions on, and only these of their patients."""
    if trainer.world_size > 1:
        raise ConfigError("explain.region_alpha calibrates on one process; set trainer.devices=1, trainer.num_nodes=1")
    yield from _spread_batches(trainer, module, loop, "val", count)


def _masked_batches(trainer: Trainer, module: LightningModule, loop: str, part: str, count: int) -> Iterator[Batch]:
    """Some samples to tune a copy of the network on and to check it on; test samples only check it, once trained."""
    if part != "test":
        yield from _spread_batches(trainer, module, loop, part, count)
    elif loop != "validate":
        yield from _spread_batches(trainer, module, "validate", part, count)


def _spread_batches(trainer: Trainer, module: LightningModule, loop: str, part: str, count: int) -> Iterator[Batch]:
    """Some samples of a part as they are evaluated, and only these of their patients; none of a part explained."""
    datamodule = find_datamodule(trainer)
    explained = datamodule.predict_on if datamodule is not None and loop == "predict" else PARTS[loop]
    if datamodule is None or explained in (part, "all"):
        return
    names = set(SampleChoice("spread", count=count).by_name(datamodule.sample_ids(part)))
    for batch in _load_batches(trainer, module, names, part, datamodule):
        rows = [row for row, name in enumerate(batch["id"]) if name in names]
        if rows:
            yield select_rows(batch, rows)


def _load_batches(
    trainer: Trainer,
    module: LightningModule,
    ids: Collection[str],
    part: str,
    samples: BaseDataModule | LoaderSamples | None,
) -> Iterator[Batch]:
    """Batches of these samples, on the module's device."""
    assert samples is not None
    for batch in samples.loader_of(ids, part):
        with torch.inference_mode(False):
            moved = trainer.strategy.batch_to_device(batch, module.device)
        yield moved


def _require_datamodule(trainer: Trainer) -> BaseDataModule:
    datamodule = find_datamodule(trainer)
    if datamodule is None:
        raise ConfigError("sharing samples needs a seewhy.data.base.BaseDataModule as the Trainer's datamodule")
    return datamodule
