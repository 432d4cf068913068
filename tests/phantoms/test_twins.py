import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from seewhy.errors import DataError
from seewhy.io.image import read_image
from seewhy.io.nifti import read_nifti
from seewhy.phantoms.amd import INPUTS, list_eyes, write_amd_phantom
from seewhy.phantoms.mri import list_heads, write_mri_phantom
from seewhy.phantoms.slices import write_tumour_phantom
from seewhy.phantoms.twins import draw_twins

SIZE = {"cases": 8, "size": 48, "seed": 2}


def read_eye(root, name):
    return {image: read_image(root / f"{name}_{image}.png") for image in INPUTS}


def mask_of(root, eye, name):
    return read_image(root / "masks" / f"{eye}_{name}_mask.png") > 0


def test_twins_of_lesions_differ_in_the_lesions_only(tmp_path):
    root = write_amd_phantom(tmp_path / "set", **SIZE)
    eyes = list_eyes(8, 2, 3)
    twins = draw_twins(root, [eye.name for eye in eyes])
    assert [twin.case for twin in twins] == [eye.name for eye in eyes]
    for eye, twin in zip(eyes, twins, strict=True):
        assert twin.moved
        assert twin.label == (2 if eye.label == 0 else 0)
        images = read_eye(root, eye.name)
        assert all(np.array_equal(images[name], twin.images[name]) for name in INPUTS if name != "fluid")
        assert not np.array_equal(images["fluid"], twin.images["fluid"])
        if eye.label:
            near = binary_dilation(mask_of(root, eye.name, "fluid"), iterations=3)
            assert np.array_equal(images["fluid"][~near], twin.images["fluid"][~near])


def test_twins_of_redundant_images_lack_one_of_them(tmp_path):
    root = write_amd_phantom(tmp_path / "set", **SIZE, carriers=["fluid", "ga"])
    eye = next(eye for eye in list_eyes(8, 2, 3) if eye.label == 2)
    without, fluid, ga = draw_twins(root, [eye.name])
    images = read_eye(root, eye.name)
    assert [(twin.moved, twin.label) for twin in (without, fluid, ga)] == [(True, 0), (False, 2), (False, 2)]
    assert (fluid.change, ga.change) == ("fluid missing", "ga missing")
    for twin, missing in ((fluid, "fluid"), (ga, "ga")):
        assert set(twin.images) == set(images) - {missing}
        assert all(np.array_equal(image, images[name]) for name, image in twin.images.items())
    assert not any(np.array_equal(without.images[name], images[name]) for name in ("fluid", "ga"))
    assert np.array_equal(without.images["drusen"], images["drusen"])


def test_twins_of_a_mark_change_the_mark_or_the_lesions(tmp_path):
    root = write_amd_phantom(tmp_path / "set", **SIZE, mark="drusen")
    for eye in list_eyes(8, 2, 3):
        marked, lesions = draw_twins(root, [eye.name])
        images, mask = read_eye(root, eye.name), mask_of(root, eye.name, "drusen")
        assert (marked.moved, marked.label) == (True, (eye.label + 1) % 4)
        assert (lesions.moved, lesions.label) == (False, eye.label)
        near = binary_dilation(mask, iterations=2)
        assert np.array_equal(marked.images["drusen"][~near], images["drusen"][~near])
        assert not np.array_equal(marked.images["drusen"][mask], images["drusen"][mask])
        assert np.array_equal(marked.images["fluid"], images["fluid"])
        assert np.array_equal(lesions.images["drusen"], images["drusen"])
        assert not np.array_equal(lesions.images["fluid"], images["fluid"])


def test_twins_of_heads_differ_in_one_region(tmp_path):
    root = write_mri_phantom(tmp_path / "set", cases=4, shape=(24, 24, 24), seed=3)
    heads = list_heads(4)
    for twin, (patient, label) in zip(draw_twins(root, [name for name, _ in heads]), heads, strict=True):
        assert twin.label == int(label == "HC")
        image, affine = twin.images
        original, geometry = read_nifti(root / "volumes" / f"mwp1{patient}_T1.nii.gz")
        assert np.allclose(affine, geometry.affine)
        changed = image != original
        assert 0 < changed.mean() < 0.25


def test_unknown_cases_and_other_phantoms(tmp_path):
    root = write_amd_phantom(tmp_path / "set", cases=4, size=32)
    with pytest.raises(DataError, match=r"P999_L.*P001_L"):
        draw_twins(root, ["P999_L"])
    with pytest.raises(DataError, match=r"dataset\.json"):
        draw_twins(tmp_path, ["P001_L"])
    slices = write_tumour_phantom(tmp_path / "slices", patients=2, slices=2, size=32)
    with pytest.raises(DataError, match=r"'tumour'.*amd and mri"):
        draw_twins(slices, ["x"])
