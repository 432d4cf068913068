"""Figures of translations: sizes, fonts, shared scales, and nothing left out that a reader needs."""

import re
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.texmanager import TexManager
from PIL import Image

from seewhy.figures.colours import DIVERGING, colour_table, greyscale, signed_scale
from seewhy.figures.translation.case import AttentionView, TranslationCase, crop_frame, score_text
from seewhy.figures.translation.ieee import (
    COLUMN,
    DPI,
    PAGE,
    ieee_style,
    is_latex_available,
    typeset,
    write_ieee,
)
from seewhy.figures.translation.slices import attention_overlay, comparison, cycle_consistency, multimodality

MODALITIES = ("t1", "t1ce", "t2", "flair")
LOOK = {"modalities": MODALITIES, "what": "best_by cycle SSIM", "phantom": True}


def case(seed=0, *, direction="a2b", truth=True, back=True, spacing=(1.0, 1.0), shape=(40, 32), score="cycle SSIM"):
    rng = np.random.default_rng(seed)
    body = np.zeros(shape, bool)
    body[6:34, 4 : 24 + 2 * seed] = True

    def planes():
        return np.where(body, rng.uniform(-1, 1, (4, *shape)), -1).astype(np.float32)

    return TranslationCase(
        subject=f"S_{seed}",
        number=10 + seed,
        direction=direction,
        input=planes(),
        translated=planes(),
        reconstructed=planes() if back else None,
        truth=planes() if truth else None,
        body=body,
        scores={score: [0.1, 0.25, 0.3, 0.4]},
        spacing=spacing,
    )


def view(one, seed=0):
    rng = np.random.default_rng(seed)
    attention = rng.random((10, 8))
    return AttentionView(
        case=one, gate=rng.random((40, 32)), gate_name="decoder.1.3.spatial_attn",
        attention=attention / attention.sum(), attention_name="global_attention",
    )  # fmt: skip


FIGURES = {
    "comparison": (PAGE, lambda: comparison([case(0), case(1), case(2)], modality="t1ce", **LOOK)),
    "multimodality": (COLUMN, lambda: multimodality(case(), **LOOK)),
    "cycle": (PAGE, lambda: cycle_consistency([case(), case(1, direction="b2a")], modality="t2", **LOOK)),
    "attention": (PAGE, lambda: attention_overlay([view(case()), view(case(1))], modality="flair", **LOOK)),
}


def made(name):
    with ieee_style():
        return FIGURES[name][1]()


def texts(figure):
    drawn = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    return [text.get_text() for text in drawn]


def cells(figure):
    return [axes for axes in figure.axes if axes.images]


@pytest.mark.parametrize("name", FIGURES)
def test_files_have_the_width_of_the_paper_and_real_fonts(name, tmp_path):
    before = dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = made(name)
        files = write_ieee(tmp_path / f"fig_best_{name}", figure)
    assert dict(matplotlib.rcParams) == before
    assert [file.name for file in files] == [f"fig_best_{name}.pdf", f"fig_best_{name}.png"]
    width, height = figure.get_size_inches()
    assert width == FIGURES[name][0]
    with Image.open(files[1]) as picture:
        assert picture.size == (int(width * DPI), int(height * DPI))
        assert picture.info["dpi"] == pytest.approx((DPI, DPI), abs=0.5)
    pdf = files[0].read_bytes()
    box = [float(number) for number in re.search(rb"/MediaBox \[ ([^\]]+) \]", pdf)[1].split()]
    assert box[2] == pytest.approx(72 * width, abs=0.01)
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    if not is_latex_available():
        assert b"Cmr10" in pdf


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_and_texts_do_not_meet(name):
    figure = made(name)
    renderer = figure.canvas.get_renderer()
    figure.draw(renderer)
    wide, tall = figure.bbox.width, figure.bbox.height
    boxes = [text.get_window_extent(renderer) for text in figure.texts]
    boxes += [text.get_window_extent(renderer) for axes in figure.axes for text in axes.get_xticklabels()]
    boxes = [box for box in boxes if box.width > 1]
    for box in boxes:
        assert min(box.x0, box.y0, wide - box.x1, tall - box.y1) >= -0.5
    for place, box in enumerate(boxes):
        assert not any(box.shrunk(0.95, 0.8).overlaps(other.shrunk(0.95, 0.8)) for other in boxes[:place])


@pytest.mark.parametrize("name", FIGURES)
def test_a_phantom_is_called_one(name):
    assert any("PHANTOM" in text for text in texts(made(name)))


def test_rows_share_one_grey_window_and_one_signed_scale():
    cases = [case(0), case(1), case(2)]
    with ieee_style():
        figure = comparison(cases, modality="t1ce", **LOOK)
    shown = cells(figure)
    assert len(shown) == 15  # input, translation, truth, difference, reconstruction
    limits = [axes.images[0].get_clim() for axes in shown]
    greys = {limit for place, limit in enumerate(limits) if place % 5 != 3}
    signed = {limit for place, limit in enumerate(limits) if place % 5 == 3}
    values = np.concatenate(
        [one[1][own.body] for own in cases for one in (own.input, own.translated, own.reconstructed, own.truth)]
    )
    assert greys == {tuple(np.percentile(values.astype(float), (0.5, 99.5)))}
    magnitudes = np.concatenate([np.abs(own.translated[1] - own.truth[1])[own.body] for own in cases])
    ((low, high),) = signed
    assert (low, high) == pytest.approx((-np.percentile(magnitudes, 99.5), np.percentile(magnitudes, 99.5)))
    assert len(figure.axes) - len(shown) == 2  # colour bars


