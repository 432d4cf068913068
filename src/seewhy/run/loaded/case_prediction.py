"""The prediction of one case as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from seewhy.batch import Prediction
from seewhy.callbacks.volumes.segmentations import masks_to_labels
from seewhy.models.protocols import NamesClasses, SegmentsVolumes

__all__ = ["CasePrediction", "split_prediction"]

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class CasePrediction:
    """Prediction of one case; what a model does not predict is None or empty.

    Attributes:
        id: of the case.
        classes: names of the classes.
        probability: [K] float32 in [0, 1], calibrated if the model is; for models of slices [S, K], the presence of
            each foreground class in each slice.
        logits: [K] float32, raw class scores of a classifier.
        predicted: name of a classifier's most probable class.
        index: numbers of the slices [S] in their source, for models of slices.
        maps: name → float32 in [0, 1]: [S, K, H, W] of slices, or [K, Z, Y, X] of volumes, at the size of the input.
        labels: [Z, Y, X] uint8 of a segmented volume: 0 is background, then 1, 2 … in the order of `classes`.
        translated: [S, M, H, W] float32 in [-1, 1], -1 outside the tissue, on the model's grid.
        reconstructed: the same, translated back.
        files: written files, as `predict.py` writes them; empty without `save_dir`.
    """

    id: str
    classes: tuple[str, ...] = ()
    probability: Array | None = None
    logits: Array | None = None
    predicted: str | None = None
    index: list[int] = field(default_factory=list)
    maps: dict[str, Array] = field(default_factory=dict)
    labels: Array | None = None
    translated: Array | None = None
    reconstructed: Array | None = None
    files: list[Path] = field(default_factory=list)


def split_prediction(prediction: Prediction, module: nn.Module, case: str) -> CasePrediction:
    """Convert the prediction of a batch with one case.

    Args:
        prediction: of `predict_step`.
        module: the model, which names its classes.
        case: id of the case.
    """
    arrays = {key: _to_array(value) for key, value in prediction.items() if isinstance(value, Tensor)}
    maps = {name: _to_array(value) for name, value in prediction.get("maps", {}).items()}
    classes = tuple(module.classes) if isinstance(module, NamesClasses) else ()
    of_slices = bool(maps) or "translated" in prediction
    labels = None
    if isinstance(module, SegmentsVolumes):
        [probability] = prediction["maps"]["segmentation"]
        labels, maps = masks_to_labels(module.probability_masks(probability)), {n: v[0] for n, v in maps.items()}
    probability, logits = arrays.get("probability"), arrays.get("logits")
    if not of_slices:
        probability, logits = (None if value is None else value[0] for value in (probability, logits))
    named = not of_slices and probability is not None and len(classes) == len(probability)
    return CasePrediction(
        id=case,
        classes=classes,
        probability=probability,
        logits=logits,
        predicted=classes[int(np.argmax(probability))] if named and probability is not None else None,
        index=list(prediction.get("index", [])) if of_slices and labels is None else [],
        maps=maps,
        labels=labels,
        translated=arrays.get("translated"),
        reconstructed=arrays.get("reconstructed"),
    )


def _to_array(value: Tensor) -> Array:
    return np.asarray(value.detach().float().cpu().numpy())
