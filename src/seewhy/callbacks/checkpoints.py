"""Checkpoints: the one of the best epoch, their scores, and writes after which a full disk leaves the one before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from seewhy.errors import CheckpointError
from seewhy.io.atomic import atomic_path
from seewhy.metrics.direction import find_mode

__all__ = ["AtomicCheckpointIO", "BestCheckpoint", "KeepScores", "replace_checkpoint_io"]


class BestCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint` for the epoch with the best validation score.

    The direction follows from the name of the score. Several checkpoints (`save_top_k` other than 1) get the epoch and
    step in their names. A continued training knows the best of the epochs before, also where its folder was moved or
    where it continues in a new folder.

    Args:
        dirpath: folder of the checkpoints.
        monitor: name of the logged score.
        filename: of the checkpoints; may hold `{epoch}`, `{step}` and names of scores.
        mode: `min` or `max` for scores whose name does not tell; None otherwise.
        save_top_k: number of checkpoints that are kept; -1 is all.
        options: of `ModelCheckpoint`.
    """

    def __init__(
        self,
        *,
        dirpath: str,
        monitor: str,
        filename: str = "best",
        mode: str | None = None,
        save_top_k: int = 1,
        every_n_epochs: int | None = None,
        every_n_train_steps: int | None = None,
        save_weights_only: bool = False,
        verbose: bool = False,
        save_last: bool | None = None,
        auto_insert_metric_name: bool = True,
        save_on_train_epoch_end: bool | None = None,
        enable_version_counter: bool | None = None,
    ) -> None:
        several = save_top_k not in (0, 1)
        if several and "{" not in filename:
            filename = f"{filename}_{{epoch}}_{{step}}"
        super().__init__(
            dirpath=dirpath, filename=filename, monitor=monitor, mode=find_mode(monitor, mode), save_top_k=save_top_k,
            every_n_epochs=every_n_epochs, every_n_train_steps=every_n_train_steps, verbose=verbose,
            save_weights_only=save_weights_only, save_last=save_last, auto_insert_metric_name=auto_insert_metric_name,
            save_on_train_epoch_end=save_on_train_epoch_end,
            enable_version_counter=several if enable_version_counter is None else several or enable_version_counter,
        )  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best of the epochs before; checkpoints that were moved with their folder are found again."""
        kept = {}
        for path, score in dict(state_dict.get("best_k_models") or {}).items():
            here = self._locate(path)
            if here is not None:
                kept[here] = score
        if not kept:  # nothing to compare with: the next epoch is the best so far
            return
        choose, other = (min, max) if self.mode == "min" else (max, min)
        best, last = choose(kept, key=kept.__getitem__), other(kept, key=kept.__getitem__)
        full = len(kept) == self.save_top_k
        super().load_state_dict(
            {
                **state_dict,
                "dirpath": self.dirpath,
                "best_k_models": kept,
                "best_model_path": best,
                "best_model_score": kept[best],
                "kth_best_model_path": last if full else "",
                "kth_value": kept[last] if full else self.kth_value,
            }
        )

    def _locate(self, path: str) -> str | None:
        """Return the path of a checkpoint now; None if it is gone."""
        here = Path(str(self.dirpath)) / Path(path).name
        return next((str(item) for item in (here, Path(path)) if item.is_file()), None)


class KeepScores(Callback):
    """Saves the scores of the last epoch with each checkpoint, for a training that continues after its last epoch.

    Attributes:
        scores: name → value, of the checkpoint that the training continues from; empty for a new training.
    """

    KEY = "scores"

    def __init__(self) -> None:
        self.scores: dict[str, float] = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the scores."""
        checkpoint[self.KEY] = {name: float(value) for name, value in trainer.callback_metrics.items()}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the scores where a training continues; a test loads another checkpoint."""
        if trainer.state.fn == "fit":
            self.scores = dict(checkpoint.get(self.KEY, {}))


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint next to its final name, syncs it to the disk and renames it.

    Lightning writes to the system's temporary folder first; from there to another file system a checkpoint is copied
    over the one before, and both are lost if that disk is full.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write one checkpoint; paths with a protocol (`s3://…`) are left to Lightning.

        Raises:
            CheckpointError: the file could not be written; an earlier one is unchanged.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        try:
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:
            cause = _find_cause(error)
            if cause is None:
                raise
            kept = f"the one before is kept ({path})" if Path(path).is_file() else "there is none before"
            raise CheckpointError(
                f"the checkpoint could not be written: {cause}; {kept}; free space, then continue "
                f"with ckpt_path=last hydra.run.dir={Path(path).parent.parent}"
            ) from error


def _find_cause(error: BaseException) -> str | None:
    """Return the reason of a failed write; None for other errors. torch hides the system's in a RuntimeError."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, OSError):
            return current.strerror or str(current)
        current = current.__cause__ or current.__context__
    text = str(error).splitlines()[0] if str(error) else ""
    return text if "inline_container" in text or "PytorchStreamWriter" in text else None


def replace_checkpoint_io(trainer: Trainer) -> None:
    """Let a Trainer write its checkpoints by `AtomicCheckpointIO`, unless its strategy has its own format."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
