"""MONAI bundles that are written: MONAI runs them without seewhy, and gives what predict.py gives."""

import csv
import json
import os
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from monai.bundle import ConfigParser, run
from untrained_runs import write_untrained_run

from seewhy.cli.compose import compose_saved
from seewhy.errors import ConfigError
from seewhy.run.exports.export import export
from seewhy.run.predict import predict

WITHOUT_SEEWHY = """
import sys
for name in ("seewhy", "seewhy_run", "lightning", "hydra"):
    sys.modules[name] = None  # importing it is an error
from monai.bundle import run
run(config_file="configs/inference.json", dataset_dir=sys.argv[1], output_dir=sys.argv[2])
"""
QUIET = ("trainer=cpu", "trainer.enable_progress_bar=false")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def bundle(home):
    """Export of an untrained system, and its run: `bundle(name)`."""

    def call(name):
        folder = home / name
        if not folder.exists():
            write_untrained_run(name, folder, home / "data")
            export(compose_saved("export", folder, "format=monai_bundle", "trainer=cpu"))
        return folder, folder / "export_monai_bundle"

    return call


@pytest.fixture
def run_here(monkeypatch):
    """Run a bundle as `python -m monai.bundle run` does, inside the test: `run_here(bundle, inputs, outputs)`."""

    def call(folder, inputs, outputs):
        monkeypatch.setattr(sys, "path", list(sys.path))
        for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
            monkeypatch.delitem(sys.modules, name)
        run(
            config_file=str(folder / "configs" / "inference.json"),
            bundle_root=str(folder), dataset_dir=str(inputs), output_dir=str(outputs), logging_file=False,
        )  # fmt: skip
        for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
            del sys.modules[name]

    return call


@pytest.fixture(scope="module")
def scan(home):
    """A CT phantom's values in a NIfTI of another size than the patch fits, with air of one value."""
    values = np.random.default_rng(0).normal(0, 300, (37, 29, 22)).astype(np.float32)
    values[:, :, :17] = -1024
    folder = home / "scans"
    folder.mkdir()
    affine = np.diag([-1.0, 1.0, 1.25, 1.0])
    nibabel.save(nibabel.Nifti1Image(values, affine), folder / "scan.nii.gz")
    return folder


MANDATORY = {
    "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task", "description",
    "authors", "copyright", "network_data_format",
}  # fmt: skip
TENSOR = {
    "type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def",
}  # fmt: skip
"""Mandatory entries of metadata.json, and of each tensor in it, in MONAI's bundle specification."""


@pytest.mark.parametrize("name", ["volume", "mri"])
def test_the_folder_has_the_layout_and_the_metadata_of_a_bundle(bundle, name):
    _, folder = bundle(name)
    for file in ("configs/metadata.json", "configs/inference.json", "docs/README.md", "LICENSE"):
        assert (folder / file).is_file(), file
    assert sum((folder / "models" / file).is_file() for file in ("model.pt", "model.ts")) == 1
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    assert metadata.keys() >= MANDATORY
    tensors = metadata["network_data_format"]
    assert tensors["inputs"]["image"].keys() >= TENSOR | {"modality"}
    assert tensors["outputs"]["pred"].keys() >= TENSOR
    assert all(len(part[key]["channel_def"]) == part[key]["num_channels"] for part, key in
               ((tensors["inputs"], "image"), (tensors["outputs"], "pred")))  # fmt: skip
    text = (folder / "docs" / "README.md").read_text()
    assert "phantom" in text
    assert metadata["seewhy"]["checkpoint_sha256"] in text
    parser = ConfigParser()
    parser.read_config(folder / "configs" / "inference.json")
    parser.read_meta(folder / "configs" / "metadata.json")
    parser["bundle_root"] = str(folder)
    network = parser.get_parsed_content("network")
    assert callable(network)
    for path in folder.rglob("*.py"):
        assert "import seewhy" not in path.read_text()
        assert "from seewhy" not in path.read_text()


