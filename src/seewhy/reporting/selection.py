"""Which samples are explained.

Which class of each sample is explained.

What can be chosen about explanations; the defaults are those of `conf/explain/default.yaml`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from seewhy.batch import Prediction
from seewhy.errors import ConfigError, nearest
from seewhy.explain.explained_model import Explainable, Target

__all__ = [
    "BY_NAME",
    "BY_PREDICTION",
    "ExplanationSettings",
    "SampleChoice",
    "TargetChoice",
    "TargetSetting",
    "prediction_rows",
]

BY_NAME = ("spread", "random", "first")
BY_PREDICTION = ("best", "worst", "median", "uncertain")


class SampleChoice:
    """Picks samples by their names, or by how well they were predicted.

    Args:
        samples: `spread` evenly over the data set, `random`, `first`; `best`, `worst`, `median` by the predicted
            probability of the true class; `uncertain` by the entropy of the prediction; or a list of ids.
        count: how many; 0 is all.
        seed: of `random`.

    Attributes:
        needs_predictions: whether the choice can only be made after a prediction.
    """

    def __init__(self, samples: str | Sequence[str], *, count: int, seed: int = 0) -> None:
        self.ids = None if isinstance(samples, str) else [str(one) for one in samples]
        self.rule = samples if isinstance(samples, str) else "ids"
        if self.ids is None and self.rule not in (*BY_NAME, *BY_PREDICTION):
            raise ConfigError(
                f"explain.samples={self.rule!r} is unknown; {nearest(self.rule, (*BY_NAME, *BY_PREDICTION))}, "
                "or a list of ids"
            )
        if count < 0:
            raise ConfigError(f"explain.max_samples={count} must be 0 (all) or more")
        self.count, self.seed = count, seed
        self.needs_predictions = self.rule in BY_PREDICTION and count > 0

    def by_name(self, known: Sequence[str]) -> list[str]:
        """Choose without a prediction.

        Args:
            known: ids of all samples, in the order of the data set.

        Raises:
            ConfigError: ids that no sample has; the nearest are named.
        """
        if self.ids is not None:
            unknown = [one for one in self.ids if one not in set(known)]
            if unknown:
                told = "; ".join(f"{one!r} ({nearest(one, known)})" for one in unknown)
                raise ConfigError(f"explain.samples: no such sample in this part of the data: {told}")
            return list(dict.fromkeys(self.ids))
        count = self.count or len(known)
        if count >= len(known):
            return list(known)
        if self.rule == "random":
            picked = np.random.default_rng(self.seed).choice(len(known), size=count, replace=False)
            return [known[place] for place in sorted(picked)]
        places = range(count) if self.rule == "first" else np.linspace(0, len(known) - 1, count).round().astype(int)
        return [known[place] for place in places]

    def by_prediction(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Choose by what `prediction_rows` says.

        Raises:
            ConfigError: no labels to tell good from bad by.
        """
        measure = "entropy" if self.rule == "uncertain" else "true_probability"
        known = [row for row in rows if row[measure] is not None]
        if not known:
            raise ConfigError(f"explain.samples={self.rule} needs labels, and these samples have none")
        ordered = sorted(known, key=lambda row: (row[measure], row["id"]))
        count = min(self.count, len(ordered))
        if self.rule == "median":
            first = (len(ordered) - count) // 2
            chosen = ordered[first : first + count]
        else:
            chosen = ordered[:count] if self.rule == "worst" else ordered[::-1][:count]
        return [row["id"] for row in chosen]


