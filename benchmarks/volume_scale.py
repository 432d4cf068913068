"""What a volume of 1.3 teravoxels costs on 1 to 256 processes that come, go and differ in speed: simulated.

    python benchmarks/volume_scale.py
    python benchmarks/volume_scale.py --shape 23000 7600 7600 --ranks 1 256 --seconds 0.08 --read 400e6 --aggregate 20e9
    python benchmarks/volume_scale.py --ranks 256 --lost 0.1 --slow 0.1 --late 0.2

Plan, claims, walks, help, pieces of input and shards are the engine's own (`WorkQueue` on a board in memory); the
network is replaced by its time per patch, the store by counters and a bandwidth. Processes are walked step by step in
the order of a common clock: a step begins when its rows are read and the step before has ended; reading runs ahead by
as many pieces as the engine reads ahead. With `--lost`, `--slow` and `--late`, shares of the processes are killed at
random moments and noticed after a lease, compute four times slower, or join during the first half.

Columns: tiles; patches predicted again at borders, after losses and by helpers; bytes read ÷ input and reads of chunks;
bytes written ÷ output; walks, each of which begins with a border unless it begins at the top; rows of shards taken over
from lost processes, and computed for slow ones; memory of a process besides its network; hours until all is written;
share of the time of all present processes that is spent waiting for the store, and for others.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from seewhy.io.zarr.source import Box
from seewhy.option_types import parse_bytes
from seewhy.sharing.claims import Board, MemoryClaims
from seewhy.sharing.workers import LEASE
from seewhy.volumes.engine.work import Span, WorkQueue
from seewhy.volumes.geometry import PatchGrid
from seewhy.volumes.memory import PIECES, Costs, piece_rows
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import Plan, Step, make_plan

COLUMNS = (
    "processes", "tiles", "again", "read ÷ input", "reads", "written ÷ output", "walks", "taken over", "helped",
    "memory", "hours", "waits for the store", "idle",
)  # fmt: skip
POLL = 10.0
"""Seconds between two looks of a process that has nothing to do; the engine looks more often."""
SLOWER = 4.0


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


@dataclass
class Scene:
    """What all processes share."""

    plan: Plan
    source: Counters
    sink: Counters
    board: Board = field(default_factory=Board)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.written = np.zeros((len(self.plan.tiles), self.plan.rows), dtype=bool)
        self._tiles = {str(tile.core[1:]): number for number, tile in enumerate(self.plan.tiles)}

    def commit(self, box: Box) -> None:
        """Mark a box of one tile's rows as written."""
        self.sink.touch(box)
        rows = slice(self.plan.row_of(box[0].start), self.plan.row_of(box[0].stop - 1) + 1)
        self.written[self._tiles[str(box[1:])], rows] = True


