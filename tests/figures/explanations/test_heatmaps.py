import numpy as np
import pytest
from PIL import Image, ImageDraw

from seewhy.figures.colours import DIVERGING
from seewhy.figures.explanations.heatmaps import (
    SIDE,
    SMALL,
    PlanarSample,
    headline,
    write_planar,
    write_planar_summary,
)
from seewhy.figures.overlay import (
    REGION,
    draw_annotation,
    draw_outline,
    draw_region,
    enlarge,
    grey,
    overlay,
    resize_to_width,
)
from seewhy.figures.sheet import AMBER, empty_picture

RNG = np.random.default_rng(0)
NAMES = ("mnv", "fluid", "ga", "drusen")
IMAGES = {name: RNG.integers(0, 255, (SIDE, SIDE)).astype(np.uint8) for name in NAMES}
MAPS = {name: RNG.uniform(0, 1, (SIDE, SIDE)).astype(np.float32) for name in NAMES}
MASK = np.zeros((SIDE, SIDE), np.uint8)
MASK[40:80, 50:90] = 1


def pixels(path):
    return np.asarray(Image.open(path))


def count(path, picture):
    """How often the picture stands in the file, pixel by pixel."""
    page, (height, width) = pixels(path), picture.shape[:2]
    starts = np.nonzero((page == picture[0, 0]).all(axis=2))
    return sum(np.array_equal(page[r : r + height, c : c + width], picture) for r, c in zip(*starts, strict=True))


def amber(path):
    return int((pixels(path) == AMBER).all(axis=2).sum())


def write(folder, maps=MAPS, images=IMAGES, **options):
    return write_planar(folder, "case1", images, maps, **{"method": "grad_cam", "scale": (0.0, 1.0), **options})


def test_the_files_are_named_as_the_users_of_the_reference_expect(tmp_path):
    written = write(tmp_path)
    expected = [f"case1_heatmaps/case1_{name}.png" for name in NAMES]
    assert [p.relative_to(tmp_path).as_posix() for p in written] == ["case1_gradcam_visualization.png", *expected]
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(written)
    other = write(tmp_path, method="integrated_gradients", scale=(-1, 1), signed=True)
    assert other[0].name == "case1_integrated_gradients_visualization.png"


def test_the_picture_holds_every_input_and_every_map_on_its_input(tmp_path):
    path = write(tmp_path)[0]
    for name in NAMES:
        assert count(path, grey(IMAGES[name])) == 1
        assert count(path, overlay(IMAGES[name], MAPS[name])) == 1


def test_a_signed_map_is_drawn_with_both_signs(tmp_path):
    signed = {"mnv": MAPS["mnv"] * 2 - 1}
    path = write(tmp_path, maps=signed, images={"mnv": IMAGES["mnv"]}, scale=(-1.0, 1.0), signed=True)[0]
    assert count(path, overlay(IMAGES["mnv"], signed["mnv"], scale=(-1, 1), colormap=DIVERGING)) == 1


def test_the_scale_is_the_runs_and_not_the_samples(tmp_path):
    image = {"mnv": IMAGES["mnv"]}
    weak, strong = MAPS["mnv"] * 0.2, MAPS["mnv"] * 0.2
    strong = strong.copy()
    strong[0, 0] = 50.0
    first, second = (pixels(write(tmp_path, maps={"mnv": heat}, images=image)[1]) for heat in (weak, strong))
    assert len(np.argwhere((first != second).any(axis=2))) == 1
    empty = {"mnv": weak * 0}
    assert count(write(tmp_path, maps=empty, images=image)[0], grey(IMAGES["mnv"])) == 2


def test_maps_that_failed_a_check_are_marked_in_every_file_and_only_then(tmp_path):
    calm = [amber(path) for path in write(tmp_path)]
    warned = [amber(path) for path in write(tmp_path, warnings=["completeness error 38 %"])]
    assert calm == [0] * 5
    assert all(warned)
    one = write(tmp_path, maps={"mnv": MAPS["mnv"]}, warnings=["completeness error 38 %"])[0]
    assert amber(one) < warned[0]


