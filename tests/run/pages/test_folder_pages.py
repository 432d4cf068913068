"""Pages written again from folders, which may come from a stranger."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from seewhy.cli.main import main
from seewhy.errors import ConfigError, DataError
from seewhy.figures.report.cases import BrowserCase, PictureLayer, PicturePlane, PictureSlice, write_case
from seewhy.figures.report.pictures import encode_image
from seewhy.run.folder import RunFolder
from seewhy.run.pages.folder_pages import rebuild_pages, write_evaluation_page, write_prediction_results
from seewhy.wording import LESION

BAD = "</script><img src=x onerror=alert(1)>"
METRICS = {
    "test/refined/dice": 0.8, "test/refined/dice_low": 0.7, "test/refined/dice_high": 0.9, "test/floor_otsu/dice": 0.3,
    "test/patients": 6.0, "test/patients_with_lesion": 5.0,
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A run folder with everything that a page shows, some of it hostile."""
    folder = tmp_path / "run"
    (folder / "figures").mkdir(parents=True)
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "figures" / "scores.png")
    (folder / "figures" / "curves.png").write_bytes(b"no picture")
    results = {"name": BAD, "metrics": METRICS, "phantom": True, "seed": 7, "checkpoint": "ab" * 32, "choice": "chosen",
               "warnings": [f"Patient P{i}: the map peaks low" for i in range(5)], "versions": {"torch": "2.7"},
               "pictures": {"../../secret.png": "outside"}}  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results))
    config = {"name": "x", "model": {"_target_": "os.system", "command": "touch /tmp/harm"}, "seed": 7}
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"seewhy": {"version": "1", "split": "s" * 64}, "config": config})
    )
    (folder / "split.json").write_text(json.dumps({"train": ["a", "b"], "val": ["c"], "test": ["d"], "hash": "s"}))
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text("- experiment=demo/brats\n- 'data.root=/a b'\n")
    picture = encode_image(np.zeros((8, 8, 3), np.uint8), (8, 8))
    plane = PicturePlane(slices=[PictureSlice(0, [picture])], total=1)
    for name in ("P1", BAD):
        case = BrowserCase(id=name, patient=name, layers=[PictureLayer(kind="image")], planes=[plane])
        write_case(folder / "cases", case)
    (folder / "patients.csv").write_text("patient,map,dice\nP1,refined,0.25\nP1,floor_otsu,0.1\n")
    (folder / "doubts.csv").write_text("patient,map,doubts\nP1,cam,peaks low; covers all\n")
    return folder


def read_data(page):
    text = page.read_text()
    return json.loads(text.split('class="cases">')[1].split("</script>")[0])


def test_a_run_page_is_made_from_the_folder_alone(run, caplog):
    with caplog.at_level(logging.WARNING):
        [page] = rebuild_pages(run)
    text = page.read_text()
    assert BAD not in text
    assert "python train.py experiment=demo/brats &#x27;data.root=/a b&#x27;" in text
    for word in ("0.800", "best floor: 0.300 (Otsu)", "Only 6 test patients", "5 patients have doubtful results",
                 "Phantom data", "2 train, 1 val, 1 test", "ssssssssssssssss", "abababababababab", "torch 2.7",
                 "Against floors that know nothing"):  # fmt: skip
        assert word in text
    assert "At every threshold" not in text  # the file is no picture
    assert "curves.png is left out" in caplog.text
    assert "outside" not in text
    case = next(case for case in read_data(page)["cases"] if case["id"] == "P1")
    assert case["scores"] == {"Dice, refined": 0.25}
    assert case["doubts"] == ["peaks low", "covers all"]


def test_a_checkpoint_that_was_not_tested_is_reported(run, caplog):
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "best.ckpt").write_bytes(b"other")
    with caplog.at_level(logging.WARNING):
        rebuild_pages(run)
    assert "another checkpoint than the tested one" in caplog.text


