"""The engine under Lightning gives what it gives alone."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from seewhy.callbacks.volumes.engine import VolumeWriter
from seewhy.io.zarr.mapped import ArraySource
from seewhy.volumes.engine.engine import VolumeEngine
from seewhy.volumes.engine.ledger import Ledger
from seewhy.volumes.geometry import BlendingWindow, PatchGrid
from seewhy.volumes.memory import Costs
from seewhy.volumes.normalization import ChannelNormalization
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import make_plan
from seewhy.volumes.predictor import PatchPredictor, predict_array

HEAD = {"mode": "binary", "channels": 2}
SHARD = (16, 16, 16)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, 3, padding=1))


def volume():
    values = np.random.default_rng(0).random((1, 40, 36, 36), dtype=np.float32)
    values[:, 20:] = 0
    return values


class FileSink:
    """A memory-mapped file, so that several processes write one output."""

    identity, levels = None, 0

    def __init__(self, path):
        self.path, self.finished = path, path.with_suffix(".finished")

    def write(self, box, block):
        array = np.load(self.path, mmap_mode="r+")
        array[box] = block
        array.flush()

    def reopen(self):
        pass

    def build_part(self, level, index):
        raise AssertionError("there are no coarser levels")

    def seal(self):
        with self.finished.open("a") as file:
            file.write("once\n")


def engine(folder, *, parts, part=0):
    source = ArraySource(volume())
    grid = PatchGrid(shape=source.shape[1:], patch=(16, 16, 16))
    costs = Costs(
        grid=grid,
        output_format=OutputFormat(**HEAD),
        channels=1,
        itemsize=4,
        chunks=source.chunks,
        shard=SHARD,
        batch_size=4,
    )
    path = folder / "out.npy"
    if not path.exists():
        np.save(path, np.full(grid.shape, 77, np.uint8))
    return VolumeEngine(
        source=source,
        sink=FileSink(path),
        window=BlendingWindow(grid),
        output_format=OutputFormat(**HEAD),
        normalize=ChannelNormalization([{"scheme": "none"}], channels=1),
        plan=make_plan(costs, memory_budget=10**9, parts=parts),
        ledger=Ledger(folder / "notes"),
        part=part,
        skip_empty=True,
    )


class Predicting(LightningModule):
    """Makes its engine once its rank is known."""

    def __init__(self, folder, *, parts, part=0, stop_at=None):
        super().__init__()
        self.folder, self.parts, self.part, self.stop_at = folder, parts, part, stop_at
        self.predictor = PatchPredictor([network()], batch_size=4)

    def predict_dataloader(self):
        part = self.part * self.trainer.world_size + self.trainer.global_rank
        self.engine = engine(self.folder, parts=self.parts, part=part)
        return self.engine

    def predict_step(self, batch, batch_idx=0):
        if batch_idx == self.stop_at:
            raise RuntimeError("out of luck")
        return self.predictor(batch["image"])

    def on_predict_end(self):
        self.trainer.strategy.barrier()


class Finish(Callback):
    def on_predict_end(self, trainer, pl_module):
        pl_module.engine.finish()


def predict(folder, *, devices=1, **choices):
    module = Predicting(folder, **choices)
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp_fork" if devices > 1 else "auto",
        callbacks=[VolumeWriter(), Finish()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.predict(module, return_predictions=False)
    return module


def expected():
    predict = PatchPredictor([network()], batch_size=4)
    return predict_array(
        volume(), predict, patch=(16, 16, 16), output_format=OutputFormat(**HEAD), batch_size=4, skip_empty=True
    )


def test_one_process(tmp_path):
    module = predict(tmp_path, parts=1)
    assert module.engine.complete
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected())
    assert (tmp_path / "out.finished").read_text() == "once\n"
    assert module.engine.progress.skipped > 0


def test_an_output_is_finished_once_however_many_come(tmp_path):
    assert predict(tmp_path, parts=2, part=1).engine.complete
    assert predict(tmp_path, parts=2, part=0).engine.progress.run == 0
    assert (tmp_path / "out.finished").read_text() == "once\n"
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected())


def test_two_processes_share_one_output(tmp_path):
    alone = expected()
    predict(tmp_path, parts=2, devices=2)
    assert np.array_equal(np.load(tmp_path / "out.npy"), alone)
    assert (tmp_path / "out.finished").read_text() == "once\n"
    assert len(list((tmp_path / "notes").glob("part-*.jsonl"))) == 2


def test_an_interrupted_run_goes_on(tmp_path):
    with pytest.raises(RuntimeError, match="out of luck"):
        predict(tmp_path, parts=1, stop_at=10)
    assert Ledger(tmp_path / "notes").committed()
    module = predict(tmp_path, parts=1)
    assert module.engine.complete
    assert module.engine.progress.run < 40
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected())
