import numpy as np
import pytest
from PIL import Image

from seewhy.figures.colours import DIVERGING, apply_colormap
from seewhy.figures.marks import Marks, draw_marks
from seewhy.figures.overlay import draw_outline, grey, overlay, resize_to_width
from seewhy.figures.sheet import AMBER
from seewhy.figures.style import turn_upright
from seewhy.figures.volumes.maps import SIDE, SMALL, write_slices
from seewhy.io.geometry import Display

RNG = np.random.default_rng(0)
VOLUME = RNG.normal(size=(12, 40, 30)).astype(np.float32)
MAPS = RNG.normal(size=(12, 40, 30)).astype(np.float32)
WINDOW = tuple(float(end) for end in np.percentile(VOLUME, (0.5, 99.5)))
SLICES = [(2, 12), (5, 15), (11, 21)]


def pixels(path):
    return np.asarray(Image.open(path))


def count(path, picture):
    page, (height, width) = pixels(path), picture.shape[:2]
    starts = np.nonzero((page == picture[0, 0]).all(axis=2))
    return sum(np.array_equal(page[r : r + height, c : c + width], picture) for r, c in zip(*starts, strict=True))


def amber(path):
    return int((pixels(path) == AMBER).all(axis=2).sum())


def write(folder, method="saliency", volume=VOLUME, maps=MAPS, **options):
    return write_slices(
        folder, "s1", method, volume, maps, **{"slices": SLICES, "scale": (-2, 2), "signed": True, **options}
    )


def picture(position, side=SIDE):
    return resize_to_width(grey(VOLUME[position], window=WINDOW), side)


def test_the_files_are_numbered_as_in_the_scan(tmp_path):
    names = ["s1_saliency_slice_12.png", "s1_saliency_slice_15.png", "s1_saliency_slice_21.png"]
    assert [p.name for p in write(tmp_path / "s1")] == [*names, "s1_saliency_summary.png"]
    assert len(list((tmp_path / "s1").iterdir())) == 4


def test_a_slice_is_shown_with_its_map_and_their_overlay(tmp_path):
    for path, (position, _) in zip(write(tmp_path), SLICES, strict=False):
        heat = resize_to_width(MAPS[position], SIDE)
        assert count(path, picture(position)) == 1
        assert count(path, apply_colormap(heat, scale=(-2, 2), colormap=DIVERGING)) == 1
        assert count(path, overlay(picture(position), heat, scale=(-2, 2), colormap=DIVERGING)) == 1


def test_the_summary_has_all_slices_above_and_all_overlays_below_also_when_they_do_not_fit_in_a_row(tmp_path):
    slices = [(i, i + 10) for i in range(12)]
    path = write(tmp_path, slices=slices)[-1]
    for position, _ in slices:
        assert count(path, picture(position, SMALL)) == 1
        shown = overlay(
            picture(position, SMALL), resize_to_width(MAPS[position], SMALL), scale=(-2, 2), colormap=DIVERGING
        )
        assert count(path, shown) == 1


def test_a_weak_map_is_drawn_again_with_its_own_contrast(tmp_path):
    weak = MAPS / 10
    high = float(np.percentile(np.abs(weak), 99.5))
    for path, side in ((write(tmp_path, maps=weak)[0], SIDE), (write(tmp_path, maps=weak)[-1], SMALL)):
        heat, base = resize_to_width(weak[2], side), picture(2, side)
        for scale in ((-2, 2), (-high, high)):
            assert count(path, overlay(base, heat, scale=scale, colormap=DIVERGING)) == 1


def test_one_window_and_one_scale_for_all_slices(tmp_path):
    volume, maps = np.zeros((4, 40, 40), np.float32), np.zeros((4, 40, 40), np.float32)
    volume[1:, 10:30, 10:30] = 1.0
    volume[3] *= 2.0
    maps[1:3] = 0.5
    one, two, three = (
        pixels(p) for p in write(tmp_path, volume=volume, maps=maps, slices=[(1, 1), (2, 2), (3, 3)])[:3]
    )
    differing = np.argwhere((one != two).any(axis=2))
    assert len(differing) == 0 or differing[:, 0].max() < 80  # only the slice's number above
    assert (one[200] != three[200]).any()


def test_pictures_are_turned_and_stretched_for_the_eye(tmp_path):
    display = Display(transpose=True, flip_rows=True)
    path = write(tmp_path, display=display, spacing=(3.0, 1.0, 2.0))[0]
    # Turned, the 30 columns of 2 mm are rows and the 40 rows of 1 mm are columns.
    turned = resize_to_width(turn_upright(grey(VOLUME[2], window=WINDOW), display), SIDE, aspect=2.0)
    assert turned.shape == (384, SIDE, 3)
    assert count(path, draw_marks(turned, Marks(columns=40, mm=1.0))) == 1
    flat = resize_to_width(grey(VOLUME[2], window=WINDOW), SIDE, aspect=0.5)
    assert count(write(tmp_path, spacing=(3.0, 1.0, 2.0))[0], draw_marks(flat, Marks(columns=30, mm=2.0))) == 1


def test_the_annotation_is_outlined_on_slice_and_overlay_and_never_on_the_map(tmp_path):
    mask = np.zeros(VOLUME.shape, np.uint8)
    mask[2, 10:20, 8:16] = 1
    path = write(tmp_path, mask=mask)[0]
    heat = resize_to_width(MAPS[2], SIDE)
    size = picture(2).shape[1::-1]
    edge = np.asarray(Image.fromarray(mask[2]).resize(size, Image.Resampling.NEAREST))
    assert count(path, draw_outline(picture(2), edge)) == 1
    assert count(path, draw_outline(overlay(picture(2), heat, scale=(-2, 2), colormap=DIVERGING), edge)) == 1
    assert count(path, apply_colormap(heat, scale=(-2, 2), colormap=DIVERGING)) == 1


def test_one_map_for_all_slices_is_the_same_in_each(tmp_path):
    for path in write(tmp_path, maps=np.abs(MAPS[0]), scale=(0, 2), signed=False)[:3]:
        assert count(path, apply_colormap(resize_to_width(np.abs(MAPS[0]), SIDE), scale=(0, 2))) == 1


def test_maps_that_failed_a_check_are_marked_in_every_file(tmp_path):
    assert [amber(p) for p in write(tmp_path)] == [0] * 4
    assert all(amber(p) for p in write(tmp_path, warnings=["fails randomisation test"]))


def test_mistakes_are_named_all_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"maps of shape \(3, 40, 30\).*slices 22 \(position 12\), 5 \(position -1\)"):
        write(tmp_path, maps=MAPS[:3], slices=[(12, 22), (-1, 5), (0, 6)])
    with pytest.raises(ValueError, match="no slices"):
        write(tmp_path, slices=[])
    with pytest.raises(ValueError, match="symmetric"):
        write(tmp_path, scale=(-1, 2))
    assert list(tmp_path.iterdir()) == []
