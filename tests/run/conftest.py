"""Tiny runs on phantoms: in separate processes as a user starts them, or inside the test."""

import csv
import json
from types import SimpleNamespace

import pytest
from blank_figures import blank_figures
from untrained_runs import write_untrained_run

TINY = (
    "experiment=demo/brats",
    "phantom.patients=8",
    "phantom.slices=4",
    "phantom.size=48",
    "trainer.max_epochs=3",
    "data.batches_per_epoch=3",
    "data.batch_size=4",
    "callbacks.maps.max_samples=4",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
)


@pytest.fixture(scope="session")
def tiny():
    """Overrides of the smallest run: a phantom of 8 patients, 9 steps."""
    return TINY


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A folder to run in, with one phantom for all runs."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def command(run_command, repository, home):
    """Run a script in a separate process: `command("train.py", *words, expect=exit_status, processes=1)`."""

    def call(script, *words, expect=0, processes=1):
        environment = {"PYTHONPATH": str(repository / "tests" / "support")}
        done = run_command(script, *words, cwd=home, env=environment, processes=processes)
        assert done.returncode == expect, (done.stdout + done.stderr)[-6000:]
        return done

    return call


@pytest.fixture(scope="session")
def single(command, home):
    """An uninterrupted run in one process, logged to W&B offline."""
    folder = home / "single"
    command("train.py", *TINY, "logger=wandb", f"hydra.run.dir={folder}")
    return folder


@pytest.fixture(scope="session")
def train_here(home):
    """Train inside the test, without rendering figures: `train_here(folder, *overrides)` gives the objective.

    `base` replaces TINY.
    """

    def call(folder, *overrides, base=TINY):
        from seewhy.cli.compose import compose_train
        from seewhy.run.train import train

        words = [*base, f"paths.output_dir={folder}", f"paths.data_dir={home / 'data'}", *overrides]
        with blank_figures():
            return train(compose_train(*words))

    on_own_data = [word for word in TINY if not word.startswith(("phantom.", "experiment="))]
    call.on_own_data = ["experiment=brats", "trainer=cpu", *on_own_data]
    return call


@pytest.fixture(scope="session")
def run_of(tmp_path_factory):
    """Run folder and DataModule of a system with random weights: `run_of("amd")`."""
    home, made = tmp_path_factory.mktemp("untrained"), {}

    def call(system):
        if system not in made:
            made[system] = (home / system, write_untrained_run(system, home / system, home / "data"))
        return made[system]

    return call


@pytest.fixture(scope="session")
def record():
    """What a run left: `record.results(folder)`, `record.table(file)`, `record.split(folder)`."""

    def table(file):
        with file.open(newline="") as opened:
            return list(csv.DictReader(opened))

    return SimpleNamespace(
        table=table,
        results=lambda folder: json.loads((folder / "results.json").read_text()),
        split=lambda folder: json.loads((folder / "split.json").read_text()),
        metrics=lambda folder: [{k: v for k, v in row.items() if v} for row in table(folder / "metrics.csv")],
    )
