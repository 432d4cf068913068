"""The figure of an evaluation: what each method does to scans, beside the raw value, floors and chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from seewhy.figures.style import GREY, INK, PALETTE, bare, blank_figure, captioned

__all__ = ["DIRECTIONS", "MEASURES", "METHODS", "PROBES", "evaluation_figure", "matched_words", "unsettled"]

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
SETTLED = 0.8
"""Share of trainings that must have converged for a probe to be taken at its word."""
Rows = Sequence[Mapping[str, Any]]


def evaluation_figure(evaluation: Mapping[str, Any], table: Rows) -> Figure:
    """One row of panels per direction: similarity where there are pairs, distances, site probes, lesions.

    Args:
        evaluation: what `evaluation.json` holds.
        table: rows of `table.csv`.
    """
    names = [row["method"] for row in table if row["direction"] == "a2b" and row["status"] == "ok"]
    figure = blank_figure(14.5, 2.4 + 0.44 * 2 * (len(names) + 1))
    grid = figure.subplots(2, 5, squeeze=False, width_ratios=(1, 1, 1.25, 1.25, 1.1))
    for line, (direction, heading) in zip(grid, DIRECTIONS.items(), strict=True):
        rows = {row["method"]: row for row in table if row["direction"] == direction}
        found = {name: own.get(direction, {}) for name, own in evaluation["similarity"].items()}
        _similarity(line[0], names, found, "ssim")
        _similarity(line[1], names, found, "psnr")
        _distances(line[2], names, rows)
        _probes(line[3], names, rows, evaluation["probes"])
        _lesions(line[4], names, rows, evaluation, direction)
        line[0].set_ylabel(heading, fontsize=11, color=INK)
        for axes in line[1:]:
            axes.tick_params(labelleft=False)
    head = f"{evaluation['name']}: translation between two scanners"
    if evaluation["phantom"]:
        head = f"PHANTOM · {head} · synthetic heads, which say nothing about real ones"
    return captioned(figure, head=head, foot=_foot(evaluation))


def _frame(axes: Axes, names: Sequence[str], title: str) -> None:
    """Methods from top to bottom, and below them real scans among themselves."""
    bare(axes).set_title(title, fontsize=9.5, color=INK, loc="left")
    axes.set_yticks(range(len(names) + 1), [*(METHODS.get(name, name) for name in names), METHODS["real"]])
    axes.set_ylim(len(names) + 0.6, -0.6)
    for place, name in enumerate(names):
        if name == "model":
            axes.axhspan(place - 0.42, place + 0.42, color=PALETTE[0], alpha=0.07, linewidth=0)


def _similarity(axes: Axes, names: Sequence[str], found: Mapping[str, Mapping[str, Any]], metric: str) -> None:
    """Mean and interval over patients, against the same head; where there is none, of the cycle, and it says so."""
    paired = any("translation" in own for own in found.values())
    unit = "SSIM" if metric == "ssim" else "PSNR, dB"
    _frame(axes, names, f"{unit} against the same head" if paired else f"{unit} of the cycle (no pairs)")
    for place, name in enumerate(names):
        entry = found.get(name, {}).get("translation" if paired else "cycle", {}).get(metric)
        if entry and entry["mean"] is not None:
            _interval(axes, place, entry["interval"], _colour(name))
            axes.plot(entry["mean"], place, "D", color=_colour(name), markersize=6, markeredgecolor="white", zorder=3)
    if not axes.lines:
        _say(axes, "no such scans")
    axes.margins(x=0.12)


def _distances(axes: Axes, names: Sequence[str], rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Each measure as a share of its raw value, at equal numbers of patients, beside groups of the target's."""
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
        _say(axes, "too few patients")
    handles = [Line2D([], [], marker="o", linestyle="", color=PALETTE[i], label=label, markersize=5)
               for i, label in enumerate(MEASURES.values())]  # fmt: skip
    axes.legend(handles=handles, fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3)


def _probes(axes: Axes, names: Sequence[str], rows: Mapping[str, Mapping[str, Any]], probes: Mapping[str, Any]) -> None:
    """Balanced accuracy of telling the translated site from the other's real scans, frozen and trained again."""
    _frame(axes, names, "site probe, balanced accuracy")
    if probes["not_estimated"]:
        _say(axes, "too few patients")
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
    """Contrast of each patient's lesion after the translation, and its mean; before, and on the other scanner."""
    modality = evaluation["lesions"]["modality"]
    _frame(axes, names, f"lesion contrast, {modality}")
    own = [row for row in evaluation["rows"]["lesions"] if (row["direction"], row["modality"]) == (direction, modality)]
    if not own:
        _say(axes, "no annotated lesions")
        return
    for place, name in enumerate(names):
        values = _patients_contrasts([row for row in own if row["method"] == name])
        if not values:  # as of a model in the direction that it does not know
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


def _patients_contrasts(rows: Rows) -> list[float]:
    """One number per patient, the mean of its scans that have one; so the mean of them is the table's."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if not np.isnan(row["contrast"]):
            values.setdefault(row["patient"], []).append(row["contrast"])
    return [float(np.mean(own)) for own in values.values()]


def _interval(axes: Axes, place: float, interval: Sequence[float] | None, colour: str) -> None:
    if interval is not None:
        axes.plot(interval, [place, place], color=colour, linewidth=2.2, solid_capstyle="butt", zorder=2)


def _colour(name: str) -> str:
    return PALETTE[0] if name == "model" else INK if name == "identity" else GREY


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=GREY)
    axes.set_xticks([])


def matched_words(evaluation: Mapping[str, Any]) -> str:
    """Between how many patients distances were taken, in words, e.g. `4` or `a → b: 4, b → a: 3`."""
    sizes = {direction: evaluation["distances"][direction]["matched_patients"] for direction in DIRECTIONS}
    if len(set(sizes.values())) == 1:
        return str(next(iter(sizes.values())))
    return ", ".join(f"{DIRECTIONS[direction]}: {size}" for direction, size in sizes.items())


def unsettled(evaluation: Mapping[str, Any]) -> str | None:
    """Which probes were often still learning when their steps were used up; None where none was."""
    shown = [
        f"{METHODS.get(entry['method'], entry['method'])} {DIRECTIONS[entry['direction']]} "
        f"({100 * (1 - entry['converged']):.0f} %)"
        for entry in evaluation["probes"]["summary"]
        if entry["kind"] == "retrained" and entry["converged"] <= SETTLED
    ]
    if not shown:
        return None
    return f"trainings that ended before a probe knew its own scans, so it may see too little: {', '.join(shown)}"


def _foot(evaluation: Mapping[str, Any]) -> str:
    features, patients, slices = evaluation["features"], evaluation["patients"], evaluation["slices"]
    parts = [
        f"{patients['a']} patients of a and {patients['b']} of b, {slices['a']} and {slices['b']} slices",
        f"distances in features of {features['name']} between equal numbers of patients ({matched_words(evaluation)}), "
        "bars and grey band ± 1 SD over random groups of so many",
        "probes: means of subject-wise folds, bars ± 1 SD over seeds",
        "similarity: intervals of 95 % over patients",
        evaluation["probes"]["not_estimated"],
        unsettled(evaluation),
        features["note"],
        *(f"{METHODS.get(name, name)}: {status}" for name, status in evaluation["methods"].items() if status != "ok"),
    ]
    return " · ".join(part for part in parts if part)
