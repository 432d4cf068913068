"""Figures of a run's explanations: statistics, shares, ranking, and the report's section."""

import csv
import subprocess
import sys
from itertools import pairwise

import matplotlib.text
import numpy as np
import pytest
from PIL import Image

from seewhy.figures.explanations.ranking import ranking_figure, read_ranking
from seewhy.figures.explanations.shares import branch_shares, slice_profile
from seewhy.figures.explanations.statistics import attribution_summary
from seewhy.figures.explanations.tables import explanation_section
from seewhy.figures.labels import method_label
from seewhy.figures.report.blocks import Picture, ReportTable
from seewhy.figures.report.page import write_report
from seewhy.figures.style import PALETTE, add_captions, blank_figure, log_axis, style_axes

REFERENCE = [
    *("method", "shape", "mean", "std", "min", "max", "abs_mean", "positive_ratio", "negative_ratio"),
    *("subject_id", "true_label", "prediction", "sample_idx"),
]


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text() and t.get_visible()]


def statistics(tmp_path):
    """The reference's own columns, as text from a file: strength grows with the score for IG, falls for saliency."""
    path = tmp_path / "attribution_statistics.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, REFERENCE)
        writer.writeheader()
        for i in range(6):
            shared = {"shape": "(115, 128, 128)", "mean": 0, "std": 1, "min": -1, "max": 1, "subject_id": f"s{i}",
                      "true_label": i % 2, "prediction": 0.1 + 0.1 * i, "sample_idx": i}  # fmt: skip
            for method, strength in (("integrated_gradients", 1e-3 * (i + 1)), ("saliency", 50.0 - i)):
                signs = {"positive_ratio": 0.6, "negative_ratio": 0.3 if method == "integrated_gradients" else 0.0}
                writer.writerow({**shared, **signs, "method": method, "abs_mean": strength})
        writer.writerow({**shared, **signs, "method": "saliency", "abs_mean": 0.0})
        writer.writerow({**shared, **signs, "method": "saliency", "abs_mean": "nan"})
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_summary_draws_every_row_of_the_references_table(tmp_path):
    figure = attribution_summary(statistics(tmp_path), title="mri", phantom=True)
    strength, confidence, signs, labels = figure.axes
    dots = np.concatenate([c.get_offsets()[:, 0] for c in strength.collections])
    assert sorted(dots) == pytest.approx([1e-3 * (i + 1) for i in range(6)] + [45.0 + i for i in range(6)])
    found = texts(figure)
    assert "mri · 13 maps · phantom data" in found
    assert "mean |attribution| of a map (1 map of zeros not drawn)" in found
    assert "integrated gradients, ρ 1.00" in found  # noqa: RUF001
    assert "saliency, ρ −1.00" in found  # noqa: RUF001
    x, y = np.asarray(np.concatenate([c.get_offsets() for c in confidence.collections])).T
    assert sorted(x) == pytest.approx(sorted([0.1 + 0.1 * i for i in range(6)] * 2))
    assert np.median(y[:6]) == pytest.approx(1.0)
    widths = sorted(round(bar.get_width(), 3) for bar in signs.patches)
    assert widths == [-0.3, 0.0, 0.6, 0.6]
    assert {"0 (6 maps)", "1 (7 maps)"} <= set(found)
    assert len(np.concatenate([c.get_offsets() for c in labels.collections])) == 12


def test_a_class_number_is_no_confidence_and_labels_may_be_unknown():
    rows = [{"method": "saliency", "abs_mean": 1.0, "prediction": 1}]
    found = texts(attribution_summary(rows))
    assert "no probability in the table" in found
    assert "no true_label in the table" in found
    with pytest.raises(ValueError, match="abs_mean"):
        attribution_summary([{"method": "saliency", "abs_mean": ""}])


def test_the_profile_is_the_mean_share_of_every_slice_beside_an_even_spread():
    profiles = {"HC": [[0.1, 0.2, 0.3, 0.4], [0.3, 0.2, 0.1, 0.4]], "TLE": [[0.7, 0.1, 0.1, 0.1]]}
    figure = slice_profile(profiles, numbers=[10, 11, 12, 13], method="grad_cam", key_slices=[11, 12], phantom=True)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["HC (2 cases)"].get_ydata() == pytest.approx([20, 20, 20, 40])
    assert lines["TLE (1 case)"].get_xdata().tolist() == [10, 11, 12, 13]
    assert lines["spread evenly"].get_ydata()[0] == 25.0
    assert lines["slices with pictures"].get_xdata().tolist() == [11, 12]
    assert "Grad-CAM · phantom data" in texts(figure)
    with pytest.raises(ValueError, match="'HC' have 4 slices; expected 3"):
        slice_profile(profiles, numbers=[1, 2, 3], method="grad_cam")
    with pytest.raises(ValueError, match="no case"):
        slice_profile({"HC": []}, numbers=[], method="grad_cam")


