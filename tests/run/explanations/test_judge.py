"""Judging networks from elsewhere: sources of samples, files, and errors that name what to change."""

import csv

import numpy as np
import pytest
import torch

from seewhy.cli.main import main
from seewhy.data.given.files import read_labels, read_samples
from seewhy.data.given.sample import batch_samples, split_batch
from seewhy.errors import ConfigError, DataError
from seewhy.io.image import write_image
from seewhy.reporting.loaders.batches import read_batches
from seewhy.reporting.selection import ExplanationSettings
from seewhy.run.explanations.judge import JudgeOptions, import_object, judge

NETS = """
import torch
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3), nn.Linear(8, 2)

    def forward(self, left, right):
        features = [self.left(left).relu().mean((2, 3)), self.right(right).relu().mean((2, 3))]
        return self.head(torch.cat(features, dim=1))

def one():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

def two():
    torch.manual_seed(0)
    return Two()

def text():
    return "a network"

def batches():
    for start in range(3):
        yield torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(start)), torch.tensor([0, 2])
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given_nets.py").write_text(NETS)
    random = np.random.RandomState(0)
    images = random.rand(4, 12, 12).astype(np.float32)
    np.savez("one.npz", pictures=images, label=[0, 1, 2, 0], mask=images > 0.7, id=["a", "b", "c", "d/e"])
    np.savez("two.npz", left=images, right=images[:, :10], mask_left=images > 0.7)
    return tmp_path


def rows(folder, name):
    with (folder / name).open() as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def test_the_command_judges_an_archive(place, capsys):
    words = ["judge", "given_nets.py:one", "one.npz", "--judge", "cheap", "--metrics", "complexity", "--folder",
             "out", "--classes", "x", "y", "z", "--option", "occlusion.window=6"]  # fmt: skip
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0
    found = rows(place / "out", "ranking.csv")
    assert {"grad_cam", "saliency", "integrated_gradients", "occlusion", "control_edges"} <= set(found)
    assert 0 < float(found["saliency"]["sparseness"]) < 1
    assert 0 < float(found["grad_cam"]["energy"]) < 1
    assert {"ranking.png", "report.html"} <= {path.name for path in (place / "out").iterdir()}
    assert "explanations of 4 samples" in capsys.readouterr().out


def test_named_inputs_each_with_its_layer(place):
    settings = ExplanationSettings(judge="none", metrics=["relevance_mass_accuracy"])
    options = JudgeOptions(methods=["grad_cam"], layers={"left": "left", "right": "right"}, settings=settings)
    results = judge("given_nets.py:two", "two.npz", options)
    assert set(results["records"][0]["shares"]) == {"left", "right"}
    assert results["records"][0]["layers"] == {"left": "network.left", "right": "network.right"}
    assert "relevance_mass_accuracy" in results["records"][0]["judged"]


def test_a_loader_and_a_second_call_that_computes_nothing(place, monkeypatch):
    monkeypatch.syspath_prepend(str(place))
    options = JudgeOptions(methods=["saliency"], settings=ExplanationSettings(judge="none", max_samples=5))
    first = judge("given_nets:one", "given_nets:batches", options)
    assert (first["samples"], first["records"][1]["label"]) == (5, 2)
    assert judge("given_nets:one", "given_nets:batches", options)["seconds"]["maps"] == 0


@pytest.mark.parametrize(
    ("network", "data", "message"),
    [
        ("given_nets.py:on", "one.npz", "nearest: 'one'"),
        ("given_nets.py:text", "one.npz", "returned str"),
        ("nowhere_at_all:one", "one.npz", "start in the folder"),
        ("given_nets.py", "one.npz", "expected module:function"),
        ("given_nets.py:one", "missing.npz", "missing.npz"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(place, network, data, message):
    with pytest.raises((ConfigError, DataError), match=message):
        judge(network, data, JudgeOptions())
    assert not (place / "judged").exists()


def test_folders_of_pictures_with_masks_and_labels(place):
    for folder in ("pictures", "masks"):
        (place / folder).mkdir()
    for name in ("p1", "p2"):
        write_image(place / "pictures" / f"{name}.png", np.full((6, 8, 3), 51, np.uint8))
        mask = np.zeros((6, 8), np.uint8)
        mask[1, 2] = 255
        write_image(place / "masks" / f"{name}.png", mask)
    samples = read_samples(place / "pictures", masks=place / "masks", labels={"p1": 1, "p2": 0})
    batch = batch_samples(samples)
    assert batch["image"].shape == (2, 3, 6, 8)
    assert torch.allclose(batch["image"], torch.tensor(0.2))
    assert batch["mask"].nonzero().tolist() == [[0, 1, 2], [1, 1, 2]]
    assert batch["label"].tolist() == [1, 0]
    with pytest.raises(DataError, match="p2"):
        read_samples(place / "pictures", labels={"p1": 1})


def test_zarr_is_read_as_the_archive(place):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(place / "one.zarr"), mode="w")
    with np.load("one.npz") as stored:
        for name in ("pictures", "label", "mask"):
            group.create_array(name, data=stored[name])
    expected, found = read_samples("one.npz"), read_samples("one.zarr")
    assert [one.label for one in found] == [one.label for one in expected]
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a.images["image"], b.images["image"])
        assert torch.equal(a.masks["image"], b.masks["image"])


def test_what_does_not_fit_together_is_refused(place):
    np.savez("short.npz", image=np.zeros((4, 8, 8)), label=np.zeros(3))
    with pytest.raises(DataError, match="label 3"):
        read_samples("short.npz")
    np.savez("halves.npz", image=np.zeros((1, 8, 8)), label=[0.5])
    with pytest.raises(DataError, match=r"0\.5"):
        read_samples("halves.npz")
    sizes = [torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 5, 4)]
    samples = [sample for batch in read_batches(sizes, torch.nn.Flatten()) for sample in split_batch(batch)]
    with pytest.raises(DataError, match="batch-size"):
        batch_samples(samples)
    with pytest.raises(ConfigError, match=r"absent\.py does not exist"):
        import_object("absent.py:make")


@pytest.mark.parametrize(
    ("arrays", "fact"),
    [
        ({"id": ["a", "b", "a"]}, "'a'"),
        ({"id": ["a/b", "a:b", "c"]}, "as a file name"),
        ({"image": np.full((3, 8, 8), np.nan)}, "NaN"),
        ({"label": [[0, 1], [1, 0], [0, 1]]}, r"label \(3, 2\)"),
        ({"label": ["cat", "dog", "cat"]}, "cat"),
        ({"mask": np.zeros((3, 4, 8))}, r"mask \(4, 8\)"),
        ({"image": np.zeros((0, 8, 8))}, r"image \(0, 8, 8\)"),
    ],
)
def test_arrays_that_are_no_samples_are_refused(place, arrays, fact):
    np.savez("given.npz", **{"image": np.zeros((3, 8, 8)), **arrays})
    with pytest.raises(DataError, match=fact):
        read_samples("given.npz")


def test_two_files_of_one_name_and_two_labels_of_one_id_are_refused(place):
    (place / "pictures").mkdir()
    for ending in ("png", "tif"):
        write_image(place / "pictures" / f"p1.{ending}", np.zeros((6, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"p1\.png and p1\.tif"):
        read_samples(place / "pictures")
    (place / "labels.csv").write_text("id,label\np1,0\np1,1\n")
    with pytest.raises(DataError, match="'p1'"):
        read_labels(place / "labels.csv")


@pytest.mark.parametrize(
    ("change", "data", "options", "fact"),
    [
        ("def one():\n    raise KeyError('weights')\n", "one.npz", {}, r"'weights' \(given_nets\.py, line 2\)"),
        ("def one(:\n", "one.npz", {}, "line 1"),
        ("", "beyond.npz", {}, "which has 3"),
        ("", "one.npz", {"classes": ["x", "y"]}, "3 classes"),
        ("", "one.npz", {"options": {"occlusio": {"window": 3}}}, "occlusion"),
        ("", "one.npz", {"device": "cuda:77"}, "--device"),
    ],
)
def test_what_does_not_fit_the_network_is_named_before_anything_is_written(place, change, data, options, fact):
    if change:
        (place / "given_nets.py").write_text(change)
    np.savez("beyond.npz", image=np.zeros((2, 12, 12)), label=[0, 3])
    with pytest.raises((ConfigError, DataError), match=fact):
        judge("given_nets.py:one", data, JudgeOptions(**options))
    assert not (place / "judged").exists()


def test_batches_with_names_after_the_labels_keep_them():
    batch = [torch.rand(2, 1, 4, 4), torch.tensor([1, 0]), ("left eye", "right eye")]
    [read] = read_batches([batch], torch.nn.Flatten())
    assert read["id"] == ["left eye", "right eye"]
    with pytest.raises(ConfigError, match=r"int.*after its images"):
        list(read_batches([[torch.rand(2, 1, 4, 4), 7]], torch.nn.Flatten()))


def test_a_batch_of_images_labels_and_masks_is_split_into_samples():
    mask = torch.zeros(2, 1, 4, 4)
    mask[1, 0, 2:] = 1
    [batch] = read_batches([(torch.rand(2, 1, 4, 4), torch.tensor([1, -1]), mask)], torch.nn.Flatten())
    first, second = split_batch(batch)
    assert (first.id, first.label, second.label) == ("sample_000000", 1, None)
    assert not first.masks["image"].any()
    assert second.masks["image"].sum() == 8
    torch.testing.assert_close(batch_samples([first, second])["mask"], mask[:, 0].to(torch.uint8))
