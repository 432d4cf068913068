"""Evaluation of translation methods: one figure and two terminal tables, with raw scans, floors and chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.console import Console
from rich.table import Table

from seewhy.figures.style import GREY, INK, PALETTE, add_captions, blank_figure, style_axes
from seewhy.figures.translation.results import start_table

__all__ = [
    "DIRECTIONS",
    "MEASURES",
    "METHODS",
    "PROBES",
    "evaluation_figure",
    "format_matched_patients",
    "format_unconverged_probes",
    "print_evaluation",
    "probe_table",
    "similarity_table",
]

METHODS = {
    "real": "real against real",
    "identity": "not translated",
    "histogram": "histogram matching",
    "nyul": "Nyúl",
    "combat": "ComBat",
    "model": "this model",
}
MEASURES = {"frechet": "Fréchet", "kid": "KID", "mmd": "MMD"}
PROBES = {"network": "network", "logistic": "logistic"}
DIRECTIONS = {"a2b": "a → b", "b2a": "b → a"}
MIN_CONVERGED = 0.8
"""Share of trainings of a probe that must converge; below it, a warning is printed."""
Rows = Sequence[Mapping[str, Any]]


def evaluation_figure(evaluation: Mapping[str, Any], table: Rows) -> Figure:
    """Draw one row of panels per direction: similarity (for paired scans), distances, site probes, lesions.

    Args:
        evaluation: content of `evaluation.json`.
        table: rows of `table.csv`.
    """
    names = [row["method"] for row in table if row["direction"] == "a2b" and row["status"] == "ok"]
    figure = blank_figure(14.5, 2.4 + 0.44 * 2 * (len(names) + 1))
    grid = figure.subplots(2, 5, squeeze=False, width_ratios=(1, 1, 1.25, 1.25, 1.1))
    for line, (direction, heading) in zip(grid, DIRECTIONS.items(), strict=True):
        rows = {row["method"]: row for row in table if row["direction"] == direction}
        scores = {name: by_way.get(direction, {}) for name, by_way in evaluation["similarity"].items()}
        _similarity(line[0], names, scores, "ssim")
        _similarity(line[1], names, scores, "psnr")
        _distances(line[2], names, rows)
        _probes(line[3], names, rows, evaluation["probes"])
        _lesions(line[4], names, rows, evaluation, direction)
        line[0].set_ylabel(heading, fontsize=11, color=INK)
        for axes in line[1:]:
            axes.tick_params(labelleft=False)
    head = f"{evaluation['name']}: translation between two scanners"
    if evaluation["phantom"]:
        head = f"PHANTOM · {head} · synthetic heads; the results do not apply to real ones"
    return add_captions(figure, head=head, foot=_foot(evaluation))


def _frame(axes: Axes, names: Sequence[str], title: str) -> None:
    """Set up a panel with a row per method, and a last row for real scans against real scans."""
    style_axes(axes).set_title(title, fontsize=9.5, color=INK, loc="left")
    axes.set_yticks(range(len(names) + 1), [*(METHODS.get(name, name) for name in names), METHODS["real"]])
    axes.set_ylim(len(names) + 0.6, -0.6)
    for place, name in enumerate(names):
        if name == "model":
            axes.axhspan(place - 0.42, place + 0.42, color=PALETTE[0], alpha=0.07, linewidth=0)


def _similarity(axes: Axes, names: Sequence[str], scores: Mapping[str, Mapping[str, Any]], metric: str) -> None:
    """Draw mean and interval over patients, against the same head, or of the cycle (see the title) without pairs."""
    paired = any("translation" in comparisons for comparisons in scores.values())
    unit = "SSIM" if metric == "ssim" else "PSNR, dB"
    _frame(axes, names, f"{unit} against the same head" if paired else f"{unit} of the cycle (no pairs)")
    for place, name in enumerate(names):
        entry = scores.get(name, {}).get("translation" if paired else "cycle", {}).get(metric)
        if entry and entry["mean"] is not None:
            _interval(axes, place, entry["interval"], _colour(name))
            axes.plot(entry["mean"], place, "D", color=_colour(name), markersize=6, markeredgecolor="white", zorder=3)
    if not axes.lines:
        _write_centred(axes, "no such scans")
    axes.margins(x=0.12)


def _distances(axes: Axes, names: Sequence[str], rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw each distance relative to its raw value, for equal numbers of patients, with real scans as reference."""
    _frame(axes, names, "distance to the target, raw = 1")
    shown = [*names, "real"]
    ends = []
    for number, measure in enumerate(MEASURES):
        raw = rows["identity"].get(f"{measure}_matched")
        if not raw or raw <= 0:
            continue
        for place, name in enumerate(shown):
            mean, spread = rows[name].get(f"{measure}_matched"), rows[name].get(f"{measure}_matched_sd") or 0.0
            if mean is None:
                continue
            y = place + 0.22 * (number - 1)
            low, high = (mean - spread) / raw, (mean + spread) / raw
            axes.plot([low, high], [y, y], color=PALETTE[number], linewidth=1.6, alpha=0.55, zorder=2)
            axes.plot(mean / raw, y, "o", color=PALETTE[number], markersize=5, markeredgecolor="white", zorder=3)
            if name == "real":
                ends += [low, high]
    if ends:
        axes.axvspan(min(ends), max(ends), color=GREY, alpha=0.15, linewidth=0, zorder=0)
        axes.axvline(1, color=GREY, linewidth=1, linestyle=":", zorder=1)
    else:
        _write_centred(axes, "too few patients")
    handles = [Line2D([], [], marker="o", linestyle="", color=PALETTE[i], label=label, markersize=5)
               for i, label in enumerate(MEASURES.values())]  # fmt: skip
    axes.legend(handles=handles, fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3)


