"""The volume of a prediction beside what the model was trained on."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from omegaconf import DictConfig, OmegaConf

from seewhy.data.volumes import VolumesDataModule
from seewhy.errors import ConfigError
from seewhy.run.volume_input import check_input, open_input
from seewhy.run.volume_model import VolumeModel


def options(path: Path, **changes) -> DictConfig:
    known = {
        "input": str(path), "output": "out.zarr", "estimate": False, "level": None, "channels": None, "roi": None,
        "storage_options": {}, "spacing": "check",
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
    assert "says nothing of its voxels' size" in str(note)


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
