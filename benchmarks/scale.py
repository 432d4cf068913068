"""What several processes, members of a sweep, workers of a volume and safe checkpoints cost.

    python benchmarks/scale.py                       # all; a few minutes on two free cores
    python benchmarks/scale.py --claims processes    # or sweep, claim, checkpoint

Claims:

- processes: samples per second of two processes (DDP, gloo, one thread each) ÷ those of one, both with the same batch
  per process, by turns (≥ 1.8 on two free cores). The load is printed: the clock counts, not the processor's time.
  The ceiling is the same ratio for two processes that exchange nothing: what the machine's memory and caches allow.
- sweep: seconds of the processor between two members of a grid besides their training; see `sweep_overhead.py`.
- claim: seconds in which a worker of a volume claims a piece of work, with 1,000 claims of others in the folder.
- checkpoint: time to write a checkpoint so that a full disk or a crash leaves the one before ÷ `torch.save`, and ÷
  `torch.save` with the sync that makes it safe from a crash.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src"), str(Path(__file__).resolve().parent)]

from lightning.pytorch import Callback, Trainer  # noqa: E402

from seewhy.callbacks.checkpoints import AtomicCheckpointIO  # noqa: E402
from seewhy.cli.compose import compose_train  # noqa: E402
from seewhy.run.build import build_datamodule, build_model, silence_known_warnings  # noqa: E402
from seewhy.sharing.claims import FileClaims  # noqa: E402
from seewhy.sharing.workers import Workers  # noqa: E402

WARM_UP = 4
"""Steps that do not count."""


def main() -> None:
    """Measure and print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", default="processes,sweep,claim,checkpoint", help="some of these, by commas")
    parser.add_argument("--experiment", default="demo/brats")
    parser.add_argument("--steps", type=int, default=24, help="steps of a measurement")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    reports: dict[str, Callable[[argparse.Namespace], None]] = {
        "processes": report_processes, "claim": report_claim, "checkpoint": report_checkpoint, "sweep": report_sweep,
    }  # fmt: skip
    for name in reports:
        if name in options.claims.split(","):
            reports[name](options)


# -- processes ------------------------------------------------------------------------------------------------


def report_processes(options: argparse.Namespace) -> None:
    """Print the samples per second of two processes and of one."""
    with tempfile.TemporaryDirectory() as folder:
        words = [f"experiment={options.experiment}", f"paths.data_dir={folder}/data", f"paths.output_dir={folder}/run"]
        config = compose_train(*words, f"data.batches_per_epoch={options.steps + WARM_UP}", "trainer=cpu")
        build_datamodule(config).setup("fit")  # writes the phantom
        ways = {"one": (1, True), "two": (2, True), "apart": (2, False)}
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, (processes, joined) in ways.items():
                rates[way].append(measure_rate(config, processes, options.steps, Path(folder), joined=joined))
    ratio, ceiling = (describe_ratios(rates[way], rates["one"]) for way in ("two", "apart"))
    one, two = (statistics.median(rates[way]) for way in ("one", "two"))
    print(
        f"processes: {options.experiment}, 1: {one:.1f} samples/s, 2: {two:.1f} samples/s; ratio {ratio}, goal 1.8; "
        f"ceiling {ceiling}, two processes that exchange nothing; {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}"
    )


def describe_ratios(rates: list[float], reference: list[float]) -> str:
    """Median and range of the ratios of two rates, round by round."""
    ratios = [rate / base for rate, base in zip(rates, reference, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def measure_rate(config: Any, processes: int, steps: int, folder: Path, *, joined: bool = True) -> float:
    """Samples per second of some forked processes; joined, they find each other as those of torchrun do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if joined:
                    os.environ |= {
                        "TORCHELASTIC_RUN_ID": port, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank),
                        "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes),
                        "GROUP_RANK": "0",
                    }  # fmt: skip
                seconds = train_seconds(config, processes if joined else 1)
                (folder / f"{rank}.json").write_text(json.dumps(seconds))
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    if any(os.waitpid(child, 0)[1] for child in children):
        raise RuntimeError("a process of the benchmark has failed")
    seconds = max(json.loads((folder / f"{rank}.json").read_text()) for rank in range(processes))
    return processes * steps * int(config.data.batch_size) / float(seconds)


def train_seconds(config: Any, processes: int) -> float:
    """Seconds of the steps of one epoch that count."""
    warnings.filterwarnings("ignore")
    silence_known_warnings()
    clock = Clock()
    trainer = Trainer(
        accelerator="cpu", devices=processes, max_epochs=1, callbacks=[clock], logger=False, limit_val_batches=0,
        strategy="ddp_find_unused_parameters_true" if processes > 1 else "auto", use_distributed_sampler=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(build_model(config), build_datamodule(config))
    return clock.ends[-1] - clock.ends[WARM_UP - 1]


class Clock(Callback):
    """Remembers when each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())


# -- the others -----------------------------------------------------------------------------------------------


def report_sweep(options: argparse.Namespace) -> None:
    """Print the time between two members of a grid."""
    from sweep_overhead import measure

    between, end = measure(["-m"], 6)
    print(f"sweep: {between:.3f} s of the processor between two members, {end:.2f} s for figure and page")


def report_claim(options: argparse.Namespace) -> None:
    """Print the time of a claim in a folder with many."""
    with tempfile.TemporaryDirectory() as folder:
        workers = [Workers(Path(folder), lease=60.0) for _ in range(2)]
        for worker in workers:
            worker.join()
        other, own = (FileClaims(Path(folder) / "claims", worker) for worker in workers)
        for number in range(1_000):
            other.take(f"{number}-{number + 1}")
        own.refresh()
        begin = time.perf_counter()
        own.refresh()
        listing = time.perf_counter() - begin
        times = []
        for number in range(1_000, 1_500):
            begin = time.perf_counter()
            if not own.take(f"{number}-{number + 1}"):
                raise RuntimeError("a free piece could not be claimed")
            times.append(time.perf_counter() - begin)
        for worker in workers:
            worker.leave()
    print(f"claim: {statistics.median(times) * 1e3:.2f} ms, and {listing * 1e3:.1f} ms to look at 1,000 others")


def report_checkpoint(options: argparse.Namespace) -> None:
    """Print the time of a checkpoint of 256 MiB, against `torch.save`."""
    state = {"state_dict": {str(number): torch.rand(1 << 20) for number in range(64)}}
    times: dict[str, list[float]] = {"seewhy": [], "save": [], "save and sync": []}
    with tempfile.TemporaryDirectory() as folder:
        path, writer = Path(folder) / "last.ckpt", AtomicCheckpointIO()
        writes = {
            "seewhy": lambda: writer.save_checkpoint(state, path),
            "save": lambda: torch.save(state, path),
            "save and sync": lambda: save_and_sync(state, path),
        }
        for turn in range(options.rounds + 1):
            for name, write in writes.items():
                begin = time.perf_counter()
                write()
                if turn:
                    times[name].append(time.perf_counter() - begin)
    plain, synced = (
        statistics.median(a / b for a, b in zip(times["seewhy"], times[name], strict=True))
        for name in ("save", "save and sync")
    )
    print(
        f"checkpoint: {statistics.median(times['seewhy']):.2f} s for 256 MiB; ÷ torch.save {plain:.2f}, ÷ torch.save "
        f"with a sync {synced:.2f}"
    )


def save_and_sync(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint over the one before, and wait for the disk."""
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
