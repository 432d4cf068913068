"""The site probes of an evaluation, and what their folds and seeds tell together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from seewhy.run.translation.evaluation.settings import ProbeChoice

__all__ = ["probe_summary", "run_probes", "trainings"]

SCORES = ("balanced_accuracy", "auc")


def run_probes(
    records: Sequence[Row], *, choice: ProbeChoice, seed: int, advance: Callable[[], None] = lambda: None
) -> tuple[list[Row], str | None]:
    """Train and test both probes.

    Args:
        records: of all subjects.
        choice: numbers of seeds and folds, and how the network is trained.
        seed: the first one.
        advance: called after every training.

    Returns:
        Rows of `probe_rows`; or none, and why not.
    """
    kinds: list[tuple[Probe, str]] = [(NetworkProbe(steps=choice.steps), "squares"), (LogisticProbe(), "features")]
    rows: list[Row] = []
    for probe, kept in kinds:
        a, b = (_site([row for row in records if row["domain"] == domain], kept) for domain in DOMAINS)
        reason = describe_shortage(a, b)
        if reason is not None:
            return [], reason
        seeds = range(seed, seed + choice.seeds)
        rows += probe_rows(probe, a, b, seeds=seeds, folds=choice.folds, advance=advance)
    return rows, None


def trainings(records: Sequence[Row], choice: ProbeChoice) -> int:
    """How many trainings `run_probes` does, at most."""
    patients = [{row["patient"] for row in records if row["domain"] == domain} for domain in DOMAINS]
    methods = sum(len(next(row for row in records if row["domain"] == domain)["squares"]) - 1 for domain in DOMAINS)
    floors = sum(min(choice.folds, len(own) // 2) for own in patients)
    return 2 * choice.seeds * (min(choice.folds, *map(len, patients)) * (1 + methods) + floors)


def probe_summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry per probe, method, direction and kind: means, and spreads over seeds and over folds.

    `<score>` is the mean over all folds and seeds, `<score>_seed_sd` the standard deviation of the seeds' means,
    `<score>_fold_sd` that of folds within a seed, on average.
    """
    return list(_summaries(rows))


def _summaries(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    keys = dict.fromkeys((row["probe"], row["method"], row["direction"], row["kind"]) for row in rows)
    for probe, method, direction, kind in keys:
        own = [row for row in rows if (row["probe"], row["method"], row["direction"], row["kind"])
               == (probe, method, direction, kind)]  # fmt: skip
        found: dict[str, Any] = {"probe": probe, "method": method, "direction": direction, "kind": kind}
        for score in SCORES:
            by_seed: dict[int, list[float]] = {}
            for row in own:
                by_seed.setdefault(row["seed"], []).append(row[score])
            means = [float(np.mean(values)) for values in by_seed.values()]
            spreads = [float(np.std(values, ddof=1)) for values in by_seed.values() if len(values) > 1]
            found[score] = float(np.mean(means))
            found[f"{score}_seed_sd"] = float(np.std(means, ddof=1)) if len(means) > 1 else None
            found[f"{score}_fold_sd"] = float(np.mean(spreads)) if spreads else None
        yield {**found, "converged": float(np.mean([row["converged"] for row in own])), "fits": len(own)}


def _site(records: Sequence[Row], kept: str) -> Site:
    """Samples of one domain; of features, those of all modalities beside each other."""

    def together(method: str) -> torch.Tensor:
        values = torch.from_numpy(np.concatenate([row[kept][method] for row in records]))
        return values.flatten(1) if kept == "features" else values

    methods = [name for name in records[0][kept] if name != RAW and all(name in row[kept] for row in records)]
    patients = [row["patient"] for row in records for _ in range(row["slices"])]
    return Site(together(RAW), {name: together(name) for name in methods}, patients)
