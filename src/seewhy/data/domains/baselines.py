"""Baselines of harmonisation without a network: identity, histogram matching, Nyul and ComBat.

Each is a monotone map of the intensities of one modality. It is fitted on quantiles of the training subjects only, and
works on normalised values in [-1, 1]. A monotone map can change brightness and contrast, but not sharpness, noise or
anything that depends on the position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from seewhy.data.domains.store import DOMAINS
from seewhy.errors import ConfigError, nearest

__all__ = ["BASELINES", "Baseline", "Quantiles", "SiteEffects", "apply_baseline", "fit_baselines", "fit_site_effects"]

Array = NDArray[np.float32]
Quantiles = Mapping[str, NDArray[np.floating]]
"""Domain → [N, M, Q], evenly spaced quantiles (minimum to maximum) of tissue of N training subjects, M modalities."""
OTHER = dict(zip(DOMAINS, reversed(DOMAINS), strict=True))
EXTRA = "pip install 'seewhy[harmonization]'"
Table = NDArray[np.float64]
TOLERANCE = 1e-4
"""Largest relative change of an estimate at which the iteration ends; neuroCombat's, on which its numbers depend."""


class Baseline(Protocol):
    """A fitted method."""

    def __call__(self, values: NDArray[np.floating], modality: int, *, domain: str) -> NDArray[np.floating]:
        """Translate the tissue of one subject to the other domain.

        Args:
            values: [V] in [-1, 1], all tissue of one modality.
            modality: index of the modality.
            domain: domain of the subject.

        Returns:
            [V]; the caller clips it to [-1, 1].
        """


class Identity:
    """Returns the scan unchanged."""

    def __init__(self, quantiles: Quantiles) -> None:
        pass

    def __call__(self, values: NDArray[np.floating], modality: int, *, domain: str) -> NDArray[np.floating]:
        """Translate one subject; see `Baseline`."""
        return values


class HistogramMatching:
    """Matches a scan to the pooled histogram of the other domain's training subjects, with scikit-image.

    Args:
        quantiles: see `Quantiles`; every subject has the same weight, whatever its size.
    """

    def __init__(self, quantiles: Quantiles) -> None:
        from skimage.exposure import match_histograms

        self._match = match_histograms
        self._pooled = {
            domain: np.moveaxis(np.asarray(table), 1, 0).reshape(table.shape[1], -1)
            for domain, table in quantiles.items()
        }

    def __call__(self, values: NDArray[np.floating], modality: int, *, domain: str) -> NDArray[np.floating]:
        """Translate one subject; see `Baseline`."""
        matched: NDArray[np.floating] = self._match(values, self._pooled[OTHER[domain]][modality])
        return matched


class Nyul:
    """Maps the deciles of a scan to the mean deciles of the other domain's training subjects (Nyúl 2000).

    The ends of the library's standard scale are free. Here they are the mean 1st and 99th percentiles of the training
    subjects, so that the result has the units of the other domain.

    Args:
        quantiles: see `Quantiles`.

    Raises:
        ConfigError: another major version than 3 of intensity-normalization is installed.
    """

    def __init__(self, quantiles: Quantiles) -> None:
        try:
            from intensity_normalization import NyulNormalizer, create_image
        except ModuleNotFoundError:
            raise
        except ImportError as error:  # version 4 has no such classes, and rounds the standard scale to float32
            raise ConfigError(
                f"nyul needs intensity-normalization 3, but {_version('intensity-normalization')} is installed; {EXTRA}"
            ) from error
        self._image = create_image
        self._fitted: dict[tuple[str, int], Any] = {}
        for domain, table in quantiles.items():
            for modality in range(table.shape[1]):
                low, high = np.percentile(table[:, modality], [1, 99], axis=1).mean(axis=1)
                normalizer = NyulNormalizer(output_min_value=float(low), output_max_value=float(high))
                images = [self._as_image(values) for values in table[:, modality]]
                normalizer.fit_population(images, [self._full_mask(image) for image in images])
                self._fitted[domain, modality] = normalizer

    def __call__(self, values: NDArray[np.floating], modality: int, *, domain: str) -> NDArray[np.floating]:
        """Translate one subject; see `Baseline`."""
        image = self._as_image(values)
        moved = self._fitted[OTHER[domain], modality].transform(image, self._full_mask(image))
        return np.asarray(moved.get_data()).ravel()

    def _as_image(self, values: NDArray[np.floating]) -> Any:
        """Convert values to the library's image type, which has three axes."""
        return self._image(np.asarray(values, np.float64)[:, None, None])

    def _full_mask(self, image: Any) -> Any:
        """Mask of all values; without one the library takes values above 0 as tissue."""
        return self._image(np.ones_like(image.get_data()))


