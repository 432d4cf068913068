"""A volume from zarr to zarr: time over the network's own, memory, and what passes between us and the store.

    python benchmarks/volume.py                          # 160³ and 256³, three turns: half an hour on two cores
    python benchmarks/volume.py --sizes 160 --turns 1 --no-memory

Patches of 64³, overlap 0.5, batches of 4, Gaussian weights, a network of three convolutions of 16 channels with two
classes, float32 input in chunks of 64³, uint8 probabilities out. Methods, each in a separate process, by turns:

- ``seewhy``: one pass, zarr to sharded zarr;
- ``monai``: `sliding_window_inference` in memory; input read before, result written after;
- ``monai-zarr``: `PatchInferer` with `ZarrAvgMerger` (plain means), chunks of half a patch;
- ``two-pass``: logits of every patch stored as float16, blended and finalised by a second pass over them.

The time of the forward passes is clocked inside each process, so that other jobs on the machine blur the ratio less
than the times; with `--threads 1` the ratio of processor times is given too, which they hardly blur. Peaks are those
over the peak of one batch through the network alone (Linux). Bytes are those of read and write system calls (`rchar`,
`wchar`), for our own also those counted at the stores. Claims: total ÷ forward ≤ 1.05; memory ≤ +5 % when z grows
fourfold, and set by the budget; reads ≤ 1.3 × input, writes ≤ 1.1 × output.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

PATCH, BATCH, CHUNK = 64, 4, 64
MIB = 2**20


class Clocked(nn.Module):
    """Three convolutions of 16 channels; counts the seconds inside them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Conv3d(a, b, 3, padding=1) for a, b in ((1, 16), (16, 16), (16, 2))]
        self.net = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        self.seconds, self.processor = 0.0, 0.0

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Logits [B, 2, …] of [B, 1, …]."""
        start, processor = time.perf_counter(), time.thread_time()
        logits = self.net(image)
        self.seconds += time.perf_counter() - start
        self.processor += time.thread_time() - processor
        return logits


def seewhy(folder: Path, net: Clocked, budget: int) -> dict[str, Any]:
    """Run the engine of seewhy."""
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

    source = open_source(folder / "in.zarr")
    grid, output_format = PatchGrid(shape=source.shape[1:], patch=(PATCH,) * 3), OutputFormat(mode="binary", channels=2)
    shard = tuple(min(128, -(-size // CHUNK) * CHUNK) for size in grid.shape)
    costs = Costs(grid, output_format, 1, source.dtype.itemsize, source.chunks, (CHUNK, *shard[1:]), BATCH)
    plan = make_plan(costs, memory_budget=budget)
    sink = create_sink(
        folder / "out.zarr", shape=grid.shape, dtype=output_format.dtype, shard=costs.shard, chunk=(CHUNK,) * 3
    )
    engine = VolumeEngine(
        source=source,
        sink=sink,
        window=BlendingWindow(grid),
        output_format=output_format,
        normalize=ChannelNormalization([{"scheme": "none"}], channels=1),
        plan=plan,
        ledger=Ledger(sink.bookkeeping),
        skip_empty=True,
    )
    engine.run(PatchPredictor([net], batch_size=BATCH))
    return {
        "planned": plan.memory.total,
        "tiles": len(plan.tiles),
        "patches": plan.patches,
        "store_read": source.counters.bytes_read,
        "store_written": sink.counters.bytes_written,
    }


def monai(folder: Path, net: Clocked, budget: int) -> dict[str, Any]:
    """In memory."""
    from monai.inferers import sliding_window_inference

    image = torch.from_numpy(zarr.open_array(folder / "in.zarr")[:])[None, None]
    logits = sliding_window_inference(image, (PATCH,) * 3, BATCH, net, overlap=0.5, mode="gaussian")
    output(folder, image.shape[2:])[:] = quantised(logits[0])
    return {}


def monai_zarr(folder: Path, net: Clocked, budget: int) -> dict[str, Any]:
    """Out of memory, as MONAI offers it."""
    from monai.inferers import PatchInferer, SlidingWindowSplitter, ZarrAvgMerger

    image = torch.from_numpy(zarr.open_array(folder / "in.zarr")[:])[None, None]
    inferer = PatchInferer(
        SlidingWindowSplitter((PATCH,) * 3, 0.5),
        ZarrAvgMerger,
        batch_size=BATCH,
        merged_shape=(1, 2, *image.shape[2:]),
        store=str(folder / "merged.zarr"),
        value_store=str(folder / "values.zarr"),
        count_store=str(folder / "counts.zarr"),
        chunks=(1, 2, *(PATCH // 2,) * 3),
    )
    merged = inferer(image, net)
    blocks(merged, output(folder, image.shape[2:]))
    return {}


def two_pass(folder: Path, net: Clocked, budget: int) -> dict[str, Any]:
    """Logits of every patch on disk, then a second pass over them; the scheme of the reference."""
    from seewhy.volumes.geometry import PatchGrid

    source = zarr.open_array(folder / "in.zarr")
    grid = PatchGrid(shape=source.shape, patch=(PATCH,) * 3)
    boxes = [grid.box(position) for position in itertools.product(*(range(len(axis)) for axis in grid.starts))]
    shape = (len(boxes), 2, *grid.patch)
    stored = zarr.create_array(
        folder / "logits.zarr", shape=shape, chunks=(1, *shape[1:]), dtype="float16", zarr_format=2
    )
    for first in range(0, len(boxes), BATCH):
        some = boxes[first : first + BATCH]
        image = torch.from_numpy(np.stack([source[box] for box in some]))[:, None]
        stored[first : first + len(some)] = net(image).half().numpy()
    offset = np.arange(PATCH) - (PATCH - 1) / 2
    profile = np.exp(-0.5 * (offset / (PATCH / 8)) ** 2).astype(np.float32)
    weights, result = np.einsum("z,y,x->zyx", profile, profile, profile), output(folder, source.shape)
    for corner in itertools.product(*(range(0, size, CHUNK) for size in source.shape)):
        place = tuple(slice(c, min(c + CHUNK, size)) for c, size in zip(corner, source.shape, strict=True))
        total = np.zeros((3, *(axis.stop - axis.start for axis in place)), dtype=np.float32)
        for index, box in enumerate(boxes):
            low = [max(a.start, b.start) for a, b in zip(box, place, strict=True)]
            high = [min(a.stop, b.stop) for a, b in zip(box, place, strict=True)]
            if any(a >= b for a, b in zip(low, high, strict=True)):
                continue
            here = tuple(slice(a - p.start, b - p.start) for a, b, p in zip(low, high, place, strict=True))
            there = tuple(slice(a - p.start, b - p.start) for a, b, p in zip(low, high, box, strict=True))
            logits = stored[index].astype(np.float32)
            total[(slice(0, 2), *here)] += (logits * weights)[(slice(None), *there)]
            total[(2, *here)] += weights[there]
        result[place] = quantised(torch.from_numpy(total[:2] / total[2]))
    return {}


METHODS: dict[str, Callable[[Path, Clocked, int], dict[str, Any]]] = {
    "seewhy": seewhy,
    "monai": monai,
    "monai-zarr": monai_zarr,
    "two-pass": two_pass,
}


def output(folder: Path, shape: tuple[int, ...]) -> Any:
    """The peers' result, in plain chunks."""
    return zarr.create_array(folder / "out.zarr", shape=shape, chunks=(CHUNK,) * 3, dtype="uint8")


