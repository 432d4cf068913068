"""Collect the intensity quantiles of training subjects, on which baselines are fitted."""

from __future__ import annotations

from typing import Any

import numpy as np

from seewhy.batch import MODALITIES
from seewhy.data.domains.baselines import Quantiles
from seewhy.data.domains.datamodule import BraTSDomainsDataModule
from seewhy.data.domains.measurement import QUANTILES
from seewhy.data.domains.store import DOMAINS
from seewhy.errors import DataError

__all__ = ["collect_training_quantiles"]


def collect_training_quantiles(datamodule: BraTSDomainsDataModule) -> Quantiles:
    """Return domain → [N, M, Q] quantiles of the normalised tissue of the training subjects; no others are read.

    Raises:
        DataError: a domain without training subjects.
    """
    quantiles: dict[str, list[Any]] = {domain: [] for domain in DOMAINS}
    for subject in datamodule.items_of("train"):
        low, high = datamodule.reader.measure_intensity(subject).T[:, :, None]
        normal = (subject.quantiles - low) * (2 / np.maximum(high - low, np.float32(1e-12))) - 1
        quantiles[subject.domain].append(np.clip(normal, -1, 1))
    empty = [domain for domain, values in quantiles.items() if not values]
    if empty:
        raise DataError(f"domain {empty[0]} has no training subjects, which the baselines are fitted on")
    expected = (len(MODALITIES), len(QUANTILES))
    return {domain: np.asarray(values).reshape(-1, *expected) for domain, values in quantiles.items()}
