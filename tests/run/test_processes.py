"""Several processes (gloo): one run folder, complete maps, and the metrics of one process."""

import pytest

DDP = ("trainer=ddp_cpu", "trainer.devices=2")


@pytest.fixture(scope="module")
def tested_again(command, home, single, tiny):
    """The finished run's best checkpoint tested by 1 and by 2 processes, every map written."""
    words = [*tiny, f"ckpt_path={single / 'checkpoints' / 'last.ckpt'}", "callbacks.maps.max_samples=0"]
    command("train.py", *words, f"hydra.run.dir={home / 'again_1'}")
    witness = ["+callbacks.spy._target_=spies.RankWitness", f"+callbacks.spy.folder={home / 'again_2'}"]
    command("train.py", *words, *DDP, *witness, f"hydra.run.dir={home / 'again_2'}")
    return home / "again_1", home / "again_2"


def test_two_processes_score_as_one(tested_again, record):
    one, two = (record.results(folder)["metrics"] for folder in tested_again)
    tested = {name for name in one if name.startswith("test/")}
    assert "test/refined/dice" in tested
    assert {name: two[name] for name in tested} == pytest.approx({name: one[name] for name in tested}, abs=1e-5)


def test_two_processes_write_the_maps_of_one(tested_again):
    one, two = (sorted((folder / "cam_npy").iterdir()) for folder in tested_again)
    assert [path.name for path in one] == [path.name for path in two]
    arrays = [path for path in one if path.suffix == ".npy"]
    assert arrays
    for path in arrays:
        assert path.read_bytes() == (tested_again[1] / "cam_npy" / path.name).read_bytes(), path.name


def test_two_processes_train_one_run(command, home, tiny, single, record):
    """Three test patients for two ranks: unequal shares."""
    folder = home / "ddp"
    words = [*tiny, *DDP, "data.fractions=[0.375,0.25,0.375]", f"hydra.run.dir={folder}"]
    words += ["+callbacks.spy._target_=spies.RankWitness", f"+callbacks.spy.folder={folder}"]
    command("train.py", *words, "callbacks.maps.max_samples=0")
    assert [path.name for path in sorted(folder.glob("witness_*.json"))] == ["witness_0.json", "witness_1.json"]
    assert not (home / "lightning_logs").exists()
    split = record.split(folder)
    assert len(split["test"]) == 3
    assert {row["patient"] for row in record.table(folder / "patients.csv")} == set(split["test"])
    assert len(list((folder / "cam_npy").glob("*.json"))) == 4 * len(split["test"])
    assert set(record.results(folder)["metrics"]) >= set(record.results(single)["metrics"])
    steps = {row["step"] for row in record.metrics(folder)}
    assert "8" in steps  # 3 epochs of 3 steps on each rank, counted once


@pytest.mark.slow
@pytest.mark.parametrize("devices", [3, 4])
def test_more_processes_than_patients(command, home, tiny, record, devices):
    """Two test patients: Lightning would leave the other ranks out, and their peers would wait for ever."""
    folder = home / f"ddp_{devices}"
    words = [*tiny, "trainer=ddp_cpu", f"trainer.devices={devices}", "trainer.max_epochs=1"]
    command("train.py", *words, f"hydra.run.dir={folder}")
    split = record.split(folder)
    assert {row["patient"] for row in record.table(folder / "patients.csv")} == set(split["test"])
    assert record.results(folder)["metrics"]["test/patients"] == len(split["test"]) == 2


@pytest.mark.slow
def test_two_processes_predict(command, single, home, record):
    command("predict.py", f"run={single}", *DDP, "data.predict_on=all", f"paths.output_dir={home / 'predicted'}")
    rows = record.table(home / "predicted" / "predictions" / "predictions.csv")
    assert len(rows) == 32
    assert len({row["id"] for row in rows}) == 32
    assert not list((home / "predicted" / "predictions").glob("predictions.rank*"))
