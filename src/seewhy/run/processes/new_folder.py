"""Give every run and every sweep its own folder, and all processes of one run the same; refuse folders in use."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from seewhy.errors import ConfigError
from seewhy.run.folder import RunFolder
from seewhy.run.processes.environment import is_separate_node, read_rank

__all__ = ["NewFolder", "RefusedFolder", "check_sweep_folder", "claim_folder"]


class RefusedFolder(SystemExit):
    """A folder that must not be written to; a `SystemExit`, because Hydra turns exceptions of callbacks into warnings.

    Args:
        error: the reason.
    """

    def __init__(self, error: ConfigError) -> None:
        super().__init__(1)
        self.error = error


class NewFolder(Callback):
    """Hydra callback that makes the folder of a run or a sweep unique, and checks one that the user chose.

    The check comes before Hydra writes its own records (`.hydra/`), so that those of another run are kept.

    Hydra names folders by the second, so that runs that start together (job arrays, `&`) would share one. Processes
    that torchrun or srun start for one run take the folder of the first process; those that Lightning starts get it
    on their command line.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Choose or check `hydra.run.dir`."""
        path = str(config.hydra.run.dir)
        if not _is_chosen(config, "hydra.run.dir"):
            if is_separate_node():
                _check(_refuse_machines)
            config.hydra.run.dir = _choose(path)
        elif read_rank() == 0:
            _check(lambda: _check_run(RunFolder(path), new=config.ckpt_path is None))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Choose or check `hydra.sweep.dir`."""
        path = str(config.hydra.sweep.dir)
        sweeper = str(OmegaConf.select(config, "hydra.sweeper._target_")).rpartition(".")[2]
        if sweeper == "BenchmarkSweeper":  # it continues the members of its folder, and compares itself with them
            return
        if not _is_chosen(config, "hydra.sweep.dir"):
            config.hydra.sweep.dir = _choose(path)
        elif sweeper != "StudySweeper":  # a search continues the study of its folder, and likewise compares itself
            _check(lambda: check_sweep_folder(Path(path)))


def claim_folder(path: str) -> str:
    """Create a folder that no other process has: `path`, or the first free one of `path_2`, `path_3`, ….

    Example:
        >>> claim_folder("runs/12-00-00"), claim_folder("runs/12-00-00")
        ('runs/12-00-00', 'runs/12-00-00_2')
    """
    for number in itertools.count(1):
        folder = path if number == 1 else f"{path}_{number}"
        try:
            Path(folder).mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError:  # Hydra is about to report it
            return folder
        return folder
    raise AssertionError  # the count is endless


def _is_chosen(config: DictConfig, key: str) -> bool:
    """Whether the command line gives an option of Hydra."""
    return any(str(word).lstrip("+").startswith(f"{key}=") for word in config.hydra.overrides.hydra)


def _refuse_machines() -> None:
    """Refuse several machines without a folder: each would make one of its own."""
    raise ConfigError(
        "several machines (NODE_RANK) need one run folder: add hydra.run.dir=<a new folder on a disk that all of them "
        "see>, or start the processes with torchrun"
    )


def _check(check: Callable[[], None]) -> None:
    try:
        check()
    except ConfigError as error:
        raise RefusedFolder(error) from error


def _check_run(folder: RunFolder, *, new: bool) -> None:
    """Refuse a folder that another training writes into, or that holds a run if this one is new."""
    with folder.lock():
        if new and os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
            folder.refuse_overwrite()


def check_sweep_folder(folder: Path) -> None:
    """Refuse a folder that holds members of another sweep: their scores would get the values of the new ones.

    Raises:
        ConfigError: the members are named.
    """
    members = sorted({path.parent.name for path in folder.glob("*/.hydra")})
    if members:
        shown = ", ".join(members[:5]) + (", …" if len(members) > 5 else "")
        raise ConfigError(f"{folder} already holds a sweep (members {shown}); choose another hydra.sweep.dir")


def _choose(path: str) -> str:
    """Claim a folder, together with the other processes of this run."""
    environment = os.environ
    if int(environment.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_ID" in environment:
        # A requeued job keeps its number, and continues in its folder.
        return str(Path(path).with_name(f"slurm_{environment['SLURM_JOB_ID']}_{environment['SLURM_STEP_ID']}"))
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or int(environment.get("WORLD_SIZE", "1")) < 2:
        return claim_folder(path)
    from torch.distributed import TCPStore

    address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=timedelta(minutes=2))
    key = f"seewhy/{environment.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if read_rank() == 0:
        store.set(key, claim_folder(path))
    return str(store.get(key).decode())
