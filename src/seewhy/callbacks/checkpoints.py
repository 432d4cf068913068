"""Checkpoint of the best epoch, by a validation score whose direction follows from its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint

from seewhy.metrics.direction import find_mode

__all__ = ["BestCheckpoint"]


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