class Process:
    """One process, from its first claim to its end.

    Args:
        name: of the process.
        scene: shared.
        seconds: per patch.
        rate: bytes per second that it reads.
        place: among the expected processes.
    """

    def __init__(self, name: str, scene: Scene, *, seconds: float, rate: float, place: int) -> None:
        self.name, self.scene, self.seconds, self.rate = name, scene, seconds, rate
        self.queue = WorkQueue(
            scene.plan,
            claims=MemoryClaims(scene.board, name),
            part=place,
            read_written=scene.written.copy,
            commit=scene.commit,
            clock=lambda: scene.now,
        )
        self.patches, self.walks, self.stored, self.idle, self.begun = 0, 0, 0.0, 0.0, -1.0
        self._span: Span | None = None
        self._steps: Iterator[Step] = iter(())
        self._final, self._committed = 0, 0
        self._ready: list[float] = []
        self._loaded, self._free = 0, 0.0

    def advance(self) -> float | None:
        """Do what follows the present moment; its end, None at the end of all."""
        now = self.scene.now
        self.begun = now if self.begun < 0 else self.begun
        self._commit()
        step = next(self._steps, None)
        if step is None:
            self._span = self.queue.next_span()
            if self._span is None:
                if bool(self.scene.written.all()):
                    return None
                self.queue.waited += POLL
                self.idle += POLL
                return now + POLL
            self._begin(self._span)
            step = next(self._steps)
        return self._run(step)

    def _begin(self, span: Span) -> None:
        self.walks += 1
        self._steps, self._committed, self._final = span.steps(), span.row, span.row
        self._loaded, self._ready, self._free = -1, [], self.scene.now

    def _run(self, step: Step) -> float:
        """Read the rows of a step, and compute it."""
        assert self._span is not None
        plan, tile, now = self.scene.plan, self._span.tile, self.scene.now
        piece, window = piece_rows(plan.costs.grid, plan.costs.chunks), tile.window
        first = max(tile.grid.starts[0][step.z], 0)
        if self._loaded < 0:
            self._loaded = first // piece * piece
        while self._loaded < min(first + tile.grid.patch[0], window[0].stop):
            stop = min((self._loaded // piece + 1) * piece, window[0].stop)
            amount = self.scene.source.touch((slice(self._loaded, stop), *window[1:]))
            # The piece is asked for once there is room: when the one PIECES before it has been taken.
            asked = max(self._free, self._ready[-PIECES] if len(self._ready) >= PIECES else 0.0)
            self._free = asked + amount / self.rate
            self._ready.append(max(self._free, now))
            self._loaded = stop
        start = max(now, self._ready[-1] if self._ready else now)
        self.stored += start - now
        self.patches += step.patches
        self._final = step.final
        return start + step.patches * self.seconds

    def _commit(self) -> None:
        """Write the rows of shards that are complete."""
        if self._span is None:
            return
        depth, core = self.scene.plan.costs.shard[0], self._span.tile.core
        whole = self._final if self._final >= core[0].stop else self._final // depth * depth
        while self._committed < whole:
            stop = min(self._committed + depth, whole)
            box = (slice(self._committed, stop), *core[1:])
            if not self.queue.is_written(box):
                self.queue.commit(box)
            self._committed = stop
        if self.queue.pace:
            self.scene.board.paces[self.name] = self.queue.pace


def simulate(ranks: int, options: argparse.Namespace) -> str:
    """One line of the table."""
    shape = tuple(options.shape)
    grid = PatchGrid(shape=shape, patch=(options.patch,) * 3, overlap=options.overlap)
    output_format = OutputFormat(mode="binary", channels=2)
    costs = Costs(grid, output_format, 1, 1, (options.chunk,) * 3, (options.shard,) * 3, options.batch)
    plan = make_plan(costs, memory_budget=parse_bytes(options.budget), parts=ranks)
    scene = Scene(plan, Counters(costs.chunks, shape, 1), Counters(costs.shard, shape, 1))
    rate = min(options.read, options.aggregate / ranks)
    draw = random.Random(options.seed)
    expected = plan.patches * options.seconds / ranks
    processes = [
        Process(
            str(rank),
            scene,
            seconds=options.seconds * (SLOWER if draw.random() < options.slow else 1.0),
            rate=rate,
            place=rank,
        )
        for rank in range(ranks)
    ]
    ends = {rank: draw.uniform(0, expected) for rank in range(1, ranks) if draw.random() < options.lost}
    events = [(draw.uniform(0, expected / 2) if draw.random() < options.late else 0.0, rank) for rank in range(ranks)]
    heapq.heapify(events)
    leases: list[tuple[float, str]] = []
    spent = 0.0
    while events:
        scene.now, rank = heapq.heappop(events)
        while leases and leases[0][0] <= scene.now:
            scene.board.lost.add(heapq.heappop(leases)[1])
        process = processes[rank]
        following = process.advance() if scene.now < ends.get(rank, math.inf) else None
        if following is not None:
            heapq.heappush(events, (following, rank))
            continue
        spent += scene.now - max(process.begun, 0.0)
        if rank in ends:
            heapq.heappush(leases, (scene.now + LEASE, process.name))
    assert bool(scene.written.all()), "some shard was never written"
    idle, stored = sum(process.idle for process in processes), sum(process.stored for process in processes)
    cells = (
        f"{ranks}",
        f"{len(plan.tiles)}",
        f"{sum(process.patches for process in processes) / plan.needed - 1:.1%}",
        f"{scene.source.bytes / math.prod(shape):.2f}",
        f"{scene.source.calls / 1e6:.2f} M",
        f"{scene.sink.bytes / math.prod(shape):.2f}",
        f"{sum(process.walks for process in processes):,}",
        f"{sum(sum(process.queue.claims.taken_over.values()) for process in processes):,}",
        f"{sum(process.queue.helped for process in processes):,}",
        f"{plan.memory.total / 1e9:.1f} GB",
        f"{scene.now / 3600:,.2f}",
        f"{stored / spent:.1%}",
        f"{idle / spent:.1%}",
    )
    return f"| {' | '.join(cells)} |"


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
    parser.add_argument("--budget", default="16GB", help="memory_budget of a process")
    parser.add_argument("--seconds", type=float, help="of the network per patch; measured here where not given")
    parser.add_argument("--read", type=float, default=400e6, help="bytes per second of one process")
    parser.add_argument("--aggregate", type=float, default=20e9, help="bytes per second of the store")
    parser.add_argument("--lost", type=float, default=0.0, help="share of the processes that are killed")
    parser.add_argument("--slow", type=float, default=0.0, help="share of the processes that are four times slower")
    parser.add_argument("--late", type=float, default=0.0, help="share of the processes that join later")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.seconds = measured(options) if options.seconds is None else options.seconds
    voxels = math.prod(options.shape)
    size = " x ".join(f"{length:,}" for length in options.shape)
    print(f"{size} = {voxels / 1e12:.2f} teravoxels, patch {options.patch}³, overlap {options.overlap},")
    print(
        f"{options.seconds * 1e3:.0f} ms per patch, {options.read / 1e6:.0f} MB/s per process, "
        f"{options.aggregate / 1e9:.0f} GB/s in all, budget {options.budget}"
    )
    print(f"lost {options.lost:.0%}, slow {options.slow:.0%}, late {options.late:.0%}")
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"|{' ---: |' * len(COLUMNS)}")
    for ranks in options.ranks:
        print(simulate(ranks, options), flush=True)


if __name__ == "__main__":
    main()
