"""Paths and records of a run folder, and the folder of the configuration files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seewhy import __version__
from seewhy.errors import CheckpointError, ConfigError
from seewhy.io.atomic import atomic_path

__all__ = ["RunFolder", "code_version", "conf_dir"]


class RunFolder:
    """Paths and records of one run.

    Layout: `config.yaml`, `split.json`, `checkpoints/{best,last}.ckpt`, `metrics.csv`, `results.json`,
    `patients.csv`, `predictions/`, `attention_maps/`, `cam_npy/`, `figures/`, `report.html`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        """Folder of `best.ckpt` and `last.ckpt`."""
        return self.path / "checkpoints"

    @property
    def figures(self) -> Path:
        """Folder of figures drawn from results."""
        return self.path / "figures"

    def refuse_overwrite(
        self, remedy: str = "add ckpt_path=last to continue it, or choose another hydra.run.dir"
    ) -> None:
        """Raise an error if the folder holds a finished or half-finished run.

        Args:
            remedy: what the user can do, for the message.

        Raises:
            ConfigError: the folder already holds checkpoints.
        """
        if self.checkpoints.is_dir() and any(self.checkpoints.glob("*.ckpt")):
            raise ConfigError(f"{self.path} already holds a run; {remedy}")

    def checkpoint(self, *, final: bool = False) -> Path:
        """Path of the best checkpoint, or of the last one if `final`.

        Raises:
            CheckpointError: the file does not exist.

        Example:
            >>> from pathlib import Path
            >>> from seewhy.run.folder import RunFolder
            >>> run = RunFolder("lightning_logs/brats/2026-11-29_07-00-00")
            >>> run.checkpoints.mkdir(parents=True)
            >>> (run.checkpoints / "best.ckpt").touch()
            >>> run.checkpoint().name
            'best.ckpt'
            >>> run.checkpoint(final=True)
            Traceback (most recent call last):
            seewhy.errors.CheckpointError: ...
        """
        path = self.checkpoints / ("last.ckpt" if final else "best.ckpt")
        if not path.is_file():
            names = sorted(file.name for file in self.checkpoints.glob("*.ckpt"))
            raise CheckpointError(
                f"{path} does not exist; the folder holds: {', '.join(names) or 'nothing'}; "
                "give ckpt_path=… or let the run finish"
            )
        return path

    def write_config(self, config: DictConfig, **facts: Any) -> Path:
        """Write the resolved configuration with version, commit and hashes.

        Args:
            config: of the job.
            facts: further entries, e.g. `split=<hash>`, `data=<hash>`.
        """
        settings: Any = OmegaConf.to_container(config, resolve=True)
        data = settings.get("data") or {}
        if data.get("root"):  # absolute: predict and explain find the data from any folder
            data["root"] = str(Path(data["root"]).absolute())
        record = {"seewhy": {"version": __version__, "commit": code_version(), **facts}, "config": settings}
        path = self.path / "config.yaml"
        with atomic_path(path) as temporary:
            OmegaConf.save(OmegaConf.create(record), temporary)
        return path

    def write_json(self, name: str, record: Any) -> Path:
        """Write one JSON file at the top of the folder."""
        path = self.path / name
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(record, indent=2, sort_keys=False, allow_nan=False) + "\n")
        return path


def code_version() -> str | None:
    """Return the git commit of the code, with `+` if tracked files are changed; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], cwd=here, capture_output=True, text=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def conf_dir() -> Path:
    """Return the folder of the configuration files: in the installed package, or in the repository of a checkout."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parents[1] / "conf"
