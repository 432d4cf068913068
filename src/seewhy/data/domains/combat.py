"""Site effects of ComBat, estimated by empirical Bayes (Johnson 2007, Biostatistics 8:118; Fortin 2018 for images).

The package neuroCombat is no longer maintained; its estimates are reproduced to a relative difference of 1e-6
(tests/data/domains/test_combat.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SiteEffects", "fit_site_effects"]

Array = NDArray[np.float64]

TOLERANCE = 1e-4
"""Largest relative change of an estimate at which the iteration ends; neuroCombat's, on which its numbers depend."""


@dataclass(frozen=True)
class SiteEffects:
    """Estimates for F features: a value of site i is `mean + spread * (shift[i] + scale[i] * noise)`.

    Attributes:
        mean: [F] mean over all subjects.
        spread: [F] standard deviation within the sites.
        shift: site → [F], additive effect, in units of `spread` (gamma*).
        scale: site → [F], multiplicative effect on the standard deviation (square root of delta²*).
    """

    mean: Array
    spread: Array
    shift: Mapping[str, Array]
    scale: Mapping[str, Array]


def fit_site_effects(tables: Mapping[str, Array]) -> SiteEffects:
    """Estimate the additive and multiplicative effects of each site, without covariates.

    Args:
        tables: site → [N, F], features of N subjects, at least 2 of each site. There must be at least 2 features, and
            each must vary within the sites.

    Returns:
        Effects after shrinkage to the distribution over features of the same site.
    """
    values = np.concatenate(list(tables.values()))
    mean = values.mean(axis=0)
    residuals = np.concatenate([table - table.mean(axis=0) for table in tables.values()])
    spread = np.sqrt((residuals**2).mean(axis=0))
    effects = {site: _shrink((table - mean) / spread) for site, table in tables.items()}
    return SiteEffects(
        mean,
        spread,
        {site: shift for site, (shift, _) in effects.items()},
        {site: np.sqrt(variance) for site, (_, variance) in effects.items()},
    )


def _shrink(standardized: Array) -> tuple[Array, Array]:
    """Posterior means of shift and variance [F] for one site (Johnson 2007, equations 3.1 and 3.2).

    The shift has a normal prior and the variance an inverse gamma prior; their parameters are moments over features.

    Args:
        standardized: [N, F], zero mean and unit variance over all sites.
    """
    count = len(standardized)
    mean, variance = standardized.mean(axis=0), standardized.var(axis=0, ddof=1)
    variance = np.where(variance == 0, 1, variance)
    prior_mean, prior_variance = mean.mean(), mean.var(ddof=1)
    first, second = variance.mean(), variance.var(ddof=1)
    shape, rate = first**2 / second + 2, first + first**3 / second

    shift, scale = mean, variance
    while True:
        weight = count * prior_variance
        new_shift = (weight * mean + scale * prior_mean) / (weight + scale)
        squares = ((standardized - new_shift) ** 2).sum(axis=0)
        new_scale = (rate + squares / 2) / (count / 2 + shape - 1)
        # Negative shifts do not count, as in neuroCombat: the number of iterations, and so the result, stays the same.
        change = max((np.abs(new_shift - shift) / shift).max(), (np.abs(new_scale - scale) / scale).max())
        shift, scale = new_shift, new_scale
        if not change > TOLERANCE:
            return shift, scale
