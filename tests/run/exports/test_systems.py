"""Exports of all systems: what the runner writes without torch equals what predict.py writes."""

import csv
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
import zarr

pytestmark = pytest.mark.slow

SHORT = ["trainer=cpu", "trainer.max_epochs=1", "data.batches_per_epoch=3", "data.batch_size=2", "test=false"]
SYSTEMS = {
    "brats": ["phantom.patients=7", "phantom.slices=4", "phantom.size=64"],
    "lasc": ["phantom.patients=7", "phantom.slices=4", "phantom.size=64"],
    "amd": ["phantom.cases=16", "phantom.size=64"],
    "mri": ["phantom.cases=12"],
    "cyclegan": [
        "phantom.subjects=[3,3]", "phantom.shape=[48,48,24]", "model.generator.width=8", "model.discriminator.width=8",
        "trainer.check_val_every_n_epoch=1",
    ],
    "volume": [
        "phantom.volumes=5", "phantom.shape=[32,40,40]", "data.patch=[16,16,16]", "model.network.filters=[4,8,8]",
        "trainer.check_val_every_n_epoch=1",
    ],
}  # fmt: skip
WITHOUT_TORCH = """
import runpy, sys
for name in ("torch", "seewhy", "lightning", "monai", "hydra"):
    sys.modules[name] = None  # importing it is an error
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def command(run_command, repository, home):
    def call(script, *words):
        environment = {"PYTHONPATH": str(repository / "tests" / "support"), "COLUMNS": "200"}
        done = run_command(script, *words, cwd=home, env=environment)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]

    return call


@pytest.fixture(scope="module")
def trained(command, home):
    """Train a system, or take its run from an earlier test: `trained(name)`."""

    def call(name):
        folder = home / name
        if not folder.exists():
            quiet = ["trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"]
            explain = [] if name in ("cyclegan", "volume") else ["explain.max_samples=1", "explain.judge=none"]
            where = [f"hydra.run.dir={folder}", f"paths.data_dir={home / 'data'}"]
            command("train.py", f"experiment=demo/{name}", *SYSTEMS[name], *SHORT, *quiet, *explain, *where)
        return folder

    return call


@pytest.fixture
def export(repository, home):
    """Export a run in a separate process."""

    def call(run, form, *words):
        command = [sys.executable, "-m", "seewhy", "export", f"run={run}", f"format={form}", *words]
        environment = {**os.environ, "PYTHONPATH": str(repository / "src")}
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return run / f"export_{form}"

    return call


def run_export(export, output, *words):
    """Run an export where torch and seewhy cannot be imported."""
    command = [sys.executable, "-c", WITHOUT_TORCH, export / "run.py", *words, "--output", output]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=export.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def read_rows(path):
    with path.open(encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def compare_rows(ours, theirs, keys):
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs, strict=True):
        for key in keys:
            assert float(mine[key]) == pytest.approx(float(other[key]), abs=1e-4)


@pytest.mark.parametrize("name", ["amd", "mri"])
def test_classifiers_give_the_same_scores(trained, command, export, tmp_path, name):
    run = trained(name)
    command("predict.py", f"run={run}", f"callbacks.predictions.folder={tmp_path / 'predicted'}")
    theirs = read_rows(tmp_path / "predicted" / "predictions.csv")
    if name == "amd":
        inputs = ("mnv", "fluid", "ga", "drusen")
        table = tmp_path / "cases.csv"
        lines = [",".join(("id", *inputs))]
        for row in theirs:
            images = [row["source"].replace("_mnv.png", f"_{one}.png") for one in inputs]
            lines.append(",".join([row["id"], *images]))
        table.write_text("\n".join(lines) + "\n")
        words = ["--table", table]
    else:
        words = [row["source"] for row in theirs]
    run_export(export(run, "onnx"), tmp_path / "results", *words)
    ours = read_rows(tmp_path / "results" / "predictions.csv")
    keys = [key for key in theirs[0] if key.startswith(("probability_", "logit_"))]
    assert len(keys) > 2
    compare_rows(ours, theirs, keys)
    assert [row["prediction_name"] for row in ours] == [row["prediction_name"] for row in theirs]


@pytest.mark.parametrize("name", ["brats", "lasc"])
def test_weakly_supervised_maps_are_the_same(trained, command, export, home, tmp_path, name):
    run = trained(name)
    folder = tmp_path / "predicted"
    command("predict.py", f"run={run}", f"callbacks.predictions.folder={folder}", "callbacks.predictions.npz=true")
    slices = next((home / "data").glob(f"phantom_{name}_*")) / "imageSlice"
    names = sorted(path.stem for path in folder.glob("*.npz"))
    assert names
    run_export(export(run, "onnx"), tmp_path / "results", *(f"{slices}#{patient}" for patient in names))
    for patient in names:
        [path] = (tmp_path / "results").glob(f"*{patient}.npz")
        ours, theirs = np.load(path), np.load(folder / f"{patient}.npz")
        shared = set(ours.files) & set(theirs.files) & {"cam", "segmentation", "refined"}
        assert "refined" in shared
        for key in shared:
            np.testing.assert_allclose(ours[key], theirs[key], atol=1e-4)


def test_volumes_are_the_same(trained, command, export, home, tmp_path):
    run = trained("volume")
    volume = sorted(next((home / "data").glob("phantom_ct_*")).glob("images/*.zarr"))[0]
    for dtype in ("labels", "float32"):
        out = tmp_path / f"{dtype}.zarr"
        command(
            "predict.py", f"run={run}", f"volume.input={volume}", f"volume.output={out}", f"volume.store.dtype={dtype}"
        )
    run_export(export(run, "onnx"), tmp_path / "results", volume)
    [labels] = (tmp_path / "results").glob("*_labels.zarr")
    [probability] = (tmp_path / "results").glob("*_probability.zarr")
    np.testing.assert_array_equal(read_zarr(labels), read_zarr(tmp_path / "labels.zarr"))
    np.testing.assert_allclose(read_zarr(probability), read_zarr(tmp_path / "float32.zarr"), atol=1e-4)


def read_zarr(path):
    members = [member for _, member in zarr.open_group(path, mode="r").members(max_depth=None)]
    finest = max((member for member in members if isinstance(member, zarr.Array)), key=lambda array: array.size)
    return np.squeeze(np.asarray(finest))


def test_translated_scans_are_the_same(trained, command, export, home, tmp_path):
    run = trained("cyclegan")
    command("predict.py", f"run={run}", "data.domain=a", f"callbacks.predictions.folder={tmp_path / 'predicted'}")
    found = sorted((tmp_path / "predicted").glob("*/*.nii.gz"))
    subject = found[0].parent.name
    source = next((home / "data").glob("phantom_scanners_*")) / "a" / subject
    words = [f"{one}={source / f'{subject}_{one}.nii.gz'}" for one in ("t1", "t1ce", "t2", "flair")]
    run_export(export(run, "onnx", "data.domain=a"), tmp_path / "results", *words)
    compared = 0
    for path in found:
        if path.parent.name == subject:
            [ours] = (tmp_path / "results").rglob(path.name)
            theirs = nib.load(path)
            expected = theirs.get_fdata()
            assert np.array_equal(nib.load(ours).affine, theirs.affine)
            assert np.abs(nib.load(ours).get_fdata() - expected).max() <= 1e-4 * np.ptp(expected)
            compared += 1
    assert compared == 4


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_programs_of_torch_export_take_any_batch(trained, export, name):
    folder = export(trained(name), "torch_export", *(["data.domain=a"] if name == "cyclegan" else []))
    [path, *_] = sorted(folder.glob("*.pt2"))
    program = torch.export.load(path)
    assert any(
        "s" in str(one.meta["val"].shape[0]) for one in program.graph.nodes if one.op == "placeholder" and one.users
    )
