"""Selection of the samples and classes to explain, and the options of explanations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from seewhy.batch import Prediction
from seewhy.errors import ConfigError, nearest
from seewhy.explain.explained_model import Explainable
from seewhy.explain.judging.measures.registry import choose_measures
from seewhy.explain.targets import (
    PREDICTED,
    RUNNER_UP,
    Contrast,
    Target,
    find_class,
    find_contrast,
    find_runner_up,
    predict_classes,
)
from seewhy.io.names import find_name_clashes, safe_name
from seewhy.option_types import BatchSize, NonNegativeInt, OpenFraction, Seed
from seewhy.options import check_choice, check_fields

__all__ = [
    "BY_NAME",
    "BY_PREDICTION",
    "ExplanationSettings",
    "SampleChoice",
    "TargetChoice",
    "TargetSetting",
    "list_candidates",
    "prediction_rows",
]

BY_NAME = ("spread", "random", "first")
WORDS = (PREDICTED, "label")
"""Words for a class in `explain.target`."""
LEAST_TISSUE = 0.3
"""Least tissue of a slice that is chosen to be explained; the ends of a head show next to nothing."""
BY_PREDICTION = ("best", "worst", "median", "uncertain")


class SampleChoice:
    """Picks samples by their names, or by how well they were predicted.

    Args:
        samples: `spread` evenly over the data set, `random`, `first`; `best`, `worst`, `median` by the predicted
            probability of the true class; `uncertain` by the entropy of the prediction; or a list of ids.
        count: number of samples; 0 is all.
        seed: seed of `random`.

    Attributes:
        needs_predictions: whether samples can be chosen only after a prediction.

    Example:
        >>> SampleChoice("spread", count=3).by_name(["a", "b", "c", "d", "e"])
        ['a', 'c', 'e']
    """

    def __init__(self, samples: str | Sequence[int | str], *, count: int, seed: int = 0) -> None:
        self.ids = None if isinstance(samples, str) else [str(name) for name in samples]
        self.rule = samples if isinstance(samples, str) else "ids"
        if not samples:
            raise ConfigError("explain.samples is empty; give ids, or a rule such as spread")
        if self.ids is None:
            check_choice(self.rule, (*BY_NAME, *BY_PREDICTION), "explain.samples", others="a list of ids")
        self.count, self.seed = count, seed
        self.needs_predictions = self.rule in BY_PREDICTION and count > 0

    def by_name(self, known: Sequence[str]) -> list[str]:
        """Choose samples by their ids alone.

        Args:
            known: ids of all samples, in the order of the data set.

        Raises:
            ConfigError: unknown ids; the nearest ids are named.
        """
        if self.ids is not None:
            unknown = [name for name in self.ids if name not in set(known)]
            if unknown:
                names = "; ".join(f"{name!r} ({nearest(name, known)})" for name in unknown)
                raise ConfigError(f"explain.samples: no such sample in this part of the data: {names}")
            return list(dict.fromkeys(self.ids))
        count = self.count or len(known)
        if count >= len(known):
            return list(known)
        if self.rule == "random":
            picked = np.random.default_rng(self.seed).choice(len(known), size=count, replace=False)
            return [known[position] for position in sorted(picked)]
        positions = range(count) if self.rule == "first" else np.linspace(0, len(known) - 1, count).round().astype(int)
        return [known[position] for position in positions]

    def by_prediction(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Choose samples by the rows of `prediction_rows`.

        Raises:
            ConfigError: the rule needs labels, and there are none.
        """
        measure = "entropy" if self.rule == "uncertain" else "true_probability"
        scored = [row for row in rows if row[measure] is not None]
        if not scored:
            raise ConfigError(f"explain.samples={self.rule} needs labels, and these samples have none")
        ordered = sorted(scored, key=lambda row: (row[measure], row["id"]))
        count = min(self.count, len(ordered))
        if self.rule == "median":
            first = (len(ordered) - count) // 2
            chosen = ordered[first : first + count]
        else:
            chosen = ordered[:count] if self.rule == "worst" else ordered[::-1][:count]
        return [row["id"] for row in chosen]


