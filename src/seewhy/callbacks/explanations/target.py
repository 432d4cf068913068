"""Which class of each sample is explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from seewhy.errors import ConfigError, nearest
from seewhy.explain.subject import Explainable, Target

__all__ = ["TargetChoice", "TargetSetting"]

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