def test_monai_segments_a_volume_as_predict_does(bundle, scan, run_here, tmp_path):
    folder, exported = bundle("volume")
    run_here(exported, scan, tmp_path / "monai")
    for dtype in ("labels", "float32"):
        out = tmp_path / f"{dtype}.nii.gz"
        words = (f"volume.input={scan / 'scan.nii.gz'}", f"volume.output={out}", f"volume.store.dtype={dtype}")
        predict(
            compose_saved("predict", folder, *QUIET, *words, "volume.preview=false", "volume.inference.spacing=check")
        )
    ours, theirs = (nibabel.load(path) for path in
                    (tmp_path / "float32.nii.gz", tmp_path / "monai" / "scan_probability.nii.gz"))  # fmt: skip
    expected, found = np.asarray(ours.dataobj), np.asarray(theirs.dataobj)
    assert np.ptp(expected) > 0.05, "the network must say something"
    channels = [found[..., channel] for channel in range(found.shape[-1])]
    wanted = [expected] if expected.ndim == 3 else [expected[..., k] for k in range(expected.shape[-1])]
    for mine, other in zip(wanted, channels[-len(wanted) :], strict=True):
        np.testing.assert_allclose(other, mine, atol=1e-4)
    np.testing.assert_allclose(theirs.affine, ours.affine)
    labels, other = (np.asarray(nibabel.load(path).dataobj) for path in
                     (tmp_path / "labels.nii.gz", tmp_path / "monai" / "scan_labels.nii.gz"))  # fmt: skip
    np.testing.assert_array_equal(np.squeeze(other), labels)


def test_a_bundle_of_ours_is_predicted_by_our_engine_as_its_run(bundle, scan, tmp_path):
    folder, exported = bundle("volume")
    made = []
    for name, run_folder, words in (
        ("run", folder, ()),
        ("bundle", None, ("experiment=volume", f"volume.model.bundle={exported}")),
    ):
        out = tmp_path / f"{name}.nii.gz"
        files = (f"volume.input={scan / 'scan.nii.gz'}", f"volume.output={out}", "volume.store.dtype=float32")
        predict(compose_saved("predict", run_folder, *words, *QUIET, *files, "volume.preview=false"))
        made.append(np.asarray(nibabel.load(out).dataobj))
    np.testing.assert_allclose(made[1], made[0], atol=1e-5)


def test_monai_classifies_volumes_as_predict_does(bundle, home, run_here, tmp_path):
    folder, exported = bundle("mri")
    predict(compose_saved("predict", folder, *QUIET, f"callbacks.predictions.folder={tmp_path / 'predicted'}"))
    with (tmp_path / "predicted" / "predictions.csv").open(encoding="utf-8-sig") as file:
        expected = {os.path.basename(row["source"]): row for row in csv.DictReader(file)}
    source = next((home / "data").glob("phantom_mri_*"))
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for name in expected:
        [path] = source.rglob(name)
        (inputs / name).symlink_to(path)
    run_here(exported, inputs, tmp_path / "monai")
    with (tmp_path / "monai" / "predictions.csv").open() as file:
        found = {os.path.basename(row["source"]): row for row in csv.DictReader(file)}
    assert found.keys() == expected.keys() != set()
    columns = [name for name in next(iter(expected.values())) if name.startswith("probability_")]
    assert len(columns) == 2
    for name, row in expected.items():
        for column in columns:
            assert float(found[name][column]) == pytest.approx(float(row[column]), abs=1e-4)
        assert found[name]["prediction_name"] == row["prediction_name"]


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("brats", "cyclegan")]


@pytest.mark.parametrize("name", ["amd", *SLOW])
def test_what_monai_cannot_express_is_refused_before_anything_is_written(home, name):
    folder = home / name
    write_untrained_run(name, folder, home / "data")
    words = ["data.domain=a"] if name == "cyclegan" else []
    with pytest.raises(ConfigError, match="format=onnx"):
        export(compose_saved("export", folder, "format=monai_bundle", "trainer=cpu", *words))
    assert not list(folder.glob("export*"))


@pytest.mark.slow
def test_monai_runs_a_bundle_where_seewhy_cannot_be_imported(bundle, scan, tmp_path):
    _, exported = bundle("volume")
    words = [scan, tmp_path]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SEEWHY, *words], cwd=exported, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan_labels.nii.gz", "scan_probability.nii.gz"]
