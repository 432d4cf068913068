"""What a volume of 1.3 teravoxels costs on 1 to 256 ranks: our scheduler, ledger and store layout, simulated.

    python benchmarks/volume_scale.py
    python benchmarks/volume_scale.py --shape 23000 7600 7600 --ranks 1 256 --seconds 0.08 --read 400e6 --aggregate 20e9

Tiles, owners, walks, pieces of input, shards and the ledger's files are the engine's own; the network is replaced by
its time per patch, the store by counters and a bandwidth. Every rank is walked step by step: a step begins when its
rows are read and the step before has ended; reading runs ahead by as many pieces as the engine reads ahead. Then one
rank is lost at random moments and restarted alone from the ledger.

Columns: tiles; patches predicted again at borders of tiles; bytes read ÷ input and reads of chunks; bytes written ÷
output and shards; memory of a rank besides its network; hours until the last rank ends; share of all ranks' time that
is spent waiting, for the store and for the last rank; patches and minutes that a lost rank costs, at most.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from typing import NamedTuple

import torch

from seewhy.io.zarr.source import Box
from seewhy.option_types import parse_bytes
from seewhy.volumes.engine.ledger import Coverage, Ledger
from seewhy.volumes.geometry import PatchGrid
from seewhy.volumes.memory import PIECES, Costs, piece_rows
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import Plan, Tile, make_plan

COLUMNS = (
    "ranks",
    "tiles",
    "again",
    "read ÷ input",
    "reads",
    "written ÷ output",
    "shards",
    "memory",
    "hours",
    "idle",
    "lost: patches",
    "minutes",
)


class Counters:
    """A store that only counts."""

    def __init__(self, block: tuple[int, int, int], shape: tuple[int, int, int], itemsize: int) -> None:
        self.block, self.shape, self.itemsize = block, shape, itemsize
        self.bytes, self.calls = 0, 0

    def touch(self, box: Box) -> int:
        """Count all blocks that a box touches; their bytes."""
        spans = [(axis.start // size, -(-axis.stop // size)) for axis, size in zip(box, self.block, strict=True)]
        sizes = [
            min(high * size, length) - low * size
            for (low, high), size, length in zip(spans, self.block, self.shape, strict=True)
        ]
        amount = math.prod(sizes) * self.itemsize
        self.bytes += amount
        self.calls += math.prod(high - low for low, high in spans)
        return amount


class Moment(NamedTuple):
    """The end of a step of a rank."""

    end: float
    patches: int
    """Of all steps so far."""
    tile: Tile
    committed: int
    """Rows before this one of the tile are written and noted."""


def walk(
    tiles: list[tuple[Tile, int]],
    plan: Plan,
    options: argparse.Namespace,
    stores: tuple[Counters, Counters],
    rate: float,
) -> tuple[list[Moment], float]:
    """One rank's steps, and the seconds it waited for its reads."""
    costs, (source, sink) = plan.costs, stores
    piece, depth = piece_rows(costs.grid, costs.chunks), costs.shard[0]
    moments: list[Moment] = []
    now, free, patches, waited = 0.0, 0.0, 0, 0.0
    for tile, row in tiles:
        loaded, committed, window = None, row, tile.window
        ready: list[float] = []
        for step in tile.steps(row):
            first = tile.grid.starts[0][step.z]
            loaded = max(first // piece * piece, 0) if loaded is None else loaded
            while loaded < min(first + tile.grid.patch[0], window[0].stop):
                stop = min((loaded // piece + 1) * piece, window[0].stop)
                amount = source.touch((slice(loaded, stop), *window[1:]))
                # The piece is asked for once there is room: when the one PIECES before it has been taken.
                asked = max(free, ready[-PIECES] if len(ready) >= PIECES else 0.0)
                free = asked + amount / rate
                ready.append(max(free, now))
                loaded = stop
            start = max(now, ready[-1] if ready else now)
            waited += start - now
            now = start + step.patches * options.seconds
            patches += step.patches
            whole = tile.core[0].stop if step.final >= tile.core[0].stop else step.final // depth * depth
            if whole > committed:
                sink.touch((slice(committed, whole), *tile.core[1:]))
                committed = whole
            moments.append(Moment(now, patches, tile, committed))
    return moments, waited


def simulate(ranks: int, options: argparse.Namespace) -> str:
    """One line of the table."""
    shape = tuple(options.shape)
    grid = PatchGrid(shape=shape, patch=(options.patch,) * 3, overlap=options.overlap)
    output_format = OutputFormat(mode="binary", channels=2)
    costs = Costs(grid, output_format, 1, 1, (options.chunk,) * 3, (options.shard,) * 3, options.batch)
    plan = make_plan(costs, memory_budget=parse_bytes(options.budget), parts=ranks)
    source, sink = Counters(costs.chunks, shape, 1), Counters(costs.shard, shape, 1)
    rate = min(options.read, options.aggregate / ranks)
    with tempfile.TemporaryDirectory() as folder:
        walks, waits = [], 0.0
        for rank in range(ranks):
            moments, waited = walk(
                [(tile, tile.core[0].start) for tile in plan.of(rank)], plan, options, (source, sink), rate
            )
            walks.append(moments)
            waits += waited
            note(Ledger(folder), rank, ranks, moments)
        coverage = Coverage(shape=shape, shard=costs.shard, boxes=Ledger(folder).committed())
        assert coverage.is_complete(plan.region), "some shard was never written"
    assert sink.bytes == math.prod(shape), "some shard was written twice"
    ends = [moments[-1].end if moments else 0.0 for moments in walks]  # more ranks than tiles leave some without
    end = max(ends)
    idle = sum(end - own for own in ends) + waits
    lost = [lose(plan, walks, options, rate, seed) for seed in range(options.losses)]
    again, minutes = max(patches for patches, _ in lost), max(seconds for _, seconds in lost) / 60
    extra = plan.patches / plan.needed - 1
    cells = (
        f"{ranks}",
        f"{len(plan.tiles)}",
        f"{extra:.1%}",
        f"{source.bytes / math.prod(shape):.2f}",
        f"{source.calls / 1e6:.2f} M",
        f"{sink.bytes / math.prod(shape):.2f}",
        f"{sink.calls:,}",
        f"{plan.memory.total / 1e9:.1f} GB",
        f"{end / 3600:,.1f}",
        f"{idle / (ranks * end):.1%}",
        f"{again:,}",
        f"{minutes:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def note(ledger: Ledger, rank: int, ranks: int, moments: list[Moment], *, until: int | None = None) -> None:
    """Write a rank's commits, as its engine would."""
    ledger.open_part(rank, ranks)
    rows: dict[int, int] = {}
    for moment in moments[:until]:
        begun = rows.setdefault(id(moment.tile), moment.tile.core[0].start)
        if moment.committed > begun:
            ledger.commit((slice(begun, moment.committed), *moment.tile.core[1:]))
            rows[id(moment.tile)] = moment.committed
    ledger.close()


def lose(
    plan: Plan, walks: list[list[Moment]], options: argparse.Namespace, rate: float, seed: int
) -> tuple[int, float]:
    """Patches predicted again, and seconds lost, when one rank dies at a random step and is started again alone."""
    draw = random.Random(seed)
    rank = draw.choice([rank for rank, moments in enumerate(walks) if moments])
    moments = walks[rank]
    died = draw.randrange(len(moments))
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(folder)
        note(ledger, rank, len(walks), moments, until=died + 1)
        coverage = Coverage(shape=plan.costs.grid.shape, shard=plan.costs.shard, boxes=ledger.committed())
    tiles = [(tile, coverage.first_open_row(tile.core)) for tile in plan.of(rank)]
    left = [(tile, row) for tile, row in tiles if row < tile.core[0].stop]
    stores = (
        Counters(plan.costs.chunks, plan.costs.grid.shape, 1),
        Counters(plan.costs.shard, plan.costs.grid.shape, 1),
    )
    rest, _ = walk(left, plan, options, stores, rate)
    patches = moments[died].patches + (rest[-1].patches if rest else 0) - moments[-1].patches
    seconds = moments[died].end + (rest[-1].end if rest else 0.0) - moments[-1].end
    return patches, seconds


def measured(options: argparse.Namespace) -> float:
    """Seconds per patch of a residual U-Net on this machine, without mirrors."""
    from monai.networks.nets import UNet

    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = UNet(3, 1, 2, channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=2).to(device).eval()
    image = torch.zeros((1, 1, *(options.patch,) * 3), device=device)
    with torch.no_grad():
        net(image)
        start = time.perf_counter()
        net(image).sum().item()
    return time.perf_counter() - start


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[23000, 7600, 7600])
    parser.add_argument("--ranks", type=int, nargs="*", default=[1, 4, 16, 64, 256])
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--chunk", type=int, default=128, help="of the input, uint8")
    parser.add_argument("--shard", type=int, default=256, help="of the output, uint8 probabilities")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--budget", default="16GB", help="memory_budget of a rank")
    parser.add_argument("--seconds", type=float, help="of the network per patch; measured here where not given")
    parser.add_argument("--read", type=float, default=400e6, help="bytes per second of one rank")
    parser.add_argument("--aggregate", type=float, default=20e9, help="bytes per second of the store")
    parser.add_argument("--losses", type=int, default=20, help="random moments at which a rank is lost")
    options = parser.parse_args()
    options.seconds = measured(options) if options.seconds is None else options.seconds
    voxels = math.prod(options.shape)
    size = " x ".join(f"{length:,}" for length in options.shape)
    print(f"{size} = {voxels / 1e12:.2f} teravoxels, patch {options.patch}³, overlap {options.overlap},")
    print(
        f"{options.seconds * 1e3:.0f} ms per patch, {options.read / 1e6:.0f} MB/s per rank, "
        f"{options.aggregate / 1e9:.0f} GB/s in all, budget {options.budget}"
    )
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"|{' ---: |' * len(COLUMNS)}")
    for ranks in options.ranks:
        print(simulate(ranks, options), flush=True)


if __name__ == "__main__":
    main()