class ComBat:
    """Shifts and scales the quantiles of a scan by the site effects of ComBat (Johnson 2007; Fortin 2018).

    ComBat corrects tables of numbers, not images: here a table of the `LANDMARKS` quantiles of each modality. The site
    effects are estimated on training subjects without covariates, with empirical Bayes shrinkage. The effect of the
    subject's site is removed from its quantiles and that of the other site added; intensities between the quantiles are
    interpolated linearly.

    A quantile that does not vary within the sites, for example one that the normalisation puts at -1 in every subject,
    has no variance to standardise by. It is left out of the table and moved by the difference of the sites' means.

    Args:
        quantiles: see `Quantiles`; at least 2 subjects of each domain.

    Raises:
        ConfigError: a domain has fewer than 2 subjects.
    """

    LANDMARKS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
    SPREAD = 1e-4
    """Smallest range of a quantile within a site, in units of [-1, 1]; smaller ones are rounding errors."""

    def __init__(self, quantiles: Quantiles) -> None:
        few = [f"{len(table)} of domain {domain}" for domain, table in quantiles.items() if len(table) < 2]
        if few:
            raise ConfigError(f"combat needs 2 or more training subjects of each domain, there are {', '.join(few)}")
        tables = {domain: self._landmarks(table) for domain, table in quantiles.items()}
        _, *shape = next(iter(tables.values())).shape
        self._mean, self._spread = np.zeros(shape), np.ones(shape)
        self._shift = {domain: table.mean(axis=0) for domain, table in tables.items()}
        self._scale = {domain: np.ones(shape) for domain in tables}
        varied = np.max([np.ptp(table, axis=0) for table in tables.values()], axis=0) > self.SPREAD
        if not varied.any():
            return
        effects = fit_site_effects({domain: table[:, varied] for domain, table in tables.items()})
        self._mean[varied], self._spread[varied] = effects.mean, effects.spread
        for domain in tables:
            self._shift[domain][varied] = effects.shift[domain]
            self._scale[domain][varied] = effects.scale[domain]

    def __call__(self, values: NDArray[np.floating], modality: int, *, domain: str) -> NDArray[np.floating]:
        """Translate one subject; see `Baseline`."""
        landmarks = np.quantile(np.asarray(values, np.float64), self.LANDMARKS)
        mean, spread, m = self._mean[modality], self._spread[modality], modality
        free = ((landmarks - mean) / spread - self._shift[domain][m]) / self._scale[domain][m]
        moved = (free * self._scale[OTHER[domain]][m] + self._shift[OTHER[domain]][m]) * spread + mean
        # Quantiles move independently, so neighbours could change places without the running maximum.
        return _interpolate(values, landmarks, np.maximum.accumulate(moved))

    def _landmarks(self, quantiles: NDArray[np.floating]) -> NDArray[np.float64]:
        """Quantiles at `LANDMARKS` [N, M, 13] of tables [N, M, Q]."""
        return np.moveaxis(np.quantile(np.asarray(quantiles, np.float64), self.LANDMARKS, axis=-1), 0, -1)


BASELINES: Mapping[str, type[Any]] = {
    "identity": Identity,
    "histogram": HistogramMatching,
    "nyul": Nyul,
    "combat": ComBat,
}


def fit_baselines(names: Sequence[str], quantiles: Quantiles) -> tuple[dict[str, Baseline], dict[str, str]]:
    """Fit methods on training subjects.

    Args:
        names: keys of `BASELINES`.
        quantiles: of training subjects only.

    Returns:
        Fitted methods by name, and the reason for each method that cannot be used.

    Raises:
        ConfigError: a name that does not exist.

    Example:
        >>> import numpy as np
        >>> from seewhy.data.domains.baselines import apply_baseline, fit_baselines
        >>> quantiles = {name: np.linspace(-1, top, 101).reshape(1, 1, -1) for name, top in (("a", 1.0), ("b", 0.5))}
        >>> baselines, missing = fit_baselines(["identity", "combat"], quantiles)
        >>> list(baselines), list(missing)
        (['identity'], ['combat'])
        >>> image, body = np.zeros((1, 1, 2, 2), np.float32), np.eye(2, dtype=bool)[None]
        >>> apply_baseline(baselines["identity"], image, body, domain="a")[0, 0].tolist()
        [[0.0, -1.0], [-1.0, 0.0]]
    """
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise ConfigError(f"evaluate.baselines: {unknown[0]!r} does not exist; {nearest(unknown[0], BASELINES)}")
    ready: dict[str, Baseline] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            ready[name] = BASELINES[name](quantiles)
        except ModuleNotFoundError as error:
            missing[name] = f"{error.name} is not installed; {EXTRA}"
        except ConfigError as error:
            missing[name] = str(error)
    return ready, missing


def apply_baseline(baseline: Baseline, image: Array, body: NDArray[np.bool_], *, domain: str) -> Array:
    """Translate one subject.

    Args:
        baseline: a fitted method.
        image: [S, M, H, W] in [-1, 1].
        body: [S, H, W], tissue; everything else becomes -1.
        domain: domain of the subject.

    Returns:
        [S, M, H, W] float32 in [-1, 1].
    """
    result = np.full(image.shape, -1, np.float32)
    for modality in range(image.shape[1]):
        moved = baseline(image[:, modality][body], modality, domain=domain)
        result[:, modality][body] = np.clip(moved, -1, 1)
    return result


def _interpolate(
    values: NDArray[np.floating], knots: NDArray[np.float64], targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Interpolate linearly between knots; values beyond the outermost knots get the shift of that knot."""
    result = np.interp(values, knots, targets)
    low, high = values < knots[0], values > knots[-1]
    result[low], result[high] = values[low] + targets[0] - knots[0], values[high] + targets[-1] - knots[-1]
    return result


def _version(package: str) -> str:
    """Version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "another version"


# -- site effects of ComBat -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SiteEffects:
    """Estimates for F features: a value of site i is `mean + spread * (shift[i] + scale[i] * noise)`.

    Attributes:
        mean: [F] mean over all subjects.
        spread: [F] standard deviation within the sites.
        shift: site → [F], additive effect, in units of `spread` (gamma*).
        scale: site → [F], multiplicative effect on the standard deviation (square root of delta²*).
    """

    mean: Table
    spread: Table
    shift: Mapping[str, Table]
    scale: Mapping[str, Table]


def fit_site_effects(tables: Mapping[str, Table]) -> SiteEffects:
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


def _shrink(standardized: Table) -> tuple[Table, Table]:
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
