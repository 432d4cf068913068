"""Slices per second of the training DataLoader compared with a bare loop over the same files, and its memory.

Claims: the loader reaches 0.8 of the rate of `np.load` plus the same normalisation and augmentation on the same
files in the same order; and a data set four times as large takes no more memory.

Rates are per second of processor time, so that other jobs on the machine do not blur the ratio.

Run: python benchmarks/loader.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from seewhy.data.slices.datamodule import BraTSDataModule
from seewhy.phantoms.slices import write_tumour_phantom

AUGMENTATION = {"flip": 0.5, "shift": 0.06, "scale": [0.85, 1.2], "gain": 0.1, "offset": 0.1}


def datamodule(root: Path) -> BraTSDataModule:
    """The DataModule that is measured; no workers, so that both sides use one process."""
    data = BraTSDataModule(root=str(root), batch_size=8, augmentation=AUGMENTATION, fractions=(1, 0, 0))
    data.setup("fit")
    return data


def loader_rate(data: BraTSDataModule, epoch: int) -> float:
    """Slices per second of processor time of one epoch of the DataLoader."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    start, count = time.process_time(), 0
    for batch in loader:
        count += len(batch["id"])
    return count / (time.process_time() - start)


def bare_rate(data: BraTSDataModule, epoch: int) -> float:
    """Slices per second of processor time of a plain loop: load, normalise, augment, stack."""
    sampler = data.train_dataloader().sampler
    sampler.set_epoch(epoch)
    draws = list(sampler)
    records = data.folder.of_patients(data.split.train)
    paths = [(str(records[draw.sample].path), records[draw.sample].patient, draw.number) for draw in draws]
    numbers = {name: (s.mean, s.std, s.background) for name, s in data.reader.statistics.items()}
    start = time.process_time()
    for first in range(0, len(paths), data.batch_size):
        images = []
        for path, patient, number in paths[first : first + data.batch_size]:
            mean, std, background = numbers[patient]
            image = (np.load(path).astype(np.float32)[None] - mean) / std
            padding = np.full((1, 1, 1), (background - mean) / std, np.float32)
            rng = np.random.default_rng([0, number])
            images.append(torch.from_numpy(data.augmentation(image, rng, size=None, padding=padding)))
        torch.stack(images)
    return len(paths) / (time.process_time() - start)


def resident() -> float:
    """Resident memory of this process in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def growth(root: Path, queue: multiprocessing.Queue) -> None:
    """Largest resident memory (MiB) that a DataModule and two epochs add to a fresh process."""
    torch.set_num_threads(1)
    before = most = resident()
    data = datamodule(root)
    for epoch in range(2):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        for _ in loader:
            most = max(most, resident())
    queue.put(most - before)


def memory(root: Path) -> float:
    """`growth` in a separate process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=growth, args=(root, queue))
    process.start()
    found = queue.get(timeout=600)
    process.join()
    return float(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds")
    parser.add_argument("--patients", type=int, default=10, help="patients of the small data set")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        small = write_tumour_phantom(Path(folder) / "small", patients=arguments.patients, size=240)
        large = write_tumour_phantom(Path(folder) / "large", patients=4 * arguments.patients, size=240)
        data = datamodule(small)
        loader_rate(data, 0), bare_rate(data, 0)  # warm the file cache
        pairs = [(loader_rate(data, turn), bare_rate(data, turn)) for turn in range(1, arguments.rounds + 1)]
        for ours, bare in pairs:
            print(f"loader {ours:7.0f} slices/s   np.load loop {bare:7.0f} slices/s   ratio {ours / bare:.2f}")
        print(f"median ratio {statistics.median(ours / bare for ours, bare in pairs):.2f} (goal: 0.80)")
        few, many = memory(small), memory(large)
        print(f"peak memory of two epochs: {few:.1f} MiB; data set four times as large: {many:.1f} MiB")


if __name__ == "__main__":
    main()
