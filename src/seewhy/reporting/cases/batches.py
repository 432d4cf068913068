"""Make cases of the report's browser from batches with their predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import Tensor

from seewhy.batch import MODALITIES, Batch, Prediction
from seewhy.data.base import BaseDataModule
from seewhy.explain.explained_model import Explainable
from seewhy.figures.labels import label_of
from seewhy.figures.report.cases import BrowserCase, PictureLayer
from seewhy.figures.report.pictures import ArrayLayer, draw_planes, measure_window
from seewhy.io.geometry import Display
from seewhy.models.protocols import DescribesItself, NamesClasses, SegmentsVolumes
from seewhy.reporting.sample import view_sample

__all__ = ["CasePictures", "make_cases"]

Array = NDArray[Any]
THRESHOLD = 0.5
"""Value of a map above which a pixel counts as predicted."""
CLOSE = 0.2
"""Smaller differences between the two highest probabilities are a doubt."""
SCANNERS = {"a": "b", "b": "a"}


@dataclass(frozen=True, kw_only=True)
class CasePictures:
    """Size of what is kept of each case.

    Attributes:
        max_slices: most slices of a scan along one axis.
        side: longest side of a picture in pixels.
    """

    max_slices: int
    side: int


def make_cases(
    prediction: Prediction,
    batch: Batch,
    module: LightningModule,
    datamodule: BaseDataModule | None,
    pictures: CasePictures,
) -> list[BrowserCase]:
    """Make the cases of one batch: one patient of sliced data, or each image or volume.

    Args:
        prediction: of the batch; with maps of slices, it is of one patient.
        batch: with `image`, and `mask`, `label` and `body` where they are known.
        module: names the classes and inputs.
        datamodule: gives the turn that brings pictures upright; None does not turn them.
        pictures: size of what is kept.
    """
    image = batch["image"]
    if isinstance(image, Tensor) and image.ndim == 4 and "domain" in batch:
        return [_make_subject(prediction, batch, datamodule, pictures)]
    if isinstance(image, Tensor) and image.ndim == 4 and prediction.get("maps"):
        return [_make_patient(prediction, batch, module, datamodule, pictures)]
    about = module.explainable() if isinstance(module, DescribesItself) else Explainable()
    return [_make_case(prediction, batch, i, about, module, datamodule, pictures) for i in range(len(batch["id"]))]


def _to_numpy(values: Tensor) -> Array:
    array: Array = values.detach().float().cpu().numpy()
    return array


# -- slices of one patient ------------------------------------------------------------------------------------


def _make_patient(
    prediction: Prediction,
    batch: Batch,
    module: LightningModule,
    datamodule: BaseDataModule | None,
    pictures: CasePictures,
) -> BrowserCase:
    patient = prediction["patient"][0]
    image = _to_numpy(cast(Tensor, batch["image"]).mean(dim=1))
    layers = [ArrayLayer(PictureLayer(kind="image", name="image"), image, measure_window(image))]
    facts: dict[str, str] = {}
    mask = batch.get("mask")
    if isinstance(mask, Tensor):
        layers.append(ArrayLayer(PictureLayer(kind="truth"), (mask > 0).cpu().numpy()))
    maps = {name: _to_numpy(values.amax(dim=1)) for name, values in prediction["maps"].items()}
    layers += [ArrayLayer(PictureLayer(kind="map", name=label_of(name)), values) for name, values in maps.items()]
    last = list(maps)[-1]
    predicted = maps[last] > THRESHOLD
    name = f"prediction: {label_of(last)} above {THRESHOLD:g}"
    layers.append(ArrayLayer(PictureLayer(kind="prediction", name=name), predicted))
    probability = _to_numpy(prediction["probability"])
    chosen, planes = draw_planes(
        layers, numbers=list(prediction["index"]), spacing=_read_plane_spacing(batch),
        display=_find_display(datamodule, patient),
        max_slices=pictures.max_slices, side=pictures.side,
    )  # fmt: skip
    truth = _label_patient(batch)
    answer = _name_present(prediction["maps"][last].amax(dim=0).flatten(1).amax(dim=1) > THRESHOLD)
    facts["slices"] = str(len(image))
    return BrowserCase(
        id=patient, patient=patient, label=truth, prediction=answer, right=answer == truth if truth else None,
        probability=float(probability.max()), facts=facts, layers=chosen, planes=planes,
    )  # fmt: skip


def _label_patient(batch: Batch) -> str:
    """Classes that any slice of a patient shows; empty without labels."""
    if "label" not in batch or batch["label"].ndim != 2:
        return ""
    return _name_present(batch["label"].amax(dim=0) > THRESHOLD)


def _name_present(present: Tensor) -> str:
    """`present` or `absent` of one class, or the numbers of several classes."""
    if len(present) == 1:
        return "present" if bool(present[0]) else "absent"
    return ", ".join(f"class {k + 1}" for k in range(len(present)) if bool(present[k])) or "none"


def _make_subject(
    prediction: Prediction, batch: Batch, datamodule: BaseDataModule | None, pictures: CasePictures
) -> BrowserCase:
    """A subject of a translation: each modality as scanned, translated, and as the other scanner saw it."""
    domain, patient = batch["domain"][0], batch["patient"][0]
    stack = cast(Tensor, batch["image"])
    middle = stack.shape[1] // len(MODALITIES) // 2 * len(MODALITIES)
    sources = {f"scanner {domain}": stack[:, middle : middle + len(MODALITIES)]}
    other = SCANNERS[domain]
    if "translated" in prediction:
        sources[f"translated to scanner {other}"] = prediction["translated"]
    if "counterpart" in batch:
        sources[f"truth: scanner {other}"] = batch["counterpart"]
    layers = []
    for m, modality in enumerate(MODALITIES):
        for name, values in sources.items():
            layer = PictureLayer(kind="image", input=modality, name=name)
            layers.append(ArrayLayer(layer, _to_numpy(values[:, m]), (-1.0, 1.0)))
    chosen, planes = draw_planes(
        layers, numbers=list(batch["index"]), spacing=_read_plane_spacing(batch),
        display=_find_display(datamodule, patient),
        max_slices=pictures.max_slices, side=pictures.side,
    )  # fmt: skip
    body = batch.get("body")
    if body is not None and planes:
        fullest = int(body.flatten(1).sum(dim=1).argmax())
        planes = [_start_near(planes[0], batch["index"][fullest])]
    return BrowserCase(
        id=batch["id"][0].rpartition("_")[0] or batch["id"][0], patient=patient, label=f"scanner {domain}",
        prediction=f"to scanner {other}" if "translated" in prediction else "", layers=chosen, planes=planes,
        facts={"slices": str(len(stack))},
    )  # fmt: skip


def _start_near(plane: Any, number: int) -> Any:
    """The plane, shown first at the slice whose number is nearest."""
    from dataclasses import replace

    return replace(plane, key=int(np.argmin([abs(item.number - number) for item in plane.slices])))


# -- images and volumes ---------------------------------------------------------------------------------------


def _make_case(
    prediction: Prediction,
    batch: Batch,
    position: int,
    about: Explainable,
    module: LightningModule,
    datamodule: BaseDataModule | None,
    pictures: CasePictures,
) -> BrowserCase:
    view = view_sample(batch, position, about, datamodule)
    layers: list[ArrayLayer] = []
    for name, image in view.images.items():
        if image is None:
            continue
        values = image if image.ndim == 3 else image[None]
        title = name if len(view.images) > 1 else "image"
        layers.append(ArrayLayer(PictureLayer(kind="image", input=name, name=title), values, measure_window(values)))
        if name in view.masks and not isinstance(module, SegmentsVolumes):
            mask = view.masks[name]
            layers.append(ArrayLayer(PictureLayer(kind="truth", input=name), mask if mask.ndim == 3 else mask[None]))
    if isinstance(module, SegmentsVolumes):
        layers += _segment_layers(prediction, batch, position, module, next(iter(view.images)))
    depth = layers[0].values.shape[0]
    layers = [item for item in layers if item.values.shape == layers[0].values.shape]
    chosen, planes = draw_planes(
        layers, numbers=[view.slice_number(i) for i in range(depth)], spacing=view.spacing, display=view.display,
        max_slices=pictures.max_slices, side=pictures.side, three=isinstance(module, SegmentsVolumes),
    )  # fmt: skip
    return BrowserCase(
        id=view.id, patient=view.patient, layers=chosen, planes=planes,
        **_describe_classes(prediction, position, view.label, module, layers),
    )  # fmt: skip


def _segment_layers(
    prediction: Prediction, batch: Batch, position: int, module: SegmentsVolumes, name: str
) -> list[ArrayLayer]:
    """True and predicted mask of each class of a volume."""
    predicted = module.probability_masks(prediction["maps"]["segmentation"][position]).cpu().numpy()
    mask = batch.get("mask")
    true = None
    if isinstance(mask, Tensor):
        true = module.label_masks(torch.as_tensor(mask[position]).cpu()).numpy()
    layers = []
    for k, own in enumerate(module.classes):
        if true is not None:
            layers.append(ArrayLayer(PictureLayer(kind="truth", input=name, name=own), true[k]))
        layers.append(ArrayLayer(PictureLayer(kind="prediction", input=name, name=own), predicted[k]))
    return layers


def _describe_classes(
    prediction: Prediction,
    position: int,
    label: int | list[float] | None,
    module: LightningModule,
    layers: Sequence[ArrayLayer],
) -> Mapping[str, Any]:
    """True and predicted class of a case, its probability, and what makes it doubtful."""
    if isinstance(module, SegmentsVolumes):
        found = {
            kind: [item.layer.name for item in layers if item.layer.kind == kind and item.values.any()]
            for kind in ("truth", "prediction")
        }
        known = any(item.layer.kind == "truth" for item in layers)
        true, predicted = (", ".join(found[kind]) or "none" for kind in ("truth", "prediction"))
        return {
            "label": true if known else "", "prediction": predicted, "right": None if not known else true == predicted
        }  # fmt: skip
    if "probability" not in prediction:
        return {}
    shares = _to_numpy(prediction["probability"][position])
    names = list(module.classes) if isinstance(module, NamesClasses) else [f"class {k}" for k in range(len(shares))]
    order = np.argsort(-shares)
    first, second = int(order[0]), int(order[1]) if len(order) > 1 else None
    doubts = []
    if second is not None and shares[first] - shares[second] < CLOSE:
        doubts.append(
            f"two classes are close: {names[first]} {shares[first]:.2f}, {names[second]} {shares[second]:.2f}"
        )
    truth = names[label] if isinstance(label, int) and label < len(names) else ""
    facts = {f"p({name})": f"{share:.3f}" for name, share in zip(names, shares, strict=True)}
    return {
        "label": truth, "prediction": names[first], "right": names[first] == truth if truth else None,
        "probability": float(shares[first]), "doubts": doubts, "facts": facts,
    }  # fmt: skip


# -- geometry -------------------------------------------------------------------------------------------------


def _find_display(datamodule: BaseDataModule | None, patient: str) -> Display:
    return Display() if datamodule is None else datamodule.display_of(patient)


def _read_plane_spacing(batch: Batch) -> list[float] | None:
    """Millimetres between rows and between columns of slices."""
    return batch["spacing"][0, :2].tolist() if "spacing" in batch else None
