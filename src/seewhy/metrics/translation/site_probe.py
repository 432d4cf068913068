"""Site probes: classifiers that tell the scans of two sites apart, before and after a translation.

A frozen probe, trained on untranslated scans, only shows that translated scans no longer look like its training scans,
which a few changed pixels can cause. A probe that is retrained on translated scans shows whether anything still
separates the sites, be it the site or traces of the translation. Both are tested on held-out subjects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seewhy.metrics.logistic import fit_logistic
from seewhy.metrics.translation.similarity import DIRECTIONS

__all__ = [
    "MIN_SUBJECTS",
    "Fitted",
    "LogisticProbe",
    "NetworkProbe",
    "Probe",
    "Site",
    "describe_shortage",
    "probe_rows",
    "subject_folds",
]

PERIOD = 10
"""Training steps between two checks whether the loss is small enough to stop."""


class Fitted(NamedTuple):
    """A trained probe.

    Attributes:
        scores: [N, …] samples → [N] float64; above 0 predicts the second site.
        converged: whether the loss became small before the last training step.
    """

    scores: Callable[[Tensor], Tensor]
    converged: bool


class Probe(Protocol):
    """Classifier of two sites that have equal weight, whatever their numbers of samples."""

    name: str

    def fit(self, samples: Tensor, second: Tensor, *, seed: int) -> Fitted:
        """Train from scratch.

        Args:
            samples: [N, …] of both sites.
            second: [N] bool, whether a sample is of the second site.
            seed: seed of the random numbers.
        """


class NetworkProbe:
    """Three convolutions, the mean over the plane and a linear layer, trained with Adam on balanced batches.

    Samples are not normalised, because sites differ in brightness and contrast.

    Args:
        steps: largest number of training steps.
        width: channels of the first convolution; the next have two and four times as many.
        batch: samples per step.
        rate: learning rate.
        enough: loss, averaged over 10 steps, below which training ends.
    """

    name = "network"

    def __init__(
        self, *, steps: int = 300, width: int = 16, batch: int = 16, rate: float = 1e-2, enough: float = 0.05
    ) -> None:
        self.steps, self.width, self.batch, self.rate, self.enough = steps, width, batch, rate, enough

    def fit(self, samples: Tensor, second: Tensor, *, seed: int) -> Fitted:
        """See `Probe`; samples are [N, C, side, side]."""
        # Weights are drawn on the CPU within a fork, so all devices start alike and other random draws do not change.
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            net = self._net(samples.shape[1]).to(samples.device).to(memory_format=torch.channels_last)
            samples = samples.contiguous(memory_format=torch.channels_last)  # several times faster on a CPU
            return Fitted(_scorer(net), self._train(net, samples, second))

    def _train(self, net: nn.Module, samples: Tensor, second: Tensor) -> bool:
        optimizer = torch.optim.Adam(net.parameters(), lr=self.rate, weight_decay=1e-4, fused=True)
        sides = [torch.nonzero(second.cpu() == side).flatten() for side in (False, True)]
        recent = torch.zeros((), device=samples.device)
        for step in range(1, self.steps + 1):
            drawn = torch.cat([side[torch.randint(len(side), (self.batch // 2,))] for side in sides])
            drawn = drawn.to(samples.device)
            loss = F.binary_cross_entropy_with_logits(net(samples[drawn])[:, 0], second[drawn].float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            recent += loss.detach()
            if step % PERIOD == 0:
                if float(recent) / PERIOD < self.enough:
                    return True
                recent.zero_()
        return False

    def _net(self, channels: int) -> nn.Sequential:
        widths = [channels, self.width, 2 * self.width, 4 * self.width]
        layers: list[nn.Module] = []
        for first, last in pairwise(widths):
            layers += [nn.Conv2d(first, last, 3, stride=2, padding=1), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 1))


class LogisticProbe:
    """Logistic regression on standardised features, as in scikit-learn with `class_weight="balanced"`.

    Args:
        strength: inverse of the penalty on squared weights (scikit-learn's C).
    """

    name = "logistic"

    def __init__(self, *, strength: float = 1.0) -> None:
        self.strength = strength

    def fit(self, samples: Tensor, second: Tensor, *, seed: int) -> Fitted:
        """See `Probe`; samples are [N, D]; the fit is deterministic, so the seed is not used."""
        return Fitted(fit_logistic(samples, second, strength=self.strength), True)


def _scorer(net: nn.Module) -> Callable[[Tensor], Tensor]:
    def scores(samples: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = net(samples)[:, 0]
        return logits.double()

    return scores


MIN_SUBJECTS = 4
"""Fewest patients per site; with fewer, a fold would train on one or two heads only."""


class Site(NamedTuple):
    """Samples of one site.

    Attributes:
        real: [N, …] untranslated.
        translated: method → [N, …], the same samples translated to the other site; a method may have only one
            direction.
        patients: [N] patient of each sample.
    """

    real: Tensor
    translated: Mapping[str, Tensor]
    patients: Sequence[str]


def describe_shortage(a: Site, b: Site) -> str | None:
    """Reason why the probe cannot be estimated from so few patients; None if it can."""
    counts = {name: len(set(site.patients)) for name, site in (("a", a), ("b", b))}
    if min(counts.values()) >= MIN_SUBJECTS:
        return None
    present = " and ".join(f"{count} of domain {name}" for name, count in counts.items())
    return f"the site probe cannot be estimated from {present}: it needs {MIN_SUBJECTS} patients of each"


def subject_folds(a: Sequence[str], b: Sequence[str], *, folds: int, seed: int) -> list[set[str]]:
    """Split patients into folds, evenly for each site; a patient with scans at both sites is in one fold only.

    Every fold has patients of both sites.

    Args:
        a: patients of the samples of one site.
        b: patients of the other site.
        folds: number of folds, at most the number of patients of the smaller site.
        seed: seed of the split.

    Example:
        >>> folds = subject_folds(["p1", "p2", "p3", "p4"], ["q1", "q2", "q3", "q4"], folds=2, seed=0)
        >>> [len(fold) for fold in folds]
        [4, 4]
    """
    rng = np.random.default_rng(seed)
    both, *others = sorted(set(a) & set(b)), sorted(set(a) - set(b)), sorted(set(b) - set(a))
    count = min(folds, len(set(a)), len(set(b)))
    assigned: list[set[str]] = [set() for _ in range(count)]
    # Each site continues where the patients of both sites ended; otherwise later folds could miss the site.
    for first, group in ((0, both), *((len(both), site) for site in others)):
        for position, patient in enumerate(rng.permutation(group).tolist(), first):
            assigned[position % count].add(patient)
    return assigned


def probe_rows(
    probe: Probe,
    a: Site,
    b: Site,
    *,
    seeds: Sequence[int],
    folds: int = 5,
    advance: Callable[[], None] = lambda: None,
) -> Iterator[dict[str, Any]]:
    """Train and test a probe on every fold with every seed.

    Args:
        probe: classifier, trained from scratch each time.
        a: samples of one site.
        b: samples of the other site.
        seeds: seeds of the folds and of training.
        folds: number of folds of patients.
        advance: called after every training.

    Yields:
        Rows `probe`, `method`, `direction` (None for untranslated scans), `kind` (`raw`, `frozen`, `retrained`,
        `floor`), `seed`, `fold`, `balanced_accuracy`, `auc`, `patients` (held-out patient → share of samples that are
        classified correctly, mean over the sites of the patient's scans), `converged`. In direction `a2b` the
        probe separates translated scans of a from real scans of b; chance is 0.5. Methods `raw` and `real` are
        untranslated scans: `raw` of both sites, and `real`, the floor, of two random halves of the target's patients.
        With few patients the floor is below 0.5, because a held-out patient is missing in its half.
    """
    sites = {"a": a, "b": b}
    methods = list(dict.fromkeys([*a.translated, *b.translated]))
    for seed in seeds:
        for domain, direction in DIRECTIONS.items():
            yield from _floor(probe, sites["b" if domain == "a" else "a"], direction, folds, seed, advance)
        for fold, held in enumerate(subject_folds(a.patients, b.patients, folds=folds, seed=seed)):
            about = {"probe": probe.name, "seed": seed, "fold": fold}
            raw = _fit(probe, a.real, b.real, sites, held, seed)
            advance()
            yield {
                **about, "method": "raw", "direction": None, "kind": "raw",
                **_scores(raw, a.real, b.real, sites, held),
            }  # fmt: skip
            for method, (domain, direction) in product(methods, DIRECTIONS.items()):
                if method not in sites[domain].translated:
                    continue
                mixed = {name: site.translated[method] if name == domain else site.real for name, site in sites.items()}
                retrained = _fit(probe, mixed["a"], mixed["b"], sites, held, seed)
                advance()
                for kind, fitted in (("frozen", raw), ("retrained", retrained)):
                    yield {
                        **about, "method": method, "direction": direction, "kind": kind,
                        **_scores(fitted, mixed["a"], mixed["b"], sites, held),
                    }  # fmt: skip


def _floor(
    probe: Probe, site: Site, direction: str, folds: int, seed: int, advance: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    """Rows of a probe that separates two random halves of the patients of one site."""
    order = np.random.default_rng(seed).permutation(sorted(set(site.patients)))
    halves = [set(half.tolist()) for half in np.array_split(order, 2)]
    sites = {}
    for name, half in zip("ab", halves, strict=True):
        chosen = _of(site, half)
        kept = [patient for patient in site.patients if patient in half]
        sites[name] = Site(site.real[chosen], {}, kept)
    a, b = sites["a"], sites["b"]
    if min(len(half) for half in halves) < 2:
        return
    for fold, held in enumerate(subject_folds(a.patients, b.patients, folds=folds, seed=seed)):
        fitted = _fit(probe, a.real, b.real, sites, held, seed)
        advance()
        yield {
            "probe": probe.name, "seed": seed, "fold": fold, "method": "real", "direction": direction, "kind": "floor",
            **_scores(fitted, a.real, b.real, sites, held),
        }  # fmt: skip


def _fit(probe: Probe, a: Tensor, b: Tensor, sites: Mapping[str, Site], held: set[str], seed: int) -> Fitted:
    """Train on the patients outside the held-out fold."""
    kept = [values[~_of(sites[name], held)] for name, values in (("a", a), ("b", b))]
    second = torch.cat([torch.full((len(values),), name) for values, name in zip(kept, (False, True), strict=True)])
    return probe.fit(torch.cat(kept), second.to(a.device), seed=seed)


def _scores(fitted: Fitted, a: Tensor, b: Tensor, sites: Mapping[str, Site], held: set[str]) -> dict[str, Any]:
    first, second = (fitted.scores(values[_of(sites[name], held)]) for name, values in (("a", a), ("b", b)))
    wins = second[:, None] - first[None]
    right: dict[str, list[float]] = {}
    for name, hits in (("a", first <= 0), ("b", second > 0)):
        owners = [patient for patient in sites[name].patients if patient in held]
        for patient in dict.fromkeys(owners):
            own = torch.tensor([owner == patient for owner in owners], device=hits.device)
            right.setdefault(patient, []).append(float(hits[own].double().mean()))
    return {
        "patients": {patient: sum(shares) / len(shares) for patient, shares in right.items()},
        "balanced_accuracy": float(((first <= 0).double().mean() + (second > 0).double().mean()) / 2),
        "auc": float(((wins > 0).double() + (wins == 0).double() / 2).mean()),
        "converged": fitted.converged,
    }


def _of(site: Site, patients: set[str]) -> Tensor:
    """[N] bool, samples of these patients."""
    return torch.tensor([patient in patients for patient in site.patients], device=site.real.device)