def test_shares_of_inputs_stand_above_what_leaving_them_out_does():
    shares = {"early": {"mnv": [0.2, 0.4], "ga": [0.8, 0.6]}, "late": {"mnv": [0.5], "ga": [0.5]}}
    effects = {"late": {"mnv": [1.5], "ga": [float("nan")]}, "early": {"mnv": [-0.5, 0.5], "ga": [2.0, 4.0]}}
    above, below = branch_shares(shares, method="grad_cam", effects=effects).axes

    def bars(axes):
        drawn = [bar for bar in axes.patches if bar.get_width() < 0.5]
        return sorted((round(bar.get_x() + bar.get_width() / 2), round(bar.get_height(), 6)) for bar in drawn)

    assert bars(above) == [(0, 30), (0, 70), (1, 50), (1, 50)]
    assert bars(below) == [(0, 0), (0, 3), (1, 1.5)]
    assert [t.get_text() for t in below.get_xticklabels()] == ["early\n2 cases", "late\n1 case"]
    assert len(branch_shares(shares, method="grad_cam").axes) == 1
    with pytest.raises(ValueError, match="no shares"):
        branch_shares({}, method="grad_cam")


ROWS = [
    {"method": "saliency", "score": "pointing", "value": 0.3, "low": 0.05, "high": 0.5, "floor": 0.1},
    {"method": "grad_cam", "score": "pointing", "value": 0.8, "low": 0.7, "high": 0.9, "floor": 0.1},
    {"method": "saliency", "score": "randomisation", "value": 0.9, "floor": 0.4, "higher_is_better": False},
    {"method": "grad_cam", "score": "randomisation", "value": "0.1", "floor": "0.4", "higher_is_better": "False"},
    {"method": "saliency", "score": "completeness", "value": 0.02, "floor": 0.05, "higher_is_better": False},
    {"method": "saliency", "score": "seconds", "value": 0.01, "higher_is_better": False},
    {"method": "grad_cam", "score": "seconds", "value": 9.0, "higher_is_better": False},
    {"method": "grad_cam", "score": "stability", "value": float("nan")},
]


def test_the_best_method_comes_first_whatever_its_time():
    ranking = read_ranking(ROWS)
    assert ranking.methods == ["grad_cam", "saliency"]
    fast = [{**row, "score": f"seconds {i}"} for row in ROWS[5:7] for i in range(3)]
    assert read_ranking([*ROWS, *fast]).methods == ["grad_cam", "saliency"]
    assert read_ranking([{**row, "higher_is_better": True} for row in ROWS[2:4]]).methods == ["saliency", "grad_cam"]
    assert ranking.scores == ["pointing", "randomisation", "completeness", "seconds"]


def test_what_does_not_clear_its_floor_with_its_whole_interval_is_hollow():
    clear = {(entry.method, entry.score): entry.clear for entry in read_ranking(ROWS).entries}
    assert clear == {
        ("saliency", "pointing"): False, ("grad_cam", "pointing"): True,
        ("saliency", "randomisation"): False, ("grad_cam", "randomisation"): True,
        ("saliency", "completeness"): True, ("saliency", "seconds"): True, ("grad_cam", "seconds"): True,
    }  # fmt: skip
    axes = ranking_figure(ROWS, phantom=True, title="amd").axes[0]
    faces = {float(line.get_xdata()[0]): line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"}
    assert faces == {0.8: PALETTE[0], 0.3: "white"}


def test_every_score_has_a_panel_with_its_floor_and_direction():
    figure = ranking_figure(ROWS, phantom=True, title="amd", note="24 patients")
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_visible()}
    assert list(panels) == ["pointing", "randomisation", "completeness", "seconds"]
    assert panels["pointing"].get_xlabel().startswith("higher")
    assert all(panels[name].get_xlabel().endswith("lower is better") for name in list(panels)[1:])
    drawn = [tuple(float(x) for x in line.get_xdata()) for line in panels["pointing"].lines]
    assert (0.7, 0.9) in drawn
    assert (0.1, 0.1) in drawn
    assert panels["seconds"].get_xscale() == "log"
    assert "amd · phantom data" in texts(figure)
    assert any("24 patients" in text for text in texts(figure))
    with pytest.raises(ValueError, match="nothing to rank"):
        ranking_figure([{"method": "saliency", "score": "pointing", "value": ""}])


