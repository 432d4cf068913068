"""Export a run: network and steps as ONNX with a runner without torch, as a torch.export program, or for MONAI."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from omegaconf import DictConfig
from rich.console import Console

from seewhy import __version__
from seewhy.errors import ConfigError, ExportError
from seewhy.io.atomic import atomic_folder, file_sha256, write_json
from seewhy.models.exporting import ExportParts
from seewhy.models.protocols import Exportable
from seewhy.options import check_choice
from seewhy.run.checks import check_config
from seewhy.run.exports.bundle import write_bundle
from seewhy.run.exports.graphs import FORMATS, write_graph
from seewhy.run.folder import RunFolder, code_version
from seewhy.run.loaded.saved_run import SavedRun, load_run
from seewhy.run.model_card import CARD, USE
from seewhy.run.saved_config import load_plain_yaml
from seewhy_run.errors import RunError
from seewhy_run.manifest import FORMAT, MANIFEST, VERSION
from seewhy_run.steps.base import describe_step

__all__ = ["export", "export_run"]

RUNNER = """\
\"\"\"Run this export on files: python run.py FILE … --output results (needs the packages of requirements.txt).\"\"\"

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

from seewhy_run.main import main  # noqa: E402

main(folder=FOLDER)
"""
BUNDLE = "monai_bundle"
BASE = ("numpy", "onnxruntime", "nibabel")
FURTHER = {
    "read_planes": ("pillow",), "read_slices": ("scipy",), "read_modalities": ("scipy",), "regions": ("scipy",),
    "read_subject": ("scipy",), "read_volume": ("zarr",),
}  # fmt: skip
"""Step → packages that it needs besides; zarr only for stores, pillow only for pictures."""


def export(config: DictConfig) -> None:
    """Export `run` as `format` into the folder `output`, and print what was written.

    Raises:
        SeewhyError: an unknown format, a folder that exists, or a model that cannot be exported.
    """
    check_choice(config.format, [*FORMATS, BUNDLE], "format")
    check_config(config, "data", "model", "trainer")
    folder = Path(config.output) if config.output else Path(config.run) / f"export_{config.format}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"output={folder} exists; remove it, or choose another folder")
    saved = load_run(config)
    try:
        error = export_run(saved, folder, form=config.format, name=str(config.name))
    except RunError as problem:  # e.g. a temperature of 0, which the runner refuses
        raise ExportError(f"{saved.checkpoint} cannot be exported: {problem}") from problem
    console = Console(highlight=False)
    console.print(f"export: {folder}", soft_wrap=True)
    console.print(f"largest difference to torch on two examples: {error:.1e}")
    if config.format == "onnx":
        console.print(
            f"next: pip install -r {folder / 'requirements.txt'}; python {folder / 'run.py'} FILE …", soft_wrap=True
        )
    elif config.format == BUNDLE:
        command = "python -m monai.bundle run --config_file configs/inference.json --dataset_dir … --output_dir …"
        console.print(f"next: cd {folder}; {command}", soft_wrap=True)


def export_run(saved: SavedRun, folder: Path, *, form: str, name: str) -> float:
    """Write the export of a run, atomically.

    Args:
        saved: the run.
        folder: to create.
        form: `onnx`, `torch_export` or `monai_bundle`.
        name: of the run.

    Returns:
        Largest difference between the exported network and torch.

    Raises:
        ConfigError: a model or data set that does not describe its export.
    """
    reading = saved.datamodule.describe_reading()
    model = saved.model.eval()
    parts = describe_model(model, reading)
    phantom = bool(saved.datamodule.is_phantom)
    if form == BUNDLE:
        facts = {"name": name, "use": USE, "phantom": phantom, "source": _describe_source(saved)}
        return write_bundle(parts, reading, folder, facts=facts)
    errors: list[float] = []
    with atomic_folder(folder) as temporary:
        graphs = {}
        for key, graph in parts.graphs.items():
            record, error = write_graph(graph, temporary, name=key, form=form)
            graphs[key] = record
            errors.append(error)
        steps = [describe_step(step) for step in (reading.step, *parts.steps)]
        packages = sorted({*BASE, *(package for step in steps for package in FURTHER.get(step["step"], ()))})
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "model": form,
            "name": name,
            "inputs": list(reading.inputs),
            "optional": reading.optional,
            "classes": list(parts.classes),
            "graphs": graphs,
            "steps": steps,
            "source": {**_describe_source(saved), **(parts.facts or {})},
            "requirements": packages,
            "limits": {"use": USE, "phantom": phantom, "difference_to_torch": max(errors)},
        }
        write_json(temporary / MANIFEST, manifest)
        (temporary / "requirements.txt").write_text("".join(f"{package}\n" for package in packages))
        if form == "onnx":
            _copy_runner(temporary)
        _copy_card(saved.folder, temporary)
    return max(errors)


def describe_model(model: LightningModule, reading: Any) -> ExportParts:
    """The parts that a model exports.

    Raises:
        ConfigError: a model without a description.
    """
    if not isinstance(model, Exportable):
        raise ConfigError(f"{type(model).__name__} does not describe its export; give it a method `export`")
    return model.export(reading)


def _describe_source(saved: SavedRun) -> dict[str, Any]:
    """Checkpoint, versions and hashes of the run."""
    file = saved.folder.path / "config.yaml"
    record = load_plain_yaml(file) if file.is_file() else {}
    facts = record.get("seewhy", {}) if isinstance(record, dict) else {}
    hashes = {key: facts[key] for key in ("data", "split") if isinstance(facts, dict) and key in facts}
    return {
        "seewhy": __version__,
        "commit": code_version(),
        "checkpoint": saved.checkpoint.name,
        "checkpoint_sha256": file_sha256(saved.checkpoint),
        **hashes,
    }


def _copy_card(run: RunFolder, folder: Path) -> None:
    """Copy the model card of the run, if it has one."""
    card = run.checkpoints / CARD
    if card.is_file():
        shutil.copyfile(card, folder / CARD)


def _copy_runner(folder: Path) -> None:
    """Copy the runner into an export, so that it needs no installation of seewhy."""
    found = importlib.util.find_spec("seewhy_run")
    assert found is not None
    assert found.origin is not None
    home = Path(found.origin).parent
    shutil.copytree(home, folder / "seewhy_run", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    (folder / "run.py").write_text(RUNNER, encoding="utf-8")
