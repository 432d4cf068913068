"""Contents of a run for experiment trackers: outcomes, tables, figures with captions, and files with their lineage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from PIL import Image

from seewhy.errors import DataError
from seewhy.figures.classification import classes_of
from seewhy.io.atomic import file_sha256, list_files
from seewhy.io.documents import read_csv, read_json
from seewhy.io.names import safe_name
from seewhy.metrics.direction import best_values
from seewhy.models.protocols import ClassifiesSamples
from seewhy.run.folder import RunFolder
from seewhy.run.loaded.saved_run import SavedRun
from seewhy.run.model_card import CARD
from seewhy.run.tracking.session import TrackingSession
from seewhy.tracking.media import find_step
from seewhy.tracking.run import Outcomes, RunArtifact, RunResults

__all__ = [
    "collect_outcomes",
    "collect_results",
    "describe_data",
    "describe_files",
    "describe_model",
    "list_map_files",
    "list_result_files",
    "log_job",
    "log_volume",
]

Row = dict[str, Any]
ROWS = 5000
"""Rows of a table."""
PICTURES = 100
"""Maps in the table of maps."""
CAPTIONS = {
    "training": "Curves of training and validation",
    "scores": "Test scores by patient, with intervals and floors that know nothing",
    "grading": "Confusion matrix and reliability of the test cases",
    "curves": "ROC and precision-recall curves of the test, class by class",
    "cases": "Test patients from best to worst",
    "translation": "Fullest slice of the first subjects, as the other scanner would show it",
}
"""Figure of a run → caption."""
HIDDEN = {"cache", "records"}
"""Folders of explanations that only a restart needs."""


def collect_outcomes(model: object, rows: Sequence[Mapping[str, Any]]) -> tuple[Outcomes | None, list[Row]]:
    """Collect the classes of the tested cases or slices; every process must call this.

    Args:
        model: one that `ClassifiesSamples` has labels of slices.
        rows: of `patients.csv`.

    Returns:
        Classes and calibrated probabilities, None for other models; and rows of slices, empty for cases.
    """
    if isinstance(model, ClassifiesSamples) and "test" in model.classification_scores:
        return _read_slices(model.classification_scores["test"].rows())
    names = classes_of(rows)
    labelled = [row for row in rows if row.get("label") not in (None, "")]
    if not names or not labelled:
        return None, []
    truth = np.eye(len(names), dtype=bool)[[int(row["label"]) for row in labelled]]
    probability = np.array([[float(row[f"probability_{name}"]) for name in names] for row in labelled])
    return Outcomes(classes=names, truth=truth, probability=probability, exclusive=True), []


def _read_slices(rows: Sequence[Mapping[str, Any]]) -> tuple[Outcomes | None, list[Row]]:
    if not rows:
        return None, []
    probability = np.array([row["probability"] for row in rows], dtype=np.float64)
    label, count = np.array([row["label"] for row in rows]), probability.shape[1]
    names = name_slice_classes(count)
    if label.ndim == 1:
        truth, exclusive = np.eye(count, dtype=bool)[label.astype(int)], True
    elif count == 1:  # one label: present or absent
        truth, exclusive = np.concatenate([label < 0.5, label > 0.5], axis=1), True
        probability = np.concatenate([1 - probability, probability], axis=1)
    else:
        truth, exclusive = label > 0.5, False
    table = []
    for row, chances, true in zip(rows, probability, truth, strict=True):
        entry: Row = {"id": row["id"], "patient": row["patient"]}
        entry["truth"] = _join_names(names, true)
        entry["prediction"] = names[int(chances.argmax())] if exclusive else _join_names(names, chances > 0.5)
        table.append(entry | {f"probability_{name}": float(p) for name, p in zip(names, chances, strict=True)})
    return Outcomes(classes=names, truth=truth, probability=probability, exclusive=exclusive), table


def name_slice_classes(count: int) -> list[str]:
    """Names of the classes of slice labels: a single label is present or absent."""
    return ["absent", "present"] if count == 1 else [f"class {number}" for number in range(count)]


def _join_names(names: Sequence[str], present: Iterable[Any]) -> str:
    return ", ".join(name for name, is_present in zip(names, present, strict=True) if is_present) or "none"


# -- the end of a training ------------------------------------------------------------------------------------


def collect_results(
    folder: RunFolder,
    config: DictConfig,
    *,
    name: str,
    facts: Mapping[str, Any],
    step: int,
    scores: Mapping[str, float],
    rows: Sequence[Mapping[str, Any]],
    outcomes: Outcomes | None,
    slices: Sequence[Mapping[str, Any]],
    modes: Mapping[str, str],
) -> RunResults:
    """Collect everything of a finished training.

    Args:
        folder: of the run, with all its files.
        config: of the job.
        name: of its artifacts.
        facts: of the run.
        step: at which the test was logged.
        scores: all logged scalars of the test.
        rows: of `patients.csv`.
        outcomes: see `collect_outcomes`.
        slices: see `collect_outcomes`.
        modes: score → direction, for scores whose name does not tell.
    """
    table = folder.path / "metrics.csv"
    history = read_csv(table).rows if table.is_file() else []
    tables = {"test/patients": _name_labels(rows), "test/slices": slices, "maps": _list_maps(folder.path)}
    note = " (phantom data)" if facts.get("is_phantom") else ""
    figures = list_files(folder.figures, "*.png")
    data = describe_data(config, facts)
    model = describe_model(folder, name, facts, uses=[data.name])
    return RunResults(
        step=step,
        scores=scores,
        best=best_values(history, modes),
        tables={key: list(several)[:ROWS] for key, several in tables.items() if several},
        outcomes=outcomes,
        figures={f"{name_figure(path)}, {config.name}{note}": path for path in figures},
        artifacts=[
            data, *([model] if model.files else []),
            *describe_files("results", f"results-{name}", list_result_files(folder), uses=[model.name, data.name]),
            *describe_files("maps", f"explanations-{name}", list_map_files(folder.path), uses=[model.name]),
        ],
    )  # fmt: skip


def log_job(session: TrackingSession, run: SavedRun, *, job: str, written: Path | Sequence[Path]) -> None:
    """Log what a later command has made from the model of a run: tables, figures, and files that use the model.

    Args:
        session: of the command.
        run: with its model.
        job: name of the command.
        written: folder with maps, or files; those of the first process are logged.
    """
    if not (session.trackers and run.trainer.is_global_zero):
        return
    files = list_map_files(written) if isinstance(written, Path) else {path.name: path for path in written}
    tops = {name: path for name, path in files.items() if Path(name).parent.as_posix() in (".", "explanations")}
    model = describe_model(run.folder, session.name, session.facts, checkpoint=run.checkpoint, is_input=True)
    kind: Any = "maps" if job == "explain" else "results"
    made = f"{'explanations' if job == 'explain' else job}-{session.name}"
    pictures = [path for path in tops.values() if path.suffix == ".png"]
    own = _list_maps(written) if isinstance(written, Path) else []
    tables = {f"{job}/{path.stem}": read_table(path) for path in tops.values() if path.suffix == ".csv"}
    session.log(
        RunResults(
            step=find_step(run.trainer),
            tables={key: rows[:ROWS] for key, rows in {**tables, "maps": own}.items() if rows},
            figures={f"{name_figure(path)}, {job} of {session.name}": path for path in pictures},
            artifacts=[
                *([model] if model.files else []),
                *describe_files(kind, made, files, uses=[model.name]),
            ],
        )
    )


def log_volume(session: TrackingSession, folder: RunFolder, row: Mapping[str, Any]) -> None:
    """Log that a volume was predicted, and by which model.

    Args:
        session: of the command.
        folder: of the run.
        row: places of the input and the output.
    """
    if session.trackers:
        model = describe_model(folder, session.name, session.facts, is_input=True)
        artifacts = [model] if model.files else []
        session.log(RunResults(tables={"predict/volumes": [row]}, artifacts=artifacts))


def name_figure(path: Path) -> str:
    """Return the caption of a figure, made from its file name where `CAPTIONS` has none."""
    return CAPTIONS.get(path.stem, path.stem.removeprefix("fig_").replace("_", " "))


def read_table(path: Path) -> list[Row]:
    """Read a table whose columns of numbers are numbers."""
    rows = read_csv(path).rows
    columns = list(rows[0]) if rows else []
    numbers = {name for name in columns if name != "id" and all(_is_number(row[name]) for row in rows)}
    return [{k: (float(v) if v else None) if k in numbers else v for k, v in row.items()} for row in rows]


def _is_number(text: str) -> bool:
    try:
        return text == "" or math.isfinite(float(text))
    except ValueError:
        return False


def _name_labels(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rows of patients in which classes have their names; their indices and raw scores are left out."""
    hidden = {"label", "prediction"} if rows and "prediction_name" in rows[0] else set()
    names = {"label_name": "truth", "prediction_name": "prediction"}
    return [
        {names.get(key, key): value for key, value in row.items() if key not in hidden and not key.startswith("logit_")}
        for row in rows
    ]