def test_re_initialised_networks_are_a_floor_of_their_own_method():
    rows = [{**row, "untrained": 0.75} for row in ROWS[:2]]
    clear = {entry.method: entry.clear for entry in read_ranking(rows).entries}
    assert clear == {"saliency": False, "grad_cam": False}  # 0.7, the lower bound, is above chance and below 0.75
    assert read_ranking([{**rows[1], "untrained": 0.69}]).entries[0].clear
    (axes,) = (figure := ranking_figure(rows)).axes
    crosses = [tuple(map(float, line.get_xdata())) for line in axes.lines if line.get_marker() == "x"]
    assert crosses == [(0.75,), (0.75,)]
    assert any("re-initialised" in text.replace("\n", "") for text in texts(figure))
    assert not any("re-initialised" in text for text in texts(ranking_figure(ROWS)))
    table = next(block for block in explanation_section(rows=rows).blocks if isinstance(block, ReportTable))
    assert list(table.rows[0])[1] == "0.8 [0.7, 0.9]; re 0.75 *"
    assert "re: the same method, re-initialised networks" in table.caption


def test_floors_that_differ_are_drawn_beside_each_method():
    rows = [{**row, "floor": 0.1 * i} for i, row in enumerate(ROWS[:2], start=1)]
    (axes,) = ranking_figure(rows).axes
    dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert sorted(float(line.get_xdata()[0]) for line in dotted) == [0.1, 0.2]
    assert all(np.ptp(line.get_ydata()) < 1 for line in dotted)


@pytest.mark.parametrize(
    ("low", "high"), [(0.9, 1.1), (0.5, 2), (0.01, 0.1), (0.009, 0.11), (0.1, 10), (1e-5, 1), (1e-20, 1e3)]
)
def test_numbers_on_a_logarithmic_axis_are_few_and_plain(low, high):
    figure = blank_figure(3, 2)
    axes = figure.subplots()
    style_axes(axes)
    axes.plot([low, high], [0, 1])
    log_axis(axes, "x")
    figure.canvas.draw()
    left, right = axes.get_xlim()
    labels = [t for t in axes.get_xticklabels() if left <= t.get_position()[0] <= right]
    shown = [t.get_text() for t in labels]
    boxes = sorted((t.get_window_extent().x0, t.get_window_extent().x1) for t in labels)
    assert all(end < start for (_, end), (start, _) in pairwise(boxes))
    assert 1 <= len(shown) <= 8
    assert not any("times" in text or "^" in text for text in shown)


def test_titles_are_broken_where_the_figure_ends():
    figure = add_captions(blank_figure(3, 2), head="word " * 30, foot="small print " * 20)
    figure.canvas.draw()
    for text in (figure._suptitle, figure._supxlabel):
        assert text.get_window_extent().x1 <= figure.bbox.x1


def test_the_section_says_first_what_failed_then_the_scores_then_some_pictures(tmp_path):
    paths = {f"case {i}": tmp_path / f"{i}.png" for i in range(4)}
    for path in paths.values():
        Image.new("RGB", (4, 4)).save(path)
    section = explanation_section(
        rows=ROWS, failures={"saliency": ["rank corr 0.90 with a random model"], "grad_cam": []},
        figures={"ranking": ranking_figure(ROWS)}, pictures=paths, limit=3, note="24 patients", phantom=True,
    )  # fmt: skip
    table = next(block for block in section.blocks if isinstance(block, ReportTable))
    assert table.columns == ["", "pointing ↑", "randomisation ↓", "completeness ↓", "seconds ↓"]
    rows = {row[0]: list(row[1:]) for row in table.rows}
    assert rows["Grad-CAM"] == ["0.8 [0.7, 0.9]", "0.1", "–", "9"]  # noqa: RUF001
    assert rows["saliency (failed a check)"] == ["0.3 [0.05, 0.5] *", "0.9 *", "0.02", "0.01"]
    assert rows["floor"] == ["0.1", "0.4", "0.05", "–"]  # noqa: RUF001
    assert "PHANTOM" in table.caption
    assert "24 patients" in table.caption
    assert sum(isinstance(block, Picture) for block in section.blocks) == 4
    page = write_report(tmp_path / "r" / "report.html", title="t", sections=[section]).read_text(encoding="utf-8")
    assert page.index("0.90 with a random model") < page.index("<table>") < page.index("case 0")
    assert "1 more picture is in" in page
    with pytest.raises(ValueError, match="no scores and no pictures"):
        explanation_section()


def test_names_of_methods():
    assert [method_label(name) for name in ("grad_cam_plus_plus", "saliency", "my_own_method")] == [
        "Grad-CAM++", "saliency", "my own method",
    ]  # fmt: skip


def test_these_figures_need_no_torch_and_no_pyplot():
    code = (
        "import sys; import seewhy.figures.explanations.tables, seewhy.figures.explanations.statistics, "
        "seewhy.figures.explanations.shares, "
        "seewhy.figures.volumes.maps, seewhy.figures.explanations.heatmaps; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib.pyplot', 'lightning')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shares_with_a_sign_are_not_cut_off():
    above = branch_shares({"early": {"a": [1.2], "b": [-0.2]}}, method="shapley_inputs").axes[0]
    low, high = above.get_ylim()
    assert low < -20
    assert high > 120
    assert "sign" in above.get_ylabel()
