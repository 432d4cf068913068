"""A stopped and continued training, and a later command on it, are one run in every logger."""

import csv
import json

import pytest
from grading import GRADING
from wandb_reader import read_artifacts, read_sessions, read_table

from seewhy.cli.compose import compose_saved

pytest.importorskip("mlflow")

WORDS = (
    *[word for word in GRADING if not word.startswith(("explain.", "trainer.max_epochs"))],
    "explain.methods=[grad_cam]", "explain.max_samples=2", "explain.judge=cheap", "trainer.log_every_n_steps=1",
    "data.batch_size=4", "data.batches_per_epoch=3", "logger=[wandb,tensorboard,mlflow]",
    "logger.tags=[first,second]", "logger.notes=a note",
    "logger.watch=gradients",
)  # fmt: skip
STEPS = 3
"""Batches of an epoch."""


@pytest.fixture(scope="module")
def folder(train_here, tmp_path_factory):
    """Two epochs in two trainings, then an explanation."""
    from seewhy.run.explanations.explain import explain

    folder = tmp_path_factory.mktemp("tracked") / "run"
    words = [*WORDS, "model.scheduler.name=constant"]
    train_here(folder, "trainer.max_epochs=1", base=words)
    train_here(folder, "trainer.max_epochs=2", "ckpt_path=last", base=words)
    later = ["logger=[wandb,mlflow]", "explain.methods=[saliency]", "explain.max_samples=2", "explain.judge=none"]
    explain(compose_saved("explain", folder, *later))
    return folder


@pytest.fixture(scope="module")
def sessions(folder):
    return read_sessions(folder)


def test_w_and_b_has_one_id_and_every_step_once(sessions):
    assert {session.run.run_id for session in sessions} == {sessions[0].run.run_id}
    assert [session.run.job_type for session in sessions] == ["train", "train", "explain"]
    assert {session.run.display_name for session in sessions} == {"demo/amd/run"}
    assert all({"first", "second"} <= set(session.run.tags) for session in sessions)
    assert "explain" in sessions[2].run.tags
    assert all(session.run.notes == "a note" for session in sessions)
    rows = [row for session in sessions for row in session.rows]
    assert [row["trainer/global_step"] for row in rows if "train/loss" in row] == list(range(2 * STEPS))
    assert [row["trainer/global_step"] for row in rows if "val/loss" in row] == [STEPS - 1, 2 * STEPS - 1]
    assert [row["trainer/global_step"] for row in rows if "test/patients" in row] == [2 * STEPS]
    assert any(name.startswith("gradients/") for row in rows for name in row)


def test_the_best_is_that_of_both_trainings(sessions, record, folder):
    losses = [float(row["val/loss"]) for row in record.metrics(folder) if "val/loss" in row]
    assert len(losses) == 2
    assert sessions[1].summary["best/val/loss"] == pytest.approx(min(losses))
    assert sessions[1].summary["val/loss"]["min"] == pytest.approx(min(losses))


def test_the_explanation_uses_the_model_of_the_training(sessions):
    trained, used = (
        next(item for item in session.artifacts if item.type == "model") for session in (sessions[1], sessions[2])
    )
    assert used.use_after_commit
    assert not trained.use_after_commit
    assert (used.name, used.digest) == (trained.name, trained.digest)
    [maps] = [item for item in read_artifacts(sessions[2]).values() if item.type == "explanations"]
    assert maps.metadata["uses"] == [trained.name]
    assert any("saliency" in name for name in maps.files)
    assert sessions[2].config["explain_command"]["explain"]["methods"] == ["saliency"]
    assert sessions[2].config["jobs"] == ["train", "explain"]


