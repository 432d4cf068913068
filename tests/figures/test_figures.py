import csv
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from seewhy.figures.patient_panel import PanelCase, panel
from seewhy.figures.results import scores_figure
from seewhy.figures.style import png_bytes, write_figure
from seewhy.figures.training import training_curves


def case(name="BRATS_001_70", *, mask=True, maps=("cam", "refined")):
    image = np.zeros((60, 48), np.float32)
    image[10:50, 8:40] = np.random.default_rng(0).random((40, 32)) + 1
    truth = np.zeros((60, 48), np.uint8)
    truth[20:30, 15:25] = 1
    heat = truth * 0.8
    return PanelCase(
        name=name,
        image=image,
        maps=dict.fromkeys(maps, heat),
        mask=truth if mask else None,
        probability=0.93,
        label="lesion",
        scores={"cam": 0.625},
    )


def texts(figure):
    import matplotlib.text

    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


def test_panel_has_a_row_per_case_a_column_per_map_and_says_what_it_shows():
    figure = panel([case(), case("BRATS_002_10")], title="brats", phantom=True)
    images = [axes for axes in figure.axes if axes.images]
    assert len(images) == 2 * 4
    found = texts(figure)
    assert "brats · phantom data" in found
    for text in ("image", "truth", "CAM", "refined", "BRATS_002_10", "p = 0.93 · lesion", "Dice 0.62", "100 px"):
        assert text in found
    assert "cyan: annotation   white: map above 0.5" in found


def test_panel_without_masks_has_no_truth_and_with_a_missing_map_an_empty_cell():
    figure = panel([case(mask=False), case(mask=False, maps=("cam",))])
    assert "truth" not in texts(figure)
    assert sum(bool(axes.images) for axes in figure.axes) == 3 + 2


def test_panel_crops_the_air_and_never_the_lesion():
    far = case()
    far.mask[2:5, 2:5] = 1
    shapes = [panel([c]).axes[0].images[0].get_array().shape[:2] for c in (case(), far)]
    assert shapes[0] == (44, 36)
    assert shapes[1] == (52, 42)


def test_panel_crops_air_that_is_brighter_than_the_darkest_tissue():
    dark = case()
    dark.image[30, 20] = -5
    assert panel([dark]).axes[0].images[0].get_array().shape[:2] == (44, 36)


def test_panel_needs_a_case():
    with pytest.raises(ValueError, match="no cases"):
        panel([])


def test_figures_are_written_whole_at_their_size(tmp_path):
    figure = panel([case()])
    size = Image.open(write_figure(tmp_path / "f" / "a.png", figure, dpi=50)).size
    assert size == tuple(int(round(inches * 50, 6)) for inches in figure.get_size_inches())
    write_figure(tmp_path / "f" / "a.png", figure, formats=("png", "pdf"))
    assert (tmp_path / "f" / "a.pdf").read_bytes().startswith(b"%PDF")
    assert sorted(p.name for p in (tmp_path / "f").iterdir()) == ["a.pdf", "a.png"]
    assert png_bytes(figure, dpi=30) == png_bytes(figure, dpi=30)


def test_scores_show_every_patient_the_means_and_the_best_floor():
    rows = [{"map": "refined", "dice": d} for d in (0.7, 0.8, None)] + [{"map": "floor_otsu", "dice": 0.31}]
    results = {
        "refined/dice": 0.75, "refined/dice_low": 0.7, "refined/dice_high": 0.8,
        "floor_otsu/dice": 0.31, "floor_centre/dice": 0.1, "patients": 3.0,
    }  # fmt: skip
    figure = scores_figure(rows, results, phantom=True, title="brats")
    (axes,) = figure.axes
    dots = np.concatenate([c.get_offsets()[:, 0] for c in axes.collections])
    assert sorted(dots) == [0.31, 0.7, 0.8]
    drawn = [tuple(float(x) for x in line.get_xdata()) for line in axes.lines]
    assert (0.7, 0.8) in drawn  # the interval
    assert (0.31, 0.31) in drawn  # the best floor
    assert [t.get_text() for t in axes.get_yticklabels()] == ["refined", "floor: centre prior", "floor: Otsu"]
    assert "brats · phantom data" in texts(figure)


def test_scores_without_any_score_say_what_there_is():
    with pytest.raises(ValueError, match="results hold loss"):
        scores_figure([], {"loss": 1.0})


def test_training_curves_of_a_metrics_file(tmp_path):
    rows = [
        {"step": 0, "epoch": 0, "train/loss_step": 1.0, "val/cam/dice": "", "lr-AdamW": 1e-4},
        {"step": 10, "epoch": 0, "train/loss_step": 0.5, "val/cam/dice": 0.2, "lr-AdamW": "nan"},
        {"step": 20, "epoch": 1, "train/loss_step": "", "val/cam/dice": 0.4, "lr-AdamW": 5e-5},
    ]
    rows = [{**row, "val/floor_otsu/dice": 0.3, "val/cam/dice_low": 0.1, "test/auroc": 0.9} for row in rows]
    path = tmp_path / "metrics.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    with path.open() as file:
        figure = training_curves(csv.DictReader(file), marks={"affinity": 10})
    curves = {axes.get_title(loc="left"): axes.lines[0].get_xydata().tolist() for axes in figure.axes}
    assert curves == {
        "loss · training": [[0, 1.0], [10, 0.5]],
        "Dice · CAM, validation": [[10, 0.2], [20, 0.4]],
        "learning rate · AdamW": [[0, 1e-4], [20, 5e-5]],
    }
    assert "dashed line: affinity, step 10" in texts(figure)
    assert all(list(axes.lines[-1].get_xdata()) == [10, 10] for axes in figure.axes)


def test_a_loss_that_joins_later_is_marked_and_equal_rates_are_one_curve():
    rows = [{"step": step, "train/loss": 1.0, "lr-AdamW/pg1": 0.1, "lr-AdamW/pg2": 0.1} for step in range(0, 100, 10)]
    for row in rows[4:]:
        row["train/segmentation_loss"] = 0.5
    figure = training_curves(rows)
    assert "dotted line: segmentation loss begins, step 40" in texts(figure)
    marked = [line.get_xdata() for axes in figure.axes for line in axes.lines if len(line.get_xdata()) == 2]
    assert [list(ends) for ends in marked] == [[40, 40]] * 2
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["loss", "learning rate · AdamW, group 1 and group 2"]
    assert not any("begins" in text for text in texts(training_curves(rows[:4])))


def test_the_mean_of_an_epoch_is_drawn_rather_than_its_steps():
    rows = [{"step": i, "train/loss_step": 9.0, "train/loss_epoch": 1.0} for i in range(3)]
    (axes,) = training_curves(rows).axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[1.0, 1.0, 1.0]]


def test_a_file_without_curves_is_an_error():
    with pytest.raises(ValueError, match="no curve"):
        training_curves([{"step": 0, "epoch": 0}])


def test_figures_need_no_torch_and_no_pyplot():
    code = (
        "import sys; import seewhy.figures.report.page, seewhy.figures.patient_panel, seewhy.figures.results, "
        "seewhy.figures.training, seewhy.figures.results, seewhy.figures.overlay; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib.pyplot', 'lightning')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
