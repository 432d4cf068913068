"""From judged records to ranking, printed tables and floors."""

import csv
import io
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from torch import nn

from seewhy.explain import GradCAM
from seewhy.figures.explanations.tables import explanation_section
from seewhy.figures.report.blocks import ReportTable
from seewhy.reporting.judging import Judges
from seewhy.reporting.ranking import DIRECTIONS, MEANINGS, NAMES, write_class_table, write_ranking
from seewhy.reporting.report import print_explanations
from seewhy.reporting.selection import ExplanationSettings
from seewhy.reporting.tables import share_rows

RANDOM = ("pointing", "energy", "auprc")


def record(number, method="grad_cam", *, tested=True, energy=0.5, **more):
    scores = dict.fromkeys(RANDOM, energy)
    random = {f"{name}_random": 0.1 * number if tested else None for name in RANDOM}
    judged = {"method": method, "mask_share": 0.2, **scores, **random, "effect_left": 0.25, "effect_right": -0.05}
    return {
        "id": f"s{number}", "patient": f"p{number}", "method": method, "folder": "", "judged": judged,
        "seconds": float(number), "completeness": 0.02 * number, "shares": {"left": 0.75, "right": 0.25},
        "phantom": True, **more,
    }  # fmt: skip


@pytest.fixture
def records():
    return [record(number, tested=number < 4) for number in range(1, 6)]


def floor_rows(records):
    return [
        {"method": "control_centre", "id": one["id"], "patient": one["patient"], **dict.fromkeys(RANDOM, 0.3)}
        for one in records
    ]


def test_re_initialised_networks_are_a_floor_of_their_method_over_the_tested_samples(records, tmp_path):
    shown = write_ranking(tmp_path, records, floor_rows(records), title="", phantom=True)
    energy = {row["method"]: row for row in shown if row["score"] == "energy inside the mask"}
    assert energy["grad_cam"]["untrained"] == pytest.approx(0.2)  # of samples 1, 2 and 3
    assert 0.0 <= energy["grad_cam"]["untrained_low"] < 0.1 < 0.3 < energy["grad_cam"]["untrained_high"] <= 1.0
    assert energy["control_centre"]["untrained"] is None
    assert [row["value"] for row in shown if row["score"] == "seconds per map"] == [3.0]
    with (tmp_path / "ranking.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert float(rows["grad_cam"]["auprc_random"]) == pytest.approx(0.2)
    assert rows["control_centre"]["auprc_random"] == ""
    assert list(rows["grad_cam"])[:5] == ["method", "floor", "samples", "mean_rank", "pointing"]
    assert list(rows["grad_cam"])[-3:] == ["auprc_random", "auprc_random_low", "auprc_random_high"]
    assert (tmp_path / "ranking.png").is_file()


def test_records_without_the_test_have_no_such_floor(records, tmp_path):
    for one in records:
        one["judged"] = {name: value for name, value in one["judged"].items() if not name.endswith("_random")}
    shown = write_ranking(tmp_path, records, [], title="", phantom=True)
    assert {row.get("untrained") for row in shown} == {None}
    assert "_random" not in (tmp_path / "ranking.csv").read_text()


def printed(found):
    console = Console(file=io.StringIO(), width=80)
    print_explanations(found, console)
    return console.file.getvalue()


def test_what_is_printed(records, tmp_path):
    ranking = write_ranking(tmp_path, records, floor_rows(records), title="", phantom=True)
    found = {
        "folder": tmp_path, "samples": 5, "records": records, "ranking": ranking, "refused": ["saliency, s1: [no] way"],
        "verdicts": {"grad_cam": {"passes": False}}, "failures": {"grad_cam": ["hardly depends on the network"]},
    }  # fmt: skip
    text = printed(found)
    lines = [one.split() for one in text.splitlines() if one.strip()]
    assert ["Grad-CAM", ".50", "[.50,.50]", ".50", "[.50,.50]", ".50", "[.50,.50]"] in lines
    assert any(line[:2] == ["re-initialised", ".20"] for line in lines)
    assert ["chance", "(mask", "share)", ".20", ".20", ".20"] in lines
    assert ["Grad-CAM", "6.0%", "FAILS", "3"] in lines
    assert ["left", "75%", "+0.25"] in lines
    assert ["right", "25%", "-0.05"] in lines
    for told in ("PHANTOM", "grad_cam: hardly depends", "no map: saliency, s1: [no] way", "ranking.csv", "5 patients"):
        assert told in text
    assert "report.html" not in text  # it is not there


def test_a_session_without_any_map_says_so(tmp_path):
    text = printed({"folder": tmp_path, "samples": 0, "refused": ["a"], "records": []})
    assert text.startswith("no map: a\nexplanations of 0 samples")


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 3, 3, padding=1)
        self.head = nn.Linear(3, 2)

    def forward(self, image):
        return self.head(self.features(image).relu().mean(dim=(2, 3)))


