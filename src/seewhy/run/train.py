"""The story of a training run, from configuration to report."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from seewhy.callbacks.explain import ExplainCallback
from seewhy.data.base import BaseDataModule
from seewhy.errors import CheckpointError
from seewhy.run.build import build_callbacks, build_datamodule, build_loggers, build_model, build_trainer, set_threads
from seewhy.run.explainers import build_explain_callback
from seewhy.run.folder import RunFolder
from seewhy.run.results import write_results
from seewhy.run.run_loader import load_state
from seewhy.run.sweeps.member import check_objective
from seewhy.run.translation.score_table import write_samples
from seewhy.tracking import drop_rows_from

__all__ = ["train"]

LOGGER = logging.getLogger(__name__)


def train(config: DictConfig) -> float | None:
    """Fit, test the best checkpoint, write maps, results and the report.

    Returns:
        The metric named by `objective`, for sweeps; None without one.

    Raises:
        SeewhyError: something in the configuration or the data that a user can mend.
    """
    folder = RunFolder(config.paths.output_dir)
    resume = _checkpoint_to_continue(config, folder)
    set_threads(config)
    seed_everything(config.seed, workers=True, verbose=False)
    datamodule = build_datamodule(config)
    model = build_model(config)
    if resume is not None:
        _continue(model, datamodule, resume, folder)
    elif config.weights:
        _load_encoder(model, config.weights)
    datamodule.setup("fit")  # reads the training data: what is wrong with them is said before anything is written
    callbacks = [*build_callbacks(config.callbacks), *build_explain_callback(config)]
    trainer = build_trainer(config, callbacks, build_loggers(config.logger))
    try:
        if trainer.is_global_zero:
            _record(folder, config, datamodule)
        trainer.fit(model, datamodule, ckpt_path=resume, weights_only=True)
        if trainer.state.status != "finished":
            raise KeyboardInterrupt
        return _finish(trainer, model, datamodule, config, folder)
    finally:
        _close(trainer)


def _checkpoint_to_continue(config: DictConfig, folder: RunFolder) -> Path | None:
    """The checkpoint to continue from; without one, a folder that holds a run is not touched."""
    if config.ckpt_path is None:
        folder.refuse_overwrite()
        return None
    return folder.checkpoint(final=True) if config.ckpt_path == "last" else Path(config.ckpt_path)


def _continue(model: LightningModule, datamodule: BaseDataModule, path: Path, folder: RunFolder) -> None:
    """Make sure that the checkpoint fits, and drop what was logged after it and will be logged again."""
    checkpoint = load_state(model, path)
    if "optimizer_states" not in checkpoint:
        raise CheckpointError(f"{path} holds weights but no state of a training, so it cannot be continued")
    datamodule.first_epoch = int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
    # What is logged counts batches that stepped; `global_step` counts the steps of every optimiser.
    step = int(checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"])
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        drop_rows_from(folder.path / "metrics.csv", step)
    LOGGER.info("continuing from %s, step %d", path, step)


def _load_encoder(model: LightningModule, path: str) -> None:
    """Put pretrained weights into the model's encoder, or into every backbone of one that has several."""
    from seewhy.interop.encoder_weights import load_encoder_weights

    owner: Any = model
    parts = list(owner.backbones()) if hasattr(model, "backbones") else [owner.encoder] * hasattr(model, "encoder")
    if not parts:
        raise CheckpointError(f"weights={path}: {type(model).__name__} has no encoder to load it into")
    for part in parts:
        told = load_encoder_weights(part, path, by=model.hparams.get("weights_by", "name"))
    LOGGER.info("%s%s", told, f"; into each of {len(parts)} backbones" if len(parts) > 1 else "")


def _record(folder: RunFolder, config: DictConfig, datamodule: BaseDataModule) -> None:
    """Write what the run is made of before it starts."""
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
        explained = next((one.results for one in trainer.callbacks if isinstance(one, ExplainCallback)), {})  # type: ignore[attr-defined]
        write_results(
            folder, metrics, rows, config, objective=objective, phantom=datamodule.is_phantom, explained=explained
        )
    trainer.strategy.barrier()
    return objective


def _patient_rows(model: LightningModule) -> list[dict[str, Any]]:
    """Rows of the last test, for models that score patients; gathered from all processes, so all must ask."""
    scores, samples = getattr(model, "patient_scores", {}), getattr(model, "sample_scores", {})
    if "test" in scores:
        return scores["test"].rows()
    return samples["test"].patient_rows() if "test" in samples else []


def _sample_rows(model: LightningModule) -> list[dict[str, Any]]:
    """Rows of every sample of the last test, for models that score samples; see `_patient_rows`."""
    scores = getattr(model, "sample_scores", {})
    return scores["test"].rows() if "test" in scores else []


def _best_checkpoint(trainer: Trainer) -> str | None:
    """The file of the best checkpoint; without validation patients a copy of the last one.

    None only in `fast_dev_run`, where nothing is saved and the weights at hand are tested.
    """
    savers = {saver.filename: saver for saver in trainer.checkpoint_callbacks if isinstance(saver, ModelCheckpoint)}
    best, last = savers.get("best"), savers.get("last")
    if best is not None and best.best_model_path:
        return best.best_model_path
    if last is None or not last.best_model_path:
        return None
    copy = Path(last.best_model_path).with_name("best.ckpt")
    if trainer.is_global_zero:
        LOGGER.warning("no validation patients: the last checkpoint stands as the best")
        shutil.copyfile(last.best_model_path, copy)
    trainer.strategy.barrier()
    return str(copy)


def _close(trainer: Trainer) -> None:
    """Close loggers, so that the next member of a sweep starts runs of its own."""
    import sys

    for logger in trainer.loggers:
        logger.finalize("success")
    wandb: Any = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()
