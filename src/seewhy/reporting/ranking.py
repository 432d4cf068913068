"""Ranking of methods over all samples: names and directions of scores, tables by method and by class, and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from seewhy.explain.judging.measures.registry import MEASURES
from seewhy.io.atomic import write_csv
from seewhy.metrics.map_ranking import HIGHER, MethodRank, rank_methods
from seewhy.reporting.tables import format_method, judged_row, name_class

__all__ = [
    "CHANCE",
    "DESCRIBED",
    "DIRECTIONS",
    "LIKE_ENERGY",
    "MEANINGS",
    "NAMES",
    "SECONDS",
    "ranking_rows",
    "write_class_table",
    "write_ranking",
]

MEASURED = {column: known for measure in MEASURES.values() for column, known in measure.columns.items()}
"""Column of `explain.metrics` → printed name, and whether higher is better; None where it does not rank methods."""
NAMES = {
    "pointing": "pointing game",
    "energy": "energy inside the mask",
    "auprc": "AUPRC",
    "iou": "IoU at the validation's threshold",
    "deletion_gap": "deletion, gap to random order",
    "insertion_gap": "insertion, gap to random order",
    "deletion_gap_blurred": "deletion, gap to blurred noise",
    "insertion_gap_blurred": "insertion, gap to blurred noise",
    "deletion_gap_tuned": "deletion by the tuned copy, gap to random order",
    "insertion_gap_tuned": "insertion by the tuned copy, gap to random order",
    "deletion_gap_blurred_tuned": "deletion by the tuned copy, gap to blurred noise",
    "insertion_gap_blurred_tuned": "insertion by the tuned copy, gap to blurred noise",
    "stability_noise": "stability under noise",
    "effect_agreement": "agreement with left-out inputs",
} | {column: name for column, (name, _) in MEASURED.items()}
"""Printed name of each score."""
MEANINGS = {
    "pointing": "share of samples whose highest point lies inside the annotation",
    "energy": "share of the evidence that lies inside the annotation",
    "auprc": "how well the map's values sort points inside the annotation before all others",
    "iou": "overlap of map and annotation, above a threshold tuned on validation samples",
    "deletion_gap": "how much faster the probability falls when the strongest points are removed first",
    "insertion_gap": "how much faster the probability rises when the strongest points are shown first",
    "deletion_gap_blurred": "the same as deletion, next to noise that is as smooth as the map",
    "insertion_gap_blurred": "the same as insertion, next to noise that is as smooth as the map",
    "stability_noise": "rank correlation with the map of a slightly noisy image",
    "effect_agreement": "rank correlation of the inputs' shares with the fall of the probability without each",
    "deletion_gap_tuned": "deletion as a copy of the network sees it that was tuned on masked images",
    "insertion_gap_tuned": "insertion as that copy sees it",
    "deletion_gap_blurred_tuned": "the same as deletion by the copy, next to noise that is as smooth as the map",
    "insertion_gap_blurred_tuned": "the same as insertion by the copy, next to noise that is as smooth as the map",
    "infidelity_scaled": "error of the score changes that the map predicts: 0 is exact, 1 knows nothing",
    "monotonicity": "whether the score never falls while points return, least important first",
    "sensitivity_n": "correlation of the evidence in random subsets with the fall of the score without them",
    "selectivity": "mean probability while regions are removed, most important first",
    "region_perturbation": "mean fall of the probability while regions are removed, most important first",
    "sufficiency": "share of the samples with a similar map that have the same predicted class",
    "sufficient_share": "smallest share of the image from which on the predicted class is kept",
    "max_sensitivity": "largest relative change of the map under small noise",
    "top_k_intersection": "share of the 1000 highest points that lie inside the annotation",
    "relevance_rank_accuracy": "the same, for as many points as the annotation has",
}
"""Meaning of each score that ranks methods, in a few words."""
CHANCE = ("pointing", "energy", "auprc")
"""Scores whose chance level is the mask's share of the area; re-initialised networks are scored by them too."""
DIRECTIONS = HIGHER | {column: higher for column, (_, higher) in MEASURED.items() if higher is not None}
DESCRIBED = {column: True for column, (_, higher) in MEASURED.items() if higher is None}
LIKE_ENERGY = (*CHANCE, "top_k_intersection", "relevance_rank_accuracy")
SECONDS = "seconds per map"

Record = Mapping[str, Any]
Row = dict[str, Any]


