"""Harmonisation without a network: what a translation has to beat. Monotone maps of each modality's intensities.

All are fitted on the quantiles of training subjects alone, and work on normalised values in [-1, 1]. A monotone map can
change brightness and contrast curve, never sharpness, noise or what depends on the place.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from seewhy.data.domains.store import DOMAINS
from seewhy.errors import ConfigError, nearest

__all__ = ["BASELINES", "Baseline", "Quantiles", "apply_baseline", "fit_baselines"]

Array = NDArray[np.float32]
Quantiles = Mapping[str, NDArray[np.floating]]
"""Domain → [N, M, Q], evenly spaced quantiles of the tissue of N training subjects, from the least to the greatest."""
OTHER = dict(zip(DOMAINS, reversed(DOMAINS), strict=True))
EXTRA = "pip install seewhy[harmonization]"


class Baseline(Protocol):
    """A fitted method."""

    def __call__(self, values: NDArray[np.floating], modality: int, *, domain: str) -> NDArray[np.floating]:
        """Give one subject's tissue the look of the other domain.

        Args:
            values: [V] in [-1, 1], all tissue of one modality.
            modality: which.
            domain: the one the subject is of.

        Returns:
            [V]; ends beyond [-1, 1] are cut by the caller.
        """


class Identity:
    """Leaves a scan as it is: the raw value."""

    def __init__(self, quantiles: Quantiles) -> None:
        pass

    def __call__(self, values: NDArray[np.floating], modality: int, *, domain: str) -> NDArray[np.floating]:
        """See `Baseline`."""
        return values


class HistogramMatching:
    """Gives a scan the pooled histogram of the other domain's training subjects, by scikit-image.

    Args:
        quantiles: see `Quantiles`; every subject counts alike, whatever its size.
    """

    def __init__(self, quantiles: Quantiles) -> None:
        from skimage.exposure import match_histograms

        self._match = match_histograms
        self._pooled = {domain: np.moveaxis(np.asarray(own), 1, 0).reshape(own.shape[1], -1)
                        for domain, own in quantiles.items()}  # fmt: skip

    def __call__(self, values: NDArray[np.floating], modality: int, *, domain: str) -> NDArray[np.floating]:
        """See `Baseline`."""
        found: NDArray[np.floating] = self._match(values, self._pooled[OTHER[domain]][modality])
        return found


class Nyul:
    """Moves a scan's deciles to the mean deciles of the other domain's training subjects (Nyúl 2000).

    The library puts the standard scale's ends wherever it is told to; here they are where the training subjects' 1st
    and 99th percentiles are on average, so that the result is in the other domain's units.

    Args:
        quantiles: see `Quantiles`.
    """

    def __init__(self, quantiles: Quantiles) -> None:
        from intensity_normalization import NyulNormalizer, create_image

        self._image = create_image
        self._fitted: dict[tuple[str, int], Any] = {}
        for domain, own in quantiles.items():
            for modality in range(own.shape[1]):
                low, high = np.percentile(own[:, modality], [1, 99], axis=1).mean(axis=1)
                normalizer = NyulNormalizer(output_min_value=float(low), output_max_value=float(high))
                images = [self._as_image(values) for values in own[:, modality]]
                normalizer.fit_population(images, [self._everywhere(image) for image in images])
                self._fitted[domain, modality] = normalizer

    def __call__(self, values: NDArray[np.floating], modality: int, *, domain: str) -> NDArray[np.floating]:
        """See `Baseline`."""
        image = self._as_image(values)
        found = self._fitted[OTHER[domain], modality].transform(image, self._everywhere(image))
        return np.asarray(found.get_data()).ravel()

    def _as_image(self, values: NDArray[np.floating]) -> Any:
        """The library's images have three axes."""
        return self._image(np.asarray(values, np.float64)[:, None, None])

    def _everywhere(self, image: Any) -> Any:
        """Otherwise it takes what is above 0 for tissue."""
        return self._image(np.ones_like(image.get_data()))


