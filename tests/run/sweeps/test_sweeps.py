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
    assert all(row["objective"] == row["val/loss"] and row["objective_name"] == "val/loss" for row in rows)
    assert (folder / "sweep.png").stat().st_size > 0
    assert "validation split" in (folder / "sweep.html").read_text()
    page = (folder / "sweep.html").read_text()
    assert all(f'<a href="./{member}/report.html">' in page for member in (0, 1))
    assert "4 members" in done.stdout


def test_a_member_that_fails_is_named_and_the_others_are_kept(command, home, tiny, record):
    folder = home / "failing"
    words = ["-m", *tiny, ONE_EPOCH, "data.batch_size=0,4", f"hydra.sweep.dir={folder}"]
    done = command("train.py", *words, expect=1)
    assert f"error: sweep member {folder}/0: data.batch_size=0 must be an integer, from 1" in done.stderr
    assert "Traceback" not in done.stderr
    rows = record.table(folder / "sweep.csv")
    assert [(row["member"], row["state"]) for row in rows] == [("0", "FAIL"), ("1", "COMPLETE")]
    assert "data.batch_size=0" in rows[0]["error"]
    assert "data.batch_size=0" in (folder / "sweep.html").read_text()


@pytest.mark.slow
def test_each_rank_of_a_swept_member_sees_its_values(command, home, tiny, record):
    """With a random sampler Lightning's own launcher silently trains each rank with other values."""
    pytest.importorskip("optuna")
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
        assert record.results(folder / member)["objective"] == float(row["val/loss"])
        assert json.loads((folder / member / "member.json").read_text()) == {"state": "COMPLETE"}
    assert rates[0] != rates[1]
    assert "Member" in done.stdout


@pytest.mark.slow
def test_a_swept_member_with_two_processes_that_fails_is_named(command, home, tiny):
    folder = home / "failing_ddp"
    words = ["-m", *tiny, ONE_EPOCH, "data.batch_size=0,4", "trainer=ddp_cpu", f"hydra.sweep.dir={folder}"]
    done = command("train.py", *words, expect=1)
    assert f"error: sweep member {folder}/0: its process failed with exit status 1" in done.stderr


@pytest.mark.slow
def test_a_hopeless_member_is_pruned_on_all_ranks(command, home, tiny, record):
    """The second member learns nothing, so it is worse than the first one in every epoch."""
    pytest.importorskip("optuna")
    folder = home / "pruned"
    pruner = "{_target_:optuna.pruners.MedianPruner,n_startup_trials:1}"
    search = ["hparams_search=optuna", "hydra.sweeper.sampler=grid", "~hydra.sweeper.params", "data.batch_size=4"]
    search += [f"hydra.sweeper.pruner={pruner}", "model.optimizer.lr=3e-3,1e-9", f"hydra.sweep.dir={folder}"]
    done = command("train.py", *tiny, "trainer.max_epochs=6", *search, "trainer=ddp_cpu", "trainer.devices=2")
    rows = record.table(folder / "sweep.csv")
    assert [row["state"] for row in rows] == ["COMPLETE", "PRUNED"]
    state = json.loads((folder / "1" / "member.json").read_text())
    assert state["state"] == "PRUNED"
    assert state["epoch"] < 5
    assert float(rows[1]["pruned_at"]) == state["value"]
    assert not (folder / "1" / "results.json").exists()
    assert "1 pruned" in done.stdout
    validated = [row for row in record.metrics(folder / "1") if "val/loss" in row]
    assert len(validated) == state["epoch"] + 1


@pytest.mark.slow
def test_a_search_in_one_process_optimises_the_validation(command, home, tiny, record):
    pytest.importorskip("optuna")
    folder = home / "search_single"
    words = [*tiny, ONE_EPOCH, "hparams_search=optuna", "hydra.sweeper.n_trials=2", "data.batch_size=4"]
    done = command("train.py", *words, f"hydra.sweep.dir={folder}")
    rows = record.table(folder / "sweep.csv")
    best = min(rows, key=lambda row: float(row["val/loss"]))
    assert all(row["objective"] == row["val/loss"] for row in rows)
    assert f"Member {best['member']} has the lowest val/loss" in done.stdout
