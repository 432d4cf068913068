"""Whole patients as NIfTI files, given to the runner of an export: the maps and labels of predict.py on their grid."""

import csv

import nibabel as nib
import nrrd
import numpy as np
import pytest
import torch
from blank_figures import blank_figures
from lightning.pytorch import seed_everything
from untrained_runs import QUIET

from seewhy.cli.compose import compose_saved, compose_train
from seewhy.data.prepare import prepare_brats, prepare_lasc
from seewhy.run.build import build_model
from seewhy.run.exports.export import export
from seewhy.run.folder import RunFolder
from seewhy.run.predict import predict
from seewhy_run.errors import RunError
from seewhy_run.main import run_export
from seewhy_run.manifest import read_export

STORED = ("flair", "t1", "t1ce", "t2")
MIXED = ("t1ce", "flair", "t1ce-t1", "flair-mirror")
SHAPE = (40, 48, 8)
AFFINE = np.array([[-1.5, 0, 0, 90], [0, -1.2, 0, 100], [0, 0, 3.0, -20], [0, 0, 0, 1]])
WORDS = ("data.predict_on=all", "callbacks.predictions.npz=true", "trainer.enable_progress_bar=false")


def draw_head(seed):
    """Modality → scan of an ellipse with a bright lesion in slices 2 to 4, and the lesion; other slices hold air."""
    rng = np.random.default_rng(seed)
    x, y, z = np.mgrid[0:40, 0:48, 0:8] - np.array([19.5, 23.5, 3.5])[:, None, None, None]
    head = ((x / 15) ** 2 + (y / 20) ** 2 < 1) & (np.abs(z) < 3)
    lesion = ((x - 6) ** 2 + (y - 3 - seed) ** 2 < 20) & (np.abs(z + 0.5) < 2)
    scans = {}
    for number, name in enumerate(STORED):
        tissue = 200 + 100 * number + rng.normal(0, 20, SHAPE) + lesion * (300 if name in ("flair", "t1ce") else 40)
        scans[name] = (tissue * head).clip(0).astype(np.int16)
    return scans, lesion.astype(np.uint8)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Six patients in the layout of BraTS."""
    root = tmp_path_factory.mktemp("source")
    for patient in range(6):
        scans, lesion = draw_head(patient)
        if patient == 5:
            lesion[:] = 0
        for name, values in {**scans, "seg": lesion}.items():
            path = root / f"p{patient}" / f"p{patient}_{name}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(values, AFFINE), path)
    return root


def make_run(folder, experiment, root, *words):
    """A run folder with random weights that make strong maps."""
    shares = "data.fractions=[0.5,0.2,0.3]"
    config = compose_train(f"experiment={experiment}", *QUIET, f"data.root={root}", shares, "model=demo", *words,
                           "trainer=cpu", f"paths.output_dir={folder}")  # fmt: skip
    seed_everything(0, verbose=False)
    model = build_model(config)
    run = RunFolder(folder)
    run.checkpoints.mkdir(parents=True)
    torch.save(
        {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams), "epoch": 0},
        run.checkpoints / "best.ckpt",
    )
    run.write_config(config)
    with blank_figures():
        predict(compose_saved("predict", folder, *WORDS, f"paths.output_dir={folder}"))
        export(compose_saved("export", folder, "trainer.enable_progress_bar=false"))
    return folder / "export_onnx", folder / "predictions"


def compare(results, patient, predicted, name):
    """Maps within 1e-4, the same labels, and the grid of the source."""
    compared = set()
    for theirs in sorted(predicted.glob(f"{name}_*.nii.gz")):
        kind = theirs.name.removesuffix(".nii.gz").removeprefix(f"{name}_")
        ours, expected = nib.load(results / f"{patient}_{kind}.nii.gz"), nib.load(theirs)
        assert np.array_equal(ours.affine, expected.affine)
        assert ours.shape == expected.shape == SHAPE
        assert ours.get_data_dtype() == expected.get_data_dtype()
        difference = np.abs(ours.get_fdata() - expected.get_fdata()).max()
        assert difference <= (0 if kind == "mask" else 1e-4), kind
        compared.add(kind)
    assert {"cam", "refined", "mask"} <= compared
    return nib.load(results / f"{patient}_cam.nii.gz").get_fdata()


def read_probability(path, patient):
    with path.open(encoding="utf-8-sig") as file:
        return {int(row["index"]): float(row["probability_1"]) for row in csv.DictReader(file)
                if row["patient"] == patient}  # fmt: skip


def test_one_modality(source, tmp_path):
    root = tmp_path / "data"
    prepare_brats(source, root, progress=False)
    folder, predicted = make_run(tmp_path / "run", "brats", root)
    files = [str(source / f"p{n}" / f"p{n}_flair.nii.gz") for n in (0, 5)]
    _, problems = run_export(read_export(folder, threads=1), files, tmp_path / "results")
    assert not problems
    for patient in ("p0", "p5"):
        cam = compare(tmp_path / "results", f"{patient}_flair", predicted, patient)
        assert np.ptp(cam) > 0.01
        ours = read_probability(tmp_path / "results" / "predictions.csv", f"{patient}_flair")
        theirs = read_probability(predicted / "predictions.csv", patient)
        assert ours.keys() == theirs.keys() == {1, 2, 3, 4, 5, 6}  # slices without tissue are left out
        assert max(abs(ours[n] - theirs[n]) for n in ours) < 1e-4


@pytest.mark.parametrize(
    ("channels", "options"),
    [(STORED, ()), (MIXED, ("data.normalize=zscore",)), (MIXED, ("data.normalize_over=slice",))],
)
def test_several_modalities(source, tmp_path, channels, options):
    root = tmp_path / "data"
    prepare_brats(source, root, modality=",".join(STORED), window="percentile", progress=False)
    words = [f"data.modalities=[{','.join(channels)}]", "data.channels=4", *options]
    folder, predicted = make_run(tmp_path / "run", "brats", root, *words)
    table = tmp_path / "cases.csv"
    rows = [[f"p{n}", *(str(source / f"p{n}" / f"p{n}_{name}.nii.gz") for name in STORED)] for n in (1, 2)]
    table.write_text("\n".join(",".join(row) for row in [["id", *STORED], *rows]) + "\n")
    runner = read_export(folder, threads=1)
    assert runner.manifest.inputs == STORED
    _, problems = run_export(runner, [], tmp_path / "results", table=table)
    assert not problems
    for patient in ("p1", "p2"):
        assert np.ptp(compare(tmp_path / "results", patient, predicted, patient)) > 0.01


def test_scans_that_do_not_fit_are_one_line_each(source, tmp_path):
    root = tmp_path / "data"
    prepare_brats(source, root, modality="flair,t1", progress=False)
    folder, _ = make_run(tmp_path / "run", "brats", root, "data.modalities=[flair,t1]", "data.channels=2")
    runner = read_export(folder, threads=1)
    flair = source / "p0" / "p0_flair.nii.gz"
    with pytest.raises(RunError, match=r"has no t1"):
        run_export(runner, [f"flair={flair}"], tmp_path / "results")
    other = tmp_path / "t1.nii.gz"
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.int16), np.eye(4)), other)
    _, [problem] = run_export(runner, [f"flair={flair}", f"t1={other}"], tmp_path / "results")
    assert "t1.nii.gz has another grid than p0_flair.nii.gz" in problem
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.int16), AFFINE), other)
    _, [problem] = run_export(runner, [f"flair={other}", f"t1={other}"], tmp_path / "results")
    assert "no slice contains tissue" in problem or "needs a range of values" in problem
    assert not list((tmp_path / "results").glob("*"))


def test_a_heart_that_was_trained_from_nrrd(tmp_path):
    for patient in range(6):
        scans, lesion = draw_head(patient)
        folder = tmp_path / "source" / f"h{patient}"
        folder.mkdir(parents=True)
        nrrd.write(str(folder / "lgemri.nrrd"), scans["flair"])
        nrrd.write(str(folder / "laendo.nrrd"), lesion * 255)
    root = tmp_path / "data"
    prepare_lasc(tmp_path / "source", root, progress=False)
    folder, predicted = make_run(tmp_path / "run", "lasc", root)
    path = tmp_path / "h1.nii.gz"
    nib.save(nib.Nifti1Image(draw_head(1)[0]["flair"], AFFINE), path)
    _, problems = run_export(read_export(folder, threads=1), [str(path)], tmp_path / "results")
    assert not problems
    theirs = np.load(predicted / "h1.npz")
    for name in ("cam", "refined"):
        ours = nib.load(tmp_path / "results" / f"h1_{name}.nii.gz")
        assert np.array_equal(ours.affine, nib.load(path).affine)
        stacked = np.moveaxis(ours.get_fdata(), 2, 0)[theirs["index"]]
        np.testing.assert_allclose(stacked, theirs[name].max(1), atol=1e-4)
