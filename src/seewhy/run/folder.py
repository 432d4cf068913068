"""Paths and records of a run folder, and the folder of the configuration files."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seewhy import __version__
from seewhy.errors import CheckpointError, ConfigError
from seewhy.io.atomic import atomic_path, list_files

__all__ = ["RunFolder", "code_version", "conf_dir"]


RECORDS = ("config.yaml", "split.json", "metrics.csv", "results.json", "patients.csv", "tensorboard", "tracking.json")
"""Records of a run that a later run in the same folder writes again."""


class RunFolder:
    """Paths and records of one run.

    Layout: `config.yaml`, `split.json`, `checkpoints/{best,last}.ckpt`, `metrics.csv`, `results.json`,
    `patients.csv`, `predictions/`, `attention_maps/`, `cam_npy/`, `figures/`, `report.html`; `earlier/<n>` has the
    records of before a run was continued or started again.
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

    def has_checkpoint(self) -> bool:
        """Whether the folder holds a checkpoint, apart from one that a killed process was still writing."""
        return bool(list_files(self.checkpoints, "*.ckpt"))

    def refuse_overwrite(
        self, remedy: str = "add ckpt_path=last to continue it, or choose another hydra.run.dir"
    ) -> None:
        """Raise an error if the folder holds a finished or half-finished run.

        Args:
            remedy: what the user can do, for the message.

        Raises:
            ConfigError: the folder already holds checkpoints.
        """
        if self.has_checkpoint():
            raise ConfigError(f"{self.path} already holds a run; {remedy}")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other trainings out of the folder within the block; the operating system ends it with the process.

        Raises:
            ConfigError: another training writes into the folder now.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("a") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of the process: forked workers do not keep it
            except BlockingIOError:
                raise ConfigError(
                    f"another training writes into {self.path} now; wait for it, or choose another hydra.run.dir"
                ) from None
            except OSError:  # a file system without locks
                pass
            yield

    def keep_records(self, *, move: bool) -> Path | None:
        """Keep the records of what ran before in `earlier/<n>`.

        Args:
            move: leave none of them in place, for a run that starts anew; else copy them.

        Returns:
            The folder of the records; None if there are none.
        """
        found = [self.path / name for name in RECORDS if (self.path / name).exists()]
        if not found:
            return None
        number = 1 + sum(1 for _ in (self.path / "earlier").glob("*"))
        kept = self.path / "earlier" / str(number)
        kept.mkdir(parents=True)
        for path in found:
            if move:
                path.rename(kept / path.name)
            elif path.is_file():
                shutil.copy2(path, kept / path.name)
        return kept

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
            names = [file.name for file in list_files(self.checkpoints, "*.ckpt")]
            raise CheckpointError(
                f"{path} does not exist; the folder holds: {', '.join(names) or 'nothing'}; "
                "give ckpt_path=… or let the run finish"
            )
        return path

    def newest_checkpoint(self) -> Path:
        """Path of the checkpoint to continue from: the last one, or the newest where there is no last one.

        Raises:
            CheckpointError: there is none.
        """
        if self.has_checkpoint() and not (self.checkpoints / "last.ckpt").is_file():
            return max(list_files(self.checkpoints, "*.ckpt"), key=lambda path: path.stat().st_mtime)
        return self.checkpoint(final=True)

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
