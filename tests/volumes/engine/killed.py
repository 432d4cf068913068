"""A prediction from zarr to zarr, in processes that can be killed, slowed down, and joined by others."""

import json
import os
import sys
import time
from pathlib import Path

import torch
from torch import nn

from seewhy.io.zarr.opening import open_source
from seewhy.io.zarr.sink import create_sink
from seewhy.volumes.engine.engine import VolumeEngine
from seewhy.volumes.engine.ledger import Ledger
from seewhy.volumes.geometry import BlendingWindow, PatchGrid
from seewhy.volumes.memory import Costs
from seewhy.volumes.normalization import ChannelNormalization
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import make_plan
from seewhy.volumes.predictor import PatchPredictor

SHARD = (16, 32, 32)
LEASE = 5.0


def main(folder, part, parts, budget, slower, *, pause=0.005):
    """Predict, slowly, and say in a file how long that took; finish when everything is written."""
    began = time.monotonic()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, 3, padding=1))
    source = open_source(str(folder / "in.zarr"))
    grid = PatchGrid(shape=source.shape[1:], patch=(16, 16, 16), overlap=0.5)
    output_format = OutputFormat(mode="binary", channels=2)
    costs = Costs(
        grid=grid,
        output_format=output_format,
        channels=1,
        itemsize=source.dtype.itemsize,
        chunks=source.chunks,
        shard=SHARD,
        batch_size=4,
    )
    sink = create_sink(
        folder / "out.zarr",
        shape=grid.shape,
        dtype=output_format.dtype,
        shard=SHARD,
        chunk=(16, 16, 16),
        labels=False,
        exist_ok=True,
    )
    predictor = PatchPredictor([net], batch_size=4)
    engine = VolumeEngine(
        source=source,
        sink=sink,
        window=BlendingWindow(grid),
        output_format=output_format,
        normalize=ChannelNormalization([{"scheme": "zscore"}], channels=1),
        plan=make_plan(costs, memory_budget=budget, parts=parts),
        ledger=Ledger(sink.bookkeeping, lease=LEASE),
        settings={"predictor": predictor.settings()},
        part=part,
    )

    def predict(image):
        started = time.monotonic()
        time.sleep(pause)
        logits = predictor(image)
        time.sleep((slower - 1) * (time.monotonic() - started))
        return logits

    progress, computed = engine.run(predict), time.monotonic()
    engine.finish()
    ended = time.monotonic()
    record = {**progress.record(), "finishing": ended - computed, "whole": ended - began}
    (folder / f"worker-{engine.worker}.json").write_text(json.dumps(record))


def nursery():
    """Start processes on demand, by a fork from one that has loaded everything and done nothing.

    Lines of `start FOLDER PART PARTS BUDGET [SLOWER]` are answered by a process id, lines of `wait ID` by its exit
    code.
    """
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "wait":
            answer = os.waitstatus_to_exitcode(os.waitpid(int(rest[0]), 0)[1])
        else:
            answer = os.fork()
            if not answer:
                folder, part, parts, budget, slower = (*rest, 1)[:5]
                main(Path(folder), int(part), int(parts), int(float(budget)), float(slower))
                os._exit(0)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    nursery()
