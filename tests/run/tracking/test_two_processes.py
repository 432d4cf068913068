"""A training of two processes, stopped and continued, is one run with every row once in every logger."""

import pytest
from grading import GRADING
from wandb_reader import read_sessions

pytest.importorskip("mlflow")
pytestmark = pytest.mark.slow

STEPS = 3
"""Batches of an epoch, of each process."""
WORDS = (
    *[word for word in GRADING if not word.startswith(("explain.", "trainer"))], "explain.methods=[]",
    "trainer=ddp_cpu", "trainer.log_every_n_steps=1", "trainer.enable_progress_bar=false", "data.batch_size=2",
    f"data.batches_per_epoch={STEPS}", "logger=[wandb,tensorboard,mlflow]", "logger.watch=gradients",
    "model.scheduler.name=constant",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(command, home):
    """One epoch, then another one in a second command."""
    folder = home / "tracked_by_two" / "run"
    command("train.py", *WORDS, "trainer.max_epochs=1", f"hydra.run.dir={folder}", processes=2)
    command("train.py", *WORDS, "trainer.max_epochs=2", "ckpt_path=last", f"hydra.run.dir={folder}", processes=2)
    return folder


def test_w_and_b_has_one_run(folder):
    sessions = read_sessions(folder)
    assert len(sessions) == 2  # one file of each command, none of the second processes
    assert len({session.run.run_id for session in sessions}) == 1
    rows = [row for session in sessions for row in session.rows]
    assert [row["trainer/global_step"] for row in rows if "train/loss" in row] == list(range(2 * STEPS))
    assert [row["trainer/global_step"] for row in rows if "val/loss" in row] == [STEPS - 1, 2 * STEPS - 1]
    assert len([row for row in rows if "test/patients" in row]) == 1
    names = [item.name for item in sessions[1].artifacts]
    assert names
    assert len(names) == len(set(names))


def test_tensorboard_has_one_point_per_step(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(2 * STEPS))
    assert len(events.Scalars("test/accuracy")) == 1


def test_mlflow_has_one_run(folder):
    from mlflow.tracking import MlflowClient

    client = MlflowClient((folder / "mlruns").as_uri())
    [experiment] = [item for item in client.search_experiments() if item.name == "demo/amd"]
    [run] = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted(point.step for point in history) == list(range(2 * STEPS))
    assert len(client.get_metric_history(run.info.run_id, "test/accuracy")) == 1
    assert run.info.status == "FINISHED"


def test_metrics_csv_has_every_row_once(folder, record):
    rows = record.metrics(folder)
    assert [int(row["step"]) for row in rows if "train/loss" in row] == list(range(2 * STEPS))
    assert len([row for row in rows if "test/accuracy" in row]) == 1
