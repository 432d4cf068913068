"""Agreement of maps between trainings: what must agree does, and what only looks alike does not."""

import csv
from zlib import crc32

import numpy as np
import pytest
import torch

from seewhy.cli.main import main
from seewhy.errors import DataError
from seewhy.explain.maps import Maps
from seewhy.figures.report.blocks import ReportTable
from seewhy.io.geometry import Display
from seewhy.reporting.agreement import MEANING, agreement_section, compare_trainings
from seewhy.reporting.sample import SampleView
from seewhy.reporting.store import ExplanationStore, Place

CASES = [f"case{number}" for number in range(6)]


def draw(*parts, size=16):
    return np.random.default_rng(crc32(repr(parts).encode())).random((size, size), dtype=np.float32)


METHODS = {  # a map of a case by a run, and its rank correlation with re-initialised networks
    "learned": (lambda run, case: draw(case) + 0.3 * draw(run, case), 0.1),
    "by_chance": (lambda run, case: draw(run, case), 0.0),
    "same_for_every_case": (lambda run, case: draw("centre"), 0.2),
    "edges": (lambda run, case: draw("edges", case), 1.0),
    "edges_unjudged": (lambda run, case: draw("edges", case), None),
}


def write_run(folder, *, methods=METHODS, cases=CASES, target="early", size=16, images=None):
    store = ExplanationStore(folder / "explanations")
    for case in cases if images else []:
        store.write_view(
            SampleView(
                id=case, patient=case, source="", index=0, label=None, images={"image": images(case)}, masks={},
                placement=None, spacing=None, display=Display(),
            )
        )  # fmt: skip
    for method in methods:
        make, random = METHODS[method]
        for case in cases:
            heat = make(folder.name, case) if size == 16 else draw(case, size=size)
            view = SampleView(
                id=case, patient=case, source="", index=0, label=None, images={"image": heat}, masks={}, placement=None,
                spacing=None, display=Display(),
            )  # fmt: skip
            maps = Maps(
                maps={"image": torch.from_numpy(heat)[None]}, method=method, target=torch.tensor([0]),
                probability=torch.tensor([0.5]), scores=torch.tensor([[0.1]]),
            )  # fmt: skip
            facts = {
                "key": "k", "probability": 0.5, "target_name": target, "predicted": 0, "predicted_name": target,
                "confidence": 0.5, "classes": ["early"], "display": Display().record(), "spacing": None,
                "slice_numbers": [], "seconds": 0.1, "parts": {},
                "judged": {} if random is None else {"randomization_net": random},
            }  # fmt: skip
            store.write(Place(method), view, maps, facts, nifti=False)
    return folder


def test_only_maps_of_the_same_case_agree_in_a_method_that_learned(tmp_path):
    runs = [write_run(tmp_path / f"seed{number}") for number in range(3)]
    found = {one.method: one for one in compare_trainings(runs)}
    assert {name: one.passes for name, one in found.items()} == {
        "learned": True, "by_chance": False, "same_for_every_case": False, "edges": False, "edges_unjudged": True,
    }  # fmt: skip
    assert found["learned"].same > 0.7 > 0.2 > abs(found["learned"].different)
    assert found["same_for_every_case"].different == pytest.approx(1.0)
    assert (found["edges"].same, found["edges"].reinitialized) == pytest.approx((1.0, 1.0))
    assert (found["learned"].runs, found["learned"].cases) == (3, 6)


def test_correlations_are_those_of_the_maps(tmp_path):
    runs = [write_run(tmp_path / name, methods=["learned"]) for name in "ab"]
    (found,) = compare_trainings(runs)
    make = METHODS["learned"][0]
    ranks = {(run, case): make(run, case).ravel().argsort().argsort() for run in "ab" for case in CASES}
    expected = np.mean([np.corrcoef(ranks["a", case], ranks["b", case])[0, 1] for case in CASES])
    assert found.same == pytest.approx(expected, abs=1e-6)


