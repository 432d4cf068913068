import csv
import dataclasses
import hashlib

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.stats import chi2_contingency

from seewhy.data.cases.amd import AMDDataModule
from seewhy.errors import ConfigError, DataError
from seewhy.io.image import read_image
from seewhy.phantoms.amd import EYE, INPUTS, draw_eye, list_eyes, write_amd_phantom
from seewhy.phantoms.drawing import draw_corner_mark


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
    drawn = [draw_eye(EYE, grade=grade, carriers=["ga"], size=64, seed=0, number=5) for grade in range(4)]
    for name in ("mnv", "fluid", "drusen"):
        assert all(np.array_equal(images[name], drawn[0][0][name]) for images, _ in drawn)
    for grade, (images, masks) in enumerate(drawn):
        mask = masks["ga"]
        assert list(masks) == ["ga"]
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
            _, masks = draw_eye(EYE, grade=grade, carriers=["fluid"], size=48, seed=1, number=number)
            mask = masks["fluid"]
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
    with pytest.raises(DataError, match=r"carriers is \['fluid'\].*'ga'"):
        write_amd_phantom(phantom, cases=64, size=48, seed=3, carriers=["ga"])
    assert digest_of(phantom) == before


def test_a_folder_that_lost_a_file_is_not_reused(tmp_path):
    root = write_amd_phantom(tmp_path / "set", cases=4, size=32)
    next(root.glob("*_ga.png")).unlink()
    with pytest.raises(DataError, match=r"3 pictures.*\b4\b"):
        write_amd_phantom(root, cases=4, size=32)


def test_options_that_do_not_fit(tmp_path):
    with pytest.raises(ConfigError, match=r"phantom\.cases=0.*phantom\.size=8"):
        write_amd_phantom(tmp_path / "set", cases=0, size=8)
    with pytest.raises(ConfigError, match=r"phantom\.carriers='fluit'.*'fluid'"):
        write_amd_phantom(tmp_path / "set", carriers=["fluit"])
    with pytest.raises(ConfigError, match=r"phantom\.carriers=\[\].*\[fluid\]"):
        write_amd_phantom(tmp_path / "set", carriers=[])
    with pytest.raises(ConfigError, match=r"phantom\.mark='corner'"):
        write_amd_phantom(tmp_path / "set", mark="corner")
    assert not (tmp_path / "set").exists()


def test_redundant_images_show_the_same_lesions_and_each_alone_tells_the_grade():
    options = {"size": 64, "seed": 0, "number": 7}
    single, masks = draw_eye(EYE, grade=2, carriers=["fluid"], **options)
    both, shared = draw_eye(EYE, grade=2, carriers=["fluid", "drusen"], **options)
    assert list(shared) == ["fluid", "drusen"]
    assert np.array_equal(shared["fluid"], shared["drusen"])
    assert np.array_equal(shared["fluid"], masks["fluid"])
    other, _ = draw_eye(EYE, grade=2, carriers=["drusen"], **options)
    for name in INPUTS:  # each image is that of the eye in which it alone, or none, is a carrier
        assert np.array_equal(both[name], other[name] if name == "drusen" else single[name])


def test_the_mark_alone_tells_the_grade_and_lesions_do_not(tmp_path):
    root = write_amd_phantom(tmp_path / "set", cases=64, size=48, seed=3, mark="fluid")
    rows, eyes = rows_of(root), list_eyes(64, 3, 3)
    assert [int(row["label"]) for row in rows] == [eye.label for eye in eyes]
    lesions = [eye.grade_lesions("fluid", 3) for eye in eyes]
    table = np.zeros((4, 4))
    np.add.at(table, ([eye.label for eye in eyes], lesions), 1)
    assert chi2_contingency(table).pvalue > 0.05  # grades of lesions and labels are independent
    assert [eye.grade_lesions(None, 3) for eye in eyes] == [eye.label for eye in eyes]
    for eye in eyes[:12]:
        options = {"carriers": ["fluid"], "size": 48, "seed": 3, "number": eye.number}
        lesion = eye.grade_lesions("fluid", 3)
        images, masks = draw_eye(EYE, grade=lesion, mark=("fluid", eye.label), **options)
        assert np.array_equal(read_image(root / f"{eye.name}_fluid.png"), images["fluid"])
        assert np.array_equal(read_image(root / "masks" / f"{eye.name}_fluid_mask.png") > 0, masks["fluid"] > 0)
        swapped, same = draw_eye(EYE, grade=lesion, mark=("fluid", (eye.label + 1) % 4), **options)
        near = binary_dilation(masks["fluid"], iterations=2)  # the blur of its edge
        assert np.array_equal(masks["fluid"], same["fluid"])
        assert np.array_equal(images["fluid"][~near], swapped["fluid"][~near])
        assert not np.array_equal(images["fluid"], swapped["fluid"])
        assert all(np.array_equal(images[name], swapped[name]) for name in INPUTS if name != "fluid")


def test_marks_lie_in_all_corners_and_their_textures_differ():
    corners = set()
    for number in range(40):
        drawn = [draw_corner_mark(label, size=64, seed=0, number=number) for label in range(4)]
        assert all(np.array_equal(inside, drawn[0][1]) for _, inside in drawn)
        corners.add(tuple((np.argwhere(drawn[0][1]).mean(0) > 31.5).tolist()))
        textures = [texture[inside].reshape(10, 10) for texture, inside in drawn]
        plain, rows, columns, checked = textures
        assert np.ptp(plain) == 0
        assert (rows == rows[:, :1]).all()
        assert np.array_equal(columns, rows.T)
        assert (checked != rows).mean() == pytest.approx(0.5, abs=0.1)
        assert np.array_equal(checked, checked.T)
    assert len(corners) == 4


def test_contrast_is_what_the_recipe_says():
    faint = dataclasses.replace(EYE, contrast=(0.0, 0.0, 0.0), noise=0.0)
    strong = dataclasses.replace(EYE, contrast=(0.6, 0.6, 0.6), noise=0.0)
    options = {"grade": 2, "carriers": ["mnv"], "size": 64, "seed": 0, "number": 1}
    (low, masks), (high, _) = draw_eye(faint, **options), draw_eye(strong, **options)
    gain = (high["mnv"].astype(float) - low["mnv"])[masks["mnv"] > 0].mean() / 255
    assert gain == pytest.approx(0.6 * (1 - EYE.stripes / 2), rel=0.12)