def test_an_input_that_is_missing_says_so_and_gets_no_file(tmp_path):
    maps = {name: MAPS[name] for name in NAMES if name != "ga"}
    written = write(tmp_path, images={**IMAGES, "ga": None}, maps=maps)
    assert count(written[0], empty_picture(SIDE, "not given")) == 2
    assert [p.stem for p in written[1:]] == ["case1_mnv", "case1_fluid", "case1_drusen"]


def test_the_annotation_is_outlined_where_there_is_one(tmp_path):
    path = write(tmp_path, masks={"drusen": MASK})[0]
    assert count(path, draw_outline(grey(IMAGES["drusen"]), MASK)) == 1
    assert count(path, draw_outline(overlay(IMAGES["drusen"], MAPS["drusen"]), MASK)) == 1
    assert count(path, grey(IMAGES["mnv"])) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"shares": {"mnv": 0.4}}, "40 % of attribution"),
        ({"phantom": True}, "phantom data, not patients"),
        ({"unit": "IG (logit)"}, "IG (logit)"),
        ({"title": "pred 2 (p 0.8)"}, "case1 · Grad-CAM · pred 2 (p 0.8)"),
    ],
)
def test_share_title_phantom_and_unit_are_on_the_picture(tmp_path, monkeypatch, options, text):
    texts, draw = [], ImageDraw.ImageDraw.text

    def record(self, place, line, *args, **look):
        texts.append(line)
        draw(self, place, line, *args, **look)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    write(tmp_path)
    assert text not in " ".join(texts)
    texts.clear()
    path = write(tmp_path, **options)[0]
    assert text in " ".join(texts)
    assert count(path, overlay(IMAGES["mnv"], MAPS["mnv"])) == 1


@pytest.mark.parametrize("shape", [(60, 200), (200, 60), (304, 304), (900, 700), (7, 5)])
def test_a_heat_map_of_its_own_is_never_smaller_than_its_input(tmp_path, shape):
    image, heat = RNG.integers(0, 255, shape).astype(np.uint8), RNG.uniform(0, 1, shape).astype(np.float32)
    files = write(tmp_path, images={"x": image}, maps={"x": heat})
    factor = max(1, round(256 / min(shape)))
    shown = overlay(enlarge(grey(image), factor), enlarge(heat, factor))
    assert shown.shape[:2] == (shape[0] * factor, shape[1] * factor)
    assert count(files[1], shown) == 1


@pytest.mark.parametrize("inputs", [1, 4, 6])
@pytest.mark.parametrize("name", ["a", "a_very_long_identifier_of_a_case_from_a_hospital_" * 3])
def test_the_page_has_a_white_margin_all_around_so_that_nothing_is_cut_off(tmp_path, inputs, name):
    images = {f"input_{i}": RNG.integers(0, 255, (50 + 9 * i, 70)).astype(np.uint8) for i in range(inputs)}
    maps = {key: np.ones(image.shape, np.float32) for key, image in images.items()}
    files = write_planar(
        tmp_path, name, images, maps, method="noise_tunnel_ig", scale=(-1e-5, 1e-5), signed=True, unit="u " * 60,
        title=headline(prediction="2 intermediate", probability=0.83, truth="3 advanced"), warnings=["w " * 80],
        shares=dict.fromkeys(images, 1 / inputs), phantom=True,
    )  # fmt: skip
    for path in (files[0], files[-1]):
        page = pixels(path)
        for edge in (page[:4], page[-4:], page[:, :4], page[:, -4:]):
            assert edge.min() == 255


def test_prediction_and_truth_in_one_line():
    text = headline(prediction="2 intermediate", probability=0.834, truth="3 advanced")
    assert text == "pred 2 intermediate (p 0.83) · truth 3 advanced"
    assert headline(prediction="0 HC") == "pred 0 HC · truth unknown"
    assert headline(prediction="0 HC", truth="0 HC", target="1 TLE").endswith("· explained: 1 TLE")
    assert "explained" not in headline(prediction="0 HC", target="0 HC")


