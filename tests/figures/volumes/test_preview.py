import numpy as np
import pytest

from seewhy.figures.style import png_bytes
from seewhy.figures.volumes.planes import informative_point, read_planes
from seewhy.figures.volumes.preview import PreviewVolume, volume_preview, volume_rows

SHAPE = (10, 14, 18)


@pytest.fixture
def volume():
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def test_three_thin_boxes_are_read_and_nothing_else(volume):
    asked = []

    def read(box):
        asked.append(tuple(part.stop - part.start for part in box))
        return volume[box][None]

    planes = read_planes(read, SHAPE, (3, 5, 7))
    assert asked == [(1, 14, 18), (10, 1, 18), (10, 14, 1)]
    assert np.array_equal(planes.axial, volume[3])
    assert np.array_equal(planes.coronal, volume[:, 5])
    assert np.array_equal(planes.sagittal, volume[:, :, 7])


def test_the_informative_point_is_foreground_with_much_around_it():
    labels = np.zeros(SHAPE, np.uint8)
    labels[2, 3, 4] = 1
    labels[6, 5:12, 8:15] = 2
    labels[3:9, 9, 12] = 2
    z, y, x = informative_point(labels)
    assert z == 6
    assert x in range(8, 15)
    assert labels[z, y, x] == 2
    assert informative_point(np.zeros(SHAPE, np.uint8)) == (5, 7, 9)
    signed = np.zeros(SHAPE, np.float32)
    signed[4, 4, 4] = -3.0
    assert informative_point(signed) == (4, 4, 4)


def test_planes_have_the_shape_of_the_voxels_and_one_scale(volume):
    planes = read_planes(lambda box: volume[box], SHAPE, (3, 5, 7))
    figure = volume_preview(planes, spacing=(5.0, 1.0, 0.5), unit="millimeter")
    png_bytes(figure)  # lays it out
    shown = figure.subfigs[0].axes
    boxes = [axes.get_window_extent() for axes in shown]
    scales = [box.width / abs(np.ptp(axes.get_xlim())) for axes, box in zip(shown, boxes, strict=True)]
    np.testing.assert_allclose(scales, scales[0], rtol=0.02)
    np.testing.assert_allclose(
        [box.height / abs(np.ptp(axes.get_ylim())) for axes, box in zip(shown, boxes, strict=True)], scales, rtol=0.02
    )
    assert [tuple(axes.images[0].get_extent()) for axes in shown] == [(0, 9, 14, 0), (0, 9, 50, 0), (0, 14, 50, 0)]
    assert [text.get_text() for text in shown[0].texts] == ["2 mm"]


def test_what_is_drawn_is_said(volume):
    planes = read_planes(lambda box: volume[box], SHAPE, (3, 5, 7))
    labels = planes.map(lambda plane: (plane > 1).astype(np.uint8) * 2)
    figure = volume_preview(planes, labels, truth_planes=labels, classes=["a", "b"], title="v", phantom=True)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "true outline"]
    assert figure._suptitle.get_text() == "v · phantom data"
    assert "PHANTOM data, not patients" in figure._supxlabel.get_text()
    coloured = figure.subfigs[0].axes[0].images[0].get_array()
    grey = (coloured[..., 0] == coloured[..., 1]) & (coloured[..., 1] == coloured[..., 2])
    assert np.array_equal(~grey, labels.axial > 0)


@pytest.mark.parametrize("kind", ["probability", "attribution"])
def test_maps_have_a_colour_bar_on_the_given_scale(kind, volume):
    planes = read_planes(lambda box: volume[box], SHAPE, (3, 5, 7))
    scale = (0.0, 2.0) if kind == "probability" else (-2.0, 2.0)
    figure = volume_rows([PreviewVolume(image=planes, overlay=planes)] * 2, kind=kind, scale=scale, scale_name="p")
    bars = [axes for row in figure.subfigs for axes in row.axes if axes.get_ylabel() == "p"]
    assert [bar.get_ylim() for bar in bars] == [scale, scale]
    still = planes.map(np.zeros_like)
    nothing = volume_rows([PreviewVolume(image=planes, overlay=still)], kind=kind, scale=scale)
    plain = volume_rows([PreviewVolume(image=planes)])
    for axes, other in zip(nothing.subfigs[0].axes[:3], plain.subfigs[0].axes, strict=True):
        assert np.array_equal(axes.images[0].get_array(), other.images[0].get_array())


def test_a_map_that_failed_is_framed_and_the_reason_is_read(volume):
    planes = read_planes(lambda box: volume[box], SHAPE, (3, 5, 7))
    plain, marked = (
        volume_preview(planes, planes, kind="attribution", scale=(-1.0, 1.0), title="map", warnings=warnings)
        for warnings in ((), ("it is the same without weights",))
    )
    assert marked._suptitle.get_text().split("\n") == ["map", "⚠ it is the same without weights"]
    for figure, frames in ((plain, 0), (marked, 2)):
        assert all(len(axes.patches) == frames for axes in figure.subfigs[0].axes[:3])


def test_no_volumes_are_refused():
    with pytest.raises(ValueError, match="no volumes"):
        volume_rows([])
