"""Start the processes of a run on this machine, and end all of them when one has ended."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from seewhy.run.processes.messages import describe_lost_process, print_error

__all__ = ["WatchedLauncher", "replace_launcher"]

PERIOD = 1.0
"""Seconds between two looks at the other processes."""
GRACE = 20.0
"""Seconds in which a process may end by itself, after another one has ended: gloo reports a lost connection at once,
NCCL after many minutes."""


class WatchedLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher of processes, with another end.

    When a process fails, Lightning kills the first process within five seconds: nothing is printed, no logger is closed
    and temporary files stay. If the first process is killed, its children wait for it as long as their backend does.
    Here a process that lost another one first gets time to end by itself; after that it is killed.
    """

    parent: int | None = None
    """Number of the process that started this one, once it is watched."""

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Trainer | None = None, **kwargs: Any) -> Any:
        """Start the processes at the first call, and call a function in each of them."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        folder = str(trainer.default_root_dir) if trainer is not None else "."
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            _watch(lambda: _find_failed(self.procs), lambda: _kill(self.procs), folder)
        elif not self.procs and self.parent is None:
            self.parent = os.getppid()
            _watch(lambda: os.getppid() != self.parent, lambda: None, folder)
        _set_num_threads_if_needed(num_processes=self.num_processes)
        try:
            return function(*args, **kwargs)
        except BaseException:
            self._end_children()
            raise

    def _end_children(self) -> None:
        """Wait for the other processes after a failure, and kill those that wait for this one."""
        end = time.monotonic() + GRACE / 2
        while any(process.poll() is None for process in self.procs) and time.monotonic() < end:
            time.sleep(0.1)
        _kill(self.procs)


def replace_launcher(trainer: Trainer) -> None:
    """Let a Trainer start its processes by `WatchedLauncher`, where it starts processes from a command line."""
    launcher = trainer.strategy.launcher
    if type(launcher) is _SubprocessScriptLauncher:
        trainer.strategy._launcher = WatchedLauncher(
            launcher.cluster_environment, launcher.num_processes, launcher.num_nodes
        )


def _watch(is_lost: Callable[[], bool], kill_others: Callable[[], None], folder: str) -> None:
    """Watch other processes in a thread, which ends this process if it does not do so itself."""

    def watch() -> None:
        while not is_lost():
            time.sleep(PERIOD)
        time.sleep(GRACE)
        print_error(describe_lost_process(folder))
        kill_others()
        os._exit(1)  # the main thread waits for another process, and cannot be interrupted

    threading.Thread(target=watch, name="watch-processes", daemon=True).start()


def _find_failed(processes: Sequence[subprocess.Popen[Any]]) -> bool:
    """Return whether a process has ended with an error."""
    return any(process.poll() for process in processes)


def _kill(processes: Sequence[subprocess.Popen[Any]]) -> None:
    """Kill the processes that still run; they may be in a call that no other signal ends."""
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()
