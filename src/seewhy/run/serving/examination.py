"""Predict and explain one uploaded case or volume with a loaded run, and collect what its answer shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.batch import Batch, Prediction
from seewhy.callbacks.maps import find_doubts
from seewhy.callbacks.predictions import PredictionOptions, make_writer
from seewhy.errors import ExplanationError
from seewhy.explain.explained_model import Explainable
from seewhy.figures.labels import label_of, method_label
from seewhy.figures.report.cases import BrowserCase, PictureLayer
from seewhy.figures.report.pictures import ArrayLayer, draw_planes, measure_window
from seewhy.io.atomic import write_csv
from seewhy.io.geometry import Display
from seewhy.io.zarr.opening import open_source
from seewhy.io.zarr.source import VolumeSource, millimetres
from seewhy.models.protocols import DescribesItself, SegmentsVolumes, TranslatesScans
from seewhy.reporting.cases.batches import CasePictures, make_cases
from seewhy.reporting.cases.explained import add_explanations, read_explained_cases
from seewhy.run.loaded.cases import Given, name_case
from seewhy.run.loaded.model import MOST_VOXELS, LoadedModel
from seewhy.run.serving.served_run import ServedRun
from seewhy.run.serving.uploads import SentCase

__all__ = ["Examination", "examine", "segment"]

PICTURES = CasePictures(max_slices=48, side=320)
CHOOSING_MAP = "cam"
"""Map by which doubts about a patient's slices are found, as in conf/callbacks/doubts.yaml."""
OWN_MAPS = "The maps of the patient are the model's own; no test of the run judges them, so look at the doubts."
Array = NDArray[Any]
INPUT = "image"
BRIGHT = 99.5
"""Percentile of a map that is drawn with the full colour."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """The answer to one case.

    Attributes:
        id: of the case.
        predicted: the answer in words.
        values: rows with `name`, `value` and `unit`.
        about: what the values are.
        cases: pictures of the case, and of explained slices.
        folder: files of the prediction.
        method: explanation method; None without a map.
        target: explained class.
        verdict: what is known about the method.
        doubts: signs that the answer should be distrusted, found without the truth.
        notes: what else a reader should know, e.g. why there is no map.
    """

    id: str
    predicted: str
    values: Sequence[Mapping[str, Any]]
    about: str
    cases: Sequence[BrowserCase]
    folder: Path
    method: str | None = None
    target: str = ""
    verdict: Mapping[str, str] | None = None
    doubts: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def examine(model: LoadedModel, run: ServedRun, case: SentCase, folder: Path) -> Examination:
    """Predict a case, and explain it if a method is given.

    Args:
        model: the run.
        run: its facts.
        case: with files in `folder`.
        folder: for results, in `predictions` and `explanations`.

    Raises:
        SeewhyError: files that cannot be read, or that do not fit the run.
    """
    if isinstance(model.model, SegmentsVolumes):
        answer = Examination(folder=folder / "predictions", **segment(model, case, folder, PICTURES))
        return _with_verdict(answer, run, case.method)
    given = _arrange(case.files, several=run.rules.several)
    with model.read_predictions(given, names=case.name, domain=case.domain) as read:
        [(found, batch, prediction)] = list(read)
        _write_files(model, batch, prediction, folder / "predictions")
        [pictures] = make_cases(prediction, batch, model.model, None, PICTURES)
    answer = Examination(
        id=found.id, cases=[pictures], folder=folder / "predictions",
        doubts=[*pictures.doubts, *_list_doubts(prediction, batch)], notes=[OWN_MAPS] if prediction.get("maps") else [],
        **_describe(model, prediction, pictures),
    )  # fmt: skip
    if case.method is None:
        return answer
    return _with_verdict(_explain(model, case, given, answer, prediction, folder / "explanations"), run, case.method)


def _arrange(files: Mapping[str, Sequence[Path]], *, several: bool) -> Given:
    """The case as `LoadedModel` takes it."""
    if several:
        [own] = files.values()
        return list(own) if len(own) > 1 else own[0]
    return next(iter(files.values()))[0] if list(files) == ["image"] else {name: own[0] for name, own in files.items()}


def _write_files(model: LoadedModel, batch: Batch, prediction: Prediction, folder: Path) -> None:
    """Write what `predict.py` writes; sources are named as they were sent, without folders of the server."""
    writer = make_writer(model.model, PredictionOptions(folder=folder, npz=True), None)
    rows = writer.write(prediction, batch, model.model).rows
    rows = [{**row, "source": Path(str(row["source"])).name} if row.get("source") else row for row in rows]
    write_csv(folder / "predictions.csv", rows)


def _list_doubts(prediction: Prediction, batch: Batch) -> list[str]:
    rows = find_doubts(prediction, batch, CHOOSING_MAP)
    several = len(rows) > 1
    return [f"class {row['class']}: {row['doubts']}" if several else row["doubts"] for row in rows if row["doubts"]]


def _describe(model: LoadedModel, prediction: Prediction, pictures: BrowserCase) -> dict[str, Any]:
    """Answer in words and numbers."""
    if isinstance(model.model, TranslatesScans):
        values = [{"name": "translated", "value": len(prediction.get("index", [])), "unit": "slices"}]
        return {"predicted": f"translated {pictures.prediction}", "values": values, "about": "slices with tissue"}
    shares = prediction["probability"].detach().float().cpu().numpy()
    of_slices = bool(prediction.get("maps"))
    highest = shares.max(axis=0) if of_slices else shares[0]
    about = model.model.explainable() if isinstance(model.model, DescribesItself) else Explainable()
    names = (model.classes or about.classes)[-len(highest) :]  # of slices, without a class for their absence
    values = [
        {"name": name, "value": float(share), "unit": "probability"} for name, share in zip(names, highest, strict=True)
    ]
    if of_slices:
        last = label_of(list(prediction["maps"])[-1])
        text = (
            f"highest of the classifier's probabilities in {len(shares)} slices, not calibrated; the answer is that of "
        )
        text += f"the map {last!r}"
        return {"predicted": pictures.prediction, "values": values, "about": text}
    fitted = about.temperature != 1
    calibration = f"calibrated on validation cases, temperature {about.temperature:.3g}" if fitted else "not calibrated"
    return {"predicted": pictures.prediction, "values": values, "about": f"probabilities, {calibration}"}


def _explain(
    model: LoadedModel, case: SentCase, given: Given, answer: Examination, prediction: Prediction, folder: Path
) -> Examination:
    """Add the maps of a method; of slices, that of the most probable one is made."""
    assert case.method is not None
    slices = _choose_slice(prediction)
    try:
        model.explain(
            given, method=case.method, target=case.target, slices=slices, save_dir=folder, names=case.name,
            domain=case.domain, pictures=0,
        )  # fmt: skip
    except ExplanationError as error:
        return replace(answer, notes=[*answer.notes, f"No map by {method_label(case.method)}: {error}"])
    explained = read_explained_cases(folder)
    notes = [*answer.notes]
    if slices is not None:
        notes.append(f"{method_label(case.method)} explains slice {slices[0]} alone, see the list of cases.")
    target = explained[0].facts["explained"] if explained else ""
    cases = add_explanations(answer.cases, explained)
    return replace(answer, cases=cases, method=case.method, target=target, notes=notes)


def _choose_slice(prediction: Prediction) -> list[int] | None:
    """The slice with the highest probability, or the middle one of a translation; None for whole cases."""
    index = list(prediction.get("index", []))
    if len(index) < 2 or not (prediction.get("maps") or "translated" in prediction):
        return None
    if "translated" in prediction:
        return [int(index[len(index) // 2])]
    highest = prediction["probability"].float().amax(dim=1).cpu().numpy()
    return [int(index[int(np.argmax(highest))])]


def _with_verdict(answer: Examination, run: ServedRun, method: str | None) -> Examination:
    """Add what is known about the method, also as a warning at each of its maps if it failed a test."""
    if method is None or answer.method is None:
        return answer
    verdict = run.verdicts[method]
    cases = list(answer.cases)
    if verdict.state == "failed":
        cases = [_mark_maps(case, method_label(method), verdict.text) for case in cases]
    return replace(answer, verdict=asdict(verdict), cases=cases)


def _mark_maps(case: BrowserCase, name: str, text: str) -> BrowserCase:
    """Add a warning to the maps of a method."""
    marked = [
        replace(layer, note=text) if layer.kind == "map" and layer.name.startswith(name) else layer
        for layer in case.layers
    ]
    return replace(case, layers=marked)


# -- volumes --------------------------------------------------------------------------------------------------


def segment(model: LoadedModel, case: SentCase, folder: Path, pictures: CasePictures) -> dict[str, Any]:
    """Segment a volume into `<folder>/predictions/<id>.nii.gz`, and explain a class if a method is given.

    Args:
        model: the run.
        case: one volume.
        folder: for results.
        pictures: size of what is drawn.

    Returns:
        Fields of an `Examination`, without its folder and verdict.

    Raises:
        SeewhyError: a volume that cannot be read, or that does not fit the run.
    """
    [path] = case.files[INPUT]
    name = case.name or name_case(path)
    output = folder / "predictions" / f"{name}.nii.gz"
    output.parent.mkdir(parents=True)
    model.predict_volume(path, output, preview=False, store={"dtype": "labels"})
    source = open_source(path)
    image, labels = source.read_all()[0], open_source(output).read_all()[0]
    layers = [ArrayLayer(PictureLayer(kind="image", input=INPUT, name="image"), image, measure_window(image))]
    heat, target, notes = _explain_volume(model, case, path, labels)
    if heat is not None and case.method is not None:
        layers.append(_draw_heat(heat, f"{method_label(case.method)}, {target}"))
    found = {own: labels == number for number, own in enumerate(model.classes, start=1)}
    layers += [ArrayLayer(PictureLayer(kind="prediction", input=INPUT, name=own), mask) for own, mask in found.items()]
    drawn, planes = draw_planes(
        layers, numbers=list(range(labels.shape[0])), spacing=source.spacing, display=Display(),
        max_slices=pictures.max_slices, side=pictures.side, three=True,
    )  # fmt: skip
    predicted = ", ".join(own for own, mask in found.items() if mask.any()) or "none"
    return {
        "id": name,
        "predicted": predicted,
        "values": _measure_volumes(found, source),
        "about": "size of what was found",
        "cases": [BrowserCase(id=name, patient=name, prediction=predicted, layers=drawn, planes=planes)],
        "method": None if heat is None else case.method,
        "target": target,
        "notes": notes,
    }


def _measure_volumes(found: dict[str, Array], source: VolumeSource) -> list[dict[str, Any]]:
    """Size of each class, in millilitres where the voxel size is known."""
    spacing = millimetres(source)
    unit = "voxels" if spacing is None else "ml"
    factor = 1.0 if spacing is None else float(np.prod(spacing)) / 1000
    return [{"name": name, "value": float(mask.sum()) * factor, "unit": unit} for name, mask in found.items()]


def _explain_volume(
    model: LoadedModel, case: SentCase, path: Path, labels: Array
) -> tuple[Array | None, str, Sequence[str]]:
    """Map of a class over the whole volume, the class, and why there is none."""
    if case.method is None:
        return None, "", []
    title = method_label(case.method)
    if labels.size > MOST_VOXELS:
        found = f"the volume has {labels.size} voxels, and at most {MOST_VOXELS} are explained at once"
        return None, "", [f"No map by {title}: {found}; explain.py volume.input=… explain.roi=… explains a region."]
    counts = {name: int((labels == number).sum()) for number, name in enumerate(model.classes, start=1)}
    target = case.target or max(counts, key=lambda name: counts[name])
    if not counts[target]:
        what = "nothing was found" if case.target is None else f"no voxel is predicted as {target}"
        return None, "", [f"No map by {title}: {what}."]
    try:
        [sample] = model.explain(path, method=case.method, target=target, names=case.name)
    except ExplanationError as error:
        return None, "", [f"No map by {title}: {error}"]
    return sample.heatmaps[INPUT], target, []


def _draw_heat(heat: Array, name: str) -> ArrayLayer:
    """A map in shares of its own brightest values."""
    signed = bool((heat < 0).any())
    strengths = np.abs(heat[heat != 0])
    top = float(np.percentile(strengths, BRIGHT)) if strengths.size else 1.0
    return ArrayLayer(PictureLayer(kind="map", input=INPUT, name=name, signed=signed), np.clip(heat / top, -1, 1))
