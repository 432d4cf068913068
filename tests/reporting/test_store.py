"""Explanations on disk: names of samples stay in the folder, and damaged files are made again."""

import json

import numpy as np
import pytest
import torch

from seewhy.explain.maps import Maps
from seewhy.io.geometry import Display
from seewhy.reporting.sample import SampleView
from seewhy.reporting.store import ExplanationStore, Place

PLACE = Place("grad_cam")
FACTS = {
    "key": "k", "probability": 0.5, "target_name": "x", "predicted": 0, "predicted_name": "x", "confidence": 0.5,
    "classes": ["x"], "display": Display().record(), "spacing": None, "slice_numbers": [], "seconds": 0.1,
    "judged": {"pointing": None, "energy": 0.5}, "parts": {},
}  # fmt: skip


def explained(folder, name, inputs=("image",)):
    image = np.zeros((4, 4), np.float32)
    view = SampleView(
        id=name, patient="p", source="", index=0, label=None, images=dict.fromkeys(inputs, image), masks={},
        placement=None, spacing=None, display=Display(),
    )  # fmt: skip
    maps = Maps(
        maps=dict.fromkeys(inputs, torch.ones(1, 4, 4)), method="grad_cam", target=torch.tensor([0]),
        probability=torch.tensor([0.5]), scores=torch.tensor([[0.1]]),
    )  # fmt: skip
    store = ExplanationStore(folder)
    store.write_view(view)
    store.write(PLACE, view, maps, FACTS, nifti=False)
    return store


def test_explained_sample_is_finished_for_its_key_only(tmp_path):
    store = explained(tmp_path, "a")
    assert store.finished(PLACE, "a", "k")
    assert not store.finished(PLACE, "a", "other")
    assert not store.finished(PLACE, "b", "k")
    assert store.raw(store.record(PLACE, "a"))["image"].tolist() == np.ones((4, 4)).tolist()


@pytest.mark.parametrize("name", ["../../escaped", "/abs/escaped", "x" * 300, "a/b", ".."])
def test_files_of_any_sample_stay_in_the_folder(tmp_path, name):
    store = explained(tmp_path / "run" / "explanations", name)
    assert store.finished(PLACE, name, "k")
    assert store.record(PLACE, name)["id"] == name
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["explanations"]


def test_names_of_inputs_stay_in_the_folder(tmp_path):
    store = explained(tmp_path / "run", "a", inputs=("../../../escaped", "t1"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert list(store.arrays(PLACE, "a")) == ["../../../escaped", "t1"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"key": "k"}', b"PK\x03\x04"])
@pytest.mark.parametrize("name", ["records/grad_cam/a.json", "cache/grad_cam/a.npz"])
def test_damaged_files_are_made_again(tmp_path, name, content):
    store = explained(tmp_path, "a")
    (tmp_path / name).write_bytes(content)
    assert not store.finished(PLACE, "a", "k")
    assert explained(tmp_path, "a").finished(PLACE, "a", "k")


def test_record_of_other_types_is_made_again(tmp_path):
    store = explained(tmp_path, "a")
    path = tmp_path / "records" / "grad_cam" / "a.json"
    for key, value in (("display", 5), ("statistics", []), ("classes", None), ("files", "a.npy"), ("key", 1)):
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, key: value}))
        assert not store.finished(PLACE, "a", "k")
        path.write_text(json.dumps(record))
    assert store.finished(PLACE, "a", "k")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": "k", "rows": 5}'])
def test_damaged_scores_of_floors_and_verdicts_are_made_again(tmp_path, content):
    store = ExplanationStore(tmp_path)
    store.write_floors("a", "k", [{"energy": 0.5}])
    store.write_verdict(PLACE, "k", {"failures": [], "doubts": []})
    assert store.has_floors("a", "k")
    assert store.verdict(PLACE, "k") == {"key": "k", "failures": [], "doubts": []}
    for path in (tmp_path / "records").rglob("*.json"):
        path.write_bytes(content)
    assert not store.has_floors("a", "k")
    assert store.floors("a") == []
    assert store.verdict(PLACE, "k") is None