def _list_maps(folder: Path) -> list[Row]:
    """Rows of the maps that the model predicts, with their pictures."""
    rows: list[Row] = []
    for path in list_files(folder / "cam_npy", "*.json")[:PICTURES]:
        try:
            record = read_json(path)
        except DataError:
            continue
        chances, label = record.get("probability") or [], record.get("label") or []
        names = name_slice_classes(len(chances))[-len(chances) :] if chances else []
        row: Row = {"id": record.get("id"), "patient": record.get("patient")}
        picture = next(iter(sorted((folder / "attention_maps").glob(f"{path.stem}_*.png"))), None)
        if picture is not None:
            with Image.open(picture) as image:
                row["image and maps"] = np.asarray(image.convert("RGB"))
        row["prediction"] = _join_labels(names, [value > 0.5 for value in chances])
        row["truth"] = _join_labels(names, [value > 0.5 for value in label]) if label else None
        rows.append(row | {f"probability_{name}": value for name, value in zip(names, chances, strict=True)})
    return rows


def _join_labels(names: Sequence[str], present: Sequence[bool]) -> str:
    absent = "absent" if len(names) == 1 else "none"
    return ", ".join(name for name, is_present in zip(names, present, strict=True) if is_present) or absent


# -- files with their lineage ---------------------------------------------------------------------------------