def test_differences_are_to_the_truth_or_else_to_the_input_and_say_which():
    with ieee_style():
        known, unknown = case(), case(truth=False, back=False)
        with_truth = comparison([known], modality="t1", **LOOK)
        without = comparison([unknown], modality="t1", **LOOK)
        arrow, minus = typeset("\N{RIGHTWARDS ARROW}"), typeset("\N{MINUS SIGN}")
    assert f"A {arrow} B {minus} true B" in texts(with_truth)
    assert f"A {arrow} B {minus} input A" in texts(without)
    assert len(cells(without)) == 3
    drawn = cells(with_truth)[3].images[0].get_array()
    assert np.allclose(drawn[known.body], (known.translated[0] - known.truth[0])[known.body])
    assert np.isnan(np.asarray(drawn.filled(np.nan))[~known.body]).all()
    drawn = cells(without)[2].images[0].get_array()
    assert np.allclose(drawn[unknown.body], (unknown.translated[0] - unknown.input[0])[unknown.body])


def test_scores_stand_under_their_real_names():
    with ieee_style():
        figure = comparison([case(score="SSIM to the true counterpart")], modality="t1ce", **LOOK)
        whole = multimodality(case(), **LOOK)
    assert "SSIM to the true counterpart 0.250" in texts(figure)
    assert [text for text in texts(whole) if re.fullmatch(r"0\.\d{3}", text)] == ["0.100", "0.250", "0.300", "0.400"]
    assert any(text.endswith("cycle SSIM") and text.startswith("numbers in") for text in texts(whole))
    assert [score_text(value) for value in (1.0, 0.99996, 0.9994, 31.4)] == ["1.000", "> 0.999", "0.999", "31.400"]


def test_pixels_keep_their_shape():
    flat = case(spacing=(2.0, 1.0))
    with ieee_style():
        figure = comparison([flat], modality="t1", **LOOK)
    axes = cells(figure)[0]
    width, height = figure.get_size_inches()
    place = axes.get_position()
    per_mm = (
        place.width * width / abs(np.diff(axes.get_xlim())[0]),
        place.height * height / abs(np.diff(axes.get_ylim())[0]),
    )
    assert per_mm[0] == pytest.approx(per_mm[1], rel=1e-6)
    assert axes.images[0].get_extent() == [0, 32, 80, 0]


def test_maps_keep_their_grids_and_are_not_smoothed():
    one = view(case())
    with ieee_style():
        figure = attention_overlay([one], modality="t1", **LOOK)
    images = [image for axes in cells(figure) for image in axes.images]
    assert {image.get_interpolation() for image in images} == {"nearest"}
    assert [image.get_array().shape for image in images] == [
        (40, 32), (40, 32), (40, 32), (40, 32), (10, 8), (40, 32), (10, 8),
    ]  # fmt: skip
    assert np.allclose(images[4].get_array(), one.attention * 80)
    assert any("40" in text and "32" in text for text in texts(figure))
    assert any("10" in text and "8" in text for text in texts(figure))


def test_a_network_with_gates_only_is_drawn_without_self_attention():
    one = view(case())
    with ieee_style():
        figure = attention_overlay([AttentionView(case=one.case, gate=one.gate, gate_name="g")], modality="t1", **LOOK)
    assert len(cells(figure)) == 3
    assert "Self-attention" not in texts(figure)


def test_scales_of_flat_images_are_scales():
    assert (greyscale([np.zeros(5)], name="x").low, greyscale([np.zeros(5)], name="x").high) == (-0.5, 0.5)
    flat = signed_scale([np.zeros(5), np.full(3, np.nan)], name="x")
    assert (flat.low, flat.high) == (-1.0, 1.0)
    assert np.allclose(flat.colours(0.5)[:3], 1.0, atol=0.01)
    assert np.allclose(flat.colours(1.0)[:3], colour_table(DIVERGING)[-1] / 255)
    assert crop_frame(np.zeros((4, 6)), (1, 2)).centre == (2, 6)


def test_a_frame_holds_the_tissue():
    body = np.zeros((10, 10))
    body[2:6, 3:9] = 1
    frame = crop_frame(body, (1.0, 0.5))
    assert frame.centre == (4.0, 3.0)
    assert frame.half == pytest.approx((0.52 * 4, 0.52 * 3))


def test_text_is_set_as_computer_modern_has_it():
    with ieee_style(latex=False):
        assert typeset("S_1 <2> 5%") == r"S$\_$1 $<$2$>$ 5%"
    with ieee_style(latex=True):
        assert typeset("S_1 5%") == r"S$\_$1 5\%"


@pytest.mark.parametrize("programs", [(), ("latex",), ("latex", "dvipng")])
def test_latex_that_lacks_packages_is_not_taken(programs, tmp_path, monkeypatch):
    for program in programs:
        (tmp_path / program).write_text("#!/bin/sh\necho '! LaTeX Error: File `type1cm.sty not found.'\nexit 1\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(TexManager, "_cache_dir", tmp_path)  # where a real one's results may lie
    is_latex_available.cache_clear()
    try:
        assert not is_latex_available()
        with ieee_style():
            assert not matplotlib.rcParams["text.usetex"]
            write_ieee(tmp_path / "figure", comparison([case()], modality="t1", **LOOK))
    finally:
        is_latex_available.cache_clear()
    assert (tmp_path / "figure.pdf").is_file()


def test_a_modality_that_is_none():
    with ieee_style(), pytest.raises(ValueError, match="expected one of t1, t1ce, t2, flair"):
        comparison([case()], modality="pd", **LOOK)
