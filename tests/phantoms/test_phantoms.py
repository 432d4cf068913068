import csv
import json
import re
import shutil

import numpy as np
import pytest
from scipy import ndimage

from seewhy.errors import ConfigError, DataError
from seewhy.phantoms.chest import write_atrium_phantom
from seewhy.phantoms.slices import TUMOUR, draw_patient, write_tumour_phantom

SMALL = {"patients": 4, "slices": 6, "size": 64}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_tumour_phantom(tmp_path_factory.mktemp("p") / "tumour", **SMALL)


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_files_are_those_of_a_real_data_set(phantom):
    images = sorted(path.name for path in (phantom / "imageSlice").iterdir())
    assert len(images) == 24
    assert images == sorted(path.name for path in (phantom / "maskSlice").iterdir())
    with (phantom / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["file"] for row in rows) == images
    for row in rows:
        image, mask = (np.load(phantom / part / row["file"]) for part in ("imageSlice", "maskSlice"))
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == mask.shape == (64, 64)
        assert row["file"] == f"BRATS_{row['patient']}_{row['slice']}_{row['label']}.npy"
        assert int(row["label"]) == int(mask.any())
        assert int(row["area"]) == mask.sum()
    info = json.loads((phantom / "dataset.json").read_text())
    assert info["phantom"] is True
    assert info["seed"] == 0


def test_same_seed_same_bytes(phantom, tmp_path):
    assert contents(write_tumour_phantom(tmp_path / "again", **SMALL)) == contents(phantom)
    other = contents(write_tumour_phantom(tmp_path / "other", **SMALL, seed=1))
    assert other != contents(phantom)


def test_a_patient_does_not_depend_on_the_number_of_patients(phantom, tmp_path):
    fewer = write_tumour_phantom(tmp_path / "fewer", **{**SMALL, "patients": 2})
    for path in (fewer / "imageSlice").iterdir():
        assert path.read_bytes() == (phantom / "imageSlice" / path.name).read_bytes()


def test_reused_when_equal_refused_when_not(phantom, tmp_path):
    root = tmp_path / "p"
    shutil.copytree(phantom, root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert write_tumour_phantom(root, **SMALL) == root
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    with pytest.raises(DataError, match=r"seed is 0.*\b5\b.*data\.root"):
        write_tumour_phantom(root, **SMALL, seed=5)
    with pytest.raises(DataError, match=r"name is 'tumour'.*'atrium'"):
        write_atrium_phantom(root, **SMALL)
    next((root / "imageSlice").iterdir()).unlink()
    with pytest.raises(DataError, match=r"23 slices.*\b24\b"):
        write_tumour_phantom(root, **SMALL)


def test_what_is_not_ours_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match=r"dataset\.json"):
        write_tumour_phantom(tmp_path, **SMALL)
    (tmp_path / "dataset.json").write_text('{"name": "real"}')
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        write_tumour_phantom(tmp_path, **SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.json", "thesis.txt"]


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("seewhy.phantoms.writing.write_csv", stop)
    with pytest.raises(KeyboardInterrupt):
        write_tumour_phantom(tmp_path / "p", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_another_process_that_was_faster_is_no_error(phantom, tmp_path, monkeypatch):
    import seewhy.phantoms.writing as folder

    root, real = tmp_path / "p", folder.write_json

    def overtaken(*args):
        shutil.copytree(phantom, root)
        return real(*args)

    monkeypatch.setattr(folder, "write_json", overtaken)
    assert write_tumour_phantom(root, **SMALL) == root
    assert contents(root) == contents(phantom)
    assert list(tmp_path.iterdir()) == [root]


@pytest.mark.parametrize("options", [{"patients": 0}, {"slices": 0}, {"size": 8}, {"seed": -1}])
def test_numbers_are_checked(tmp_path, options):
    with pytest.raises(ConfigError, match=rf"phantom\.{next(iter(options))}"):
        write_tumour_phantom(tmp_path / "p", **options)


def test_atrium_names(tmp_path):
    root = write_atrium_phantom(tmp_path / "a", **SMALL)
    names = sorted(path.name for path in (root / "imageSlice").iterdir())
    assert names[0].startswith("atrium001_000_")
    assert {name.rsplit("_", 1)[1] for name in names} == {"0.npy", "1.npy"}


@pytest.fixture(scope="module")
def patients():
    return [draw_patient(TUMOUR, slices=12, size=96, seed=0, number=number) for number in range(8)]


def dice(guess, mask):
    return 2 * (guess & (mask > 0)).sum() / (guess.sum() + mask.sum())


def test_no_threshold_finds_the_lesions(patients):
    """The best threshold chosen with the annotation, one for each patient, is still poor."""
    found = []
    for volume, mask in patients:
        positive = mask.any((1, 2))
        if positive.any():
            found.append(max(dice(volume[positive] > value, mask[positive]) for value in range(20, 250, 5)))
    assert np.mean(found) < 0.4
    assert max(found) < 0.55


def test_lesions_are_neither_everywhere_nor_in_everybody(patients):
    positive = [mask.any((1, 2)) for _, mask in patients]
    assert sum(one.any() for one in positive) == 7  # one in seven is healthy
    assert 0.3 < np.mean(positive) < 0.6
    for _, mask in patients:
        for region in mask[mask.any((1, 2))]:
            assert TUMOUR.min_share <= region.mean() < 0.12


def test_lesion_is_a_run_of_neighbouring_slices(patients):
    for _, mask in patients:
        _, runs = ndimage.label(mask.any((1, 2)))
        assert runs <= 2  # one, or two where the middle is hidden behind the organ


def test_bright_structures_are_in_both_classes(patients):
    """Slices without a lesion are as bright as those with one, so that brightness does not tell the label."""
    bright = {True: [], False: []}
    for volume, mask in patients:
        body = volume > 60
        for image, inside, region in zip(volume, body, mask, strict=True):
            bright[bool(region.any())].append((image > 1.35 * np.median(volume[body])).sum() / inside.sum())
    assert np.mean(bright[False]) > 0.6 * np.mean(bright[True])