def prediction_rows(prediction: Prediction) -> list[dict[str, Any]]:
    """What a choice needs to know of each sample: id, entropy, and the probability of the true class or None.

    Args:
        prediction: `probability` [B, K] over classes with `label` [B]; or per class, with `label` [B, K], where
            the true-class probability is that of the sample's least likely true answer.
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
        own = probability[position]
        truth = None
        if label is not None and label.ndim == 1:
            truth = float(own[label[position]]) if label[position] >= 0 else None
        elif label is not None:
            truth = float(np.where(label[position] > 0.5, own, 1 - own).min())
        answers = own if label is None or label.ndim == 1 else np.concatenate([own, 1 - own])
        entropy = -sum(float(p) * math.log(p) for p in answers if p > 0)
        rows.append({"id": name, "true_probability": truth, "entropy": entropy})
    return rows


TargetSetting: TypeAlias = "int | str | Sequence[int | str] | None"


class TargetChoice:
    """From a setting to the targets of a batch.

    Args:
        setting: None or `predicted`; `label`, the true class (the predicted one where it is unknown); `all` classes;
            a class index or name; or a list of indices and names.
        about: what the module says of itself.
        classes: number of classes there are.

    Raises:
        ConfigError: no such class.
    """

    def __init__(self, setting: TargetSetting, about: Explainable, *, classes: int) -> None:
        self.about, self.classes = about, classes
        wanted = [setting] if setting is None or isinstance(setting, (int, str)) else list(setting)
        self.wanted: list[int | str] = []
        for one in wanted:
            if one == "all":
                self.wanted += range(classes)
            elif one in (None, "predicted", "label"):
                self.wanted.append(one or "predicted")
            else:
                self.wanted.append(self._index(one))

    @property
    def folders(self) -> list[str]:
        """A folder's name per target, empty where there is only one target."""
        return [f"target_{self.name(one)}" for one in self.wanted] if len(self.wanted) > 1 else [""]

    def name(self, target: int | str) -> str:
        """A class by name where it has one."""
        known = isinstance(target, int) and target < len(self.about.classes)
        return self.about.classes[int(target)] if known else str(target)

    def of(self, label: Tensor | None, predict: Callable[[], Tensor]) -> list[Target]:
        """The targets of a batch.

        Args:
            label: [B] class index with -1 where unknown, or [B, K] multi-hot, or None.
            predict: gives the predicted class [B]; called only where a label is asked for and unknown.
        """
        return [self._target(one, label, predict) for one in self.wanted]

    def _target(self, wanted: int | str, label: Tensor | None, predict: Callable[[], Tensor]) -> Target:
        if isinstance(wanted, int):
            return wanted
        if wanted == "predicted" or label is None:
            return None
        if label.ndim == 2:
            label = (label[:, 0] > 0.5).long() if label.shape[1] == 1 else label.argmax(dim=1)
        return label if bool((label >= 0).all()) else torch.where(label >= 0, label, predict().to(label))

    def _index(self, wanted: object) -> int:
        names = list(self.about.classes)
        if isinstance(wanted, str) and wanted in names:
            return names.index(wanted)
        digits = isinstance(wanted, str) and wanted.isdigit()
        if isinstance(wanted, int) or digits:
            index = int(wanted)  # type: ignore[call-overload]
            if 0 <= index < self.classes:
                return index
            told = f" ({', '.join(names)})" if names else ""
            raise ConfigError(f"explain.target={wanted} is no class; expected 0 to {self.classes - 1}{told}")
        valid = [*names, "predicted", "label", "all"]
        raise ConfigError(f"explain.target={wanted!r} is no class; {nearest(str(wanted), valid)}")


JUDGING = ("auto", "all", "cheap", "none")


@dataclass(frozen=True, kw_only=True)
class ExplanationSettings:
    """Which samples are explained and what is written of them.

    Attributes:
        target: see `seewhy.reporting.selection.TargetChoice`.
        samples: see `seewhy.reporting.selection.SampleChoice`.
        max_samples: how many samples; 0 is all.
        batch_size: samples that are explained at once.
        key_slices: numbers, in the scan, of the slices that are drawn of a volume; None draws 7 spread over it.
        judge: which scores maps get: `cheap` (completeness, randomisation, shares), `all`, `none`, or `auto`: all
            for up to 64 samples, else the cheap ones.
        nifti: write maps of volumes on the grid of their source too.
        atlas: label volume on the grid of the sources, for shares by region; None gives none.
        seed: of a random choice and of the judging's draws.
    """

    target: TargetSetting = None
    samples: str | Sequence[str] = "spread"
    max_samples: int = 50
    batch_size: int = 8
    key_slices: Sequence[int] | None = None
    judge: str = "auto"
    nifti: bool = True
    atlas: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.judge not in JUDGING:
            raise ConfigError(f"explain.judge={self.judge!r} is unknown; {nearest(self.judge, JUDGING)}")
        if self.batch_size < 1:
            raise ConfigError(f"explain.batch_size={self.batch_size} must be 1 or more")
        if self.key_slices is not None and not self.key_slices:
            raise ConfigError(
                "explain.key_slices is empty; give slice numbers, or null for slices spread over a volume"
            )

    def choice(self) -> SampleChoice:
        """How samples are picked."""
        return SampleChoice(self.samples, count=self.max_samples, seed=self.seed)
