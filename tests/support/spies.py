"""Callbacks that tests put into runs from the command line (`+callbacks.spy._target_=spies.…`)."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger


class RankWitness(Callback):
    """Each rank writes down what it was told, into the folder of its run."""

    def __init__(self, *, folder):
        self.folder = Path(folder)

    def on_train_start(self, trainer, pl_module):
        facts = {
            "rank": trainer.global_rank,
            "world_size": trainer.world_size,
            "lr": pl_module.hparams["optimizer"]["lr"],
            "seed": pl_module.hparams["seed"],
        }
        (self.folder / f"witness_{trainer.global_rank}.json").write_text(json.dumps(facts))


class Killer(Callback):
    """Ends the process the hard way in the middle of an epoch."""

    def __init__(self, *, epoch, batch):
        self.epoch, self.batch = epoch, batch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx == self.batch:
            os.kill(os.getpid(), signal.SIGKILL)


class Modules(Callback):
    """Writes down which modules are imported at the end of a test."""

    def __init__(self, *, path):
        self.path = Path(path)

    def on_test_end(self, trainer, pl_module):
        self.path.write_text(json.dumps(sorted(sys.modules)))


class Crash(Callback):
    """Fails in the first epoch, after the first batches."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 1:
            raise RuntimeError("boom")


class Log(Logger):
    """Keeps the statuses that it is closed with."""

    name, version = "spy", "0"
    statuses: list[str] = []  # noqa: RUF012

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params, *args, **kwargs):
        pass

    def finalize(self, status):
        Log.statuses.append(status)


class Dies(Callback):
    """Ends one rank in the second step of an epoch: killed, or by an error."""

    def __init__(self, *, rank, how, epoch=0):
        self.rank, self.how, self.epoch = rank, how, epoch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_rank == self.rank and batch_idx == 1 and trainer.current_epoch == self.epoch:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("boom")


class Slow(Callback):
    """Waits in every batch of a prediction, after it has left a file."""

    def __init__(self, *, file):
        self.file = Path(file)

    def on_predict_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.file.touch()
        time.sleep(5)


class StopAfter(Callback):
    """Interrupts a training after some epochs, when its checkpoints are written."""

    def __init__(self, *, epochs):
        self.epochs = epochs

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epochs:
            raise KeyboardInterrupt