def _probes(axes: Axes, names: Sequence[str], rows: Mapping[str, Mapping[str, Any]], probes: Mapping[str, Any]) -> None:
    """Draw the balanced accuracy of separating translated scans from real target scans, frozen and retrained."""
    _frame(axes, names, "site probe, balanced accuracy")
    if probes["not_estimated"]:
        _write_centred(axes, "too few patients")
        return
    for number, probe in enumerate(PROBES):
        for place, name in enumerate((*names, "real")):
            for kind, offset in (("frozen", -0.11), ("retrained", 0.11)):
                value, spread = rows[name].get(f"{probe}_{kind}"), rows[name].get(f"{probe}_{kind}_seed_sd") or 0.0
                if value is None:
                    continue
                y, colour = place + offset + 0.36 * (number - 0.5), PALETTE[number]
                ends = np.clip([value - spread, value + spread], 0, 1)
                axes.plot(ends, [y, y], color=colour, linewidth=1.6, alpha=0.55, zorder=2)
                face = colour if kind == "retrained" else "white"
                axes.plot(value, y, "o", markersize=5, markerfacecolor=face, markeredgecolor=colour, zorder=3)
    axes.axvline(probes["chance"], color=GREY, linewidth=1, linestyle=":", zorder=1)
    axes.annotate("chance", (probes["chance"], 1), (-3, -8), ha="right", xycoords=("data", "axes fraction"),
                  textcoords="offset points", fontsize=7, color=GREY)  # fmt: skip
    axes.set_xlim(-0.03, 1.03)
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=5, label=f"{label}, {kind}", markeredgecolor=PALETTE[i],
               markerfacecolor=PALETTE[i] if kind == "retrained" else "white")
        for i, label in enumerate(PROBES.values()) for kind in ("frozen", "retrained")
    ]  # fmt: skip
    axes.legend(handles=handles, fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)


def _lesions(
    axes: Axes,
    names: Sequence[str],
    rows: Mapping[str, Mapping[str, Any]],
    evaluation: Mapping[str, Any],
    direction: str,
) -> None:
    """Draw the lesion contrast of each patient after translation and its mean; lines: before, and other scanner."""
    modality = evaluation["lesions"]["modality"]
    _frame(axes, names, f"lesion contrast, {modality}")
    lesions = [
        row for row in evaluation["rows"]["lesions"] if (row["direction"], row["modality"]) == (direction, modality)
    ]
    if not lesions:
        _write_centred(axes, "no annotated lesions")
        return
    for place, name in enumerate(names):
        values = _contrast_by_patient([row for row in lesions if row["method"] == name])
        if not values:  # e.g. a model without this direction
            continue
        jitter = np.random.default_rng(place).uniform(-0.18, 0.18, len(values))
        axes.scatter(values, place + jitter, s=12, color=_colour(name), alpha=0.45, linewidths=0, zorder=2)
        axes.plot(np.mean(values), place, "D", color=_colour(name), markersize=6, markeredgecolor="white", zorder=3)
    source, other = (rows["identity"][f"lesion_contrast_{which}"] for which in ("source", "counterpart"))
    handles = []
    if source is not None:
        axes.axvline(source, color=GREY, linewidth=1, linestyle=":", zorder=1)
        handles.append(Line2D([], [], color=GREY, linewidth=1, linestyle=":", label="before"))
    if other is not None:
        axes.axvline(other, color=PALETTE[2], linewidth=1, linestyle="--", zorder=1)
        handles.append(Line2D([], [], color=PALETTE[2], linewidth=1, linestyle="--", label="on the other scanner"))
    axes.legend(handles=handles, fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)


