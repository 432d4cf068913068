"""Train, validate and test a model, and write its run folder."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from seewhy.callbacks.explain import ExplainCallback
from seewhy.data.base import BaseDataModule
from seewhy.errors import CheckpointError, ConfigError
from seewhy.models.protocols import HasBackbones, ScoresPatients, ScoresSamples
from seewhy.run.build import build_callbacks, build_datamodule, build_loggers, build_model, build_trainer, set_threads
from seewhy.run.check_config import check_config
from seewhy.run.explainers import build_explain_callback, check_explained
from seewhy.run.folder import RunFolder
from seewhy.run.results import write_results
from seewhy.run.run_loader import load_state
from seewhy.run.translation.score_table import write_samples
from seewhy.tracking import drop_rows_from

__all__ = ["check_objective", "train"]

LOGGER = logging.getLogger(__name__)


def train(config: DictConfig) -> float | None:
    """Fit a model, test its best checkpoint, and write maps, results and the report.

    Returns:
        The metric of `objective`, for sweeps; None if it is null.

    Raises:
        SeewhyError: a problem of the configuration or the data that the user can fix.
    """
    check_config(config, "phantom", "data", "model", "callbacks", "explain", "trainer", "logger")
    folder = RunFolder(config.paths.output_dir)
    resume = _find_checkpoint_to_resume(config, folder)
    set_threads(config)
    seed_everything(config.seed, workers=True, verbose=False)
    datamodule = build_datamodule(config)
    model = build_model(config)
    if resume is not None:
        _resume(model, datamodule, resume, folder)
    elif config.weights:
        _load_encoder(model, config.weights)
    callbacks = [*build_callbacks(config.callbacks), *build_explain_callback(config)]
    trainer = build_trainer(config, callbacks, build_loggers(config.logger))
    datamodule.setup("fit")  # reads the training data, so that their problems are reported before anything is written
    check_explained(callbacks, model, datamodule)
    try:
        if trainer.is_global_zero:
            _write_records(folder, config, datamodule)
        trainer.fit(model, datamodule, ckpt_path=resume, weights_only=True)
        if trainer.state.status != "finished":
            raise KeyboardInterrupt
        return _finish(trainer, model, datamodule, config, folder)
    finally:
        _close(trainer)


def _find_checkpoint_to_resume(config: DictConfig, folder: RunFolder) -> Path | None:
    """Find the checkpoint to continue from; without one, raise an error for a folder that holds a run."""
    if config.ckpt_path is None:
        folder.refuse_overwrite()
        return None
    return folder.checkpoint(final=True) if config.ckpt_path == "last" else Path(config.ckpt_path)


def _resume(model: LightningModule, datamodule: BaseDataModule, path: Path, folder: RunFolder) -> None:
    """Check that the checkpoint fits, and drop logged rows after it, which will be logged again."""
    checkpoint = load_state(model, path)
    if "optimizer_states" not in checkpoint:
        raise CheckpointError(f"{path} holds weights but no training state, so it cannot be continued")
    datamodule.first_epoch = int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
    # Logged steps count batches; `global_step` counts the steps of all optimisers.
    step = int(checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"])
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        drop_rows_from(folder.path / "metrics.csv", step)
    LOGGER.info("continuing from %s, step %d", path, step)


def _load_encoder(model: LightningModule, path: str) -> None:
    """Load pretrained weights into every encoder or backbone of the model."""
    from seewhy.interop.encoder_weights import load_encoder_weights

    parts = list(model.backbones()) if isinstance(model, HasBackbones) else []
    if not parts:
        raise CheckpointError(f"weights={path}: {type(model).__name__} has no encoder to load it into")
    for part in parts:
        summary = load_encoder_weights(part, path, by=model.hparams.get("weights_by", "name"))
    LOGGER.info("%s%s", summary, f"; into each of {len(parts)} backbones" if len(parts) > 1 else "")


def _write_records(folder: RunFolder, config: DictConfig, datamodule: BaseDataModule) -> None:
    """Write split and configuration before the run starts."""
    split = datamodule.split_record()
    folder.write_json("split.json", split)
    folder.write_config(config, split=split["hash"], data=datamodule.fingerprint())


def _finish(
    trainer: Trainer,
    model: LightningModule,
    datamodule: BaseDataModule,
    config: DictConfig,
    folder: RunFolder,
) -> float | None:
    """Test the best checkpoint and write results; every process takes part, the first one writes."""
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if config.test:
        best = _best_checkpoint(trainer)
        trainer.test(model, datamodule, ckpt_path=best, weights_only=True, verbose=False)
        metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    metrics = {name: value for name, value in metrics.items() if not name.endswith(("_step", "_epoch"))}
    objective = check_objective(metrics, config.objective)
    rows = _patient_rows(model)
    samples = _sample_rows(model)
    if trainer.is_global_zero:
        if samples:
            write_samples(folder.path / "evaluation", samples)
        explained = next((item.results for item in trainer.callbacks if isinstance(item, ExplainCallback)), {})  # type: ignore[attr-defined]
        write_results(
            folder, metrics, rows, config, model=model, objective=objective, phantom=datamodule.is_phantom,
            explained=explained,
        )  # fmt: skip
    trainer.strategy.barrier()
    return objective


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


def _best_checkpoint(trainer: Trainer) -> str | None:
    """Return the file of the best checkpoint; without validation patients a copy of the last one.

    None in `fast_dev_run`, which saves nothing: the present weights are tested then.
    """
    savers = {saver.filename: saver for saver in trainer.checkpoint_callbacks if isinstance(saver, ModelCheckpoint)}
    best, last = savers.get("best"), savers.get("last")
    if best is not None and best.best_model_path:
        return best.best_model_path
    if last is None or not last.best_model_path:
        return None
    copy = Path(last.best_model_path).with_name("best.ckpt")
    if trainer.is_global_zero:
        LOGGER.warning("no validation patients: the last checkpoint is used as the best")
        shutil.copyfile(last.best_model_path, copy)
    trainer.strategy.barrier()
    return str(copy)


def _close(trainer: Trainer) -> None:
    """Close loggers, so that the next member of a sweep starts new ones."""
    import sys

    for logger in trainer.loggers:
        logger.finalize("success")
    wandb: Any = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()
