"""Load a trained run, to predict and explain files and arrays in Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from seewhy.errors import ConfigError
from seewhy.run.build import build_datamodule, silence_known_warnings
from seewhy.run.checks import check_config
from seewhy.run.folder import RunFolder
from seewhy.run.loaded.model import LoadedModel
from seewhy.run.loaded.saved_run import build_saved_model, load_state
from seewhy.run.saved_config import read_saved_config

__all__ = ["load"]


def load(
    run: str | Path,
    *,
    final: bool = False,
    device: str | torch.device | None = None,
    options: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> LoadedModel:
    """Load a trained run.

    A run folder is data: it may name only classes of seewhy and of the libraries that it uses, its checkpoint holds
    only plain data and tensors, and nothing else of it is run. `trust` lifts the first of these for one call.

    Args:
        run: the run folder, or a checkpoint in its `checkpoints/`.
        final: take the last checkpoint instead of the best; not with a checkpoint.
        device: where the model runs; None is the GPU if there is one, else the CPU.
        options: options of the run to replace, by their names on the command line, e.g. `{"data.root": "/data/brats"}`.
        trust: build whatever the saved configuration names. Only for folders whose origin is known.

    Returns:
        The model with the preprocessing of its training.

    Raises:
        ConfigError: no run, a configuration that names what a run may not name, or unknown options.
        CheckpointError: no checkpoint, one that holds more than data, or one of another model.

    Example:
        >>> import seewhy
        >>> seewhy.load("lightning_logs/amd/none")
        Traceback (most recent call last):
        seewhy.errors.ConfigError: lightning_logs/amd/none holds no config.yaml; ...
    """
    folder, checkpoint = _find_run(Path(run))
    if checkpoint is not None and final:
        raise ConfigError(f"{checkpoint} is a checkpoint already; leave out final=True, or give the run folder")
    path = checkpoint or folder.checkpoint(final=final)
    config = _read_config(folder, path, options or {}, trust=trust)
    silence_known_warnings()
    datamodule, model = build_datamodule(config), build_saved_model(config, path)
    hyperparameters = load_state(model, path).get("hyper_parameters")
    if isinstance(hyperparameters, Mapping):
        datamodule.adopt(hyperparameters)
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return LoadedModel(
        model.to(chosen).eval(), datamodule, config, checkpoint=path, hyperparameters=dict(hyperparameters or {})
    )


def _find_run(path: Path) -> tuple[RunFolder, Path | None]:
    """The run folder, and the checkpoint if one was given."""
    if path.is_file():
        home = path.absolute().parent
        folder = home.parent if home.name == "checkpoints" else home
        if not (folder / "config.yaml").is_file():
            raise ConfigError(
                f"{folder} holds no config.yaml, so the preprocessing of {path.name} is unknown; keep checkpoints in "
                "their run folder, or import weights from elsewhere with `python -m seewhy import`"
            )
        return RunFolder(folder), path
    if not (path / "config.yaml").is_file():
        raise ConfigError(f"{path} holds no config.yaml; give a run folder, or a checkpoint in its checkpoints/")
    return RunFolder(path), None


def _read_config(folder: RunFolder, checkpoint: Path, options: Mapping[str, Any], *, trust: bool) -> DictConfig:
    """The saved configuration with the options that replace its own, checked."""
    saved = read_saved_config(folder.path, trust=trust, given=options.keys())
    config = OmegaConf.create(
        {"seed": 0, "threads": None, "explain": None, "trainer": None, **saved, "run": str(folder.path),
         "ckpt_path": str(checkpoint), "use_final": False}
    )  # fmt: skip
    for name, value in options.items():
        root = name.partition(".")[0]
        if root not in ("data", "model") or "_target_" in name:
            raise ConfigError(f"options: {name!r} cannot be replaced here; give names that begin with data. or model.")
        OmegaConf.update(config, name, value, force_add=True)
    check_config(config, "data", "model")
    return config