@pytest.fixture
def floors():
    """Rows of the floors of two images by method: `floors(judge, masks, samples)`."""

    def call(judge, masks=None, samples=2):
        judges = Judges(
            {"grad_cam": GradCAM(layers="features")},
            ExplanationSettings(judge=judge),
            samples=samples,
            validation=lambda count: (),
        )
        images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        return judges.judge_floors(Tiny(), images, 0, masks)

    return call


@pytest.mark.parametrize("samples", [3, 12, 16, 31, 32, 39, 64, 200])
def test_cheap_judging_makes_five_maps_for_eight_samples_and_all_verdicts_from_sixteen_on(samples):
    settings = ExplanationSettings(judge="cheap")
    judges = Judges({"grad_cam": GradCAM(layers="features")}, settings, samples=samples, validation=lambda count: ())
    chosen = judges.settings
    tests = chosen.cases * (chosen.redraws + chosen.heads + 2 * chosen.contrast)
    assert tests + judges.tuning <= (samples if samples < 32 else 5 / 8 * samples)
    assert (chosen.contrast and chosen.heads == 1 and chosen.cases >= 3) is (samples >= 16)


MASKS = torch.zeros(2, 16, 16).index_fill(1, torch.arange(4), 1)


def test_brightness_is_a_floor_of_deletion_too_where_that_is_judged(floors):
    found = SimpleNamespace(all=floors("all", MASKS), cheap=floors("cheap", MASKS), many=floors("auto", MASKS, 65))
    assert set(found.all) == {"control_centre", "control_intensity", "control_edges", "control_random"}
    assert [name for name, rows in found.all.items() if "deletion_gap" in rows[0]] == ["control_intensity"]
    assert all(rows[0]["energy"] is not None for rows in found.all.values())
    assert not [name for name in found.all["control_intensity"][0] if name.startswith(("stability", "randomization"))]
    for rows in (*found.cheap.values(), *found.many.values()):
        assert "deletion_gap" not in rows[0]


def test_without_masks_only_what_deletion_has_is_left(floors):
    assert list(floors("auto")) == ["control_intensity"]
    assert floors("cheap") == {}
    assert floors("none", MASKS) == {}


def test_every_score_that_ranks_methods_has_a_name_and_a_meaning():
    assert set(DIRECTIONS) == set(MEANINGS)
    assert set(DIRECTIONS) <= set(NAMES)


CLASSES = ["normal", "early", "late"]


def annotated(number, label, pointing, *, method="grad_cam"):
    judged = {"pointing": pointing, "energy": 0.2, "auprc": 0.3, "mask_share": 0.1}
    return {
        "id": f"s{number}", "patient": f"p{number}", "method": method, "folder": "", "label": label,
        "classes": CLASSES, "judged": judged if label else {"pointing": None, "energy": None},
    }  # fmt: skip


def test_each_class_has_its_own_means(tmp_path):
    records = [
        annotated(0, 0, None),
        annotated(1, 1, 0.0),
        annotated(2, 1, 0.0),
        annotated(3, 2, 1.0),
        annotated(4, 2, 0.0),
    ]
    rows = write_class_table(tmp_path / "by.csv", records)
    assert [(row["class"], row["samples"], row["pointing"]) for row in rows] == [("early", 2, 0.0), ("late", 2, 0.5)]
    with (tmp_path / "by.csv").open() as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["early", "late"]
    table = next(block for block in explanation_section(by_class=rows).blocks if isinstance(block, ReportTable))
    assert table.rows[1][:3] == ["late", "Grad-CAM", "0.5"]


def test_one_annotated_class_gives_no_table(tmp_path):
    assert write_class_table(tmp_path / "by.csv", [annotated(0, 0, None), annotated(1, 1, 0.5)]) == []
    assert not (tmp_path / "by.csv").exists()


def test_shapley_values_are_in_the_table_of_shares_with_sign():
    contributions = {
        "total": 2.0, "removal": "absent", "values": {"fluid": 3.0, "ga": -1.0}, "left_out": {"fluid": 0.0, "ga": 0.5},
        "interactions": {"fluid x ga": -3.0}, "shares": {"fluid": 1.5, "ga": -0.5},
    }  # fmt: skip
    shown = {
        "id": "s", "patient": "p", "method": "shapley_inputs", "target_name": "late", "parts": {}, "slice_numbers": [],
        "shares": {"fluid": 1.0, "ga": 0.0}, "contributions": contributions,
    }  # fmt: skip
    rows = {(row["kind"], row["name"]): row["share"] for row in share_rows([shown])}
    assert rows == {
        ("shapley", "fluid"): pytest.approx(1.5), ("shapley", "ga"): pytest.approx(-0.5),
        ("left_out", "fluid"): 0, ("left_out", "ga"): pytest.approx(0.25),
        ("interaction", "fluid x ga"): pytest.approx(-1.5), ("input", "fluid"): 1.0, ("input", "ga"): 0.0,
    }  # fmt: skip