def quantised(logits: Tensor) -> np.ndarray[Any, Any]:
    """Probability of class 1 in uint8."""
    return (logits.softmax(0)[1] * 255).round().to(torch.uint8).numpy()


def blocks(merged: Any, result: Any) -> None:
    """Finalise logits [1, 2, Z, Y, X] chunk by chunk."""
    for corner in itertools.product(*(range(0, size, CHUNK) for size in result.shape)):
        place = tuple(slice(c, c + CHUNK) for c in corner)
        result[place] = quantised(torch.from_numpy(merged[(0, slice(None), *place)]))


def measure(method: str, folder: Path, budget: int) -> dict[str, Any]:
    """Run a method once in this process."""
    import monai.inferers  # noqa: F401 (so that no method pays for its imports while the clock runs)

    import seewhy.volumes.engine.engine  # noqa: F401
    from seewhy.volumes.memory import return_freed_memory

    if method == "seewhy":  # as `predict.py` does
        return_freed_memory()

    net = Clocked().eval()
    zarr.open_array(folder / "in.zarr")
    net(torch.zeros(BATCH, 1, PATCH, PATCH, PATCH))
    gc.collect()
    fresh_peak()
    net(torch.zeros(BATCH, 1, PATCH, PATCH, PATCH))
    held = status("VmHWM")
    net.seconds, net.processor = 0.0, 0.0
    fresh_peak()
    before, start, processor = calls(), time.perf_counter(), time.process_time()
    facts = METHODS[method](folder, net, budget)
    total, after = time.perf_counter() - start, calls()
    return facts | {
        "total": total,
        "forward": net.seconds,
        "processor": (time.process_time() - processor) / net.processor,
        "peak": status("VmHWM") - held,
        "read": (after["rchar"] - before["rchar"]) / MIB,
        "written": (after["wchar"] - before["wchar"]) / MIB,
    }


