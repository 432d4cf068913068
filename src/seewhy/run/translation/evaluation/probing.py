"""Train site probes on the evaluated subjects, and summarize their folds and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from seewhy.data.domains.store import DOMAINS
from seewhy.metrics.gather import Row
from seewhy.metrics.translation.site_probe import (
    LogisticProbe,
    NetworkProbe,
    Probe,
    Site,
    describe_shortage,
    probe_rows,
)
from seewhy.run.translation.evaluation.recorder import RAW
from seewhy.run.translation.evaluation.settings import ProbeOptions

__all__ = ["count_trainings", "run_probes", "summarize_probes"]

SCORES = ("balanced_accuracy", "auc")


def run_probes(
    records: Sequence[Row], *, choice: ProbeOptions, seed: int, advance: Callable[[], None] = lambda: None
) -> tuple[list[Row], str | None]:
    """Train and test both probes.

    Args:
        records: of all subjects.
        choice: numbers of seeds and folds, and training steps of the network.
        seed: the first seed.
        advance: called after every training.

    Returns:
        Rows of `probe_rows` and None; or no rows and the reason.
    """
    kinds: list[tuple[Probe, str]] = [(NetworkProbe(steps=choice.steps), "squares"), (LogisticProbe(), "features")]
    rows: list[Row] = []
    for probe, kept in kinds:
        a, b = (_build_site([row for row in records if row["domain"] == domain], kept) for domain in DOMAINS)
        reason = describe_shortage(a, b)
        if reason is not None:
            return [], reason
        seeds = range(seed, seed + choice.seeds)
        rows += probe_rows(probe, a, b, seeds=seeds, folds=choice.folds, advance=advance)
    return rows, None


def count_trainings(records: Sequence[Row], choice: ProbeOptions) -> int:
    """Return the number of trainings of `run_probes`, at most."""
    patients = [{row["patient"] for row in records if row["domain"] == domain} for domain in DOMAINS]
    methods = sum(len(next(row for row in records if row["domain"] == domain)["squares"]) - 1 for domain in DOMAINS)
    floors = sum(min(choice.folds, len(group) // 2) for group in patients)
    return 2 * choice.seeds * (min(choice.folds, *map(len, patients)) * (1 + methods) + floors)


def summarize_probes(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one entry per probe, method, direction and kind: means, and spreads over seeds and over folds.

    `<score>` is the mean over all folds and seeds, `<score>_seed_sd` the standard deviation of the seeds' means,
    `<score>_fold_sd` that of folds within a seed, averaged over seeds.
    """
    names = ("probe", "method", "direction", "kind")
    entries = []
    for key in dict.fromkeys(tuple(row[name] for name in names) for row in rows):
        group = [row for row in rows if tuple(row[name] for name in names) == key]
        entry: dict[str, Any] = dict(zip(names, key, strict=True))
        for score in SCORES:
            by_seed: dict[int, list[float]] = {}
            for row in group:
                by_seed.setdefault(row["seed"], []).append(row[score])
            means = [float(np.mean(values)) for values in by_seed.values()]
            spreads = [float(np.std(values, ddof=1)) for values in by_seed.values() if len(values) > 1]
            entry[score] = float(np.mean(means))
            entry[f"{score}_seed_sd"] = float(np.std(means, ddof=1)) if len(means) > 1 else None
            entry[f"{score}_fold_sd"] = float(np.mean(spreads)) if spreads else None
        converged = float(np.mean([row["converged"] for row in group]))
        entries.append({**entry, "converged": converged, "fits": len(group)})
    return entries


def _build_site(records: Sequence[Row], kept: str) -> Site:
    """Collect the samples of one domain; `features` are concatenated over modalities."""

    def collect(method: str) -> torch.Tensor:
        values = torch.from_numpy(np.concatenate([row[kept][method] for row in records]))
        return values.flatten(1) if kept == "features" else values

    methods = [name for name in records[0][kept] if name != RAW and all(name in row[kept] for row in records)]
    patients = [row["patient"] for row in records for _ in range(row["slices"])]
    return Site(collect(RAW), {name: collect(name) for name in methods}, patients)
