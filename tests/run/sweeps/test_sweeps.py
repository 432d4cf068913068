"""Sweeps: every member with its own values on every rank, and one table at the end."""

import json

import pytest

ONE_EPOCH = "trainer.max_epochs=1"


def test_a_grid_ends_with_one_table(command, home, tiny, record):
    folder = home / "sweep"
    words = ["-m", *tiny, ONE_EPOCH, "seed=1,2", "model.optimizer.lr=1e-3,1e-4"]
    done = command("train.py", *words, f"hydra.sweep.dir={folder}")
    rows = record.table(folder / "sweep.csv")
    assert [(row["seed"], float(row["model.optimizer.lr"])) for row in rows] == [
        ("1", 1e-3),
        ("1", 1e-4),
        ("2", 1e-3),
        ("2", 1e-4),
    ]
    assert all(row["test/refined/dice"] for row in rows)
    assert len({row["val/loss"] for row in rows}) == 4
    assert "4 members" in done.stdout


def test_a_member_that_fails_is_named_and_the_others_are_kept(command, home, tiny, record):
    folder = home / "failing"
    words = ["-m", *tiny, ONE_EPOCH, "data.batch_size=0,4", f"hydra.sweep.dir={folder}"]
    done = command("train.py", *words, expect=1)
    assert f"error: sweep member {folder}/0: data.batch_size=0 must be an integer, 1 or more" in done.stderr
    assert "Traceback" not in done.stderr
    assert [row["member"] for row in record.table(folder / "sweep.csv")] == ["1"]


@pytest.mark.slow
def test_each_rank_of_a_swept_member_sees_its_values(command, home, tiny, record):
    """With a random sampler Lightning's own launcher silently trains each rank with other values."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    folder = home / "optuna"
    search = ["hparams_search=optuna", "hydra.sweeper.n_trials=2", f"hydra.sweep.dir={folder}"]
    spy = ["+callbacks.spy._target_=spies.RankWitness", "+callbacks.spy.folder=${paths.output_dir}"]
    done = command("train.py", *tiny, ONE_EPOCH, *search, *spy, "trainer=ddp_cpu", "trainer.devices=2")
    rows = {row["member"]: row for row in record.table(folder / "sweep.csv")}
    assert set(rows) == {"0", "1"}
    rates = []
    for member, row in rows.items():
        witnesses = [json.loads(path.read_text()) for path in sorted((folder / member).glob("witness_*.json"))]
        assert [witness["rank"] for witness in witnesses] == [0, 1]
        assert {witness["lr"] for witness in witnesses} == {float(row["model.optimizer.lr"])}
        rates.append(witnesses[0]["lr"])
        assert record.results(folder / member)["objective"] == float(row["test/refined/dice"])
    assert rates[0] != rates[1]
    assert (folder / "optimization_results.yaml").is_file()
    assert not any("alembic" in line for line in done.stderr.splitlines())


@pytest.mark.slow
def test_a_swept_member_with_two_processes_that_fails_is_named(command, home, tiny):
    folder = home / "failing_ddp"
    words = ["-m", *tiny, ONE_EPOCH, "data.batch_size=0,4", "trainer=ddp_cpu", f"hydra.sweep.dir={folder}"]
    done = command("train.py", *words, expect=1)
    assert f"error: sweep member {folder}/0: its process failed with exit status 1" in done.stderr


@pytest.mark.slow
def test_optuna_in_one_process_optimises_the_objective(command, home, tiny, record):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    folder = home / "optuna_single"
    words = ["-m", *tiny, ONE_EPOCH, "hparams_search=optuna", "hydra.sweeper.n_trials=2", "data.batch_size=4"]
    done = command("train.py", *words, f"hydra.sweep.dir={folder}")
    rows = record.table(folder / "sweep.csv")
    best = max(float(row["test/refined/dice"]) for row in rows)
    found = (folder / "optimization_results.yaml").read_text()
    assert float(found.split("best_value:")[1].split()[0]) == best
    assert "2 members" in done.stdout
