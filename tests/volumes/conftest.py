"""A small network, a small volume, and everything between them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seewhy.io.zarr.mapped import ArraySource
from seewhy.volumes.engine.engine import VolumeEngine
from seewhy.volumes.engine.ledger import Ledger
from seewhy.volumes.engine.writer import ArraySink
from seewhy.volumes.geometry import BlendingWindow, PatchGrid
from seewhy.volumes.memory import Costs
from seewhy.volumes.normalization import ChannelNormalization
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import make_plan
from seewhy.volumes.predictor import PatchPredictor


def network(channels=1, classes=2, *, gain=3.0, seed=0):
    """Two convolutions whose patches differ at their borders, as padding makes them."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv3d(channels, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, classes, 3, padding=1)
    ).requires_grad_(False)
    for weight in net.parameters():
        weight.mul_(gain)
    return net


@dataclass
class Job:
    """One prediction of a volume, from plain choices."""

    volume: np.ndarray
    net: nn.Module
    patch: tuple = (16, 16, 16)
    overlap: float = 0.5
    window: str = "gaussian"
    shard: tuple = (16, 16, 16)
    budget: float = 1e12
    parts: int = 1
    roi: tuple | None = None
    skip_empty: bool = False
    batch_size: int = 4
    output_format: dict = field(default_factory=lambda: {"mode": "binary", "channels": 2})
    schemes: tuple = ({"scheme": "none"},)
    folder: Path | None = None
    settings: dict = field(default_factory=dict)
    source: object = None
    sink: object = None

    def __post_init__(self):
        self.source = self.source or ArraySource(self.volume)
        self.classes = OutputFormat(**self.output_format)
        self.grid = PatchGrid(shape=self.source.shape[1:], patch=self.patch, overlap=self.overlap)
        if self.sink is None:
            self.sink = ArraySink(np.full(self.classes.shape(self.grid.shape), 77, self.classes.dtype))
        costs = Costs(
            grid=self.grid,
            output_format=self.classes,
            channels=self.source.shape[0],
            itemsize=self.source.dtype.itemsize,
            chunks=self.source.chunks,
            shard=self.shard,
            batch_size=self.batch_size,
        )
        self.plan = make_plan(costs, memory_budget=int(self.budget), parts=self.parts, roi=self.roi)

    def engine(self, part=0):
        """An engine for one part, with a ledger where the job has a folder."""
        return VolumeEngine(
            source=self.source,
            sink=self.sink,
            window=BlendingWindow(self.grid, kind=self.window),
            output_format=self.classes,
            normalize=ChannelNormalization(self.schemes, channels=self.source.shape[0]),
            plan=self.plan,
            ledger=Ledger(self.folder) if self.folder else None,
            settings=self.settings,
            part=part,
            skip_empty=self.skip_empty,
        )

    def predictor(self):
        """The network as the engine calls it."""
        return PatchPredictor([self.net], batch_size=self.batch_size)

    def run(self):
        """The array after one engine has run, or as many at the same time as the plan expects."""
        if self.parts == 1:
            self.engine().run(self.predictor())
            return self.sink.array
        engines = [self.engine(part) for part in range(self.parts)]
        with ThreadPoolExecutor(self.parts) as pool:
            for progress in [pool.submit(engine.run, self.predictor()) for engine in engines]:
                progress.result()
        self.shares = [engine.progress.run for engine in engines]
        return self.sink.array


@pytest.fixture(scope="session")
def volume():
    """Noise of sizes that no patch divides."""
    return np.random.default_rng(0).random((1, 52, 37, 43), dtype=np.float32)


@pytest.fixture(scope="session")
def make_job(volume):
    """Makes a job; the volume and the network have defaults."""

    def make(**choices):
        return Job(**({"volume": volume, "net": network()} | choices))

    return make


@pytest.fixture(scope="session")
def make_network():
    """Makes the small network."""
    return network
