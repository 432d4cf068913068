"""The engine under Lightning gives what it gives alone."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from seewhy.callbacks.volume_writer import VolumeWriter
from seewhy.errors import ConfigError
from seewhy.io.volume_source import ArraySource
from seewhy.volumes.engine import VolumeEngine
from seewhy.volumes.grid import PatchGrid
from seewhy.volumes.head import Head
from seewhy.volumes.in_memory import predict_array
from seewhy.volumes.ledger import Ledger
from seewhy.volumes.memory import Costs
from seewhy.volumes.module import VolumePrediction
from seewhy.volumes.normalization import Normalization
from seewhy.volumes.plan import make_plan
from seewhy.volumes.predictor import PatchPredictor
from seewhy.volumes.window import Window

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

    def __init__(self, path):
        self.path, self.finished = path, path.with_suffix(".finished")

    def write(self, box, block):
        array = np.load(self.path, mmap_mode="r+")
        array[box] = block
        array.flush()

    def finish(self):
        with self.finished.open("a") as file:
            file.write("once\n")


def engine(folder, *, parts, part=0):
    source = ArraySource(volume())
    grid = PatchGrid(shape=source.shape[1:], patch=(16, 16, 16))
    costs = Costs(grid=grid, head=Head(**HEAD), channels=1, itemsize=4, chunks=source.chunks, shard=SHARD, batch_size=4)
    path = folder / "out.npy"
    if not path.exists():
        np.save(path, np.full(grid.shape, 77, np.uint8))
    return VolumeEngine(
        source=source,
        sink=FileSink(path),
        window=Window(grid),
        head=Head(**HEAD),
        normalize=Normalization([{"scheme": "none"}], channels=1),
        plan=make_plan(costs, memory_budget=10**9, parts=parts),
        ledger=Ledger(folder / "notes"),
        part=part,
        skip_empty=True,
    )


def predict(folder, *, parts, part=0, devices=1):
    made = engine(folder, parts=parts, part=part)
    writer = VolumeWriter(made)
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp_fork" if devices > 1 else "auto",
        callbacks=[writer],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.predict(
        VolumePrediction(PatchPredictor([network()], batch_size=4)), dataloaders=made, return_predictions=False
    )
    return writer


def expected():
    return predict_array(
        volume(), network().eval(), patch=(16, 16, 16), head=Head(**HEAD), batch_size=4, skip_empty=True
    )


def test_one_process(tmp_path):
    with torch.no_grad():
        alone = expected()
    writer = predict(tmp_path, parts=1)
    assert writer.complete
    assert np.array_equal(np.load(tmp_path / "out.npy"), alone)
    assert (tmp_path / "out.finished").read_text() == "once\n"
    assert writer.engine.progress.skipped > 0


def test_parts_of_a_job_array_finish_once(tmp_path):
    first = predict(tmp_path, parts=2, part=1)
    assert not first.complete
    assert not (tmp_path / "out.finished").exists()
    assert predict(tmp_path, parts=2, part=0).complete
    assert (tmp_path / "out.finished").read_text() == "once\n"
    with torch.no_grad():
        assert np.array_equal(np.load(tmp_path / "out.npy"), expected())


def test_two_processes_share_one_output(tmp_path):
    with torch.no_grad():
        alone = expected()
    predict(tmp_path, parts=2, devices=2)
    assert np.array_equal(np.load(tmp_path / "out.npy"), alone)
    assert (tmp_path / "out.finished").read_text() == "once\n"
    assert len(list((tmp_path / "notes").glob("part-*.jsonl"))) == 2


def test_a_plan_for_other_processes_is_refused(tmp_path):
    class Two:
        world_size, global_rank = 2, 0

    with pytest.raises(ConfigError, match=r"3 part\(s\), Lightning runs 2"):
        VolumeWriter(engine(tmp_path, parts=3)).setup(Two(), None, "predict")


def test_an_interrupted_run_goes_on(tmp_path):
    calls = []

    class Interrupted(VolumePrediction):
        def predict_step(self, batch, batch_idx=0):
            calls.append(1)
            if len(calls) == 10:
                raise RuntimeError("out of luck")
            return super().predict_step(batch)

    made = engine(tmp_path, parts=1)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        callbacks=[VolumeWriter(made)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer.predict(
            Interrupted(PatchPredictor([network()], batch_size=4)), dataloaders=made, return_predictions=False
        )
    assert made.ledger.committed()
    writer = predict(tmp_path, parts=1)
    assert writer.complete
    with torch.no_grad():
        assert np.array_equal(np.load(tmp_path / "out.npy"), expected())
