import csv
import dataclasses
import hashlib

import numpy as np
import pytest

from seewhy.data.cases.amd import AMDDataModule
from seewhy.errors import ConfigError, DataError
from seewhy.io.image import read_image
from seewhy.phantoms.amd import EYE, INPUTS, draw_eye, write_amd_phantom


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_amd_phantom(tmp_path_factory.mktemp("amd_phantom") / "set", cases=64, size=48, seed=3)


def rows_of(root):
    with (root / "labels.csv").open() as file:
        return list(csv.DictReader(file))


def digest_of(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [(str(path.relative_to(root)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]


def test_the_same_numbers_give_the_same_bytes_and_others_do_not(phantom, tmp_path):
    again = write_amd_phantom(tmp_path / "again", cases=64, size=48, seed=3)
    assert digest_of(again) == digest_of(phantom)
    longer = dict(digest_of(write_amd_phantom(tmp_path / "longer", cases=68, size=48, seed=3)))
    grown = {name: digest for name, digest in digest_of(phantom) if name.endswith(".png")}
    assert grown.items() <= longer.items()
    other = dict(digest_of(write_amd_phantom(tmp_path / "other", cases=8, size=48, seed=4)))
    shared = [name for name in other if name.endswith(".png") and name in grown]
    assert shared
    assert all(other[name] != grown[name] for name in shared if "_mask" not in name)


def test_layout_grades_and_patients(phantom):
    rows = rows_of(phantom)
    assert list(rows[0]) == ["caseID", "label", "patient"]
    assert np.bincount([int(row["label"]) for row in rows]).tolist() == [16] * 4
    eyes = [row["patient"] for row in rows]
    assert {eyes.count(patient) for patient in set(eyes)} == {1, 2}
    for row in rows:
        for name in INPUTS:
            assert read_image(phantom / f"{row['caseID']}_{name}.png").shape == (48, 48)
    assert len(list((phantom / "masks").iterdir())) == 64


def test_only_the_carrier_depends_on_the_grade():
    drawn = [draw_eye(EYE, grade=grade, carrier="ga", size=64, seed=0, number=5) for grade in range(4)]
    for name in ("mnv", "fluid", "drusen"):
        assert all(np.array_equal(images[name], drawn[0][0][name]) for images, _ in drawn)
    for grade, (images, mask) in enumerate(drawn):
        assert mask.any() == (grade > 0)
        # Outside the lesion (and the blur of its edge) the carrier is the same image, too.
        near = np.zeros_like(mask, bool)
        rows, columns = np.nonzero(mask)
        for dy in range(-3, 4):
            for dx in range(-3, 4):
                near[np.clip(rows + dy, 0, 63), np.clip(columns + dx, 0, 63)] = True
        assert np.array_equal(images["ga"][~near], drawn[0][0]["ga"][~near])


def test_lesions_grow_with_the_grade_and_lie_anywhere():
    shares, places = {grade: [] for grade in range(4)}, []
    for number in range(40):
        for grade in range(4):
            _, mask = draw_eye(EYE, grade=grade, carrier="fluid", size=48, seed=1, number=number)
            shares[grade].append(mask.mean())
            if grade == 1:
                places.append(np.argwhere(mask).mean(0) / 48)
    assert max(shares[0]) == 0
    for grade in (1, 2):
        assert np.quantile(shares[grade], 0.9) < np.quantile(shares[grade + 1], 0.1)
    assert np.std(places, axis=0).min() > 0.18  # an even spread over .12 to .88 has .22
    assert np.abs(np.mean(places, axis=0) - 0.5).max() < 0.12


def test_brightness_alone_does_not_tell_the_grade_in_other_images(phantom):
    rows = rows_of(phantom)
    labels = np.array([int(row["label"]) for row in rows])
    for name in INPUTS:
        images = np.stack([read_image(phantom / f"{row['caseID']}_{name}.png") for row in rows]).astype(float)
        for value in (images.mean((1, 2)), images.std((1, 2)), np.quantile(images, 0.99, axis=(1, 2))):
            correlation = abs(np.corrcoef(labels, value)[0, 1])
            if name != "fluid":
                assert correlation < 0.35, name  # 64 pairs of independent numbers exceed it once in 200
    assert abs(np.corrcoef(labels, [m.mean() for m in masks_of(phantom, rows)])[0, 1]) > 0.9


def masks_of(root, rows):
    return [read_image(root / "masks" / f"{row['caseID']}_fluid_mask.png") > 0 for row in rows]


def test_the_data_module_reads_it_with_its_masks(phantom):
    data = AMDDataModule(root=str(phantom), eval_batch_size=16)
    data.setup("fit")
    assert data.is_phantom
    assert min(data.class_counts()) > 0
    batch = next(iter(data.test_dataloader()))
    found = batch["mask"]["fluid"].flatten(1).any(1)
    assert (found == (batch["label"] > 0)).all()
    assert all(batch["mask"][name].sum() == 0 for name in INPUTS if name != "fluid")
    patients = {part: {case.patient for case in data.items_of(part)} for part in ("train", "val", "test")}
    assert not patients["train"] & (patients["val"] | patients["test"])


def test_another_phantom_is_not_overwritten(phantom):
    before = digest_of(phantom)
    assert write_amd_phantom(phantom, cases=64, size=48, seed=3) == phantom
    with pytest.raises(DataError, match=r"carrier is 'fluid'.*'ga'"):
        write_amd_phantom(phantom, cases=64, size=48, seed=3, carrier="ga")
    assert digest_of(phantom) == before


def test_a_folder_that_lost_a_file_is_not_reused(tmp_path):
    root = write_amd_phantom(tmp_path / "set", cases=4, size=32)
    next(root.glob("*_ga.png")).unlink()
    with pytest.raises(DataError, match=r"3 pictures.*\b4\b"):
        write_amd_phantom(root, cases=4, size=32)


def test_options_that_do_not_fit(tmp_path):
    with pytest.raises(ConfigError, match=r"phantom\.cases=0.*phantom\.size=8"):
        write_amd_phantom(tmp_path / "set", cases=0, size=8)
    with pytest.raises(ConfigError, match=r"phantom\.carrier='fluit'.*'fluid'"):
        write_amd_phantom(tmp_path / "set", carrier="fluit")
    assert not (tmp_path / "set").exists()


def test_contrast_is_what_the_recipe_says():
    faint = dataclasses.replace(EYE, contrast=(0.0, 0.0, 0.0), noise=0.0)
    strong = dataclasses.replace(EYE, contrast=(0.6, 0.6, 0.6), noise=0.0)
    options = {"grade": 2, "carrier": "mnv", "size": 64, "seed": 0, "number": 1}
    (low, mask), (high, _) = draw_eye(faint, **options), draw_eye(strong, **options)
    gain = (high["mnv"].astype(float) - low["mnv"])[mask > 0].mean() / 255
    assert gain == pytest.approx(0.6 * (1 - EYE.stripes / 2), rel=0.12)
