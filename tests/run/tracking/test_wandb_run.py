"""An offline W&B run of a weakly-supervised training, read back from its files."""

import json

import pytest
from wandb_reader import read_artifacts, read_sessions, read_table


@pytest.fixture(scope="module")
def session(single):
    [only] = read_sessions(single)
    return only


def test_the_configuration_is_whole_and_tells_runs_apart(session, single, record):
    config = session.config
    assert config["data"]["batch_size"] == 4
    assert config["trainer"]["max_epochs"] == 3
    assert config["callbacks"]["best"]["monitor"] == "val/loss"
    assert config["split_hash"] == record.split(single)["hash"]
    assert len(config["data_hash"]) == 64
    assert (config["experiment"], config["seed"], config["fold"], config["jobs"]) == ("demo/brats", 0, None, ["train"])
    assert config["code_version"]
    assert config["is_phantom"] is True
    assert session.run.display_name == "demo/brats/single"
    assert session.run.job_type == "train"
    assert session.exit == 0
    saved = json.loads((single / "tracking.json").read_text())
    assert saved["trackers"]["wandb"]["id"] == session.run.run_id


def test_the_summary_has_the_best_scores_and_curves_are_no_floors(session, single, record):
    losses = [float(row["val/loss"]) for row in record.metrics(single) if "val/loss" in row]
    assert session.metrics["val/loss"].summary.min
    assert session.metrics["val/auroc"].summary.max
    assert session.summary["val/loss"]["min"] == pytest.approx(min(losses))
    assert session.summary["best/val/loss"] == pytest.approx(min(losses))
    curves = {name for row in session.rows for name, value in row.items() if not isinstance(value, dict)}
    assert {"val/loss", "val/auroc"} <= curves
    assert not [name for name in curves if "floor_" in name or name.endswith(("_low", "_high", "/patients"))]
    assert session.summary["val/floor_majority/accuracy"] > 0
    tested = {n: v for n, v in record.results(single)["metrics"].items() if n.startswith("test/")}
    assert {name: session.summary[name] for name in tested} == pytest.approx(tested)


def test_artifacts_have_their_lineage(session, single):
    found = read_artifacts(session)
    data, model, results, maps = (
        next(item for name, item in found.items() if name.startswith(kind))
        for kind in ("data-", "model-", "results-", "explanations-")
    )
    names = {item.type: name for name, item in found.items()}
    assert [item.used for item in (data, model, results, maps)] == [True, False, False, False]
    assert data.metadata["hash"] == session.config["data_hash"]
    assert list(data.files) == ["data.json"]  # no file of the data, and none of their names
    assert model.metadata["uses"] == [names["dataset"]]
    assert maps.metadata["uses"] == [names["model"]]
    assert set(model.files) == {"best.ckpt", "config.yaml", "split.json", "results.json", "model_card.md"}
    assert "best" in model.aliases
    assert model.files["best.ckpt"].read_bytes() == (single / "checkpoints" / "best.ckpt").read_bytes()
    assert {"report.html", "patients.csv", "figures/cases.png", "figures/curves.png"} <= set(results.files)
    assert any(name.startswith("cam_npy/") for name in maps.files)
    staged = [path for item in found.values() for path in item.files.values()]
    assert all(path.is_file() and single in path.parents for path in staged)  # not in the home folder


def test_tables_have_names_of_classes_and_the_probabilities_of_the_predictions(session, single):
    table = read_table(session, "test/slices")
    assert table["columns"] == ["id", "patient", "truth", "prediction", "probability_absent", "probability_present"]
    rows = {row[0]: row for row in table["data"]}
    maps = read_table(session, "maps")
    at = {name: number for number, name in enumerate(maps["columns"])}
    for row in maps["data"]:
        side = json.loads((single / "cam_npy" / f"{row[at['id']]}.json").read_text())
        assert row[at["probability_present"]] == side["probability"][0]
        assert rows[row[at["id"]]][5] == pytest.approx(side["probability"][0])
        assert row[at["truth"]] in ("absent", "present")
        assert row[at["truth"]] == rows[row[at["id"]]][2]
    assert len(read_table(session, "test/patients")["data"]) == len((single / "patients.csv").open().readlines()) - 1


def test_charts_of_the_test_and_captions(session):
    cells = read_table(session, "test/confusion_matrix_table")["data"]
    assert sum(count for *_, count in cells) == len(read_table(session, "test/slices")["data"])
    assert {row[0] for row in read_table(session, "test/roc_table")["data"]} == {"absent", "present"}
    assert read_table(session, "test/precision_recall_table")["columns"] == ["class", "recall", "precision"]
    assert "test/confusion_matrix" in session.config["_wandb"]["visualize"]
    panels = [row["val/panel"] for row in session.rows if "val/panel" in row]
    assert len(panels) == 3
    assert all("probability" in panel["captions"][0] and "BRATS_" in panel["captions"][0] for panel in panels)
    scores = {row["trainer/global_step"] for row in session.rows if "val/loss" in row}
    assert {row["trainer/global_step"] for row in session.rows if "val/panel" in row} == scores
    assert any("(phantom data)" in row["figures/cases"]["caption"] for row in session.rows if "figures/cases" in row)