def test_maps_of_different_classes_are_not_compared(tmp_path):
    runs = [
        write_run(tmp_path / "a", methods=["learned"]),
        write_run(tmp_path / "b", methods=["learned"], target="late"),
    ]
    (found,) = compare_trainings(runs)
    assert (found.other_class, found.cases, found.passes) == (6, 0, None)


def test_other_images_under_the_same_names_are_refused(tmp_path):
    """Two data sets that number their cases alike, e.g. phantoms of two seeds."""
    first = write_run(tmp_path / "a", methods=["learned"], images=lambda case: draw("image", case))
    brighter = write_run(tmp_path / "b", methods=["learned"], images=lambda case: 0.9 * draw("image", case) + 0.1)
    assert len(compare_trainings([first, brighter])) == 1
    other = write_run(tmp_path / "c", methods=["learned"], images=lambda case: draw("another image", case))
    with pytest.raises(DataError, match=r"sample case0 is another image in .*c than in .*a \(correlation") as error:
        compare_trainings([first, other])
    assert "\n" not in str(error.value)


def test_problems_name_the_run_and_the_remedy(tmp_path):
    first = write_run(tmp_path / "a", methods=["learned"])
    with pytest.raises(DataError, match="at least two"):
        compare_trainings([first, first])
    with pytest.raises(DataError, match=r"nowhere has no explanations; make them by explain\.py"):
        compare_trainings([first, tmp_path / "nowhere"])
    with pytest.raises(DataError, match="in common"):
        compare_trainings([first, write_run(tmp_path / "c", methods=["learned"], cases=["other"])])
    with pytest.raises(DataError, match="different sizes"):
        compare_trainings([first, write_run(tmp_path / "d", methods=["learned"], size=8)])


def test_the_command_writes_a_table_and_a_page_that_says_what_agreement_is_not(tmp_path, capsys):
    runs = [write_run(tmp_path / name, methods=["learned", "by_chance"]) for name in "ab"]
    with pytest.raises(SystemExit) as end:
        main(["agree", *map(str, runs)])
    assert end.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert MEANING in printed
    with (tmp_path / "agreement.csv").open() as file:
        assert {row["method"]: row["passes"] for row in csv.DictReader(file)} == {
            "by_chance": "False",
            "learned": "True",
        }
    assert "Agreement is not truth" in (tmp_path / "agreement.html").read_text()
    table = next(b for b in agreement_section(compare_trainings(runs)).blocks if isinstance(b, ReportTable))
    assert table.rows[0][:2] == ["learned", "agrees"]
    with pytest.raises(SystemExit) as end:
        main(["agree", str(runs[0])])
    assert end.value.code == 1


def test_damaged_records_are_named_and_unfinished_ones_are_not_read(tmp_path):
    runs = [write_run(tmp_path / f"seed{number}", methods=["learned"]) for number in range(2)]
    record = runs[1] / "explanations" / "records" / "learned" / "case0.json"
    (record.parent / ".tmp-0a1b2c3d-7-case9.json").write_text("{")
    assert compare_trainings(runs)[0].cases == 6
    record.write_text("{")
    with pytest.raises(DataError, match=r"learned/case0\.json is damaged .*explain\.py run=.*seed1"):
        compare_trainings(runs)


@pytest.mark.parametrize("values", [None, np.array(["x"]), np.zeros((16, 16), np.complex64), np.zeros((0, 4), "f4")])
def test_arrays_that_are_no_maps_are_named(tmp_path, values):
    runs = [write_run(tmp_path / f"seed{number}", methods=["learned"]) for number in range(2)]
    cache = runs[1] / "explanations" / "cache" / "learned" / "case0.npz"
    np.savez(cache, **({} if values is None else {"image": values}))
    assert not ExplanationStore(runs[1] / "explanations").finished(Place("learned"), "case0", "k")
    with pytest.raises(DataError, match=r"learned/case0\.npz holds no maps"):
        compare_trainings(runs)