def describe_data(config: DictConfig, facts: Mapping[str, Any]) -> RunArtifact:
    """Describe the data set by its hash and its place; none of its files is copied."""
    root = config.data.get("root")
    path = None if root is None else Path(str(root)).absolute()
    known = ("is_phantom", "train_patients", "val_patients", "test_patients")
    about = {"hash": facts.get("data_hash"), "split": facts.get("split_hash"), "root": str(path)}
    name = "data" if path is None else f"data-{safe_name(path.name).replace(' ', '_')}"
    return RunArtifact(
        kind="data", name=name, reference=path, is_input=True,
        facts={**about, **{key: facts[key] for key in known if key in facts}},
    )  # fmt: skip


def describe_model(
    folder: RunFolder,
    name: str,
    facts: Mapping[str, Any],
    *,
    uses: Sequence[str] = (),
    checkpoint: Path | None = None,
    is_input: bool = False,
) -> RunArtifact:
    """Describe the checkpoint with what is needed to use it; the best one if none is given."""
    path = checkpoint or folder.checkpoints / "best.ckpt"
    files = {"best.ckpt" if path.stem == "best" else path.name: path}
    files |= {file: folder.path / file for file in ("config.yaml", "split.json", "results.json")}
    files[CARD] = folder.checkpoints / CARD
    files = {file: source for file, source in files.items() if source.is_file()}
    about = {key: facts.get(key) for key in ("data_hash", "split_hash", "experiment", "fold")}
    if path.is_file():
        about["sha256"] = file_sha256(path)
    suffix = "" if path.stem == "best" else f"-{safe_name(path.stem).replace(' ', '_').replace('=', '-')}"
    return RunArtifact(
        kind="model", name=f"model-{name}{suffix}", files=files if path.is_file() else {}, facts=about, uses=uses,
        is_input=is_input,
    )  # fmt: skip


def describe_files(kind: Any, name: str, files: Mapping[str, Path], *, uses: Sequence[str]) -> list[RunArtifact]:
    """Describe files that belong together; an empty list without any."""
    return [RunArtifact(kind=kind, name=name, files=files, uses=uses)] if files else []


def list_result_files(folder: RunFolder) -> dict[str, Path]:
    """List the records, tables, figures and the report of a run."""
    names = (
        "config.yaml",
        "split.json",
        "results.json",
        "report.html",
        "patients.csv",
        "doubts.csv",
        "lesions.csv",
        "metrics.csv",
    )
    paths = [folder.path / name for name in names] + list_files(folder.figures, "*.*")
    return {path.relative_to(folder.path).as_posix(): path for path in paths if path.is_file()}


def list_map_files(folder: Path) -> dict[str, Path]:
    """List the maps below a folder, without the cache of a restart."""
    places = [folder / name for name in ("explanations", "attention_maps", "cam_npy")]
    found = {}
    for place in places:
        for path in list_files(place, "**/*"):
            if path.relative_to(place).parts[0] not in HIDDEN:
                found[path.relative_to(folder).as_posix()] = path
    return found
