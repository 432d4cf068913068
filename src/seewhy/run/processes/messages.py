"""One error message for all processes of a run: the first process that fails prints it."""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
import time
from pathlib import Path

from seewhy.run.folder import RunFolder
from seewhy.run.processes.environment import read_rank

__all__ = ["describe_lost_process", "print_error", "share_messages"]

VARIABLE = "SEEWHY_FIRST_ERROR"
"""Path of the file that the first process with an error creates."""


def share_messages() -> None:
    """Agree with the other processes of this run on the file that the first one with an error creates.

    Processes that Lightning starts inherit the path of the first process. Those of torchrun on one machine make the
    same path; each machine prints its own message.
    """
    environment, parts = os.environ, [str(os.getpid()), str(time.time_ns())]
    if "TORCHELASTIC_RUN_ID" in environment:
        parts = [environment.get(f"{name}", "") for name in ("TORCHELASTIC_RUN_ID", "MASTER_PORT")]
        parts.append(environment.get("TORCHELASTIC_RESTART_COUNT", "0"))
        parts.append(str(os.getppid()))  # the agent: a run of the same name on the same port may follow
    elif environment.get("LOCAL_RANK", "0") != "0" and VARIABLE in environment:
        return
    path = Path(tempfile.gettempdir()) / f"seewhy-error-{'-'.join(parts).replace('/', '-')}"
    environment[VARIABLE] = str(path)
    if "TORCHELASTIC_RUN_ID" not in environment:
        atexit.register(_remove, path, os.getpid())


def print_error(message: str) -> None:
    """Print one line on stderr, unless another process of this run has printed one."""
    path = os.environ.get(VARIABLE)
    if path is not None:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        except OSError:  # a machine without a folder for temporary files
            pass
    rank = read_rank()
    sys.stderr.write(f"error: {f'process {rank}: ' if rank else ''}{message}\n")
    sys.stderr.flush()


def describe_lost_process(folder: str | Path) -> str:
    """Describe the end of another process of this run, and how to go on.

    Args:
        folder: of the run.

    Example:
        >>> describe_lost_process("lightning_logs/brats")
        'another process of this run has ended (killed, ...), so all of them end; run the same command again'
    """
    remedy = "run the same command again"
    if RunFolder(folder).has_checkpoint():
        remedy = f"continue with ckpt_path=last hydra.run.dir={folder}"
    return (
        "another process of this run has ended (killed, out of memory, or by an error of its own), so all of them end; "
        f"{remedy}"
    )


def _remove(path: Path, owner: int) -> None:
    """Remove the file when the first process ends; forked workers leave it."""
    if os.getpid() == owner:
        path.unlink(missing_ok=True)