class ComBat:
    """Shifts and scales a scan's quantiles by ComBat's site effects (Johnson 2007; Fortin 2018), by neuroCombat.

    ComBat corrects tables of numbers, not images: here of `LANDMARKS` quantiles of each modality. Site effects are
    estimated on training subjects without covariates, shrunk as empirical Bayes does. A subject's quantiles are freed
    of its own site's effect and given the other's, and its intensities follow, linearly between the quantiles.

    A quantile without spread within the sites, such as one that the normalisation puts at -1 in every subject, has no
    variance to be standardised by; it is left out of the table and moves as the sites' means do, here not at all.

    Args:
        quantiles: see `Quantiles`; at least 2 subjects of each domain.
    """

    LANDMARKS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
    SPREAD = 1e-4
    """Least range of a quantile within a site, on the scale of -1 to 1; below it are roundings."""

    def __init__(self, quantiles: Quantiles) -> None:
        import pandas as pd
        from neuroCombat import neuroCombat

        few = [f"{len(own)} of domain {domain}" for domain, own in quantiles.items() if len(own) < 2]
        if few:
            raise ConfigError(f"combat needs 2 or more training subjects of each domain, there are {', '.join(few)}")
        tables = {domain: self._landmarks(own) for domain, own in quantiles.items()}
        _, *shape = next(iter(tables.values())).shape
        self._mean, self._spread = np.zeros(shape), np.ones(shape)
        self._shift = {domain: own.mean(axis=0) for domain, own in tables.items()}
        self._scale = {domain: np.ones(shape) for domain in tables}
        varied = np.max([np.ptp(own, axis=0) for own in tables.values()], axis=0) > self.SPREAD
        if not varied.any():
            return
        sites = [domain for domain, own in tables.items() for _ in own]
        table = np.concatenate([own[:, varied] for own in tables.values()]).T
        with contextlib.redirect_stdout(io.StringIO()):  # it tells its steps
            found = neuroCombat(table, pd.DataFrame({"site": sites}), "site")["estimates"]
        self._mean[varied] = found["stand.mean"][:, 0]
        self._spread[varied] = np.sqrt(found["var.pooled"][:, 0])
        for place, site in enumerate(map(str, found["batches"])):
            self._shift[site][varied] = found["gamma.star"][place]
            self._scale[site][varied] = np.sqrt(found["delta.star"][place])

    def __call__(self, values: NDArray[np.floating], modality: int, *, domain: str) -> NDArray[np.floating]:
        """See `Baseline`."""
        own = np.quantile(np.asarray(values, np.float64), self.LANDMARKS)
        mean, spread, m = self._mean[modality], self._spread[modality], modality
        free = ((own - mean) / spread - self._shift[domain][m]) / self._scale[domain][m]
        moved = (free * self._scale[OTHER[domain]][m] + self._shift[OTHER[domain]][m]) * spread + mean
        # Each quantile is moved on its own, so that neighbours could change places.
        return _piecewise(values, own, np.maximum.accumulate(moved))

    def _landmarks(self, quantiles: NDArray[np.floating]) -> NDArray[np.float64]:
        """[N, M, landmarks] of tables [N, M, Q]."""
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
        names: of `BASELINES`.
        quantiles: of training subjects only.

    Returns:
        Those that can be used, and name → why the others cannot.

    Raises:
        ConfigError: a name that does not exist.
    """
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise ConfigError(f"evaluate.baselines: there is no {unknown[0]!r}; {nearest(unknown[0], BASELINES)}")
    ready: dict[str, Baseline] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            ready[name] = BASELINES[name](quantiles)
        except ModuleNotFoundError as error:
            missing[name] = f"not installed ({error.name}): {EXTRA}"
        except ConfigError as error:
            missing[name] = str(error)
    return ready, missing


def apply_baseline(baseline: Baseline, image: Array, body: NDArray[np.bool_], *, domain: str) -> Array:
    """Translate one subject.

    Args:
        baseline: fitted.
        image: [S, M, H, W] in [-1, 1].
        body: [S, H, W] tissue; all else becomes -1.
        domain: the subject's.

    Returns:
        [S, M, H, W] float32 in [-1, 1].
    """
    result = np.full(image.shape, -1, np.float32)
    for modality in range(image.shape[1]):
        moved = baseline(image[:, modality][body], modality, domain=domain)
        result[:, modality][body] = np.clip(moved, -1, 1)
    return result


def _piecewise(
    values: NDArray[np.floating], knots: NDArray[np.float64], targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Linear between knots; beyond the outermost ones shifted as they are."""
    found = np.interp(values, knots, targets)
    low, high = values < knots[0], values > knots[-1]
    found[low], found[high] = values[low] + targets[0] - knots[0], values[high] + targets[-1] - knots[-1]
    return found
