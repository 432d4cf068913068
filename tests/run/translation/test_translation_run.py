"""A run that trains a translation: what it leaves, and that it goes on where it was stopped."""

import csv
import json

import pytest

from seewhy.cli.compose import compose_train
from seewhy.phantoms.scanners import write_scanner_phantom
from seewhy.run.train import train
from seewhy.run.translation.score_table import read_samples

WORDS = (
    "experiment=demo/cyclegan", "data.slices=5", "model.cycle=neighbours", "model.generator.width=8",
    "model.discriminator.width=8", "trainer.check_val_every_n_epoch=1", "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false", "trainer.log_every_n_steps=1", "data.batches_per_epoch=2",
)  # fmt: skip


def go(root, folder, *words):
    config = compose_train(*WORDS, "data.root=unknown", f"paths.output_dir={folder}", *words)
    config.phantom = None
    config.data.root = str(root)
    train(config)


def rows_of(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch that was stopped in its second one, and then went on."""
    home = tmp_path_factory.mktemp("translation")
    root = write_scanner_phantom(home / "data", subjects=(3, 3), shape=(40, 44, 24))
    go(root, home / "run", "trainer.max_epochs=1", "test=false")
    rows = rows_of(home / "run")
    with (home / "run" / "metrics.csv").open("a", newline="") as file:
        csv.DictWriter(file, rows[0]).writerow({"step": 2, "epoch": 1, "train/a2b/cycle": 99.0})
    go(root, home / "run", "trainer.max_epochs=2", "ckpt_path=last")
    return home / "run"


def test_what_was_logged_after_the_checkpoint_is_logged_once(run):
    rows = [row for row in rows_of(run) if row["train/a2b/cycle"]]
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3]
    assert max(float(row["train/a2b/cycle"]) for row in rows) < 10


def test_scores_of_every_subject_and_slice_are_left(run):
    metrics = json.loads((run / "results.json").read_text())["metrics"]
    for name in ("translation", "identity", "cycle", "change"):
        assert 0 < metrics[f"test/a2b/{name}/ssim"] <= 1
    samples = read_samples(run / "evaluation")
    with (run / "patients.csv").open(newline="") as file:
        patients = list(csv.DictReader(file))
    assert {row["subject"] for row in samples} == {row["subject"] for row in patients}
    own = [row for row in patients if row["comparison"] == "cycle" and row["direction"] == "b2a"]
    assert sum(float(row["ssim"]) for row in own) / len(own) == pytest.approx(metrics["test/b2a/cycle/ssim"], abs=1e-6)


def test_the_report_shows_table_and_picture(run):
    page = (run / "report.html").read_text()
    assert "floor: not translated, against the truth" in page
    assert "One head, two scanners" in page
    assert (run / "figures" / "translation.png").is_file()
