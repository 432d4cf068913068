"""Runs compared patient by patient: known differences and intervals, and who takes no part."""

import csv
import json

import numpy as np
import pytest

from seewhy.cli.main import main
from seewhy.errors import DataError
from seewhy.metrics.bootstrap import bootstrap_difference
from seewhy.metrics.classification.measures import case_measures
from seewhy.run.pages.compare import compare_runs
from seewhy.run.pages.compare_page import write_comparison

BAD = "</script><img src=x onerror=alert(1)>"


def write_rows(folder, rows, **results):
    folder.mkdir(parents=True)
    with (folder / "patients.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "results.json").write_text(json.dumps({"metrics": {}, **results}))
    return folder


def map_rows(dice, distance=None, name="refined"):
    rows = []
    for patient, value in dice.items():
        row = {"patient": patient, "map": name, "dice": value, "hd95_mm": (distance or {}).get(patient, "")}
        rows += [row, {**row, "map": "floor_otsu", "dice": 0.1}]
    return rows


def case_rows(shares, labels, patients, ids=None):
    classes = ("normal", "late")
    return [
        {"id": (ids or [f"c{i}" for i in range(len(labels))])[i], "patient": patients[i], "label": labels[i],
         **{f"probability_{name}": share[k] for k, name in enumerate(classes)}}
        for i, share in enumerate(shares)
    ]  # fmt: skip


def test_differences_of_means_are_paired_and_those_of_the_floors_are_left_out(tmp_path):
    first = {"p1": 0.5, "p2": 0.6, "p3": 0.7, "p4": 0.2, "only a": 0.9}
    second = {"p4": 0.5, "p3": 0.75, "p2": 0.65, "p1": 0.6, "only b": 0.1}
    runs = [
        write_rows(tmp_path / "a", map_rows(first, {"p1": 4.0, "p2": 5.0, "p3": 6.0})),
        write_rows(tmp_path / "b", map_rows(second, {"p1": 3.0, "p2": 4.0, "p3": 5.0})),
    ]
    _, [item] = compare_runs(runs)
    assert (item.only_first, item.only_second) == (["only a"], ["only b"])
    assert list(item.shared) == ["p1", "p2", "p3", "p4"]
    dice, distance = item.scores
    assert (dice.name, dice.patients, dice.lower) == ("Dice, refined", 4, False)
    assert (dice.first, dice.second) == pytest.approx((0.5, 0.625))
    pairs = [0.6, 0.65, 0.75, 0.5], [0.5, 0.6, 0.7, 0.2]
    assert dice.difference == bootstrap_difference(*pairs, limits=(0, 1))
    assert dice.difference.mean == pytest.approx(0.125)
    assert dice.verdict == "no clear difference"
    # Every patient is nearer by exactly 1 mm, so that the interval is that point.
    assert tuple(distance.difference) == pytest.approx((-1, -1, -1))
    assert (distance.lower, distance.verdict, distance.patients) == (True, "better", 3)
    assert (item.changes[0].id, round(item.changes[0].change, 3)) == ("p4", 0.3)


def test_patients_without_a_score_in_one_run_are_no_pair(tmp_path):
    runs = [
        write_rows(tmp_path / "a", map_rows({"p1": 0.5, "p2": "", "p3": 0.7, "p4": 0.6})),
        write_rows(tmp_path / "b", map_rows({"p1": 0.4, "p2": 0.9, "p3": 0.6, "p4": 0.5})),
    ]
    _, [item] = compare_runs(runs)
    assert item.scores[0].patients == 3
    assert item.scores[0].difference.mean == pytest.approx(-0.1)
    assert item.scores[0].verdict == "worse"


def test_classifiers_are_compared_on_the_same_resampled_patients(tmp_path):
    rng = np.random.default_rng(0)
    labels = [0, 1] * 12
    patients = [f"p{i // 2}" for i in range(24)]  # two eyes each
    good = np.clip(np.array(labels) * 0.6 + 0.2 + rng.normal(0, 0.05, 24), 0.01, 0.99)
    weak = np.clip(0.5 + rng.normal(0, 0.2, 24), 0.01, 0.99)
    tables = [np.stack([1 - share, share], axis=1) for share in (weak, good)]
    runs = [write_rows(tmp_path / n, case_rows(t, labels, patients)) for n, t in zip("ab", tables, strict=True)]
    _, [item] = compare_runs(runs)
    scores = {score.name: score for score in item.scores}
    for name, label in (("auroc", "AUROC"), ("kappa", "kappa"), ("balanced_accuracy", "balanced accuracy")):
        values = [float(case_measures(table, np.array(labels))[name][0]) for table in tables]
        assert (scores[label].first, scores[label].second) == pytest.approx(tuple(values))
        assert scores[label].difference.low <= values[1] - values[0] <= scores[label].difference.high
        assert scores[label].verdict == "better"
    accuracy = scores["accuracy, mean over patients"]
    hits = [(table.argmax(1) == labels).reshape(12, 2).mean(1) for table in tables]
    assert accuracy.difference == bootstrap_difference(hits[1], hits[0], limits=(0, 1))
    assert scores["Brier score, mean over patients"].verdict == "better"
    assert scores["Brier score, mean over patients"].difference.mean < 0
    gaps = [abs(good[i] - weak[i]) for i in range(24)]
    assert item.changes[0].id == f"c{int(np.argmax(gaps))}"
    assert "truth" in item.changes[0].note


def test_a_run_does_not_differ_from_itself(tmp_path):
    shares, labels = [[0.7, 0.3], [0.2, 0.8], [0.6, 0.4], [0.4, 0.6]] * 2, [0, 1, 1, 0] * 2
    patients = [f"p{i}" for i in range(8)]
    runs = [write_rows(tmp_path / name, case_rows(shares, labels, patients)) for name in "ab"]
    _, [item] = compare_runs(runs)
    assert all(tuple(score.difference) == (0, 0, 0) for score in item.scores)
    assert {score.verdict for score in item.scores} == {"no clear difference"}
    assert item.changes == []


def test_cases_whose_labels_differ_are_left_out_and_named(tmp_path):
    shares, patients = [[0.7, 0.3], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], ["p1", "p2", "p3", "p4"]
    runs = [
        write_rows(tmp_path / "a", case_rows(shares, [0, 1, 0, 1], patients)),
        write_rows(tmp_path / "b", case_rows(shares, [0, 1, 1, 1], patients)),
    ]
    _, [item] = compare_runs(runs)
    assert item.notes == ["case c2 is left out: its label is 0 and 1"]
    assert item.scores[0].patients == 3


def test_what_cannot_be_compared(tmp_path):
    maps = write_rows(tmp_path / "maps", map_rows({"p1": 0.5}))
    others = write_rows(tmp_path / "others", map_rows({"p9": 0.5}))
    cases = write_rows(tmp_path / "cases", case_rows([[0.5, 0.5]], [0], ["p1"]))
    wrong = write_rows(tmp_path / "wrong", case_rows([[0.5, 0.9]], [0], ["p1"]))
    with pytest.raises(DataError, match="no patient in common"):
        compare_runs([maps, others])
    with pytest.raises(DataError, match="different tasks"):
        compare_runs([maps, cases])
    with pytest.raises(DataError, match="second run, case c0: its probabilities"):
        compare_runs([cases, wrong])
    with pytest.raises(DataError, match="two or more"):
        compare_runs([maps])
    with pytest.raises(DataError, match="twice"):
        compare_runs([maps, maps])
    with pytest.raises(DataError, match=r"no patients\.csv"):
        compare_runs([maps, tmp_path])


def test_two_patients_have_no_interval(tmp_path):
    runs = [write_rows(tmp_path / n, map_rows({"p1": 0.5, "p2": v})) for n, v in (("a", 0.5), ("b", 0.9))]
    _, [item] = compare_runs(runs)
    assert (item.scores[0].difference, item.scores[0].verdict) == (None, "too few patients")


def test_the_command_writes_page_and_tables_and_escapes_names(tmp_path, capsys):
    dice = {"p1": 0.5, "p2": 0.6, "p3": 0.7, BAD: 0.1}
    other = {**{name: value + 0.1 for name, value in dice.items() if name != "p1"}, "p7": 0.3}
    runs = [
        write_rows(tmp_path / "a", map_rows(dice), phantom=True),
        write_rows(tmp_path / "b", map_rows(other), phantom=True),
        write_rows(tmp_path / "c", map_rows(dice), phantom=True),
    ]
    with pytest.raises(SystemExit) as end:
        main(["compare", *map(str, runs), "--folder", str(tmp_path / "out")])
    assert end.value.code == 0
    assert "only in a: p1" in capsys.readouterr().out
    page = (tmp_path / "out" / "compare.html").read_text()
    assert BAD not in page
    assert "Phantom data" in page
    assert "1 patients are only in b" in page
    with (tmp_path / "out" / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["verdict"]) for row in rows] == [("b", "better"), ("c", "no clear difference")]
    assert float(rows[0]["difference"]) == pytest.approx(0.1)
    with (tmp_path / "out" / "changes.csv").open() as file:
        assert {row["case"] for row in csv.DictReader(file)} == {"p2", "p3", BAD}