def list_candidates(ids: Sequence[str], tissue: Mapping[str, float]) -> list[str]:
    """Samples that a rule chooses from: those with enough anatomy, where it is known how much they show.

    Args:
        ids: of all samples, in order.
        tissue: sample → its tissue as a share of that in the subject's fullest slice; may be empty.

    Example:
        >>> list_candidates(["a", "b", "c"], {"a": 0.05, "b": 0.9, "c": 1.0})
        ['b', 'c']
    """
    full = [name for name in ids if tissue.get(name, 1.0) >= LEAST_TISSUE]
    return full or list(ids)


def prediction_rows(prediction: Prediction) -> list[dict[str, Any]]:
    """Rows to choose samples by: id, entropy, and the probability of the true class or None.

    Args:
        prediction: `probability` [B, K] over classes with `label` [B]; or per class, with `label` [B, K], where
            the probability of the truth is the lowest over the classes.
    """
    if "probability" not in prediction:
        raise ConfigError(
            "explain.samples: this model predicts no classes to choose samples by; "
            f"choose {', '.join(BY_NAME)} or a list of ids"
        )
    probability = prediction["probability"].detach().double().cpu().numpy()
    label = prediction["label"].cpu().numpy() if "label" in prediction else None
    rows = []
    for position, name in enumerate(prediction["id"]):
        sample = probability[position]
        truth = None
        if label is not None and label.ndim == 1:
            truth = float(sample[label[position]]) if label[position] >= 0 else None
        elif label is not None:
            truth = float(np.where(label[position] > 0.5, sample, 1 - sample).min())
        answers = sample if label is None or label.ndim == 1 else np.concatenate([sample, 1 - sample])
        entropy = -sum(float(p) * math.log(p) for p in answers if p > 0)
        rows.append({"id": name, "true_probability": truth, "entropy": entropy})
    return rows


TargetSetting: TypeAlias = int | str | Sequence[int | str] | None


class TargetChoice:
    """Turns the option `explain.target` into the targets of a batch.

    Args:
        setting: None or `predicted`; `label`, the true class (the predicted one where it is unknown); `all` classes;
            a class index or name; a contrast of two of these, e.g. `early-normal`, `label-normal` or
            `predicted-runner_up`, for why the first and not the second; or a list of them.
        about: names of the module's classes.
        classes: number of classes.

    Raises:
        ConfigError: unknown class.

    Example:
        >>> choice = TargetChoice(["early", 0], Explainable(classes=("normal", "early")), classes=2)
        >>> choice.wanted, choice.folders
        ([1, 0], ['target_early', 'target_normal'])
    """

    def __init__(self, setting: TargetSetting, about: Explainable, *, classes: int) -> None:
        self.about, self.classes = about, classes
        wanted = [setting] if setting is None or isinstance(setting, (int, str)) else list(setting)
        if not wanted:
            raise ConfigError("explain.target is empty; give a class, or null for the predicted one")
        self.wanted: list[int | str | Contrast] = []
        for item in wanted:
            if item == "all":
                self.wanted += range(classes)
            elif item in (None, "predicted", "label"):
                self.wanted.append(item or "predicted")
            elif isinstance(item, str) and (
                pair := find_contrast(item, about.classes, classes, "explain.target", words=WORDS)
            ):
                self.wanted.append(pair)
            else:
                others = (*WORDS, "all", "predicted-runner_up")
                self.wanted.append(find_class(item, about.classes, classes, "explain.target", others=others))
        clashes = find_name_clashes((f"target_{self.name(item)}" for item in self.wanted), "targets")
        if clashes:
            raise ConfigError(f"explain.target: {'; '.join(clashes)}")

    @property
    def folders(self) -> list[str]:
        """One folder name per target; an empty name for a single target."""
        return [safe_name(f"target_{self.name(item)}") for item in self.wanted] if len(self.wanted) > 1 else [""]

    def name(self, target: int | str | Contrast) -> str:
        """Name of a class, or its index as text; two with a hyphen for a contrast."""
        if isinstance(target, tuple):
            return "-".join(self.name(part) for part in target)
        known = isinstance(target, int) and target < len(self.about.classes)
        return self.about.classes[int(target)] if known else str(target)

    def of(self, label: Tensor | None, score: Callable[[], Tensor]) -> list[Target]:
        """The targets of a batch.

        Args:
            label: [B] class index with -1 where unknown, or [B, K] multi-hot, or None.
            score: gives the class scores [B, K]; called only for unknown labels and for contrasts.
        """
        return [self._resolve_target(item, label, score) for item in self.wanted]

    def _resolve_target(
        self, wanted: int | str | Contrast, label: Tensor | None, score: Callable[[], Tensor]
    ) -> Target:
        if isinstance(wanted, tuple):
            scores = score()
            first = self._list_classes(wanted[0], label, scores)
            second = find_runner_up(scores, first) if wanted[1] == RUNNER_UP else None
            return torch.stack(
                [first, self._list_classes(wanted[1], label, scores) if second is None else second], dim=1
            )
        if isinstance(wanted, int):
            return wanted
        if wanted == PREDICTED or label is None:
            return None
        if label.ndim == 2:
            label = (label[:, 0] > 0.5).long() if label.shape[1] == 1 else label.argmax(dim=1)
        return label if bool((label >= 0).all()) else torch.where(label >= 0, label, predict_classes(score()).to(label))

    def _list_classes(self, wanted: int | str, label: Tensor | None, scores: Tensor) -> Tensor:
        """One side of a contrast as the class index of each sample, [B] int64."""
        resolved = self._resolve_target(wanted, label, lambda: scores)
        predicted = predict_classes(scores)
        if resolved is None:
            return predicted
        return torch.as_tensor(resolved).to(predicted).expand_as(predicted)