def test_explanations_cannot_name_files_of_others(run, tmp_path, caplog):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "secret_visualization.png")
    entry = {"id": "a", "patient": "a", "method": "grad_cam", "target_name": "x",
             "pictures": ["../../secret_visualization.png"]}  # fmt: skip
    record = {"checkpoint": "c", "sha256": "d", "phantom": False, "refused": [], "verdicts": {}, "ranking": [],
              "by_class": [], "figures": {}, "explanations": [entry]}  # fmt: skip
    (run / "explanations").mkdir()
    (run / "explanations" / "explanations.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="secret_visualization"):
        rebuild_pages(run)


@pytest.mark.parametrize("name", ["results.json", "split.json"])
def test_damaged_records_are_one_line(run, name, capsys):
    (run / name).write_text("{")
    with pytest.raises(SystemExit) as end:
        main(["report", str(run)])
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert name in error
    assert error.count("\n") == 1


def test_a_configuration_with_tags_is_refused(run):
    (run / "config.yaml").write_text("config: !!python/object/apply:os.system ['touch harm']\n")
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        rebuild_pages(run)


def test_a_folder_without_anything(tmp_path):
    with pytest.raises(DataError, match=r"results\.json"):
        rebuild_pages(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        rebuild_pages(tmp_path / "missing")


def test_a_prediction_is_rebuilt_too(run, capsys):
    folder = run / "predictions"
    folder.mkdir()
    metrics = {
        "predict/accuracy": 0.75,
        "predict/floor_majority/accuracy": 0.5,
        "predict/cases": 4.0,
        "predict/patients": 4.0,
    }
    record = {
        "name": "x",
        "run": "r",
        "metrics": metrics,
        "phantom": False,
        "warnings": ["The model was trained on these"],
    }
    (folder / "results.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit) as end:
        main(["report", str(run)])
    assert end.value.code == 0
    assert capsys.readouterr().out.split() == [str(run / "report.html"), str(folder / "report.html")]
    text = (folder / "report.html").read_text()
    assert "0.750" in text
    assert "The model was trained on" in text


def test_a_page_uses_the_words_of_the_data_set(run):
    results = json.loads((run / "results.json").read_text())
    results |= {"words": {"target": "<i>{atrium}", "absent": "empty"}}
    results["metrics"] |= {"test/refined/lesion_dice": 0.5, "test/refined/fp_slices": 0.1}
    (run / "results.json").write_text(json.dumps(results))
    (run / "patients.csv").write_text("patient,map,dice,lesion_dice\nP1,refined,0.25,0.5\n")
    [page] = rebuild_pages(run)
    text = page.read_text()
    assert "&lt;i&gt;{atrium}-wise Dice" in text
    assert "empty slices hit" in text
    assert "<i>{atrium}" not in text
    assert "{target}" not in text
    assert "lesion-wise" not in text
    case = next(case for case in read_data(page)["cases"] if case["id"] == "P1")
    assert case["scores"] == {"Dice, refined": 0.25, "<i>{atrium}-wise Dice, refined": 0.5}


def make_run(tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"train": ["p1", "p2"], "val": ["p3"], "test": ["p4"]}))
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    datamodule = SimpleNamespace(is_phantom=False, words=LESION, predict_choice="data.predict_on=all")
    return SimpleNamespace(folder=RunFolder(tmp_path), checkpoint=tmp_path / "best.ckpt", datamodule=datamodule)


def test_patients_of_the_training_are_counted(tmp_path):
    rows = [{"id": f"{p}_L", "patient": p, "label": 0} for p in ("p1", "p2", "p3", "p4", "p5")]
    scores = {"accuracy": 0.8, "cases": 5.0, "patients": 5.0, "auroc": float("nan")}
    folder = tmp_path / "predictions"
    page = write_prediction_results(folder, make_run(tmp_path), scores, rows, name="x").read_text()
    record = json.loads((folder / "results.json").read_text())
    assert record["metrics"] == {"predict/accuracy": 0.8, "predict/cases": 5.0, "predict/patients": 5.0}
    assert [line[:6] for line in record["warnings"]] == ["2 of 5", "1 of 5"]
    assert "trained on" in page
    assert "chosen and calibrated on" in page
    assert (folder / "patients.csv").is_file()


def test_without_labels_nothing_is_scored_and_old_scores_are_removed(tmp_path):
    run, folder = make_run(tmp_path), tmp_path / "predictions"
    write_prediction_results(folder, run, {"accuracy": 0.8}, [{"id": "a", "patient": "p4"}], name="x")
    page = write_prediction_results(folder, run, {}, [], name="x").read_text()
    assert "not known" in page
    assert not (folder / "patients.csv").exists()
    assert json.loads((folder / "results.json").read_text())["warnings"] == []


TABLE = """direction,method,status,ssim,frechet_matched,lesion_patients
a2b,real,floor,,4.9284,
a2b,counterpart,truth,,,4
a2b,identity,ok,0.7221,40.7,4
a2b,nyul,not installed (x),,,
a2b,model,ok,0.6994,39.07,4
"""


def test_numbers_have_names_and_floors_are_grey(tmp_path):
    (tmp_path / "table.csv").write_text(TABLE)
    (tmp_path / "evaluation.json").write_text(json.dumps({"name": "x</script>", "phantom": True}))
    text = write_evaluation_page(tmp_path).read_text()
    assert "x</script>" not in text
    assert "Phantom data" in text
    for words in (
        "a → b: this model",
        "a → b: not translated",
        "a → b: truth: the other scanner",
        "0.699",
        "Fréchet ↓",
    ):
        assert words in text
    assert "4.000" not in text
    assert "Not measured: Nyúl: not installed (x)." in text
    assert text.count('<tr class="quiet">') == 5
