"""Translated volumes lie on their sources."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from seewhy.batch import MODALITIES
from seewhy.callbacks.predictions import WritePredictions
from seewhy.data.domains.datamodule import BraTSDomainsDataModule
from seewhy.errors import ConfigError
from seewhy.models.translation.cyclegan_25d import CycleGAN25D

SHAPE = (21, 23, 9)
LPS = np.diag([-1.2, -0.9, 2.0, 1.0])
RAS = np.diag([1.2, 0.9, 2.0, 1.0])
BACKGROUND = 3
WINDOW = (0.5, 99.5)


def head(*, dtype=np.int16, background=BACKGROUND):
    """Modality → volume: tissue in an off-centre block that touches the first and the last slice."""
    rng = np.random.default_rng(0)
    x, y, _ = np.indices(SHAPE)
    inside = (x >= 4) & (x < 17) & (y >= 3) & (y < 20)
    return {
        name: np.where(inside, 200 + 50 * place + rng.integers(0, 400, SHAPE), background).astype(dtype)
        for place, name in enumerate(MODALITIES)
    }, inside


def write(root, domain, name, affine=LPS, **options):
    volumes, inside = head(**options)
    folder = root / domain / name
    folder.mkdir(parents=True)
    for modality, values in volumes.items():
        image = nib.Nifti1Image(values, affine)
        image.header["descrip"] = b"made by a test"
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, folder / f"{name}_{modality}.nii.gz")
    return folder, inside


def identity(**options):
    """A model whose generators change nothing yet."""
    generator = {"name": "plain", "width": 4, "blocks": 1, "output": "residual"}
    optimizer, scheduler = {"name": "adam", "lr": 1e-4}, {"name": "constant"}
    return CycleGAN25D(generator=generator, optimizer=optimizer, scheduler=scheduler, **options)


def predicted(root, out, model=None, *, data=None, **options):
    datamodule = BraTSDomainsDataModule(root=str(root), predict_on="all", percentiles=WINDOW, **(data or {}))
    writer = WritePredictions(folder=str(out), **options)
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, callbacks=[writer])
    trainer.predict(identity() if model is None else model, datamodule, return_predictions=False)
    with (out / "predictions.csv").open() as file:
        return list(csv.DictReader(file)), writer


@pytest.mark.parametrize("affine", [LPS, RAS], ids=["LPS", "RAS"])
def test_an_identity_gives_the_input_back_up_to_its_percentiles(tmp_path, affine):
    folder, inside = write(tmp_path / "set", "a", "S1", affine)
    write(tmp_path / "set", "b", "S2", affine)
    rows, _ = predicted(tmp_path / "set", tmp_path / "out", data={"domain": "a"}, units="source")
    assert [(row["id"], row["direction"], row["slices"]) for row in rows] == [("S1", "a2b", "9")]
    for modality in MODALITIES:
        source = nib.load(folder / f"S1_{modality}.nii.gz")
        result = nib.load(tmp_path / "out" / "S1" / f"S1_{modality}.nii.gz")
        values = np.asarray(source.dataobj)
        low, high = np.percentile(values[inside], WINDOW)
        expected = np.where(inside, np.clip(values, low, high), BACKGROUND)
        assert np.allclose(result.get_fdata(), expected, atol=0.02)
        assert result.shape == source.shape
        assert np.array_equal(result.affine, source.affine)
        assert result.header.get_zooms() == source.header.get_zooms()
        for key in ("sform_code", "qform_code", "xyzt_units", "descrip"):
            assert result.header[key] == source.header[key]
        assert result.get_data_dtype() == np.float32
        # Tissue reaches both ends of the volume: edge slices are translated too.
        assert np.ptp(result.get_fdata()[..., 0]) > 100
        assert np.ptp(result.get_fdata()[..., -1]) > 100


def test_whole_numbers_stay_whole_numbers(tmp_path):
    folder, inside = write(tmp_path / "set", "a", "S1")
    write(tmp_path / "set", "b", "S2")
    predicted(tmp_path / "set", tmp_path / "out", data={"domain": "a"}, units="source", dtype="source")
    result = nib.load(tmp_path / "out" / "S1" / "S1_t2.nii.gz")
    values = np.asarray(nib.load(folder / "S1_t2.nii.gz").dataobj)
    low, high = np.percentile(values[inside], WINDOW)
    assert result.get_data_dtype() == np.int16
    kept = inside & (values > low) & (values < high)
    assert np.array_equal(np.asarray(result.dataobj)[kept], values[kept])


def test_target_units_are_those_of_the_other_scanner(tmp_path):
    _, inside = write(tmp_path / "set", "a", "S1")
    write(tmp_path / "set", "b", "S2")
    model = identity()
    window = torch.tensor([[1000.0, 2000.0], [0.0, 10.0], [-5.0, 5.0], [7.0, 8.0]])
    model.get_buffer("intensity_b").copy_(window)
    predicted(tmp_path / "set", tmp_path / "out", model, data={"domain": "a"})
    for modality, (low, high) in zip(MODALITIES, window.tolist(), strict=True):
        values = nib.load(tmp_path / "out" / "S1" / f"S1_{modality}.nii.gz").get_fdata()
        assert values[inside].min() == pytest.approx(low)
        assert values[inside].max() == pytest.approx(high)
        assert set(values[~inside]) == {BACKGROUND}


def test_a_model_that_has_seen_no_other_scanner_says_so(tmp_path):
    write(tmp_path / "set", "a", "S1")
    write(tmp_path / "set", "b", "S2")
    with pytest.raises(ConfigError, match=r"intensities of domain b.s scanner .* callbacks.predictions.units=source"):
        predicted(tmp_path / "set", tmp_path / "out", data={"domain": "a"})


def test_normalized_values_and_arrays(tmp_path):
    _, inside = write(tmp_path / "set", "a", "S1")
    write(tmp_path / "set", "b", "S2")
    predicted(tmp_path / "set", tmp_path / "out", data={"domain": "a"}, units="normalized", npz=True)
    values = nib.load(tmp_path / "out" / "S1" / "S1_flair.nii.gz").get_fdata()
    assert values[inside].max() == 1.0
    assert set(values[~inside]) == {-1.0}
    with np.load(tmp_path / "out" / "S1.npz", allow_pickle=False) as arrays:
        assert arrays["translated"].shape == arrays["reconstructed"].shape == (9, 4, 24, 24)
        assert arrays["modalities"].tolist() == list(MODALITIES)
        assert np.array_equal(arrays["reconstructed"], arrays["translated"])
        assert arrays["index"].tolist() == list(range(9))


def test_a_subject_of_both_domains_keeps_both_results(tmp_path):
    write(tmp_path / "set", "a", "S1")
    write(tmp_path / "set", "b", "S1", background=5)
    rows, _ = predicted(tmp_path / "set", tmp_path / "out", units="source")
    assert [row["id"] for row in rows] == ["a_S1", "b_S1"]
    backgrounds = [nib.load(tmp_path / "out" / row["id"] / "S1_t1.nii.gz").get_fdata().min() for row in rows]
    assert backgrounds == [BACKGROUND, 5]


def test_one_domain_after_the_other_keeps_both_results(tmp_path):
    """Two calls into one folder, as the page on predicting shows them."""
    write(tmp_path / "set", "a", "S1")
    write(tmp_path / "set", "b", "S1", background=5)
    for domain in ("a", "b"):
        rows, _ = predicted(tmp_path / "set", tmp_path / "out", data={"domain": domain}, units="source")
        assert [row["id"] for row in rows] == [f"{domain}_S1"]
    for domain, background in (("a", BACKGROUND), ("b", 5)):
        assert nib.load(tmp_path / "out" / f"{domain}_S1" / "S1_t1.nii.gz").get_fdata().min() == background


def test_channels_of_one_file_stay_channels_of_one_file(tmp_path):
    order = ("flair", "t1", "t1ce", "t2")
    volumes, inside = head()
    for domain in "ab":
        images = tmp_path / "set" / domain / "imagesTr"
        images.mkdir(parents=True)
        stacked = np.stack([volumes[name] for name in order], axis=-1)
        nib.save(nib.Nifti1Image(stacked, LPS), images / f"{domain.upper()}_1.nii.gz")
        channels = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
        record = {"modality": channels, "labels": {"0": "background", "1": "edema"}}
        (images.parent / "dataset.json").write_text(json.dumps(record))
    rows, writer = predicted(tmp_path / "set", tmp_path / "out", units="source", dtype="source", data={"domain": "b"})
    assert [row["files"] for row in rows] == ["B-1/B_1.nii.gz"]
    assert len(writer.written.volumes) == 1
    result = nib.load(writer.written.volumes[0])
    assert result.shape == (*SHAPE, 4)
    for channel, name in enumerate(order):
        values = volumes[name]
        low, high = np.percentile(values[inside], WINDOW)
        kept = inside & (values > low) & (values < high)
        assert np.array_equal(np.asarray(result.dataobj)[..., channel][kept], values[kept])


def test_a_model_of_one_direction_leaves_the_other_domain_out(tmp_path):
    write(tmp_path / "set", "a", "S1")
    write(tmp_path / "set", "b", "S2")
    model = identity(directions="a2b", losses={"weights": {"adversarial": 1.0}})
    rows, writer = predicted(tmp_path / "set", tmp_path / "out", model, units="source")
    assert [row["id"] for row in rows] == ["S1"]
    assert writer.written.skipped == {"S2"}
    assert any("data.domain=a" in line for line in writer.summary())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"units": "targets"}, "units='targets' is unknown; nearest: 'target'"),
        ({"dtype": "int"}, "dtype='int' is unknown"),
        ({"units": "normalized", "dtype": "source"}, "normalized are fractions"),
    ],
)
def test_choices_that_do_not_exist(tmp_path, options, said):
    with pytest.raises(ConfigError, match=said):
        WritePredictions(folder=str(tmp_path), **options)


def test_every_source_that_has_moved_is_named(tmp_path):
    folder, _ = write(tmp_path / "set", "a", "S1")
    write(tmp_path / "set", "b", "S2")
    datamodule = BraTSDomainsDataModule(root=str(tmp_path / "set"), predict_on="all", domain="a")
    datamodule.setup("predict")
    for file in folder.iterdir():
        file.unlink()
    writer = WritePredictions(folder=str(tmp_path / "out"), units="source")
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, callbacks=[writer])
    trainer.predict(identity(), datamodule, return_predictions=False)
    assert writer.written.without_source == {"S1"}
    assert writer.written.volumes == []
    assert any("S1" in line and "npz=true" in line for line in writer.summary())