def test_probabilities_are_the_calibrated_ones_in_every_table(sessions, folder):
    with (folder / "patients.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert any(float(row["confidence"]) != 0.25 for row in rows.values())
    with (folder / "earlier" / "1" / "results.json").open() as file:
        assert json.load(file)["metrics"]["test/temperature"] != 1
    table = read_table(sessions[1], "explanations")
    at = {name: number for number, name in enumerate(table["columns"])}
    assert len(table["data"]) == 2
    for line in table["data"]:
        row = rows[line[at["id"]]]
        assert line[at["probability"]] == pytest.approx(float(row["confidence"]), abs=1e-6)
        assert (line[at["prediction"]], line[at["truth"]]) == (row["prediction_name"], row["label_name"])
        explained = float(row[f"probability_{line[at['explained']]}"])
        assert line[at["probability of the explained class"]] == pytest.approx(explained, abs=1e-6)


def test_scores_of_maps_have_the_calibrated_probability(folder):
    with (folder / "patients.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    records = json.loads((folder / "explanations" / "explanations.json").read_text())["explanations"]
    assert records
    for entry in records:
        expected = float(rows[entry["id"]][f"probability_{entry['target_name']}"])
        assert entry["probability"] == pytest.approx(expected, abs=1e-6)
    for path in (folder / "explanations" / "records" / "grad_cam").glob("*.json"):
        stored = json.loads(path.read_text())
        assert stored["judged"]["probability"] == pytest.approx(stored["probability"], abs=1e-6)


def test_tensorboard_shows_every_step_once(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(2 * STEPS))
    assert [event.step for event in events.Scalars("val/loss")] == [STEPS - 1, 2 * STEPS - 1]
    assert len(events.Scalars("test/accuracy")) == 1
    assert [event.step for event in events.Scalars("best/val/loss")]
    floors = [name for name in tags["scalars"] if name.startswith("val/floor_")]
    assert floors
    assert not [name for name in tags["scalars"] if name.endswith(("_low", "_high"))]
    assert any(name.startswith("gradients/") for name in tags["histograms"])
    assert {"figures/grading", "figures/curves"} <= set(tags["images"])
    texts = {name.removesuffix("/text_summary"): events.Tensors(name)[-1] for name in tags["tensors"]}
    facts = texts["train/facts"].tensor_proto.string_val[0].decode()
    assert "a note" in facts
    assert "data_hash" in facts
    assert any(name.startswith("test/precision_recall/") for name in texts)


def test_mlflow_has_one_run_with_parameters_inputs_and_files(folder):
    from mlflow.tracking import MlflowClient

    client = MlflowClient((folder / "mlruns").as_uri())
    [experiment] = [item for item in client.search_experiments() if item.name == "demo/amd"]
    [run] = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted(point.step for point in history) == list(range(2 * STEPS))
    assert len(client.get_metric_history(run.info.run_id, "val/loss")) == 2
    assert len(client.get_metric_history(run.info.run_id, "test/accuracy")) == 1
    assert run.info.status == "FINISHED"
    assert run.data.params["data/batch_size"] == "4"
    tags = run.data.tags
    assert (tags["job"], tags["jobs"], tags["first"]) == ("explain", "train,explain", "true")
    assert tags["mlflow.note.content"] == "a note"
    assert run.data.metrics["best/val.loss"] == min(
        point.value for point in client.get_metric_history(run.info.run_id, "val/loss")
    )
    [data] = run.inputs.dataset_inputs
    assert tags["data_hash"].startswith(data.dataset.digest)
    files = {
        item.path
        for part in ("model", "results", "figures", "tables")
        for item in client.list_artifacts(run.info.run_id, part)
    }
    assert {"model/best.ckpt", "results/report.html", "figures/grading.png", "tables/test_outcomes.json"} <= files


def test_tracking_json_names_the_run(folder):
    found = json.loads((folder / "tracking.json").read_text())
    assert found["jobs"] == ["train", "explain"]
    assert set(found["trackers"]) == {"wandb", "mlflow"}
    assert (found["tags"], found["notes"], found["number"]) == (["first", "second"], "a note", 1)
