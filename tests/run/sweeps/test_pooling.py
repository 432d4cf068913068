"""Folds of a cross-validation, scored as one."""

import csv
import json

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torchmetrics.functional.classification import binary_auroc

from seewhy.cli.main import main
from seewhy.errors import DataError
from seewhy.metrics.classification.cases import CaseScores
from seewhy.run.sweeps.pooling import pool_folds, read_members


def write_member(folder, name, fold, logits, labels, patients, *, overrides=(), num_folds=None, classes=("HC", "TLE")):
    """A finished run as the commands leave it, its rows from `CaseScores` itself."""
    run = folder / name
    (run / ".hydra").mkdir(parents=True)
    scores = CaseScores(classes=classes, resamples=0, permutations=0)
    ids = [f"{patient}_{number}" for number, patient in enumerate(patients)]
    scores.update(
        {"logits": torch.tensor(logits)}, {"id": ids, "patient": list(patients), "label": torch.tensor(labels)}
    )
    scores.temperature = 2.0
    rows = scores.rows()
    with (run / "patients.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    metrics = {f"test/{key}": value for key, value in scores.compute().items()}
    (run / "results.json").write_text(json.dumps({"metrics": metrics, "phantom": True}))
    OmegaConf.save([f"data.fold={fold}", *overrides], run / ".hydra" / "overrides.yaml")
    config = {"data": {"fold": fold, "num_folds": num_folds}, "model": {"ordinal": False}}
    OmegaConf.save({"seewhy": {}, "config": config}, run / "config.yaml")
    return rows


@pytest.fixture
def sweep(tmp_path):
    generator = np.random.default_rng(0)
    rows = []
    for fold in range(3):
        labels = generator.integers(0, 2, 20)
        labels[:2] = 0, 1
        logits = generator.normal(size=(20, 2)).astype(np.float32)
        logits[:, 1] += labels
        patients = [f"P{fold}{number // 2}" for number in range(20)]
        rows += write_member(tmp_path, str(fold), fold, logits, labels, patients, num_folds=4)
    return tmp_path, rows


def test_pooled_scores_are_those_of_all_cases_together(sweep):
    folder, rows = sweep
    (record,) = pool_folds(folder, resamples=200)
    label = [row["label"] for row in rows]
    probability = [row["probability_TLE"] for row in rows]
    metrics = record["metrics"]
    auroc = binary_auroc(torch.tensor(probability, dtype=torch.float64), torch.tensor(label))
    assert metrics["auroc"] == pytest.approx(float(auroc), abs=1e-6)
    assert metrics["accuracy"] == pytest.approx(np.mean([row["correct"] for row in rows]))
    brier = np.mean([2 * (p - y) ** 2 for p, y in zip(probability, label, strict=True)])
    assert metrics["brier"] == pytest.approx(brier, abs=1e-6)
    assert (metrics["cases"], metrics["patients"]) == (60, 30)
    assert metrics["auroc_low"] < metrics["auroc"] < metrics["auroc_high"]
    assert record["tested_folds"] == [0, 1, 2]
    assert record["missing_folds"] == [3]
    assert record["phantom"] is True
    assert json.loads((folder / "pooled.json").read_text()) == [record]


def test_each_folds_own_value_is_kept(sweep):
    folder, rows = sweep
    (record,) = pool_folds(folder, resamples=0)
    values = [float(np.mean([row["correct"] for row in rows[20 * k : 20 * k + 20]])) for k in range(3)]
    spread = record["folds"]["accuracy"]
    assert spread["values"] == pytest.approx(values)
    assert spread["mean"] == pytest.approx(np.mean(values))
    assert spread["std"] == pytest.approx(np.std(values, ddof=1))
    with (folder / "pooled.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["id"] for row in table] == [row["id"] for row in rows]
    assert {row["fold"] for row in table} == {"0", "1", "2"}


def test_runs_that_differ_in_more_than_the_fold_are_pooled_apart(tmp_path):
    for number, (model, fold) in enumerate([("a", 0), ("b", 0), ("a", 1), ("b", 1)]):
        logits = [[0.0, 1.0], [1.0, 0.0]] if model == "a" else [[1.0, 0.0], [0.0, 1.0]]
        write_member(
            tmp_path, str(number), fold, logits, [1, 0], [f"P{fold}", f"Q{fold}"], overrides=[f"model={model}"]
        )
    records = pool_folds(tmp_path, resamples=0)
    assert [(record["choices"], record["metrics"]["accuracy"]) for record in records] == [
        ({"model": "a"}, 1.0),
        ({"model": "b"}, 0.0),
    ]
    assert [record["members"] for record in records] == [["0", "2"], ["1", "3"]]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"fold": 0, "patients": ["C", "D"]}, "1 and 0 were both tested on fold 0"),
        ({"fold": 1, "patients": ["A", "D"]}, "case A_0 was tested in 0 and in 1"),
        ({"fold": 1, "patients": ["D", "A"]}, "patient A was tested in 0 and in 1"),
        ({"fold": 1, "patients": ["C", "D"], "classes": ("HC", "left")}, "has classes"),
    ],
)
def test_what_is_no_cross_validation_is_refused(tmp_path, second, words):
    write_member(tmp_path, "0", 0, [[0.0, 1.0], [1.0, 0.0]], [1, 0], ["A", "B"])
    write_member(tmp_path, "1", logits=[[0.0, 1.0], [1.0, 0.0]], labels=[1, 0], **second)
    with pytest.raises(DataError, match=words):
        pool_folds(tmp_path)
    assert not (tmp_path / "pooled.json").exists()


