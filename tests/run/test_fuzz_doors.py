"""Every JSON, YAML and CSV file that the commands open: a result or one of seewhy's errors, whatever it holds."""

import csv
import json
import warnings
from contextlib import suppress

import numpy as np
import pytest
import torch
import yaml
from hostile import FUZZ, changed, damaged
from hypothesis import given
from hypothesis import strategies as st

from seewhy.data.check.dataset import check_dataset
from seewhy.data.domains.store import open_store, read_subject
from seewhy.data.prepare.msd_files import MSDTask
from seewhy.data.slices.datamodule import BraTSDataModule
from seewhy.data.slices.files import list_slices
from seewhy.data.splits import Split, split_from_file
from seewhy.data.table import read_table
from seewhy.data.volumes.survey import Survey
from seewhy.errors import SeewhyError
from seewhy.interop.nnunet.folder import read_nnunet
from seewhy.interop.tensors import read_tensors
from seewhy.reporting.store import ExplanationRecord, read_record
from seewhy.run.loaded.saved_run import load_state
from seewhy.run.saved_config import read_saved_config
from seewhy.run.sweeps.pooling import pool_folds
from seewhy.run.sweeps.table import sweep_rows
from seewhy.run.translation.qualitative.case_list import CATEGORIES, read_cases

pytestmark = pytest.mark.slow


