"""Time that a sweep needs per member besides the training: composing, claiming, recording, the table.

    python benchmarks/sweep_overhead.py --members 10

Members do nothing, so that the time between the end of one and the start of the next is the overhead. Seconds are
those of the processor, so that other jobs on the machine do not blur them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

SWEEPS = {
    "grid": ["-m"],
    "search, journal file": ["hparams_search=optuna"],
    "search, SQLite": ["hparams_search=optuna", "hydra.sweeper.storage=sqlite:///{folder}/study.db"],
}


def member(config: Any) -> float:
    """Write results, and note when this began and ended."""
    begin, folder = time.process_time(), Path(config.paths.output_dir)
    record = {"metrics": {"val/loss": float(config.model.optimizer.lr)}, "objective_name": "val/loss"}
    (folder / "results.json").write_text(json.dumps(record))
    (folder / "times.json").write_text(json.dumps([begin, time.process_time()]))
    return float(config.model.optimizer.lr)


def measure(words: list[str], members: int) -> tuple[float, float]:
    """Return the median seconds between two members, and the seconds from the last member to the end of the command."""
    from seewhy.cli import hydra_commands

    hydra_commands.TASKS["train"] = (Path(__file__).stem, "member")
    with tempfile.TemporaryDirectory() as folder:
        rates = [f"model.optimizer.lr={','.join(str(0.001 * (i + 1)) for i in range(members))}"] * ("-m" in words)
        count = [f"hydra.sweeper.n_trials={members}"] * ("-m" not in words)
        words = [word.format(folder=folder) for word in words]
        sys.argv = ["train.py", *words, "experiment=demo/brats", f"hydra.sweep.dir={folder}/sweep", *rates, *count]
        with contextlib.redirect_stdout(io.StringIO()):
            hydra_commands.train()
        ended = time.process_time()
        times = sorted(json.loads(path.read_text()) for path in Path(folder).glob("sweep/*/times.json"))
    gaps = [after[0] - before[1] for before, after in itertools.pairwise(times)]
    return statistics.median(gaps), ended - times[-1][1]


def main() -> None:
    """Measure every kind of sweep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=10)
    members = parser.parse_args().members
    import seewhy.run.sweeps.page
    import seewhy.run.sweeps.search  # noqa: F401  so that the first sweep does not pay for the imports

    for name, words in SWEEPS.items():
        between, end = measure(words, members)
        print(f"{name:24s} {between:6.3f} s between members, {end:6.3f} s for figure and page")


if __name__ == "__main__":
    main()
