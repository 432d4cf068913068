"""Class scores of a case as calibrated probabilities, in one row of the table of results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from seewhy_run.arrays.activations import softmax
from seewhy_run.errors import RunError
from seewhy_run.graphs import Graph
from seewhy_run.steps.base import State

__all__ = ["Classify"]


@dataclass(frozen=True, kw_only=True)
class Classify:
    """Runs a classifier on `image`, and on `present` where it takes several inputs.

    Attributes:
        graph: name of the network, whose output is [1, K] raw scores; K = 1 is one logit of two classes.
        inputs: names of its inputs among the values.
        classes: names of the classes, in order.
        temperature: scores are divided by it before the softmax (Guo 2017).
    """

    graph: str
    inputs: tuple[str, ...]
    classes: tuple[str, ...]
    temperature: float

    needs: ClassVar[tuple[str, ...]] = ("image",)
    gives: ClassVar[tuple[str, ...]] = ("logits", "probability")

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise RunError(f"classify: temperature={self.temperature}; expected a number above 0")

    def run(self, state: State, graphs: Mapping[str, Graph]) -> None:
        """Classify a case: `prediction`, `prediction_name`, `confidence`, `probability_<class>` and `logit_<k>`."""
        (logits,) = graphs[self.graph](*(state.values[name] for name in self.inputs)).values()
        scores = np.concatenate([np.zeros_like(logits), logits], axis=1) if logits.shape[1] == 1 else logits
        probability = softmax(scores / np.float32(self.temperature))[0]
        if len(probability) != len(self.classes):
            raise RunError(f"the network gives {len(probability)} classes, its description names {len(self.classes)}")
        state.values |= {"logits": logits, "probability": probability}
        predicted = int(probability.argmax())
        source = next((str(path) for path in state.files.values() if path is not None), "")
        row = {"id": state.id, "source": source, "prediction": predicted, "prediction_name": self.classes[predicted]}
        row["confidence"] = float(probability[predicted])
        row |= {f"probability_{name}": float(p) for name, p in zip(self.classes, probability, strict=True)}
        state.rows.append(row | {f"logit_{k}": float(score) for k, score in enumerate(logits[0])})