def test_other_data_sets_are_named(tmp_path):
    """Patients of phantoms with other seeds have the same names."""
    runs = [write_rows(tmp_path / name, map_rows({"p": 0.5, "q": 0.6, "r": 0.7})) for name in "abc"]
    for run, data in zip(runs, ("one", "one", "two"), strict=True):
        (run / "config.yaml").write_text(f"seewhy: {{data: {data}}}\nconfig: {{}}\n")
    _, (same, other) = compare_runs(runs)
    assert not same.notes
    assert other.notes == ["its data set is not that of a, so patients of one name may be different people"]


def test_options_that_differ_are_listed(tmp_path):
    runs = []
    for name, rate in (("a", 0.1), ("b", 0.2)):
        run = write_rows(tmp_path / name, map_rows({"p1": 0.5, "p2": 0.6, "p3": 0.7}))
        config = f"{{model: {{lr: {rate}}}, seed: 0, folder: {run}/x}}"
        (run / "config.yaml").write_text(f"seewhy: {{split: {name}}}\nconfig: {config}\n")
        runs.append(run)
    write_comparison(tmp_path, *compare_runs(runs))
    page = (tmp_path / "compare.html").read_text()
    assert "model.lr" in page
    assert "different splits" in page
    assert ">seed<" not in page
    assert ">folder<" not in page  # each in its own run folder
