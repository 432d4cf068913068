"""Predictions that several processes share: which batches this one predicts, and one that writes what joins all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import Callback, LightningModule, Trainer

from seewhy.errors import ConfigError
from seewhy.models.protocols import ScoresPredictions, SharesScores
from seewhy.sharing.parts import read_part, write_part
from seewhy.sharing.tasks import SharedRound, Task

__all__ = ["SharePrediction", "SharedBatches", "SharesWork"]

RESULTS = "results"
PARTS = "parts"


@runtime_checkable
class SharesWork(Protocol):
    """A callback whose work at the end of a prediction is done by one process for all that have shared its batches.

    In the other processes its `on_predict_end` is not called.
    """

    def take_part(self) -> Any:
        """What was collected since the last call, as plain data and arrays; the callback forgets it."""

    def join_parts(self, parts: Sequence[Any]) -> None:
        """Take over what all processes have collected, in the order of the batches.

        Raises:
            DataError: a file that a process has written was removed since.
        """


class SharedBatches:
    """Batches that processes claim one after the other, until all are predicted and one process has joined the results.

    Args:
        present: round of the work.
        groups: ids of the samples of each batch, the same in all processes.
        load: gives the batch with some samples.

    Attributes:
        joins: whether this process has claimed to join the results; call `finish` when they are written.
        predicted: batches that this process has predicted.
    """

    def __init__(
        self,
        present: SharedRound,
        groups: Sequence[Sequence[str]],
        load: Callable[[Collection[str]], Iterable[Any]],
    ) -> None:
        self.present, self.groups, self.load = present, groups, load
        self.joins, self.predicted = False, 0
        self._task: Task | None = None
        keys = [f"batch-{number:06d}" for number in range(len(groups))]
        self._tasks = [*map(Task, keys), Task(RESULTS, frozenset(keys))]

    def __len__(self) -> int:
        """The batches and the results: Lightning would fetch batches in advance, and claim them, without a length."""
        return len(self._tasks)

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of this process; ends when the results are left to it, or written by another one."""
        for task in self.present.each(self._tasks):
            if task.key == RESULTS:
                self.joins = True
                return
            self._task = task
            yield from self.load(self.groups[int(task.key.rpartition("-")[2])])

    def complete(self, part: Any) -> None:
        """Note that the batch of this process is predicted.

        Args:
            part: result for the process that joins all, see `seewhy.sharing.parts.write_part`.
        """
        assert self._task is not None
        write_part(self._find_part(self._task.key), part)
        self.present.tasks.complete(self._task)
        self._task, self.predicted = None, self.predicted + 1

    def read_parts(self) -> list[Any]:
        """Results of all batches, in order."""
        return [read_part(self._find_part(task.key)) for task in self._tasks[:-1]]

    def finish(self) -> None:
        """Note that the results are written; other processes then end."""
        self.present.tasks.complete(self._tasks[-1])
        self.present.finish()
        shutil.rmtree(self.present.folder / PARTS, ignore_errors=True)  # may be large, and have been joined

    def _find_part(self, key: str) -> Path:
        return self.present.folder / PARTS / f"{key}.npz"


class SharePrediction(Callback):
    """Collects the results of each batch from all callbacks that share their work, and hands them to one process.

    It must come after these callbacks.

    Args:
        batches: of the prediction.
    """

    def __init__(self, batches: SharedBatches) -> None:
        self.batches = batches

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse what processes cannot share."""
        if trainer.world_size > 1:
            raise ConfigError("job.shared=true needs processes of their own: trainer.devices=1, trainer.num_nodes=1")
        if trainer.limit_predict_batches != 1.0:
            raise ConfigError("job.shared=true shares all batches; leave trainer.limit_predict_batches=null")
        if isinstance(pl_module, ScoresPredictions) and not isinstance(pl_module, SharesScores):
            raise ConfigError(
                f"job.shared=true: {type(pl_module).__name__} needs the methods take_rows and add_rows, by which one "
                "process computes the scores of all; or leave out the scores: callbacks.scores=null"
            )

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Note the results of a batch."""
        self.batches.complete([item.take_part() for item in _list_shared(trainer)])

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the results of all batches to the callbacks of one process, and release those of the others."""
        shared: list[Any] = _list_shared(trainer)
        if not self.batches.joins:
            callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
            trainer.callbacks = [item for item in callbacks if item not in shared]  # type: ignore[attr-defined]
            return
        with self.batches.present.joining():
            parts = self.batches.read_parts()
            for number, item in enumerate(shared):
                item.join_parts([part[number] for part in parts])


def _list_shared(trainer: Trainer) -> list[Any]:
    return [item for item in trainer.callbacks if isinstance(item, SharesWork)]  # type: ignore[attr-defined]