def test_the_summary_has_a_row_per_sample_on_one_scale(tmp_path):
    small = {name: RNG.integers(0, 255, (SMALL, SMALL)).astype(np.uint8) for name in NAMES}
    heat = {name: RNG.uniform(0, 1, (SMALL, SMALL)).astype(np.float32) for name in NAMES}
    sample = PlanarSample(id="s1", images=small, maps=heat, title="pred 2 · truth 3")
    weak = PlanarSample(id="s2", images=small, maps={name: own / 2 for name, own in heat.items()})
    path = write_planar_summary(tmp_path / "s.png", [sample, weak, sample], method="grad_cam", scale=(0, 1), limit=2)
    for name in NAMES:
        assert count(path, grey(small[name])) == 2
        assert count(path, overlay(small[name], heat[name])) == 1
        assert count(path, overlay(small[name], heat[name] / 2)) == 1
    assert amber(path) == 0
    failed = PlanarSample(id="s3", images={**small, "ga": None}, maps={"mnv": heat["mnv"]}, warnings=["fails"])
    path = write_planar_summary(tmp_path / "s.png", [failed], method="grad_cam", scale=(0, 1))
    assert amber(path) > 0
    assert count(path, empty_picture(SMALL, "not given")) == 2
    with pytest.raises(ValueError, match="no samples"):
        write_planar_summary(tmp_path / "t.png", [], method="grad_cam", scale=(0, 1))


def test_mistakes_are_named_all_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"'x' has no image; images: mnv.*'ga' of shape \(3, 3\)"):
        write(tmp_path, maps={"x": MAPS["mnv"], "ga": np.zeros((3, 3))})
    with pytest.raises(ValueError, match="symmetric"):
        write(tmp_path, scale=(0, 1), signed=True)
    with pytest.raises(ValueError, match="not safe"):
        write_planar(tmp_path, "../x", IMAGES, MAPS, method="m", scale=(0, 1))
    assert list(tmp_path.iterdir()) == []


def test_fitting_keeps_the_shape_and_the_pixels_shape():
    assert resize_to_width(np.zeros((60, 200, 3), np.uint8), 100).shape == (30, 100, 3)
    assert resize_to_width(np.zeros((60, 200), np.float32), 100, aspect=2.0).shape == (60, 100)
    assert resize_to_width(np.zeros((400, 100), np.float32), 100).shape == (160, 40)
    assert resize_to_width(np.full((9, 9), 3.5), 20).tolist() == np.full((20, 20), 3.5).tolist()
    same = RNG.uniform(size=(20, 20)).astype(np.float32)
    assert resize_to_width(same, 20) is same


def test_an_annotation_of_another_size_is_brought_to_the_pictures():
    picture = np.zeros((40, 40, 3), np.uint8)
    big = np.zeros((40, 40), bool)
    big[10:20, 20:30] = True
    assert np.array_equal(draw_annotation(picture, big[::2, ::2]), draw_outline(picture, big))
    assert draw_annotation(picture, None) is picture


def test_the_region_is_shown_in_a_row_of_its_own_and_all_else_is_dimmed(tmp_path):
    region = dict.fromkeys(NAMES, MASK > 0)
    plain, more = (pixels(write(tmp_path / str(n), region=own)[0]) for n, own in enumerate(({}, region)))
    assert more.shape[0] > plain.shape[0] + SIDE
    picture = draw_region(grey(IMAGES["ga"]), region["ga"])
    assert np.array_equal(picture[50:70, 60:80], grey(IMAGES["ga"])[50:70, 60:80])
    assert picture[0, 0].tolist() == [int(0.25 * IMAGES["ga"][0, 0])] * 3
    assert (picture == REGION).all(axis=2).sum() == 2 * 40 + 2 * 40  # just outside, on four sides
    assert count(write(tmp_path / "0", region=region)[0], picture) == 1


def test_images_of_one_value_each_share_their_own_contrast_and_say_so(tmp_path):
    flat = {
        name: np.full((SIDE, SIDE), value, np.float32) for name, value in zip(NAMES, (1, 0.01, 0, -0.01), strict=True)
    }
    options = {"signed": True, "scale": (-1.0, 1.0), "shares": dict.fromkeys(NAMES, -0.001)}
    uneven = {**flat, "ga": MAPS["ga"] / 10_000}
    common, each = (pixels(write(tmp_path / str(n), maps, **options)[0]) for n, maps in enumerate((flat, uneven)))
    assert each.shape[0] > common.shape[0] + SIDE, "with values of its own each image has its own contrast"
