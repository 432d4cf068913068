import json

import numpy as np
import pytest
import torch

from seewhy.metrics.segmentation.floors import slice_floors
from seewhy.metrics.segmentation.overlap import dice
from seewhy.phantoms.chest import CHEST, ChestRecipe, draw_chest, write_atrium_phantom

BLOOD = ("atrium", "ventricle", "aorta")


@pytest.fixture(scope="module")
def chests():
    return [draw_chest(CHEST, slices=12, size=96, seed=0, number=number) for number in range(8)]


def test_blood_has_one_brightness_in_atrium_ventricle_and_aorta():
    """Without a bias field, the means of the three differ by no more than their noise and blurred edges."""
    plain = ChestRecipe(bias=0.0, flow=0.0)
    for number in range(4):
        volume, parts = draw_chest(plain, slices=12, size=96, seed=0, number=number)
        level = {name: np.median(volume[parts[name]]) for name in BLOOD}
        deviation = np.std(volume[parts["ventricle"]])
        assert max(level.values()) - min(level.values()) < 0.35 * deviation
        tissue = parts["body"] & ~parts["lungs"] & ~np.any([parts[name] for name in BLOOD], axis=0)
        assert min(level.values()) > np.median(volume[tissue]) + 3 * deviation


def test_no_threshold_finds_the_atrium(chests):
    """Otsu's thresholds, and the best one for each patient, which needs the annotation."""
    floors, best = {"floor_otsu": [], "floor_otsu3": [], "floor_centre": []}, []
    for volume, parts in chests:
        image, body, truth = (torch.from_numpy(array) for array in (volume[:, None], parts["body"], parts["atrium"]))
        guesses = slice_floors(image, body)
        for name, values in floors.items():
            values.append(dice(guesses[name].mask, truth))
        best.append(max(dice((image[:, 0] > value) & body, truth) for value in range(20, 250, 5)))
    assert max(floors["floor_otsu"]) < 0.1
    assert max(floors["floor_otsu3"]) < 0.35
    assert np.mean(floors["floor_otsu3"]) < 0.25
    assert max(floors["floor_centre"]) < 0.25
    assert np.mean(best) < 0.5


def test_sizes_of_the_parts(chests):
    for _, parts in chests:
        body, atrium = parts["body"], parts["atrium"]
        shown = atrium.any((1, 2))
        assert 4 <= shown.sum() <= 9  # every chest has an atrium, and slices without it
        assert all(CHEST.min_share <= region.mean() < 0.05 for region in atrium[shown])
        assert 0.4 < body.mean() < 0.6
        assert np.ptp(body.mean((1, 2))) < 0.1 * body.mean()  # the area does not tell the label
        assert 0.15 < parts["lungs"].sum() / body.sum() < 0.45
        assert parts["aorta"].any((1, 2)).all()
        assert parts["ventricle"].sum() > 0.5 * atrium.sum()
        assert parts["spine"].any((1, 2)).all()


def test_parts_do_not_overlap_and_lie_in_the_body(chests):
    for _, parts in chests:
        names = ("lungs", "spine", *BLOOD)
        assert np.sum([parts[name] for name in BLOOD], axis=0).max() == 1
        assert not (parts["lungs"] & np.any([parts[name] for name in BLOOD], axis=0)).any()
        assert all(not (parts[name] & ~parts["body"]).any() for name in names)


def test_no_other_part_tells_the_label(chests):
    """Slices with and without an atrium show the ventricle and about as much aorta."""
    rows = [
        (bool(a.any()), bool(v.any()), int(o.sum()))
        for _, parts in chests
        for a, v, o in zip(parts["atrium"], parts["ventricle"], parts["aorta"], strict=True)
    ]
    shown = {label: np.mean([ventricle for own, ventricle, _ in rows if own == label]) for label in (True, False)}
    assert shown[True] > 0.4
    assert shown[False] > 0.3
    area = {label: np.mean([aorta for own, _, aorta in rows if own == label]) for label in (True, False)}
    assert 0.6 < area[True] / area[False] < 1.6


def test_same_seed_same_bytes_whatever_the_number_of_patients(tmp_path):
    size = {"slices": 4, "size": 32}
    two, three = (write_atrium_phantom(tmp_path / str(n), patients=n, **size) for n in (2, 3))
    for path in (two / "imageSlice").iterdir():
        assert path.read_bytes() == (three / "imageSlice" / path.name).read_bytes()
    other, _ = draw_chest(CHEST, slices=4, size=32, seed=1, number=0)
    same, _ = draw_chest(CHEST, slices=4, size=32, seed=0, number=0)
    assert (other != same).any()
    stored = [np.load(path) for path in sorted((two / "imageSlice").glob("atrium001_*.npy"))]
    np.testing.assert_array_equal(np.stack(stored), same)
    assert json.loads((two / "dataset.json").read_text())["version"] == 2
