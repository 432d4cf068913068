"""Files of a run as artifacts with lineage: data, model, results and maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seewhy.io.atomic import file_sha256, list_files
from seewhy.io.names import safe_name
from seewhy.run.folder import RunFolder
from seewhy.run.model_card import CARD
from seewhy.tracking.run import RunArtifact

__all__ = ["describe_data", "describe_files", "describe_model", "list_map_files", "list_result_files"]

HIDDEN = {"cache", "records"}
"""Folders of explanations that only a restart needs."""


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
