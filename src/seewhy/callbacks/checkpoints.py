"""Checkpoint of the best epoch, by a validation score whose direction follows from its name; scores in checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from seewhy.errors import ConfigError

__all__ = ["BestCheckpoint", "KeepScores", "find_mode"]

LOWER = ("loss", "error", "mae", "mse", "rmse", "ece", "brier", "nll", "hd95", "assd", "distance", "fid", "kid")
"""Words in names of scores that are better when lower."""
HIGHER = (
    "auroc", "auprc", "auc", "accuracy", "acc", "average_precision", "precision", "recall", "sensitivity",
    "specificity", "f1", "dice", "cldice", "iou", "kappa", "ssim", "psnr", "pearson", "correlation",
)  # fmt: skip
"""Words in names of scores that are better when higher."""


def find_mode(monitor: str, mode: str | None = None, *, option: str = "callbacks.best") -> str:
    """Find whether a score is better when lower (`min`) or higher (`max`), by the last part of its name.

    Args:
        monitor: name of the score.
        mode: `min` or `max`, for names that say nothing; None finds it.
        option: dotted name of the options, for messages.

    Raises:
        ConfigError: the name does not tell, or contradicts `mode`.

    Example:
        >>> find_mode("val/loss"), find_mode("val/prediction/dice"), find_mode("val/floor_prior/balanced_accuracy")
        ('min', 'max', 'max')
        >>> find_mode("val/auroc", "min")
        Traceback (most recent call last):
        seewhy.errors.ConfigError: callbacks.best.mode=min contradicts callbacks.best.monitor='val/auroc', ...
    """
    if mode not in (None, "min", "max"):
        raise ConfigError(f"{option}.mode={mode!r} is unknown; valid: 'min', 'max', or null to find it by the name")
    name = monitor.rsplit("/", 1)[-1].lower()
    words = {name, *name.split("_")}
    known = {direction for direction, names in (("min", LOWER), ("max", HIGHER)) if words & set(names)}
    if len(known) != 1:
        if mode is None:
            raise ConfigError(
                f"{option}.monitor={monitor!r} does not tell whether lower or higher is better; "
                f"add {option}.mode=min or {option}.mode=max"
            )
        return mode
    found = known.pop()
    if mode not in (None, found):
        better = "lower" if found == "min" else "higher"
        raise ConfigError(
            f"{option}.mode={mode} contradicts {option}.monitor={monitor!r}, which is better when {better}; "
            f"set {option}.mode={found}"
        )
    return found


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
