"""Continue a training: find its checkpoint, refuse what does not fit, and keep the records of before."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from omegaconf import DictConfig

from seewhy.callbacks.checkpoints import BestCheckpoint
from seewhy.callbacks.training.learning_rate_finder import FindLearningRate
from seewhy.data.base import BaseDataModule
from seewhy.errors import CheckpointError
from seewhy.run.folder import RunFolder
from seewhy.run.loaded.saved_run import load_state

__all__ = ["Continuation", "begin_continuation", "find_checkpoint"]

LOGGER = logging.getLogger(__name__)

ANOTHER_RUN = "start a new run (without ckpt_path) for other choices"


def find_checkpoint(config: DictConfig, folder: RunFolder) -> Path | None:
    """Find the checkpoint to continue from; None for a new run.

    A job that SLURM has requeued continues from the checkpoint that Lightning wrote before the requeue, or else from
    that of its last epoch. `last` is `last.ckpt`, or the newest checkpoint of the folder: a process that was killed in
    its first epoch may have written the best one only.

    Raises:
        SeewhyError: the folder holds another run, or the checkpoint does not exist.
    """
    if config.ckpt_path is None:
        requeued = _find_requeued(folder) if os.environ.get("SLURM_RESTART_COUNT", "0") != "0" else None
        if requeued is None:
            folder.refuse_overwrite()
        return requeued
    path = folder.newest_checkpoint() if config.ckpt_path == "last" else Path(config.ckpt_path)
    if folder.path.resolve() not in path.resolve().parents:
        folder.refuse_overwrite(f"choose another hydra.run.dir to continue {path}")
    return path


def _find_requeued(folder: RunFolder) -> Path | None:
    """Return the newest checkpoint that Lightning wrote before a requeue, or the last one of a job that was killed."""
    last = folder.checkpoints / "last.ckpt"
    paths = list(folder.path.glob("hpc_ckpt_*.ckpt"))
    if paths:
        return max(paths, key=lambda path: int(path.stem.rpartition("_")[2]))
    return last if last.is_file() else None


@dataclass(frozen=True)
class Continuation:
    """A checkpoint that a training continues from.

    Attributes:
        path: its file.
        step: number of batches before it, as logged.
        optimizers: plain data of the parameter groups of every optimizer.
        hyperparameters: of the model.
    """

    path: Path
    step: int
    optimizers: Sequence[Sequence[Mapping[str, Any]]]
    hyperparameters: Mapping[str, Any]

    def check_optimizers(self, trainer: Trainer, module: LightningModule) -> None:
        """Refuse options of the optimizers that the state of the checkpoint would replace without a word.

        Call it when the Trainer has built its optimizers and has not restored them yet.

        Raises:
            CheckpointError: all of them, with both values.
        """
        here = [optimizer.param_groups for optimizer in trainer.optimizers]
        # A rate that was found before the training is that of the checkpoint.
        found = any(isinstance(item, FindLearningRate) for item in trainer.callbacks)  # type: ignore[attr-defined]
        ignored = IGNORED | ({"initial_lr"} if found else set())
        problems = [
            problem
            for number, (old, new) in enumerate(zip(self.optimizers, here, strict=False))
            for problem in _compare_groups(old, new, number, ignored)
        ]
        if len(self.optimizers) != len(here):
            problems.append(f"{len(here)} optimizers here, {len(self.optimizers)} in the checkpoint")
        if problems:
            changed = list(_compare_options(self.hyperparameters, dict(module.hparams), "model"))
            named = [text for text in changed if _is_of_optimizer(text)] or changed or problems
            raise CheckpointError(
                f"{self.path} would replace other options of the optimizer: {'; '.join(dict.fromkeys(named))}; "
                f"continue with the values of the checkpoint, or {ANOTHER_RUN}"
            )


def begin_continuation(
    path: Path, model: LightningModule, datamodule: BaseDataModule, callbacks: Sequence[Callback]
) -> Continuation:
    """Load the weights of a checkpoint and check that this training continues that of the checkpoint.

    Raises:
        CheckpointError: another model, split, data set, list of classes or monitor, or a damaged training state.
    """
    checkpoint = load_state(model, path)
    if "optimizer_states" not in checkpoint:
        raise CheckpointError(f"{path} holds weights but no training state, so it cannot be continued")
    hyperparameters = dict(checkpoint.get("hyper_parameters") or {})
    problems = [
        *_compare_data(checkpoint.get(type(datamodule).__qualname__), datamodule, path),
        *_compare_classes(hyperparameters, dict(model.hparams)),
        *_compare_callbacks(checkpoint.get("callbacks") or {}, callbacks),
    ]
    if problems:
        raise CheckpointError(f"{path} cannot be continued like this: {'; '.join(problems)}; {ANOTHER_RUN}")
    try:
        loop = checkpoint["loops"]["fit_loop"]
        datamodule.first_epoch = int(loop["epoch_progress"]["current"]["processed"])
        # Logged steps count batches; `global_step` counts the steps of all optimizers.
        step = int(loop["epoch_loop.state_dict"]["_batches_that_stepped"])
        groups = [state["param_groups"] for state in checkpoint["optimizer_states"]]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its training state is damaged ({type(error).__name__}: {error})") from error
    return Continuation(path, step, groups, hyperparameters)


def _compare_data(saved: Mapping[str, Any] | None, datamodule: BaseDataModule, path: Path) -> Iterator[str]:
    """List what the checkpoint knows of other data."""
    if saved is None:
        yield f"it was not trained with a {type(datamodule).__name__} (data._target_)"
        return
    now = datamodule.state_dict()
    if saved["data"] != now["data"]:
        yield f"data.root holds another data set (hash {now['data'][:12]}, trained with {saved['data'][:12]})"
    if saved["split"] != now["split"]:
        record = path.parent.parent / "split.json"
        remedy = f"; data.split_file={record} is its split" if record.is_file() else ""
        yield (
            f"the split of the patients differs (hash {now['split'][:12]}, trained with {saved['split'][:12]}; "
            f"data.fold, data.fractions, data.split_seed, …{remedy}), so test patients may have been trained on"
        )


def _compare_classes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in ("classes", "regions"):
        if key in saved and saved[key] != now.get(key):
            yield f"model.{key}={now.get(key)}, trained with {saved[key]}"


def _compare_callbacks(saved: Mapping[str, Any], callbacks: Sequence[Callback]) -> Iterator[str]:
    """List options of callbacks that their saved states would replace, or that do not fit these states."""
    for callback in callbacks:
        state = saved.get(callback.state_key)
        if isinstance(callback, EarlyStopping) and state and state["patience"] != callback.patience:
            yield f"patience={callback.patience} of EarlyStopping, trained with {state['patience']}"
        if isinstance(callback, BestCheckpoint) and state is None:
            others = [key.partition("{")[2].rstrip("}") for key in saved if key.startswith(type(callback).__qualname__)]
            if others:
                yield f"callbacks.best.monitor={callback.monitor!r}, but the best was chosen by {others[0]}"


IGNORED = {"params", "foreach", "fused", "capturable", "differentiable", "maximize"}
"""Entries of a parameter group that do not change what is learned."""


def _compare_groups(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], number: int, ignored: Set[str]
) -> Iterator[str]:
    """List the differences between the parameter groups of an optimizer, without some options."""
    if [len(group["params"]) for group in old] != [len(group["params"]) for group in new]:
        yield f"optimizer {number} has other parameters"
        return
    for before, now in zip(old, new, strict=True):
        scheduled = {"lr"} if "initial_lr" in before and "initial_lr" in now else {"initial_lr"}
        for key in sorted((before.keys() | now.keys()) - ignored - scheduled):
            if _to_plain(before.get(key)) != _to_plain(now.get(key)):
                yield f"{key}={now.get(key)} of optimizer {number}, in the checkpoint {before.get(key)}"


def _to_plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _compare_options(saved: Any, now: Any, name: str) -> Iterator[str]:
    """List the dotted options that differ, with both values."""
    if isinstance(saved, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*saved, *now]):
            yield from _compare_options(saved.get(key), now.get(key), f"{name}.{key}")
    elif _to_plain(saved) != _to_plain(now):
        yield f"{name}={now}, in the checkpoint {saved}"


def _is_of_optimizer(text: str) -> bool:
    """Return whether a difference may be the cause of another parameter group."""
    name = text.partition("=")[0]
    return "optimizer" in name or name in ("model.head_lr", "model.layer_decay", "model.freeze")