def _contrast_by_patient(rows: Rows) -> list[float]:
    """Contrast of each patient, the mean over its scans; their mean is the value of the table."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if not np.isnan(row["contrast"]):
            values.setdefault(row["patient"], []).append(row["contrast"])
    return [float(np.mean(contrasts)) for contrasts in values.values()]


def _interval(axes: Axes, place: float, interval: Sequence[float] | None, colour: str) -> None:
    if interval is not None:
        axes.plot(interval, [place, place], color=colour, linewidth=2.2, solid_capstyle="butt", zorder=2)


def _colour(name: str) -> str:
    return PALETTE[0] if name == "model" else INK if name == "identity" else GREY


def _write_centred(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=GREY)
    axes.set_xticks([])


def format_matched_patients(evaluation: Mapping[str, Any]) -> str:
    """Numbers of patients per group in the distances, e.g. `4` or `a → b: 4, b → a: 3`."""
    sizes = {direction: evaluation["distances"][direction]["matched_patients"] for direction in DIRECTIONS}
    if len(set(sizes.values())) == 1:
        return str(next(iter(sizes.values())))
    return ", ".join(f"{DIRECTIONS[direction]}: {size}" for direction, size in sizes.items())


def format_unconverged_probes(evaluation: Mapping[str, Any]) -> str | None:
    """Probes whose trainings often ended before convergence; None if there are none."""
    shown = [
        f"{METHODS.get(entry['method'], entry['method'])} {DIRECTIONS[entry['direction']]} "
        f"({100 * (1 - entry['converged']):.0f} %)"
        for entry in evaluation["probes"]["summary"]
        if entry["kind"] == "retrained" and entry["converged"] <= MIN_CONVERGED
    ]
    if not shown:
        return None
    return f"trainings that ended before convergence, so the probe may be too weak: {', '.join(shown)}"


def _foot(evaluation: Mapping[str, Any]) -> str:
    features, patients, slices = evaluation["features"], evaluation["patients"], evaluation["slices"]
    parts = [
        f"{patients['a']} patients of a and {patients['b']} of b, {slices['a']} and {slices['b']} slices",
        f"distances in features of {features['name']} between equal numbers of patients "
        f"({format_matched_patients(evaluation)}), bars and grey band ± 1 SD over random groups of that size",
        "probes: means of subject-wise folds, bars ± 1 SD over seeds",
        "similarity: 95 % intervals over patients",
        evaluation["probes"]["not_estimated"],
        format_unconverged_probes(evaluation),
        features["note"],
        *(
            f"{METHODS.get(name, name)}: {status.partition(';')[0]}"
            for name, status in evaluation["methods"].items()
            if status != "ok"
        ),
    ]
    return " · ".join(part for part in parts if part)


NONE = "-"
SHORT = {"real": "real vs real", "counterpart": "true", "identity": "untranslated", "histogram": "histogram"}
"""Names short enough for tables of 80 columns."""
REFERENCES = ("floor", "truth")
"""Status of reference rows, which are not methods."""


def print_evaluation(evaluation: Mapping[str, Any], rows: Rows, console: Console, *, folder: Path) -> None:
    """Print both tables and the files written.

    Args:
        evaluation: content of `evaluation.json`.
        rows: rows of `table.csv`.
        console: terminal.
        folder: folder of the files.
    """
    console.print(similarity_table(evaluation, rows))
    console.print(probe_table(evaluation, rows))
    console.print(f"[bold]{folder}[/]", soft_wrap=True)
    for name in ("table.csv", "evaluation.png", "evaluation.json", "samples.parquet"):
        console.print(f"  {name}", highlight=False)


def similarity_table(evaluation: Mapping[str, Any], rows: Rows) -> Table:
    """Table of similarity to the same head, for paired scans, and of distances to real target scans."""
    table = start_table("", "SSIM", "PSNR", "cycle\nSSIM", "Fréchet ↓", "KID ↓", "MMD ↓")
    for row in _with_headings(table, [row for row in rows if row["status"] != "truth"]):
        scores = [_number(row[name], digits) for name, digits in (("ssim", 3), ("psnr", 2), ("cycle_ssim", 3))]
        distances = [
            _number(row[f"{name}_matched"], digits) for name, digits in (("frechet", 2), ("kid", 3), ("mmd", 3))
        ]
        _add_row(table, row, [*scores, *distances])
    features = evaluation["features"]
    lines = [
        "SSIM, PSNR: against the same head on the other scanner, if known; cycle: against the input",
        f"distances in features of {features['name']}, means over random groups of as many patients "
        f"({format_matched_patients(evaluation)}); real vs real: two groups of the target",
        features["note"],
    ]
    table.caption = _caption(evaluation, lines)
    return table


def probe_table(evaluation: Mapping[str, Any], rows: Rows) -> Table:
    """Table of site probes and of lesions after translation."""
    probes = [(probe, kind) for probe in PROBES for kind in ("frozen", "retrained")]
    modality = evaluation["lesions"]["modality"]
    headings = [f"{PROBES[probe]}\n{kind}" for probe, kind in probes]
    table = start_table("", *headings, f"{modality}\nlesion", "\nDice")
    for row in _with_headings(table, rows):
        cells = [_format_spread(row, f"{probe}_{kind}") for probe, kind in probes]
        _add_row(table, row, [*cells, _number(row["lesion_contrast"], 2), _number(row["lesion_dice"], 2)])
    lines = [
        "site probes: balanced accuracy ± SD over seeds, chance 0.50; a network on pictures, logistic regression on "
        "features. The retrained probe counts. Real vs real: two halves of the target's patients",
        evaluation["probes"]["not_estimated"],
        format_unconverged_probes(evaluation),
        "lesion: contrast to its surroundings, and Dice of equally bright voxels with the mask; true: the same head "
        "on the other scanner, if known",
    ]
    table.caption = _caption(evaluation, lines)
    return table


def _with_headings(table: Table, rows: Rows) -> Iterator[Mapping[str, Any]]:
    """Yield the rows, with a heading before each direction."""
    for direction in dict.fromkeys(row["direction"] for row in rows):
        table.add_row(f"[bold]{DIRECTIONS[direction]}[/]")
        yield from (row for row in rows if row["direction"] == direction)
        table.add_section()


def _add_row(table: Table, row: Mapping[str, Any], cells: list[str]) -> None:
    name = SHORT.get(row["method"], METHODS.get(row["method"], row["method"]))
    if row["status"] not in ("ok", *REFERENCES):
        name, cells = (
            f"{name}:\n{row['status'].partition(' (')[0][:24]}",
            [""] * len(cells),
        )  # the caption has the full reason
    style = "bold" if row["method"] == "model" else "dim" if row["status"] != "ok" else None
    table.add_row(name, *cells, style=style)


def _caption(evaluation: Mapping[str, Any], lines: Sequence[str | None]) -> str:
    patients = evaluation["patients"]
    head = f"{patients['a']} patients of a, {patients['b']} of b, {evaluation['predict_on']}"
    if evaluation["phantom"]:
        head = f"[bold yellow]PHANTOM[/]: synthetic heads · {head}"
    missing = [f"{METHODS.get(name, name)}: {status}" for name, status in evaluation["methods"].items()
               if status != "ok"]  # fmt: skip
    return "\n".join(line.replace("[harm", "\\[harm") for line in (head, *lines, *missing) if line)


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _format_spread(row: Mapping[str, Any], name: str) -> str:
    """Mean and standard deviation over seeds."""
    if row[name] is None:
        return NONE
    spread = row[f"{name}_seed_sd"]
    return f"{row[name]:.2f}" if spread is None else f"{row[name]:.2f}±{spread:.2f}".replace("±0.", "±.")
