"""Cases made from stored explanations: images, maps on the scale of all samples, and nothing that a file could run."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from blank_figures import blank_figures
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import seewhy
from seewhy.figures.report.cases import BrowserCase, PictureLayer, PicturePlane, PictureSlice
from seewhy.reporting.cases.explained import add_explanations, read_explained_cases
from seewhy.reporting.page import write_explanation_page


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two samples, of which the second has twice the gradient of the first."""
    torch.manual_seed(0)
    home = tmp_path_factory.mktemp("explained")
    data = TensorDataset(torch.rand(2, 1, 8, 8), torch.tensor([0, 1]))
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2))
    with blank_figures():
        seewhy.explain_loader(network, DataLoader(data, batch_size=2), 2, methods="saliency", target=1, save_dir=home)
    [path] = home.rglob("explanations.json")
    return path.parent


def decode(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))[..., 0] / 255


def test_maps_have_one_scale_and_keep_their_own_contrast(folder):
    first, second = read_explained_cases(folder)
    tops = []
    for case in (first, second):
        layer = next(layer for layer in case.layers if layer.kind == "map")
        picture = case.planes[0].slices[0].pictures[list(case.layers).index(layer)]
        stored = np.load(next(folder.glob(f"saliency/**/{case.id}*_attributions.npy")))
        levels = np.abs(stored) / np.abs(stored).max()
        assert abs(decode(picture) - levels).max() < 0.06
        tops.append(layer.top / np.abs(stored).max())
    assert tops[0] == pytest.approx(tops[1], rel=1e-4)  # the same full colour for both


def test_the_page_has_the_browser_and_is_written_again_from_the_folder(folder):
    path = write_explanation_page(folder)
    data = json.loads(path.read_text().split('class="cases">')[1].split("</script>")[0])
    assert len(data["cases"]) == 2
    assert data["noun"] == "samples"


def test_explained_samples_give_their_pictures_to_their_cases(folder):
    explained = read_explained_cases(folder)
    plain = BrowserCase(id=explained[0].id, patient="p", label="truth", scores={"Dice": 0.5})
    merged = add_explanations([plain], explained)
    assert [case.id for case in merged] == [explained[0].id, explained[1].id]
    assert (merged[0].label, merged[0].scores) == ("truth", {"Dice": 0.5})
    assert merged[0].layers == explained[0].layers


def test_damaged_maps_leave_their_sample_out(folder, tmp_path, caplog):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "copy")
    path = next((copy / "cache").glob("sample_000001.npz"))
    path.write_bytes(b"broken")
    assert [case.id for case in read_explained_cases(copy)] == ["sample_000000"]
    assert "sample_000001" in caplog.text


def slice_case(name, patient, number, methods, *, count=1, image="image"):
    layers = [
        PictureLayer(kind="image", input=image),
        *(PictureLayer(kind="map", input=image, name=m) for m in methods),
    ]
    slices = [PictureSlice(number + i, [f"{name}:{layer.name}" for layer in layers]) for i in range(count)]
    return BrowserCase(id=name, patient=patient, layers=layers, planes=[PicturePlane(slices=slices, total=count)])


def test_explained_slices_become_layers_of_their_patient():
    patients = [slice_case(name, name, 4, ["CAM"], count=3, image="") for name in ("p", "q")]
    explained = [
        slice_case("p_5", "p", 5, ["Grad-CAM"]),
        slice_case("p_6", "p", 6, ["Grad-CAM", "saliency"]),
        slice_case("p_9", "p", 9, ["Grad-CAM"]),  # no picture of this slice is there
        slice_case("r_1", "r", 1, ["Grad-CAM"]),
    ]
    first, second, *others = add_explanations(patients, explained)
    assert [(layer.input, layer.name) for layer in first.layers[2:]] == [
        ("", "Grad-CAM (single slices)"),
        ("", "saliency (single slices)"),
    ]
    assert [item.pictures[2:] for item in first.planes[0].slices] == [
        [None, None],
        ["p_5:Grad-CAM", None],
        ["p_6:Grad-CAM", "p_6:saliency"],
    ]
    assert first.facts["explained slices"] == "5, 6"
    assert second == patients[1]
    assert [case.id for case in others] == ["p_9", "r_1"]