def write_ranking(
    folder: Path, records: Sequence[Record], floors: Sequence[Record], *, title: str, phantom: bool
) -> list[Row]:
    """Write `scores.csv` (a row per sample and method), `ranking.csv` and `ranking.png`.

    Args:
        folder: folder of the explanations.
        records: with `judged` scores; each target of a method counts as a method.
        floors: scores of the floors, a row per sample and floor.
        title: title of the plot.
        phantom: whether the data are synthetic.

    Returns:
        One row per method and score, as `seewhy.figures.explanations.ranking` draws them; empty without scores.
    """
    rows = [judged_row(record) for record in records if record["judged"]] + [dict(row) for row in floors]
    if not rows:
        return []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_csv(folder / "scores.csv", [{name: row.get(name) for name in columns} for row in rows], columns=columns)
    methods, untrained = rank_methods(rows, scores=DIRECTIONS), _rank_untrained(rows)
    described = {method.method: method for method in rank_methods(rows, scores=DESCRIBED)}
    flat = [
        {**method.row(), **_mean_columns(described[method.method]),
         **_mean_columns(untrained.get(method.method), suffix="_random")}
        for method in methods
    ]  # fmt: skip
    columns = list(dict.fromkeys(name for row in flat for name in row))
    write_csv(folder / "ranking.csv", [{name: row.get(name) for name in columns} for row in flat], columns=columns)
    shown = ranking_rows(methods, rows, untrained) + _time_rows(records)
    if shown:
        from seewhy.figures.explanations.ranking import ranking_figure
        from seewhy.figures.labels import describe_intervals
        from seewhy.figures.style import write_figure

        patients = len({row["patient"] for row in rows})
        note = f"{patients} patients, {describe_intervals(patients)}"
        meanings = {NAMES[name]: text for name, text in MEANINGS.items()}
        drawn = [row for row in shown if row["score"] != SECONDS] or shown
        figure = ranking_figure(drawn, title=title, note=note, meanings=meanings, phantom=phantom)
        write_figure(folder / "ranking.png", figure)
    return shown


def ranking_rows(
    methods: Sequence[MethodRank], rows: Sequence[Record], untrained: Mapping[str, MethodRank]
) -> list[Row]:
    """One row per method and score: value, interval, chance level, and the score of re-initialised networks.

    Args:
        methods: of `rank_methods`.
        rows: the scores that `methods` come from.
        untrained: method → scores of its maps of re-initialised networks.
    """
    shares = [row["mask_share"] for row in rows if row.get("mask_share") is not None]
    chance = sum(shares) / len(shares) if shares else None
    result = []
    for method in methods:
        for name, value in method.scores.items():
            if value != value:
                continue
            interval, other = method.intervals.get(name), untrained.get(method.method)
            random = other.intervals.get(name) if other else None
            zero = 0.0 if name.endswith(("_gap", "_blurred", "_tuned")) or name == "effect_agreement" else None
            result.append(
                {
                    "method": method.method,
                    "score": NAMES[name],
                    "value": value,
                    "low": interval.low if interval else None,
                    "high": interval.high if interval else None,
                    "floor": chance if name in LIKE_ENERGY else zero,
                    "untrained": other.scores.get(name) if other else None,
                    "untrained_low": random.low if random else None,
                    "untrained_high": random.high if random else None,
                    "higher_is_better": DIRECTIONS[name],
                }
            )
    return result


def _rank_untrained(rows: Sequence[Record]) -> dict[str, MethodRank]:
    """Method → scores of its maps of re-initialised networks, over the samples of the randomisation test."""
    random = [
        {**{key: row[key] for key in ("id", "patient", "method")}, **{n: row[f"{n}_random"] for n in CHANCE}}
        for row in rows
        if row.get("pointing_random") is not None
    ]
    return {ranked.method: ranked for ranked in rank_methods(random)} if random else {}


def _mean_columns(method: MethodRank | None, *, suffix: str = "") -> dict[str, float | None]:
    """Columns of `ranking.csv` for means that are not ranked, with their intervals."""
    columns: dict[str, float | None] = {}
    for name, value in method.scores.items() if method else ():
        interval = method.intervals.get(name) if method else None
        columns[f"{name}{suffix}"] = None if value != value else value
        columns[f"{name}{suffix}_low"] = interval.low if interval else None
        columns[f"{name}{suffix}_high"] = interval.high if interval else None
    return columns


def _time_rows(records: Sequence[Record]) -> list[Row]:
    """Median seconds per map; the median hardly changes with a slow first batch or a pause of the machine."""
    times: dict[str, list[float]] = {}
    for record in records:
        if record["judged"] and record.get("seconds") is not None:
            times.setdefault(format_method(record), []).append(record["seconds"])
    return [
        {"method": name, "score": SECONDS, "value": median(seconds), "higher_is_better": False}
        for name, seconds in times.items()
    ]


def write_class_table(path: Path, records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Write `ranking_by_class.csv`: pointing, energy and AUPRC of each method in the cases of each true class.

    Args:
        path: the file.
        records: with `judged` scores; each target of a method counts as a method.

    Returns:
        The rows: means over patients with their intervals, and `mask_share`, the level of chance. Empty, without a
        file, if fewer than two classes have annotated cases.
    """
    groups: dict[str, list[Row]] = {}
    for record in sorted(records, key=lambda record: str(record["label"])):
        judged = record["judged"]
        if isinstance(record["label"], int) and judged and judged.get("energy") is not None:
            row = {"id": record["id"], "patient": record["patient"], "method": format_method(record)}
            scores = {name: judged[name] for name in (*CHANCE, "mask_share")}
            groups.setdefault(name_class(record), []).append(row | scores)
    if len(groups) < 2:
        return []
    result = []
    for name, group in groups.items():
        for ranked in rank_methods(group, scores=dict.fromkeys(CHANCE, True)):
            own = [row for row in group if row["method"] == ranked.method]
            share = sum(row["mask_share"] for row in own) / len(own)
            row = {"class": name, "method": ranked.method, "samples": len(own), "mask_share": share}
            for score in CHANCE:
                interval = ranked.intervals.get(score)
                row |= {score: ranked.scores.get(score), f"{score}_low": interval.low if interval else None}
                row |= {f"{score}_high": interval.high if interval else None}
            result.append(row)
    write_csv(path, result)
    return result