def fuzz(path, content, use):
    """Write changed contents to a file, and use it: plain data is changed entry by entry, bytes anywhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dump = yaml.safe_dump if path.suffix == ".yaml" else json.dumps
    entries = st.just(None) if isinstance(content, bytes) else changed(content)
    raw = content if isinstance(content, bytes) else dump(content).encode()

    @FUZZ
    @given(st.one_of(entries.map(lambda record: raw if record is None else dump(record).encode()), damaged(raw)))
    def check(text):
        path.write_bytes(text)
        with suppress(SeewhyError):
            use()

    path.write_bytes(raw)
    use()  # undamaged, it is read
    check()


def nnunet_folder(tmp_path):
    folders = pytest.importorskip("nnunet_folders")
    folders.write_folder(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
def test_nnunet_folder(tmp_path, name):
    folder = nnunet_folder(tmp_path)
    fuzz(folder / name, json.loads((folder / name).read_text()), lambda: read_nnunet(folder))


CONFIG = {
    "seewhy": {"version": "0.1.0"},
    "config": {
        "name": "x", "seed": 0, "data": {"_target_": "seewhy.data.slices.datamodule.BraTSDataModule", "root": "/data"},
        "model": {"_target_": "seewhy.models.weakly_supervised.segmentation.WeaklySupervisedSegmentation"},
        "trainer": {"_target_": "lightning.pytorch.Trainer", "max_epochs": 1},
        "explain": {"folder": None, "own_maps": {"_target_": "seewhy.callbacks.maps.WriteMaps"}},
    },
}  # fmt: skip


def test_saved_config(tmp_path):
    fuzz(tmp_path / "config.yaml", CONFIG, lambda: read_saved_config(tmp_path))


def pooled_run(folder):
    run = folder / "0"
    (run / ".hydra").mkdir(parents=True)
    rows = ["id,patient,label,probability_HC,probability_TLE", "a,A,0,0.75,0.25", "b,B,1,0.25,0.75"]
    files = {
        "patients.csv": "\n".join(rows).encode(),
        "results.json": {"metrics": {"test/auroc": 1.0}, "phantom": True},
        "config.yaml": {"config": {"data": {"fold": 0, "num_folds": 2}, "model": {"ordinal": False}}},
        ".hydra/overrides.yaml": ["data.fold=0", "seed=1"],
    }
    for name, content in files.items():
        dump = yaml.safe_dump if name.endswith("yaml") else json.dumps
        (run / name).write_bytes(content if isinstance(content, bytes) else dump(content).encode())
    return files


@pytest.mark.parametrize("name", ["patients.csv", "results.json", "config.yaml", ".hydra/overrides.yaml"])
def test_pool_and_table_of_a_sweep(tmp_path, name):
    files = pooled_run(tmp_path)

    def use():
        (tmp_path / "pooled.json").unlink(missing_ok=True)
        with suppress(SeewhyError):
            sweep_rows(tmp_path)
        (record,) = pool_folds(tmp_path, resamples=0)
        assert 0 <= record["metrics"]["accuracy"] <= 1

    fuzz(tmp_path / "0" / name, files[name], use)


@pytest.mark.parametrize("name", ["manifest.csv", "dataset.json", "split.json"])
def test_slices(tmp_path, name):
    (tmp_path / "imageSlice").mkdir()
    names = [f"BRATS_{patient}_1_0.npy" for patient in (1, 2, 3)]
    for file in names:
        np.save(tmp_path / "imageSlice" / file, np.zeros((4, 4), np.float32))
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "patient", "slice", "label", "source", "spacing_row"])
        writer.writerows([[file, file[6], 1, 0, "", 1.0] for file in names])
    split = {"train": ["1"], "val": ["2"], "test": ["3"], "hash": Split(("1",), ("2",), ("3",)).hash}
    info = {"phantom": True, "display": {"transpose": True}, "display_exceptions": {"2": {"flip_rows": True}}}
    contents = {"manifest.csv": (tmp_path / "manifest.csv").read_bytes(), "dataset.json": info, "split.json": split}
    for other in ("dataset.json", "split.json"):
        (tmp_path / other).write_text(json.dumps(contents[other]))

    def use():
        folder = list_slices(tmp_path, BraTSDataModule.naming, num_classes=2)
        check_dataset(tmp_path, split=tmp_path / "split.json")
        split_from_file(folder.patients, tmp_path / "split.json")

    fuzz(tmp_path / name, contents[name], use)


def test_table_of_cases(tmp_path):
    content = b'caseID;label;patient\nP1_R;late;P1\n"P2;L";early;P2\n'
    fuzz(tmp_path / "labels.csv", content, lambda: read_table(tmp_path / "labels.csv"))


SUBJECT = {
    "version": 2, "id": "A1", "name": "A1", "patient": "A1", "modalities": ["t1", "t1ce", "t2", "flair"],
    "files": {"t1": "a.nii"}, "segmentation": None, "shape": [4, 4, 4], "affine": np.eye(4).tolist(),
    "box": [[0, 4], [0, 4], [0, 4]], "content": [1, 2, 3, 4], "spacing": [1.0, 1.0, 1.0], "codes": "LPS",
    "display": {"transpose": True},
}  # fmt: skip


def test_prepared_subjects(tmp_path):
    def use():
        subject = read_subject(tmp_path, "a")
        assert subject.shape and subject.box and subject.display and subject.geometry  # noqa: PT018
        assert subject.spacing and subject.content is not None and subject.files is not None  # noqa: PT018

    fuzz(tmp_path / "subject.json", SUBJECT, use)


def test_list_of_prepared_subjects(tmp_path):
    (tmp_path / "a" / "A1").mkdir(parents=True)
    (tmp_path / "a" / "A1" / "subject.json").write_text(json.dumps(SUBJECT))
    content = {"made_by": "seewhy prepare domains", "version": 2, "phantom": True, "parts": {"a": ["A1"]}}
    fuzz(tmp_path / "domains.json", content, lambda: open_store(tmp_path))


def test_description_of_msd(tmp_path):
    content = {"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}, "labels": {"0": "background"}}
    fuzz(tmp_path / "dataset.json", content, lambda: [MSDTask(tmp_path).find_channel(name) for name in ("flair", "t1")])


def test_selected_cases(tmp_path):
    case = {
        "index": 0,
        "id": "a_A1_001",
        "subject": "A1",
        "slice": 1,
        "comparison": "cycle",
        "ssim": 0.5,
        "psnr": None,
        "mae": 0.1,
        "mse": 0.1,
    }
    entry = {"cases": [case], "cases_b": []}
    metadata = {"metric": "ssim", "phantom": True, "unit": "slice", "modality": "all"}
    content = {"metadata": metadata, **dict.fromkeys(CATEGORIES, entry)}
    fuzz(tmp_path / "case_ids.json", content, lambda: read_cases(tmp_path / "case_ids.json"))


def test_explanation_records_are_made_again(tmp_path):
    content = {
        "key": "k", "id": "a", "patient": "p", "method": "grad_cam", "target": 0, "target_name": "x",
        "probability": 0.5, "predicted_name": "x", "confidence": 0.5, "label": None, "classes": ["x"], "signed": False,
        "completeness": None, "notes": [], "shares": {"image": 1.0}, "statistics": {"image": {"mean": 0.0}},
        "files": ["a.npy"], "display": {}, "spacing": None, "slice_numbers": [], "judged": {}, "parts": {},
    }  # fmt: skip
    path = tmp_path / "a.json"
    fuzz(path, content, lambda: read_record(path, ExplanationRecord))
    path.write_text(json.dumps(content))
    assert read_record(path, ExplanationRecord) == content


@pytest.mark.parametrize("name", ["a.ckpt", "a.safetensors"])
def test_weights(tmp_path, name):
    from safetensors.torch import save

    model = torch.nn.Linear(3, 2)
    path = tmp_path / name
    if name == "a.ckpt":
        torch.save({"state_dict": model.state_dict(), "epoch": 1}, path)
        content = path.read_bytes()
    else:
        content = save(model.state_dict())

    def use():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read_tensors(path) if name == "a.safetensors" else load_state(model, path)

    fuzz(path, content, use)


def test_cached_surveys_give_a_survey_or_damage(tmp_path):
    from seewhy.data.volumes.survey import DAMAGE

    survey = Survey(counts={0: 3}, positions={1: np.zeros((2, 3), np.int32)})

    def use():
        with suppress(*DAMAGE):
            Survey.from_bytes((tmp_path / "a.npz").read_bytes())

    fuzz(tmp_path / "a.npz", survey.to_bytes(), use)
