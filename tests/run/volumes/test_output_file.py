"""A result as one NIfTI file: the values of the store on the grid of the input, or a refusal before the prediction."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from omegaconf import DictConfig

from seewhy.cli.main import main
from seewhy.errors import ConfigError
from seewhy.io.scans.scan import read_scan, write_scan
from seewhy.run.volumes import predict
from seewhy.run.volumes.output_file import choose_output
from seewhy.run.volumes.predict import predict_volume
from seewhy.volumes.output_format import OutputFormat


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


outputs = load(Path(__file__).with_name("test_output.py"))
base, values, config, stopped = outputs.base, outputs.values, outputs.config, outputs.stopped
elsewhere, result, set_options = outputs.elsewhere, outputs.result, outputs.set_options
AFFINE = np.array([[-1.5, 0, 0.1, 12], [0, -2, 0, 239], [0.1, 0, 3, -7], [0, 0, 0, 1]])


@pytest.fixture
def nifti(config: DictConfig, values: np.ndarray, tmp_path: Path) -> DictConfig:
    """Prediction of a NIfTI with the voxels of the store of `config`."""
    nib.save(nib.Nifti1Image(values.T, AFFINE), tmp_path / "in.nii.gz")
    set_options(config, input=str(tmp_path / "in.nii.gz"), dtype="labels")
    return config


def to_file(config: DictConfig, name: str) -> Path:
    config.volume.output = str(Path(config.volume.output).with_name(name))
    return Path(config.volume.output)


def names(path: Path) -> set[str]:
    """Files and folders next to an output, without its inputs and the run."""
    return {item.name for item in path.parent.iterdir()} - {"in.zarr", "in.nii.gz", "unet.pth", "run", "out.zarr"}


def test_labels_lie_on_the_input(nifti: DictConfig, capsys: pytest.CaptureFixture):
    name = "PRED.NII.GZ"
    predict_volume(nifti)
    labels = result(nifti, "/labels/prediction")[0]
    assert len(np.unique(labels)) > 1
    path = to_file(nifti, name)
    nifti.volume.preview = True
    predict_volume(nifti)
    image = nib.load(path)
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(image.dataobj), labels.T)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert names(path) == {name, f"{name.split('.')[0]}.png"}
    printed = capsys.readouterr().out
    assert str(path) in printed
    assert f".{name}.zarr" not in printed


def test_probabilities_are_float32_with_classes_last(nifti: DictConfig):
    set_options(nifti, dtype="uint8", mode="multiclass")
    predict_volume(nifti)
    stored = result(nifti)
    path = to_file(nifti, "pred.nii.gz")
    predict_volume(nifti)
    image = nib.load(path)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(image.dataobj), stored.T / np.float32(255))


@pytest.mark.parametrize(("given", "asked"), [("in.mha", "pred.mha"), ("in.nrrd", "PRED.NRRD"), ("in.nii.gz", "p.mha")])
def test_other_formats_lie_on_the_input(config: DictConfig, values: np.ndarray, tmp_path: Path, given: str, asked: str):
    write_scan(tmp_path / given, np.ascontiguousarray(values.T), affine=AFFINE)
    set_options(config, input=str(tmp_path / given), dtype="labels")
    predict_volume(config)
    labels = result(config, "/labels/prediction")[0]
    path = to_file(config, asked)
    predict_volume(config)
    found, geometry = read_scan(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels.T)
    np.testing.assert_allclose(geometry.affine, AFFINE, atol=1e-5)
    assert names(path) - {given} == {asked}


def test_an_input_without_orientation_gives_its_voxel_size(config: DictConfig):
    set_options(config, dtype="labels")
    path = to_file(config, "pred.nii.gz")
    predict_volume(config)
    header = nib.load(path).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)
    assert header.get_xyzt_units()[0] == "unknown"


def test_a_stopped_prediction_goes_on(nifti: DictConfig, stopped):
    predict_volume(nifti)
    labels = result(nifti, "/labels/prediction")[0]
    path = to_file(nifti, "pred.nii.gz")
    stopped(nifti)
    assert names(path) == {".pred.nii.gz.zarr"}
    predict_volume(nifti)
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), labels.T)
    assert names(path) == {"pred.nii.gz"}
    content = path.read_bytes()
    with pytest.raises(ConfigError, match=r"pred\.nii\.gz already exists.*volume\.overwrite"):
        predict_volume(nifti)
    nifti.volume.overwrite = True
    predict_volume(nifti)
    assert np.array_equal(np.asarray(nib.load(path).dataobj), labels.T)
    assert len(content) == path.stat().st_size


@pytest.mark.parametrize(
    ("name", "options", "fact"),
    [
        ("pred.tif", {}, r"does not write \.tif; .*\.zarr.*\.nii\.gz"),
        ("pred.xyz", {}, r"does not write \.xyz"),
        ("pred.nhdr", {}, r"does not write \.nhdr \(two files\)"),
        ("pred.mgz/", {}, r"does not write \.mgz"),
        ("pred.npy", {}, r"does not write \.npy"),
    ],
)
def test_other_names_are_refused_before_anything_is_read(
    config: DictConfig, monkeypatch: pytest.MonkeyPatch, name: str, options: dict, fact: str
):
    monkeypatch.setattr(predict, "load_volume_model", lambda config: pytest.fail("the network was loaded"))
    set_options(config, output=f"{Path(config.volume.output).parent}/{name}", **options)
    with pytest.raises(ConfigError, match=fact):
        predict_volume(config)
    assert names(Path(config.volume.input)) == set()


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"num_parts": 2}, "several parts"),
        ({"keep_logits": True}, r"keep_logits=true .*must end in \.zarr"),
        ({"output": "s3://bucket/pred.nii.gz"}, "local folders only"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(
    config: DictConfig, monkeypatch: pytest.MonkeyPatch, options: dict, fact: str
):
    monkeypatch.setattr(predict.Trainer, "predict", lambda *_, **__: pytest.fail("the prediction was started"))
    path = to_file(config, "pred.nii.gz")
    set_options(config, **options)
    with pytest.raises(ConfigError, match=fact):
        predict_volume(config)
    assert names(path) == set()


def test_a_file_must_fit_in_memory():
    target = choose_output("pred.nii.gz")
    labels = OutputFormat(mode="multiclass", channels=2, stored="labels")
    target.check(labels, (1000, 1000, 1000), memory_budget=2_000_000_000, parts=1)
    with pytest.raises(ConfigError, match=r"pred\.nii\.gz would take 5 GB .*\.zarr, or raise memory_budget"):
        target.check(OutputFormat(mode="binary", channels=1), (1000,) * 3, memory_budget=4_000_000_000, parts=1)
    with pytest.raises(ConfigError, match="at most 32767 voxels"):
        target.check(labels, (40_000, 10, 10), memory_budget=10**12, parts=1)
    choose_output("pred.zarr").check(labels, (10**5,) * 3, memory_budget=1, parts=8)


def test_kept_logits_become_a_file(nifti: DictConfig, capsys: pytest.CaptureFixture):
    set_options(nifti, keep_logits=True)
    predict_volume(nifti)
    blended = outputs.blended(nifti)
    path = Path(blended).with_name("final.nii.gz")
    for command in (["finalize", blended, str(path)], ["blend", nifti.volume.output, str(path.with_name("b.nii"))]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--dtype", "labels"])
        assert ended.value.code == 0, capsys.readouterr().err
        image = nib.load(command[2])
        assert image.get_data_dtype() == np.uint8
        np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    outputs.refused(["blend", nifti.volume.output, f"{path}.tif"], "does not write .tif", capsys)
    outputs.refused(["blend", nifti.volume.output, str(path.with_name("c.nii"))], "cannot hold logits", capsys)
