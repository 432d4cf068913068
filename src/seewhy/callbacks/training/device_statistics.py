"""Log how fast steps are, how long they wait for data, and how much memory they take."""

from __future__ import annotations

import resource
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from seewhy.tracking.media import find_step

__all__ = ["LogDeviceStatistics"]


class LogDeviceStatistics(Callback):
    """Logs seconds per step, the share of them spent waiting for data, and the peak of memory.

    Every `trainer.log_every_n_steps` steps, as means over them, of the first process: `device/step_seconds`,
    `device/waiting_share` and `device/memory_gib` (allocated on a GPU, else the process's). A GPU is waited for once
    per interval only. A high share of waiting calls for more `data.num_workers`.
    """

    def __init__(self) -> None:
        self._begin = self._ready = 0.0
        self._waited, self._steps = 0.0, 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; the time between epochs does not count."""
        self._begin = self._ready = time.perf_counter()
        self._waited, self._steps = 0.0, 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note how long the batch took to come."""
        self._waited += time.perf_counter() - self._ready

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the means of the last steps."""
        self._steps += 1
        every = max(1, int(trainer.log_every_n_steps))  # type: ignore[attr-defined]
        if self._steps % every == 0:
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize(pl_module.device)
            seconds = time.perf_counter() - self._begin
            values = {
                "device/step_seconds": seconds / self._steps,
                "device/waiting_share": self._waited / seconds,
                "device/memory_gib": _read_memory(pl_module.device),
            }
            for logger in trainer.loggers:
                logger.log_metrics(values, step=find_step(trainer))
            self._begin, self._waited, self._steps = time.perf_counter(), 0.0, 0
        self._ready = time.perf_counter()


def _read_memory(device: torch.device) -> float:
    """Read the peak of memory in GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts KiB
