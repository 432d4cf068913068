"""Write checkpoints so that a full disk or a power failure never costs the one before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Trainer

from seewhy.errors import CheckpointError
from seewhy.io.atomic import atomic_path

__all__ = ["AtomicCheckpointIO", "replace_checkpoint_io"]


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
