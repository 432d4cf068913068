"""A training on volumes from phantom to explanation, through the commands' own functions."""

import csv
import json

import numpy as np
import pytest
import torch
import zarr

from seewhy.cli.compose import compose_saved, compose_train
from seewhy.data.volumes.datamodule import VolumesDataModule
from seewhy.errors import ConfigError
from seewhy.io.zarr.opening import open_source
from seewhy.models.volumes.segmentation import VolumeSegmentation
from seewhy.phantoms.ct import write_ct_phantom
from seewhy.run.explanations.explain import explain
from seewhy.run.loaded.saved_run import load_run
from seewhy.run.predict import predict
from seewhy.run.train import train

SHORT = (
    "experiment=demo/volume", "data.patch=[16,16,16]", "data.batches_per_epoch=2",
    "model.network.filters=[4,8,8]", "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false",
    "trainer.check_val_every_n_epoch=1", "data.fractions=[0.4,0.2,0.4]",
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_ct_phantom(tmp_path_factory.mktemp("p") / "ct", volumes=5, shape=(32, 40, 40), chunk=16)


def run_in(folder, root, *words):
    config = compose_train(*SHORT, f"data.root={root}", f"paths.output_dir={folder}", *words)
    config.phantom = None  # written already
    train(config)
    return folder


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    return run_in(tmp_path_factory.mktemp("run") / "volume", root, "trainer.max_epochs=2")


def test_a_run_scores_volumes_beside_floors_and_says_that_they_are_phantoms(run):
    results = json.loads((run / "results.json").read_text())
    assert results["phantom"] is True
    metrics = results["metrics"]
    for name in (
        "prediction",
        "prediction_nodule",
        "prediction_vessel",
        "floor_window",
        "floor_otsu3",
        "floor_nothing",
    ):
        assert 0 <= metrics[f"test/{name}/dice"] <= 1
    assert metrics["test/prediction/hd95_mm"] > 0
    assert metrics["test/patients"] == 2
    with (run / "patients.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["class"] for row in rows} == {"mean", "nodule", "vessel"}
    split = json.loads((run / "split.json").read_text())
    assert {row["patient"] for row in rows} == set(split["test"])
    for picture in ("cases.png", "scores.png", "training.png"):
        assert (run / "figures" / picture).stat().st_size > 10_000
    assert "Patients from best to worst" in (run / "report.html").read_text()


def test_the_checkpoint_alone_says_what_a_prediction_needs(run, root):
    model = VolumeSegmentation.load_from_checkpoint(run / "checkpoints" / "best.ckpt", map_location="cpu")
    assert [one["scheme"] for one in model.hparams["normalization"]] == ["ct"]
    assert list(model.hparams["spacing"]) == [1.25, 1.0, 1.0]
    assert list(model.hparams["patch"]) == [16, 16, 16]
    assert model.heads == {"mode": "multiclass", "channels": 3}


def test_tested_volumes_are_written_as_labels_on_the_grid_of_their_images(run, root):
    split = json.loads((run / "split.json").read_text())
    for name in split["test"]:
        found = open_source(f"{run}/segmentations/{name}.zarr/labels/prediction")
        image = open_source(f"{root}/images/{name}.zarr")
        assert (found.shape, found.spacing, found.unit) == (image.shape, image.spacing, image.unit)
    predict(compose_saved("predict", run, "callbacks.progress=null", "trainer.enable_progress_bar=false"))
    with (run / "predictions" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == sorted(split["test"])
    for row in rows:
        again, first = (
            zarr.open_group(path, mode="r")["labels/prediction/0"]
            for path in (row["segmentation"], run / "segmentations" / f"{row['id']}.zarr")
        )
        assert np.array_equal(again[...], first[...])


def test_a_training_that_goes_on_ends_like_one_that_never_stopped(root, tmp_path):
    constant = ("model.scheduler.name=constant", "model.scheduler.warmup=0", "test=false")  # whatever the total
    run_in(tmp_path / "stopped", root, "trainer.max_epochs=1", *constant)
    run_in(tmp_path / "stopped", root, "trainer.max_epochs=2", "ckpt_path=last", *constant)
    run_in(tmp_path / "whole", root, "trainer.max_epochs=2", *constant)
    one, other = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("stopped", "whole")
    )
    assert one["global_step"] == other["global_step"] == 4
    assert all(torch.equal(one["state_dict"][name], value) for name, value in other["state_dict"].items())


def explained(run, root, *words):
    name = json.loads((run / "split.json").read_text())["test"][0]
    config = compose_saved(
        "explain", run, f"volume.input={root}/images/{name}.zarr", "explain.methods=[grad_cam,saliency]",
        "explain.target=vessel", "explain.roi=[3,15,4,30,10,26]", "explain.over=region", *words,
    )  # fmt: skip
    explain(config)
    return run / "explanations" / name


def test_a_region_is_explained_in_zarr_beside_pictures(run, root):
    folder = explained(run, root)
    records = json.loads((folder / "explanations.json").read_text())
    assert [record["method"] for record in records] == ["grad_cam", "saliency"]
    assert records[0]["roi"] == [3, 15, 3, 31, 10, 26]  # sides grown to multiples of 4
    assert records[0]["layer"].endswith("bottleneck")
    for record in records:
        stored = open_source(folder / record["store"])
        assert stored.shape == (1, 12, 28, 16)
        assert stored.dtype == np.float32
        np.testing.assert_allclose(stored.translation, (3 * 1.25, 3, 10))
        values = stored.read((slice(0, 12), slice(0, 28), slice(0, 16)))
        assert values.any()
        assert (folder / record["store"].replace(".zarr", ".png")).stat().st_size > 10_000


def test_maps_are_tested_against_weights_drawn_anew(run, root):
    folder = explained(run, root, "explain.methods=[eigen_cam,saliency]", f"explain.folder={run}/judged")
    records = {record["method"]: record for record in json.loads((run / "judged" / "explanations.json").read_text())}
    # EigenCAM sees activations alone: no head changes it.
    assert records["eigen_cam"]["randomization"]["head"] == pytest.approx(1)
    assert any("do not depend on the head" in warning for warning in records["eigen_cam"]["warnings"])
    assert records["saliency"]["randomization"]["head"] < 0.95
    stored = json.loads((run / "judged" / records["eigen_cam"]["store"] / "zarr.json").read_text())["attributes"]
    assert stored["seewhy"]["attributes"]["warnings"] == records["eigen_cam"]["warnings"]
    explained(run, root, "explain.methods=[eigen_cam]", f"explain.folder={run}/judged", "explain.judge=none")
    (record,) = json.loads((run / "judged" / "explanations.json").read_text())
    assert record["randomization"] is None
    assert record["warnings"] == []
    assert folder != run / "judged"


def test_a_prediction_names_its_channels_and_says_that_it_is_of_a_phantom(run, root, tmp_path):
    name = json.loads((run / "split.json").read_text())["test"][0]
    output = tmp_path / "out.zarr"
    words = (f"volume.input={root}/images/{name}.zarr", f"volume.output={output}", "trainer=cpu")
    predict(compose_saved("predict", run, *words))
    said = zarr.open_group(output, mode="r").attrs["seewhy"]["attributes"]
    assert said["channels"] == ["background", "nodule", "vessel"]
    assert said["phantom"] is True


def test_the_map_in_the_store_is_the_gradient_of_the_mean_logit(run, root):
    folder = explained(run, root, "explain.methods=[saliency]", f"explain.folder={run}/own")
    record = json.loads((run / "own" / "explanations.json").read_text())[0]
    assert folder != run / "own"
    model = VolumeSegmentation.load_from_checkpoint(run / "checkpoints" / "best.ckpt", map_location="cpu").eval()
    scheme = model.hparams["normalization"][0]
    box = (slice(3, 15), slice(3, 31), slice(10, 26))
    values = torch.from_numpy(open_source(record["input"]).read(box).astype(np.float32))
    image = ((values.clamp(scheme["lower"], scheme["upper"]) - scheme["mean"]) / scheme["std"])[None].requires_grad_()
    score = model(image)[0, 2].mean()
    score.backward()
    stored = open_source(run / "own" / record["store"]).read(tuple(slice(0, part.stop - part.start) for part in box))
    assert record["score"] == pytest.approx(float(score), rel=1e-4)
    np.testing.assert_allclose(stored[0], image.grad[0, 0].numpy(), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("explain.roi=null",), "explain.roi=None; expected"),
        (("explain.roi=[0,40,0,10,0,10]",), "inside"),
        (("explain.max_voxels=1000",), "has 5,376 voxels, explain.max_voxels=1,000"),
        (("explain.target=vesel",), "nearest: 'vessel'"),
        (("explain.over=predict",), "nearest: 'predicted'"),
        (("explain.methods=[]",), "explain.methods must be given"),
        (("explain.judge=chep",), "nearest: 'cheap'"),
        (("explain.methods=[gradcam]",), "grad_cam"),
    ],
)
def test_regions_that_cannot_be_explained_are_answered(words, said, run, root):
    with pytest.raises(ConfigError, match=said):
        explained(run, root, *words)


def test_other_volumes_are_normalised_as_those_of_the_training(run, tmp_path):
    other = write_ct_phantom(tmp_path / "other", volumes=5, shape=(32, 40, 40), chunk=16, seed=9)
    saved = load_run(compose_saved("predict", run, f"data.root={other}", "callbacks.progress=null"))
    kept = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["hyper_parameters"]["normalization"]
    assert saved.datamodule.normalization == [dict(one) for one in kept]
    fresh = VolumesDataModule(root=str(other), classes=saved.datamodule.classes, patch=[16, 16, 16])
    assert fresh.normalization != saved.datamodule.normalization
