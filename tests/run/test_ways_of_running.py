"""Every way of running a training, as a user would: one process, several, resumed, swept, logged."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

TINY = [
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
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder to run in, with one phantom for all runs of this file."""
    return tmp_path_factory.mktemp("home")


def run(repository, home, script, *words, expect=0):
    support = str(repository / "tests" / "support")
    environment = {**os.environ, "PYTHONPATH": support, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    environment.pop("HYDRA_FULL_ERROR", None)
    done = subprocess.run(
        [sys.executable, str(repository / script), *words],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def single(repository, home):
    """An uninterrupted run in one process, logged to W&B offline."""
    folder = home / "single"
    run(repository, home, "train.py", *TINY, "logger=wandb", f"hydra.run.dir={folder}")
    return folder


def read_metrics(folder):
    with (folder / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_a_run_leaves_everything_it_promises(single):
    for name in ("config.yaml", "split.json", "metrics.csv", "results.json", "patients.csv", "report.html"):
        assert (single / name).stat().st_size > 0, name
    assert {path.name for path in (single / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert list((single / "figures").glob("*.png"))
    maps = sorted((single / "cam_npy").glob("*.npy"))
    pictures = sorted((single / "attention_maps").glob("*.png"))
    assert maps
    assert len(pictures) == len(list((single / "cam_npy").glob("*.json")))
    array = np.load(maps[0], allow_pickle=False)
    assert array.dtype == np.float32
    assert array.ndim == 3
    assert 0 <= array.min() <= array.max() <= 1
    assert results(single)["phantom"] is True


def test_wandb_offline_wrote_metrics_and_pictures(single):
    [record] = single.glob("wandb/offline-run-*/run-*.wandb")
    content = record.read_bytes()
    for name in (b"val/auroc", b"test/refined/dice", b"val/panel"):
        assert name in content, name
    assert list(single.glob("wandb/offline-run-*/files/media/images/**/*.png"))


def test_a_killed_run_continues_to_the_same_metrics(repository, home, single):
    folder = home / "killed"
    words = [*TINY, f"hydra.run.dir={folder}"]
    killer = ["+callbacks.spy._target_=spies.Killer", "+callbacks.spy.epoch=2", "+callbacks.spy.batch=1"]
    run(repository, home, "train.py", *words, *killer, expect=-9)
    assert not (folder / "results.json").exists()
    refused = run(repository, home, "train.py", *words, expect=1)
    assert "already holds a run; add ckpt_path=last" in refused.stderr
    run(repository, home, "train.py", *words, "ckpt_path=last")
    assert results(folder)["metrics"] == results(single)["metrics"]
    assert read_metrics(folder) == read_metrics(single)


def test_two_processes_make_one_run_with_complete_maps(repository, home, single):
    folder = home / "ddp"
    run(
        repository,
        home,
        "train.py",
        *TINY,
        "trainer=ddp_cpu",
        "trainer.devices=2",
        "callbacks.maps.max_samples=0",
        "+callbacks.spy._target_=spies.RankWitness",
        f"+callbacks.spy.folder={folder}",
        f"hydra.run.dir={folder}",
    )
    assert [path.name for path in sorted(folder.glob("witness_*.json"))] == ["witness_0.json", "witness_1.json"]
    with (folder / "patients.csv").open() as file:
        scored = {row["patient"] for row in csv.DictReader(file)}
    split = json.loads((folder / "split.json").read_text())
    assert scored == set(split["test"])
    assert len(list((folder / "cam_npy").glob("*.json"))) == 4 * len(split["test"])
    assert split == json.loads((single / "split.json").read_text())
    assert set(results(folder)["metrics"]) == set(results(single)["metrics"])


def test_ddp_scores_the_same_checkpoint_as_one_process(repository, home, single):
    """The metrics of two processes are those of one: the same weights, tested both ways."""
    folder = home / "ddp_same"
    words = [*TINY, "trainer.max_epochs=3", "ckpt_path=" + str(single / "checkpoints" / "last.ckpt")]
    run(repository, home, "train.py", *words, f"hydra.run.dir={folder}_1")
    run(repository, home, "train.py", *words, "trainer=ddp_cpu", "trainer.devices=2", f"hydra.run.dir={folder}_2")
    one, two = results(home / "ddp_same_1")["metrics"], results(home / "ddp_same_2")["metrics"]
    tested = [name for name in one if name.startswith("test/")]
    assert tested
    for name in tested:
        assert two[name] == pytest.approx(one[name], abs=1e-4), name


def test_a_sweep_ends_with_one_table(repository, home):
    folder = home / "sweep"
    words = ["-m", *TINY, "trainer.max_epochs=1", "test=true", "seed=1,2", f"hydra.sweep.dir={folder}"]
    done = run(repository, home, "train.py", *words, "model.optimizer.lr=1e-3,1e-4")
    with (folder / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["model.optimizer.lr"]) for row in rows] == [
        ("1", "1e-3"),
        ("1", "1e-4"),
        ("2", "1e-3"),
        ("2", "1e-4"),
    ]
    assert all(row["test/refined/dice"] for row in rows)
    assert "4 members" in done.stdout


def test_each_rank_of_a_swept_ddp_run_sees_its_members_values(repository, home):
    """With a random sampler Lightning's own launcher silently trains each rank with other values."""
    pytest.importorskip("optuna")
    folder = home / "optuna"
    run(
        repository,
        home,
        "train.py",
        "-m",
        *TINY,
        "trainer.max_epochs=1",
        "hparams_search=optuna",
        "hydra.sweeper.n_trials=2",
        "trainer=ddp_cpu",
        "trainer.devices=2",
        "+callbacks.spy._target_=spies.RankWitness",
        "+callbacks.spy.folder=${paths.output_dir}",
        f"hydra.sweep.dir={folder}",
    )
    with (folder / "sweep.csv").open() as file:
        rows = {row["member"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"0", "1"}
    rates = []
    for member, row in rows.items():
        witnesses = [json.loads(path.read_text()) for path in sorted((folder / member).glob("witness_*.json"))]
        assert [witness["rank"] for witness in witnesses] == [0, 1]
        assert {witness["lr"] for witness in witnesses} == {float(row["model.optimizer.lr"])}
        rates.append(witnesses[0]["lr"])
    assert rates[0] != rates[1]
    assert (folder / "optimization_results.yaml").is_file()


def test_predict_and_explain_start_from_the_run(repository, home, single):
    run(repository, home, "predict.py", f"run={single}", "data.predict_on=val", "callbacks.predictions.npz=true")
    with (single / "predictions" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    split = json.loads((single / "split.json").read_text())
    assert {row["patient"] for row in rows} == set(split["val"])
    assert len(list((single / "predictions").glob("*.npz"))) == len(split["val"])
    before = {path: path.read_bytes() for path in (single / "cam_npy").iterdir()}
    run(repository, home, "explain.py", f"run={single}", "explain.max_samples=4", "model.cam.scales=[1.0,0.5,1.5]")
    again = {path: path.read_bytes() for path in (single / "cam_npy").iterdir()}
    assert again == before
    refused = run(repository, home, "explain.py", f"run={single}", "explain.max_sample=4", expect=1)
    assert "explain.max_sample' does not exist; nearest: 'explain.max_samples'" in refused.stderr