@dataclass(frozen=True, kw_only=True)
class ExplanationSettings:
    """Options of explanations; the defaults are those of `conf/explain/default.yaml`.

    Attributes:
        target: see `seewhy.reporting.selection.TargetChoice`.
        samples: see `seewhy.reporting.selection.SampleChoice`.
        max_samples: number of samples; 0 is all.
        batch_size: samples explained at once.
        key_slices: numbers, in the scan, of the slices that are drawn of a volume; None draws 7 spread over it.
        judge: scores of maps: `cheap` (completeness, randomisation, shares), `all`, `none`, or `auto`: all
            for up to 64 samples, else the cheap ones.
        metrics: further measures of the literature by name or kind, or `all`; see
            `seewhy.explain.judging.choose_measures`.
        mask_tuning: steps that a copy of the network is tuned with random masks, to judge deletion and insertion; 0 is
            never.
        region_alpha: largest probability that the region of a new patient, calibrated on validation patients, does not
            keep the prediction, see `seewhy.explain.judging.calibrate_region`; None calibrates none.
        pictures: samples drawn of each method, the first ones; None draws all.
        nifti: also write maps of volumes on the grid of their source.
        atlas: label volume on the grid of the sources, for shares by region; may be None.
        seed: seed of a random choice and of the scores.
    """

    target: TargetSetting = None
    samples: str | Sequence[int | str] = "spread"
    max_samples: NonNegativeInt = 50
    batch_size: BatchSize = 8
    key_slices: Sequence[NonNegativeInt] | None = None
    judge: Literal["auto", "all", "cheap", "none"] = "auto"
    metrics: Sequence[str] = ()
    mask_tuning: NonNegativeInt = 0
    region_alpha: OpenFraction | None = None
    pictures: NonNegativeInt | None = None
    nifti: bool = True
    atlas: str | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Check the options."""
        check_fields(self, "explain")
        choose_measures(self.metrics)
        if self.key_slices is not None and not self.key_slices:
            raise ConfigError(
                "explain.key_slices is empty; give slice numbers, or null for slices spread over a volume"
            )

    def choice(self) -> SampleChoice:
        """The choice of samples."""
        return SampleChoice(self.samples, count=self.max_samples, seed=self.seed)