def fresh_peak() -> None:
    """Let the high-water mark start again from what is held now."""
    Path("/proc/self/clear_refs").write_text("5")


def status(key: str) -> float:
    """A line of /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def calls() -> dict[str, int]:
    """Bytes of this process's read and write calls so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def in_process(method: str, shape: tuple[int, ...], options: argparse.Namespace, *, budget: int) -> dict[str, Any]:
    """Run once in a separate process and folder."""
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        values = np.random.default_rng(0).random(shape, dtype=np.float32)
        array = zarr.create_array(Path(name) / "in.zarr", shape=shape, chunks=(CHUNK,) * 3, dtype="float32")
        array[:] = values
        command = [sys.executable, __file__, "--method", method, "--folder", name, "--budget", str(budget)]
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return json.loads(done.stdout.splitlines()[-1])


def speed(size: int, options: argparse.Namespace) -> None:
    """All methods, by turns."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in options.methods}
    for _ in range(options.turns):
        for name in rows:
            rows[name].append(in_process(name, (size,) * 3, options, budget=options.budget))
    print(f"\n{size}³: input {size**3 * 4 / MIB:.0f} MiB, output {size**3 / MIB:.0f} MiB before compression")
    print("method        total s  forward s  total/forward (range)   peak MiB  read MiB  written MiB")
    for name, found in rows.items():
        ratios = sorted(row["total"] / row["forward"] for row in found)
        middle = {key: statistics.median(row[key] for row in found) for key in ("total", "forward", "peak")}
        print(
            f"{name:12s} {middle['total']:8.1f} {middle['forward']:10.1f}   {statistics.median(ratios):.3f} "
            f"({ratios[0]:.3f} to {ratios[-1]:.3f})  {middle['peak']:9.0f} {found[0]['read']:9.0f} "
            f"{found[0]['written']:12.0f}"
        )
    own = rows.get("seewhy")
    if own:
        stored, result = size**3 * 4, size**3
        if options.threads == 1:
            cost = statistics.median(row["processor"] for row in own)
            goal(f"{size}³ processor time of all threads / forward", cost, 1.05)
        goal(f"{size}³ total / forward", statistics.median(r["total"] / r["forward"] for r in own), 1.05)
        goal(f"{size}³ bytes read at the store / input", own[0]["store_read"] / stored, 1.3)
        goal(f"{size}³ bytes written at the store / output", own[0]["store_written"] / result, 1.1)


def memory(options: argparse.Namespace) -> None:
    """Peaks for longer volumes and for other budgets."""
    small = (512, 192, 192)  # eight rows of shards, so that all queues are full
    peaks = []
    for depth in (small[0], 4 * small[0]):
        found = in_process("seewhy", (depth, *small[1:]), options, budget=options.budget)
        peaks.append(found["peak"])
        print(f"z = {depth:4d}: peak {found['peak']:.0f} MiB, planned {found['planned'] / MIB:.0f} MiB")
    goal("peak for four times the rows / peak", peaks[1] / peaks[0], 1.05)
    wide = (128, 320, 320)
    for budget in (400 * MIB, 200 * MIB, 120 * MIB):
        found = in_process("seewhy", wide, options, budget=budget)
        print(
            f"budget {budget / MIB:4.0f} MiB: {found['tiles']} tile(s), planned {found['planned'] / MIB:.0f} MiB, "
            f"peak {found['peak']:.0f} MiB, {found['patches']} patches"
        )
        goal(f"peak / budget of {budget // MIB} MiB", found["peak"] * MIB / budget, 1.0)


def goal(name: str, value: float, most: float) -> None:
    """Print a figure and whether it meets the goal."""
    print(f"{name:52s} {value:6.3f}   goal ≤ {most:.3g}: {'met' if value <= most else 'missed'}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[160, 256])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--budget", type=int, default=2**30, help="bytes, of our engine")
    parser.add_argument("--work", help="folder for the stores; the system's temporary one where not given")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave the runs for memory out")
    parser.add_argument("--method", help="internal: one run in this process")
    parser.add_argument("--folder", type=Path, help="internal")
    options = parser.parse_args()
    if options.method:
        print(json.dumps(measure(options.method, options.folder, options.budget)))
        return
    print(f"torch {torch.__version__}, zarr {zarr.__version__}, {options.threads} threads, {options.turns} turn(s)")
    for size in options.sizes:
        speed(size, options)
    if options.memory:
        memory(options)


if __name__ == "__main__":
    main()
