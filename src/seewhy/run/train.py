"""Train, validate and test a model, and write its run folder."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import DictConfig

from seewhy.callbacks.checkpoints import AtomicCheckpointIO, BestCheckpoint, KeepScores, replace_checkpoint_io
from seewhy.callbacks.explain import ExplainCallback
from seewhy.callbacks.training.early_stopping import PruneTrial
from seewhy.data.base import BaseDataModule
from seewhy.errors import CheckpointError, ConfigError
from seewhy.io.atomic import atomic_path, write_json
from seewhy.models.protocols import HasBackbones, MeasuresAfterFit, ScoresPatients, ScoresSamples
from seewhy.run.build import (
    build_callbacks,
    build_datamodule,
    build_loggers,
    build_model,
    build_trainer,
    keep_freed_memory,
    set_threads,
)
from seewhy.run.checks import check_config, check_score_names
from seewhy.run.continuing import Continuation, begin_continuation, find_checkpoint
from seewhy.run.explanations.explainers import build_explain_callback, check_explained
from seewhy.run.figure_files import with_figure_options
from seewhy.run.folder import RunFolder
from seewhy.run.loaded.saved_run import load_state
from seewhy.run.model_card import write_model_card
from seewhy.run.pages.run_page import write_run_page
from seewhy.run.processes.environment import read_rank, set_batch_size
from seewhy.run.results import print_results, write_results
from seewhy.run.sweeps.member_state import MemberState, write_state
from seewhy.run.sweeps.pruning import build_pruning_callback
from seewhy.run.tracking.contents import collect_outcomes, collect_results
from seewhy.run.tracking.session import TrackingSession, begin_session, build_histograms
from seewhy.run.translation.score_table import write_samples
from seewhy.termination import Terminated
from seewhy.tracking.csv_log import drop_rows_from
from seewhy.tracking.media import find_step
from seewhy.tracking.run import Outcomes

__all__ = ["check_objective", "train"]

LOGGER = logging.getLogger(__name__)


@with_figure_options
def train(config: DictConfig) -> float | None:
    """Fit a model, test its best checkpoint, and write maps, results and the report.

    Returns:
        The metric of `objective`, for sweeps; None if it is null.

    Raises:
        SeewhyError: a problem of the configuration or the data that the user can fix.
        Terminated: SIGTERM has ended the training.
    """
    check_config(config, "phantom", "data", "model", "callbacks", "explain", "trainer", "logger")
    set_batch_size(config)
    folder = RunFolder(config.paths.output_dir)
    # Lightning does not know further machines before it has built its Trainer.
    rank_zero_only.rank = max(rank_zero_only.rank, read_rank())  # type: ignore[attr-defined]
    main = rank_zero_only.rank == 0  # type: ignore[attr-defined]
    with folder.lock() if main else nullcontext():
        try:
            return _train(config, folder)
        except (Terminated, SIGTERMException):
            saved = folder.has_checkpoint()
            raise Terminated(
                f"continue with ckpt_path=last hydra.run.dir={folder.path}" if saved
                else "no epoch was finished; run the same command again"
            ) from None  # fmt: skip


def _train(config: DictConfig, folder: RunFolder) -> float | None:
    """Train in a folder that no other process writes into."""
    resume = find_checkpoint(config, folder)
    set_threads(config)
    if not torch.cuda.is_available():
        keep_freed_memory()
    seed_everything(config.seed, workers=True, verbose=False)
    datamodule = build_datamodule(config)
    model = build_model(config)
    results = _Results(folder, config, datamodule)
    chosen = build_callbacks(config.callbacks)
    pruning = build_pruning_callback(config)
    # Results before explanations, whose failure must not cost them.
    write = LambdaCallback(on_test_end=results.write)
    callbacks = [*chosen, results.kept, *pruning, write, *build_explain_callback(config)]
    if resume is None and config.weights:
        _load_encoder(model, config.weights)
    datamodule.setup("fit")  # reads the training data, so that their problems are reported before anything is written
    continued = None if resume is None else begin_continuation(resume, model, datamodule, callbacks)
    check_score_names(config, model, datamodule, chosen)
    check_explained(callbacks, model, datamodule)
    if continued is None and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        _report_kept(folder.keep_records(move=True))  # of a run that ended before its first checkpoint

    loggers = build_loggers(config.logger)
    session = begin_session(
        config, loggers, job="train", folder=folder, datamodule=datamodule, callbacks=callbacks,
        resumed=continued is not None,
    )  # fmt: skip

    def begin(trainer: Trainer, module: LightningModule) -> None:
        if continued is not None:
            continued.check_optimizers(trainer, module)
        if trainer.is_global_zero:
            _write_records(folder, config, datamodule, continued, session)
            if trainer.checkpoint_callback is not None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
                write_model_card(folder, module)

    before = LambdaCallback(on_fit_start=begin)  # after the optimizers are built, before their state is restored
    callbacks = [before, *callbacks, *build_histograms(config)]
    status = "failed"
    try:
        trainer = build_trainer(config, callbacks, loggers)
        replace_checkpoint_io(trainer)
        trainer.fit(model, datamodule, ckpt_path=resume, weights_only=True)
        if trainer.state.status != "finished":
            raise KeyboardInterrupt
        if not any(_record_pruned(item, trainer, folder) for item in pruning):
            _finish(trainer, model, results, session)
        status = "success"
        return results.objective
    finally:
        session.close(status)


def _record_pruned(pruning: PruneTrial, trainer: Trainer, folder: RunFolder) -> bool:
    """Return whether the search has ended this member early, after writing that into its folder."""
    if pruning.epoch is None:
        return False
    if trainer.is_global_zero:
        write_state(folder.path, MemberState("PRUNED", epoch=pruning.epoch, value=pruning.value))
        LOGGER.info("pruned in epoch %d with %s %.4g; not tested", pruning.epoch, pruning.monitor, pruning.value)
    trainer.strategy.barrier()
    return True


def _load_encoder(model: LightningModule, path: str) -> None:
    """Load pretrained weights into every encoder or backbone of the model."""
    from seewhy.interop.weights import load_encoder_weights

    parts = list(model.backbones()) if isinstance(model, HasBackbones) else []
    if not parts:
        raise CheckpointError(f"weights={path}: {type(model).__name__} has no encoder to load it into")
    for part in parts:
        summary = load_encoder_weights(part, path, by=model.hparams.get("weights_by", "name"))
    LOGGER.info("%s%s", summary, f"; into each of {len(parts)} backbones" if len(parts) > 1 else "")


def _write_records(
    folder: RunFolder,
    config: DictConfig,
    datamodule: BaseDataModule,
    continued: Continuation | None,
    session: TrackingSession,
) -> None:
    """Write split and configuration before the first step; those of before are kept."""
    if continued is not None:
        _report_kept(folder.keep_records(move=False))
        drop_rows_from(folder.path / "metrics.csv", continued.step)  # they will be logged again
        session.rewind(continued.step)
        LOGGER.info("continuing from %s, step %d", continued.path, continued.step)
    split = datamodule.split_record()
    write_json(folder.path / "split.json", split)
    folder.write_config(config, split=split["hash"], data=datamodule.fingerprint())
    session.write_record()


def _report_kept(kept: Path | None) -> None:
    if kept is not None:
        LOGGER.info("records of before are kept in %s", kept)


@dataclass
class _Results:
    """Scores of a run, which are written as soon as its test is over.

    Attributes:
        kept: scores of the checkpoint that the training continues from.
        metrics: all logged scalars.
        objective: metric that a sweep optimises.
        chosen_by: validation score that chose the best checkpoint.
        rows: of `patients.csv`.
        outcomes: of a classifier, and rows of its slices.
    """

    folder: RunFolder
    config: DictConfig
    datamodule: BaseDataModule
    kept: KeepScores = field(default_factory=KeepScores)
    metrics: dict[str, float] = field(default_factory=dict)
    objective: float | None = None
    chosen_by: str | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    outcomes: tuple[Outcomes | None, list[dict[str, Any]]] = (None, [])

    def add(self, trainer: Trainer) -> None:
        """Add what the last loop has logged; a training that continued after its last epoch, what it logged before."""
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if trainer.state.fn == "fit" and not logged:
            logged = self.kept.scores
        self.metrics |= {name: value for name, value in logged.items() if not name.endswith(("_step", "_epoch"))}

    def write(self, trainer: Trainer, model: LightningModule) -> None:
        """Write results.json, tables, figures and the report; every process takes part, the first one writes."""
        self.add(trainer)
        self.objective = self.metrics.get(self.config.objective)
        rows, samples = _patient_rows(model), _sample_rows(model)
        self.rows, self.outcomes = rows, collect_outcomes(model, rows)
        if trainer.is_global_zero:
            if samples:
                write_samples(self.folder.path / "evaluation", samples)
            write_results(
                self.folder, self.metrics, rows, self.config, model=model, objective=self.objective,
                phantom=self.datamodule.is_phantom, chosen_by=self.chosen_by, outcomes=self.outcomes[0],
                words=self.datamodule.words,
            )  # fmt: skip
        check_objective(self.metrics, self.config.objective)


def _finish(trainer: Trainer, model: LightningModule, results: _Results, session: TrackingSession) -> None:
    """Test the best checkpoint, which writes results and then explanations; print them all."""
    folder, config = results.folder, results.config
    shared: dict[str, Any] = {"phantom": results.datamodule.is_phantom, "words": results.datamodule.words}
    results.add(trainer)
    best, results.chosen_by = _find_best(trainer, folder)
    if best is not None:
        _measure_best(trainer, model, results.datamodule, best)
        _validate_best(trainer, model, results, best)
    if config.test:
        trainer.test(model, results.datamodule, ckpt_path=best, weights_only=True, verbose=False)
    else:
        results.write(trainer, model)
    if trainer.is_global_zero:
        explained = next((item.results for item in trainer.callbacks if isinstance(item, ExplainCallback)), {})  # type: ignore[attr-defined]
        if explained:
            write_run_page(folder.path, explanations=explained["folder"])
        print_results(folder, results.metrics, explained, model=model, chosen_by=results.chosen_by, **shared)
        if session.trackers:
            session.log(
                collect_results(
                    folder, config, name=session.name, facts=session.facts, step=find_step(trainer),
                    scores=results.metrics, rows=results.rows, outcomes=results.outcomes[0],
                    slices=results.outcomes[1], modes=session.modes,
                )
            )  # fmt: skip
    trainer.strategy.barrier()


def _measure_best(trainer: Trainer, model: LightningModule, datamodule: BaseDataModule, best: str) -> None:
    """Let a model measure what it needs of the data with the best checkpoint, and keep that in the checkpoint."""
    if not isinstance(model, MeasuresAfterFit):
        return
    checkpoint = load_state(model, best)
    model.to(trainer.strategy.root_device).eval()
    with isolate_rng():
        model.measure_after_fit(datamodule)
    trainer.strategy.barrier()  # every process has read the checkpoint
    if trainer.is_global_zero:
        checkpoint["state_dict"] |= {name: model.get_buffer(name).cpu() for name in model.measured_buffers}
        AtomicCheckpointIO().save_checkpoint(checkpoint, best)
    trainer.strategy.barrier()


def _validate_best(trainer: Trainer, model: LightningModule, results: _Results, best: str) -> None:
    """Validate the best checkpoint, so that the validation scores of the results are those of the model that is tested.

    Loggers get nothing of it: they have the validation of that epoch.
    """
    last = {name for name in results.metrics if name.startswith("val/")}
    if not last:  # nothing is validated
        return
    loggers, trainer.loggers = trainer.loggers, []
    try:
        with isolate_rng():
            trainer.validate(model, results.datamodule, ckpt_path=best, weights_only=True, verbose=False)
    finally:
        trainer.loggers = loggers
    results.metrics = {name: value for name, value in results.metrics.items() if name not in last}
    results.add(trainer)


def check_objective(metrics: Mapping[str, float], name: str | None) -> float | None:
    """Return the metric that a sweep optimises; None without a name.

    Raises:
        ConfigError: no such metric was logged; the logged ones are listed.

    Example:
        >>> from seewhy.run.train import check_objective
        >>> check_objective({"val/dice": 0.5}, "val/dice")
        0.5
    """
    if name is None:
        return None
    if name not in metrics:
        raise ConfigError(f"objective={name!r} was not measured; measured: {', '.join(sorted(metrics)) or 'none'}")
    return float(metrics[name])


def _patient_rows(model: LightningModule) -> list[dict[str, Any]]:
    """Return the rows of the last test, for models that score patients; every process must call this."""
    if isinstance(model, ScoresPatients) and "test" in model.patient_scores:
        return model.patient_scores["test"].rows()
    return model.sample_scores["test"].patient_rows() if isinstance(model, ScoresSamples) else []


def _sample_rows(model: LightningModule) -> list[dict[str, Any]]:
    """Return the rows of all samples of the last test, for models that score samples; every process must call this."""
    return model.sample_scores["test"].rows() if isinstance(model, ScoresSamples) else []


def _find_best(trainer: Trainer, folder: RunFolder) -> tuple[str | None, str | None]:
    """Return `best.ckpt` and the score that chose it: the best checkpoint of its callback, or the last one without any.

    Without a path in `fast_dev_run`, which saves nothing: the present weights are tested then.
    """
    savers = [saver for saver in trainer.checkpoint_callbacks if isinstance(saver, ModelCheckpoint)]
    savers = [saver for saver in savers if saver.best_model_path]
    judged = [saver for saver in savers if saver.monitor is not None]
    judged.sort(key=lambda saver: not isinstance(saver, BestCheckpoint))  # before those that a user added
    last = [saver for saver in savers if saver.monitor is None]
    last.sort(key=lambda saver: Path(saver.best_model_path).stem != "last")
    if trainer.fast_dev_run or not (judged or last):  # type: ignore[attr-defined]
        return None, None
    best = folder.checkpoints / "best.ckpt"
    source = Path((judged or last)[0].best_model_path)
    if trainer.is_global_zero:
        if not judged:
            LOGGER.warning("%s: the last checkpoint is used as the best", _explain_no_validation(trainer))
        if source.resolve() != best.resolve():
            with atomic_path(best) as temporary:
                shutil.copyfile(source, temporary)
    trainer.strategy.barrier()
    return str(best), judged[0].monitor if judged else None


def _explain_no_validation(trainer: Trainer) -> str:
    """Name the reason why no epoch was validated."""
    every, epochs = trainer.check_val_every_n_epoch, trainer.current_epoch
    if not any(isinstance(saver, ModelCheckpoint) and saver.monitor for saver in trainer.checkpoint_callbacks):
        return "no callback saves the best checkpoint (callbacks.best)"
    if trainer.limit_val_batches == 0:
        return "trainer.limit_val_batches=0 leaves no validation"
    if every is not None and every > epochs:
        return f"no epoch was validated (trainer.check_val_every_n_epoch={every} in {epochs} epochs)"
    return "no validation patients"
