"""Checkpoints are written next to their name, and a failure keeps the one before."""

import errno
import os
import threading

import pytest
import torch
from lightning.pytorch import Trainer

from seewhy.callbacks.checkpoints import AtomicCheckpointIO, replace_checkpoint_io
from seewhy.errors import CheckpointError


def test_a_trainer_writes_by_it():
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    replace_checkpoint_io(trainer)
    assert type(trainer.strategy.checkpoint_io) is AtomicCheckpointIO


@pytest.mark.parametrize("place", ["torch.save", "os.fsync"])
def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch, place):
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"epoch": 1}, path)

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(place, fail)
    with pytest.raises(CheckpointError, match=rf"No space left.*is kept.*ckpt_path=last .*={tmp_path}/run"):
        writer.save_checkpoint({"epoch": 2}, path)
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert os.listdir(path.parent) == ["last.ckpt"]


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises((TypeError, AttributeError, RuntimeError), match=r"lock|pickle"):
        AtomicCheckpointIO().save_checkpoint({"lock": threading.Lock()}, tmp_path / "a.ckpt")
    assert os.listdir(tmp_path) == []
