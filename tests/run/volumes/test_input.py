"""The volume of a prediction beside what the model was trained on."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from omegaconf import DictConfig, OmegaConf

from seewhy.data.volumes.datamodule import VolumesDataModule
from seewhy.errors import ConfigError
from seewhy.run.volumes import input as volume_input
from seewhy.run.volumes.input import check_input, open_input, read_roi
from seewhy.run.volumes.model import VolumeModel


def options(path: Path, **changes) -> DictConfig:
    known = {
        "input": str(path), "output": "out.zarr", "level": None, "channels": None, "roi": None,
        "storage_options": {}, "inference": {"spacing": "check"},
    }  # fmt: skip
    return OmegaConf.create({**known, **changes})


def write(path: Path, *, scale, unit: str | None, dtype=np.int16, levels: int = 1) -> None:
    """An OME-Zarr 0.5 of 16³ voxels, of classes 0 and 1."""
    group = zarr.open_group(str(path), mode="w")
    values = np.indices((16, 16, 16)).sum(0) % 2
    datasets = []
    for index in range(levels):
        group.create_array(str(index), data=values[:: 2**index, :: 2**index, :: 2**index].astype(dtype))
        steps = [{"type": "scale", "scale": [size * 2**index for size in scale]}]
        datasets.append({"path": str(index), "coordinateTransformations": steps})
    axes = [{"name": axis, "type": "space"} | ({} if unit is None else {"unit": unit}) for axis in "zyx"]
    group.attrs.update({"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}})


def trained_on(root: Path, *, scale, unit: str | None) -> VolumesDataModule:
    for name in ("a", "b", "c"):
        write(root / "images" / f"{name}.zarr", scale=scale, unit=unit)
        write(root / "labels" / f"{name}.zarr", scale=scale, unit=unit, dtype=np.uint8)
    return VolumesDataModule(
        root=str(root), classes=["background", "vessel"], patch=[8, 8, 8], fractions=(0.4, 0.3, 0.3)
    )


def test_a_model_of_micrometres_takes_the_volume_that_it_was_trained_on(tmp_path: Path):
    data = trained_on(tmp_path, scale=(10.0, 5.0, 5.0), unit="micrometer")
    assert data.spacing == pytest.approx([0.01, 0.005, 0.005])
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    assert batch["spacing"].tolist()[0] == pytest.approx([0.01, 0.005, 0.005])
    volume = options(tmp_path / "images" / "a.zarr")
    z, y, x = data.spacing
    assert check_input(open_input(volume), VolumeModel((), "m", "", spacing=(z, y, x)), volume) is None


def test_numbers_without_a_unit_are_no_millimetres(tmp_path: Path):
    data = trained_on(tmp_path, scale=(1.0, 1.0, 1.0), unit=None)
    assert data.spacing is None
    data.setup("fit")
    assert next(iter(data.val_dataloader()))["spacing"].isnan().all()
    volume = options(tmp_path / "images" / "a.zarr")
    note = check_input(open_input(volume), VolumeModel((), "m", "", spacing=(1.0, 1.0, 1.0)), volume)
    assert "does not state its voxel size" in str(note)


def test_a_network_of_planes_takes_them_at_any_distance_but_of_its_own_voxels(tmp_path: Path):
    write(tmp_path / "a.zarr", scale=(2.0, 0.5, 0.5), unit="millimeter", levels=2)
    flat = VolumeModel((), "m", "", spacing=(float("nan"), 1.0, 1.0))
    volume = options(tmp_path / "a.zarr")
    with pytest.raises(ConfigError, match=r"of 2 . 0\.5 . 0\.5 mm, .* at any . 1 . 1 mm; volume\.level=1 has voxels"):
        check_input(open_input(volume), flat, volume)
    volume.level = 1
    assert check_input(open_input(volume), flat, volume) is None


def test_a_model_of_one_millimetre_refuses_half_of_it(tmp_path: Path):
    write(tmp_path / "a.zarr", scale=(0.5, 0.5, 0.5), unit="millimeter")
    volume = options(tmp_path / "a.zarr")
    with pytest.raises(ConfigError, match=r"trained at 1 . 1 . 1 mm"):
        check_input(open_input(volume), VolumeModel((), "m", "", spacing=(1.0, 1.0, 1.0)), volume)


@pytest.mark.parametrize("channels", [["a"], "a", [0.5], 1, ["0"]])
def test_channels_that_are_no_numbers(tmp_path: Path, channels):
    write(tmp_path / "a.zarr", scale=(1.0, 1.0, 1.0), unit=None)
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 4, 4)))
    for name in ("a.zarr", "a.npy"):
        with pytest.raises(ConfigError, match=r"channels=.*; expected a list of whole numbers from 0") as caught:
            open_input(options(tmp_path / name, channels=channels))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "roi", [["a", 1, 0, 4, 0, 4], "abc", 3, [0.5, 4, 0, 4, 0, 4], [0, 4, 0, 4], [4, 0, 0, 4, 0, 4], [-1, 4, 0, 4, 0, 4]]
)
def test_regions_that_are_none(tmp_path: Path, roi):
    with pytest.raises(ConfigError, match=r"volume\.roi=.*; expected \[z0,z1,y0,y1,x0,x1\]"):
        read_roi(options(tmp_path, roi=roi))


def test_a_region_is_a_box(tmp_path: Path):
    assert read_roi(options(tmp_path)) is None
    assert read_roi(options(tmp_path, roi=[0, 4, 1, 5, 2, 6])) == (slice(0, 4), slice(1, 5), slice(2, 6))


def test_other_levels_are_opened_as_the_first_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "a.zarr", scale=(0.5, 0.5, 0.5), unit="millimeter", levels=2)
    seen, plain = [], volume_input.open_source
    monkeypatch.setattr(volume_input, "open_source", lambda *args, **known: seen.append(known) or plain(*args, **known))
    volume = options(tmp_path / "a.zarr", channels=[0], storage_options={"retries": 1, "backoff": 0.01})
    with pytest.raises(ConfigError, match=r"volume\.level=1 has voxels"):
        check_input(open_input(volume), VolumeModel((), "m", "", spacing=(1.0, 1.0, 1.0)), volume)
    assert [known["level"] for known in seen] == [None, 0, 1]
    assert all(known["options"] == {"retries": 1, "backoff": 0.01} and known["channels"] == [0] for known in seen)