def test_other_sweeps_have_nothing_to_pool(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "results.json").write_text('{"metrics": {}}')
    (tmp_path / "0" / "patients.csv").write_text("patient,map,dice\nA,cam,0.5\n")
    OmegaConf.save({"config": {"data": {"fold": 0}, "model": {}}}, tmp_path / "0" / "config.yaml")
    assert read_members(tmp_path) == []
    with pytest.raises(DataError, match=r"holds no finished.*data\.fold=0"):
        pool_folds(tmp_path)


def test_command_prints_the_table(sweep, capsys):
    folder, _ = sweep
    with pytest.raises(SystemExit) as end:
        main(["pool", str(folder), "--resamples", "50"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "60 cases, 30 patients" in shown
    assert "fold 3 did not finish" in shown


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("probability_TLE", "-5"),
        ("probability_TLE", "7"),
        ("probability_TLE", "nan"),
        ("probability_TLE", "inf"),
        ("probability_TLE", ""),
        ("probability_TLE", "high"),
        ("probability_TLE", "0.9"),  # 1.4 in sum
        ("label", "2"),
        ("label", "-1"),
        ("label", "x"),
        ("label", ""),
        ("id", ""),
        ("id", "B_1"),  # as the other row
        ("patient", ""),
    ],
)
def test_impossible_rows_are_refused(tmp_path, column, text):
    write_member(tmp_path, "0", 0, [[0.0, 0.0], [1.0, 0.0]], [1, 0], ["A", "B"])
    path = tmp_path / "0" / "patients.csv"
    header, first, second = [line.split(",") for line in path.read_text().splitlines()]
    first[header.index(column)] = text
    path.write_text("\n".join(map(",".join, (header, first, second))))
    with pytest.raises(DataError, match=r"patients\.csv, row [23]"):
        pool_folds(tmp_path)
    assert not (tmp_path / "pooled.json").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("patients.csv", content) for content in (b"\xff\xfe", b'id,"a\n"b"c', b"id,id\n1,2\n", b"id\n1,2,3\n")),
        *(("results.json", content) for content in (b"", b"{", b"[]", b'{"metrics": 5}', b'{"metrics": {"a": "b"}}')),
        *(("config.yaml", content) for content in (b"", b"\t", b"config: 5", b"config: {data: 5}", b"\xff", b"!!x y")),
        ("config.yaml", b"config: {data: {fold: abc}, model: {}}"),
        ("config.yaml", b"config: {data: {fold: -1}, model: {}}"),
        ("config.yaml", b"config: {data: {fold: 0, num_folds: 1000000000000}, model: {}}"),
        (".hydra/overrides.yaml", b"5: 5"),
    ],
)
def test_damaged_files_of_a_run_are_named(tmp_path, name, content):
    write_member(tmp_path, "0", 0, [[0.0, 0.0], [1.0, 0.0]], [1, 0], ["A", "B"])
    (tmp_path / "0" / name).write_bytes(content)
    with pytest.raises(DataError, match=name.rpartition("/")[2]):
        pool_folds(tmp_path)
    assert not (tmp_path / "pooled.json").exists()
