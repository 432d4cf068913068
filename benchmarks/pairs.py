"""Training pairs per second of the two-domain loader, against reading whole slices; and what a step waits for it.

    python benchmarks/pairs.py                                  # 5 slices of 240², squares of 128², batches of 8
    python benchmarks/pairs.py --step 0.16 --workers 4          # against the step of an H200, in seconds

Claims:

- Reading: pairs per second of processor time of one worker ÷ the same when whole slices are read and normalised before
  the square is cut out, as seewhy did before (≥ 2). Both give the same values, which is checked first.
- Waiting: seconds per step of a loop that waits for its batch and then sleeps for `--step` seconds, as a CPU does while
  a GPU computes ÷ that step (≤ 1.1 where the workers can keep up). Needs as many free cores as workers.

Both arms run by turns in one process; the ratio is the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from seewhy.data.domains.datamodule import BraTSDomainsDataModule
from seewhy.data.domains.dataset import Center, PairDataset, PairDraw, collate_pairs
from seewhy.data.domains.store import PreparedSubject
from seewhy.phantoms.scanners import write_scanner_phantom


def main() -> None:
    """Measure and print."""
    options = parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = write_scanner_phantom(Path(folder) / "sites", subjects=(3, 3), shape=(240, 240, options.depth))
        data = BraTSDomainsDataModule(
            root=str(root), slices=5, image_size=240, crop_size=options.crop, batch_size=options.batch,
            fractions=(1, 0, 0), num_workers=options.workers,
        )  # fmt: skip
        data.setup("fit")
        report_reading(data, options)
        report_waiting(data, options)


def parse() -> argparse.Namespace:
    """Options of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, help="pairs")
    parser.add_argument("--crop", type=int, default=128, help="side of the squares")
    parser.add_argument("--depth", type=int, default=60, help="slices of a subject")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=6, help="batches of a measurement")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--step", type=float, default=0.16, help="seconds of a step on the GPU")
    return parser.parse_args()


def report_reading(data: BraTSDomainsDataModule, options: argparse.Namespace) -> None:
    """Print pairs per second of one worker, and the ratio to reading whole slices."""
    dataset: Any = data.training_data()
    before = WholeSlices(dataset.a, dataset.b, dataset.reader, slices=5, crop_size=options.crop, seed=dataset.seed)
    draws = list(data.train_dataloader().sampler)[: options.batch * options.batches]
    for draw in draws[:8]:
        ours, theirs = dataset[draw], before[draw]
        assert all(torch.equal(ours[side][key], theirs[side][key]) for side in "ab" for key in ("image", "body"))
    pairs = [(rate(dataset, draws, options), rate(before, draws, options)) for _ in range(options.rounds + 1)][1:]
    ours, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"one worker: {ours:.1f} pairs/s, reading whole slices {theirs:.1f} pairs/s; ratio {ratio:.2f} (goal: 2)")
    needed = options.batch / options.step
    print(
        f"a step of {options.step:g} s for {options.batch} pairs needs {needed:.0f} pairs/s: "
        f"{needed / ours:.1f} workers"
    )


def rate(dataset: PairDataset, draws: list[PairDraw], options: argparse.Namespace) -> float:
    """Pairs per second of processor time, collated into batches."""
    start = time.process_time()
    for first in range(0, len(draws), options.batch):
        collate_pairs([dataset[draw] for draw in draws[first : first + options.batch]])
    return len(draws) / (time.process_time() - start)


def report_waiting(data: BraTSDomainsDataModule, options: argparse.Namespace) -> None:
    """Print how much longer than its step a loop takes that waits for batches of worker processes."""
    stream = iter(data.train_dataloader())
    next(stream)
    count, start = 0, time.perf_counter()
    for _ in stream:
        time.sleep(options.step)
        count += 1
        if count == 10 * options.batches:
            break
    seconds = (time.perf_counter() - start) / count
    load = os.getloadavg()[0]
    print(
        f"{options.workers} workers, {os.cpu_count()} cores under a load of {load:.1f}: {seconds:.3f} s per step "
        f"of {options.step:g} s; ratio {seconds / options.step:.2f} (goal: 1.1)"
    )


class WholeSlices(PairDataset):
    """Reads and normalises whole slices, then cuts the square out; every array is opened and checked at every use."""

    def _read_stack(self, center: Center, rng: np.random.Generator) -> dict[str, Any]:
        subject = PreparedSubject(center.subject.folder, center.subject.domain, center.subject.record)
        side = self.crop_size or 0
        placement = self.reader.find_placement(subject)
        first, last = center.number - self.slices // 2, center.number + self.slices // 2 + 1
        body = self.reader.read_body(subject, placement, first, last)
        image = self.reader.read_planes(subject, placement, first, last, body=body)
        rows, columns = np.nonzero(body[self.slices // 2])
        chosen = int(rng.integers(len(rows)))
        corner = [
            min(max(int(place[chosen]) - side // 2, 0), length - side)
            for place, length in zip((rows, columns), body.shape[1:], strict=True)
        ]
        square = (..., slice(corner[0], corner[0] + side), slice(corner[1], corner[1] + side))
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image[square])).flatten(0, 1),
            "body": torch.from_numpy(np.ascontiguousarray(body[square])),
            "id": subject.id, "patient": subject.patient, "index": center.number,
        }  # fmt: skip


if __name__ == "__main__":
    main()
