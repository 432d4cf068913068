"""Study of a sweep: Optuna's storage, shared by processes so that no trial is lost or counted twice."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seewhy.errors import ConfigError
from seewhy.run.sweeps.member_state import MemberState, read_state
from seewhy.run.sweeps.workers import FileLock, Worker, is_locked

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from seewhy.run.sweeps.search_space import SearchSpace

__all__ = ["JOURNAL", "SharedStudy", "import_optuna", "open_storage"]

LOGGER = logging.getLogger(__name__)

JOURNAL = "study.journal"
"""File of the study in the folder of a sweep."""
BLOCK = 1 << 16
"""Bytes that are read at a time to find the end of the last line of a journal."""
FACTS = "seewhy"
"""Name of the study's attribute with the search space and the folder of the sweep."""


def import_optuna() -> Any:
    """Import Optuna, which logs only warnings from then on.

    Raises:
        ConfigError: it is not installed, or too old.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(f"a search needs Optuna ({error}); pip install 'seewhy[sweep]'") from error
    if tuple(int(part) for part in optuna.__version__.split(".")[:2]) < (4, 9):
        raise ConfigError(
            f"Optuna {optuna.__version__} is too old, at least 4.9 is needed; pip install 'seewhy[sweep]'"
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def open_storage(address: str) -> tuple[BaseStorage, FileLock | None]:
    """Open a storage of studies, and the lock by which processes share it.

    Args:
        address: path of a journal file, or an address of SQLAlchemy, e.g. `sqlite:///study.db`.

    Returns:
        The storage, and the lock of its file; None for a database of a server.
    """
    import_optuna()
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if "://" not in address:
        Path(address).parent.mkdir(parents=True, exist_ok=True)
        backend = JournalFileBackend(address, lock_obj=_JournalLock(address))
        return JournalStorage(backend), FileLock(f"{address}.lock")
    file = re.fullmatch(r"sqlite(?:\+\w+)?:///(?P<path>[^?]+)(?:\?.*)?", address)
    if file is None:
        return RDBStorage(address), None
    with FileLock(f"{file['path']}.lock") as lock:  # two processes must not create the tables together
        return RDBStorage(address, engine_kwargs={"connect_args": {"timeout": 60}}), lock


class _JournalLock(FileLock):
    """Lock of a journal file, which cuts off a line that a process could not write to its end before it died."""

    def __init__(self, address: str) -> None:
        super().__init__(f"{address}.append")
        self.journal = Path(address)

    def acquire(self) -> bool:
        """Wait for the lock, and repair the end of the journal."""
        super().acquire()
        with self.journal.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            while end:
                start = max(0, end - BLOCK)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                end = start + newline + 1
                if newline >= 0 or start == 0:
                    break
            file.truncate(end)
        return True


class SharedStudy:
    """Study whose trials are claimed by processes, each trial by one process at a time.

    A trial is a member of the sweep: its number is the name of the member's folder. A trial of a process that has died
    is taken over under the same number, so that it is neither lost nor counted twice. Claims are made under a lock.

    Args:
        address: see `open_storage`.
        name: of the study.
        folder: of the sweep; if `chosen` is false, the folder of a study that exists already is used instead.
        chosen: whether the user chose the folder.
        space: what the study varies.
        goals: objective → `minimize` or `maximize`.
        build_sampler: seed → a sampler of Optuna.
        seed: of the samplers; each trial has a sampler of its own, so that neither the number of processes nor an
            interruption repeats draws.

    Raises:
        ConfigError: the study belongs to another folder or to another search.
    """

    def __init__(
        self,
        address: str,
        *,
        name: str,
        folder: Path,
        chosen: bool,
        space: SearchSpace,
        goals: Mapping[str, str],
        build_sampler: Callable[[int], Any],
        seed: int,
    ) -> None:
        optuna = import_optuna()
        storage, lock = open_storage(address)
        self.space, self.goals, self.build_sampler, self.seed = space, goals, build_sampler, seed
        self.lock = lock or FileLock(folder / "study.lock")
        with self.lock:
            self.study: Study = optuna.create_study(
                study_name=name, storage=storage, directions=list(goals.values()), load_if_exists=True,
                sampler=build_sampler(seed),
            )  # fmt: skip
            facts = {**space.describe(), "objectives": dict(goals), "folder": str(folder.absolute())}
            kept = self.study.user_attrs.get(FACTS)
            if kept is None:
                self.study.set_user_attr(FACTS, facts)
            else:
                _check_same_search(kept, facts, name=name, address=address, chosen=chosen)
                folder = Path(kept["folder"])
        self.lock = lock or FileLock(folder / "study.lock")
        self.folder = folder
        self.worker = Worker(folder / ".workers")

    @contextmanager
    def working(self) -> Iterator[None]:
        """Take part in the study within the block."""
        with self.worker.alive():
            yield

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.study.get_trials(deepcopy=False)

    def queue(self, combinations: Sequence[Mapping[str, Any]]) -> None:
        """Queue combinations of values that are not in the study yet."""
        with self.lock:
            known = {repr(sorted((trial.system_attrs.get("fixed_params") or {}).items())) for trial in self.trials}
            for values in combinations:
                if repr(sorted(values.items())) not in known:
                    self.study.enqueue_trial(dict(values))

    def queue_failed(self) -> list[int]:
        """Queue the values of failed trials again, each once; return the numbers of these trials."""
        from optuna.trial import TrialState

        with self.lock:
            retried = {trial.user_attrs.get("retry_of") for trial in self.trials}
            failed = [trial for trial in self.trials if trial.state is TrialState.FAIL and trial.number not in retried]
            for trial in failed:
                self.study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number})
        return [trial.number for trial in failed]

    def claim(self, most: int, *, total: int) -> list[Trial]:
        """Claim trials to run: those of dead processes, those that are queued, and new ones until `total`.

        Returns:
            At most `most` trials with all their values; none if nothing is left to start.
        """
        claimed: list[Trial] = []
        with self.lock:
            for frozen in self._list_lost():
                if len(claimed) < most and (trial := self._take_over(frozen)) is not None:
                    claimed.append(trial)
            while len(claimed) < most and self._has_more(total):
                self.study.sampler = self._build_sampler(len(self.trials))
                trial = self.study.ask(dict(self.space.varied))
                trial.set_user_attr("worker", self.worker.name)
                claimed.append(trial)
        return claimed

    def waits_for(self) -> list[int]:
        """Return the numbers of trials whose process has died but whose member still runs, as a job of a cluster."""
        with self.lock:
            lost = self._list_lost(running=True)
            return [trial.number for trial in lost]

    def tell(self, number: int, state: MemberState) -> None:
        """Record how a member ended; a trial that is recorded already is left as it is."""
        from optuna.trial import TrialState

        kinds = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAIL": TrialState.FAIL}
        with self.lock:
            trial = next(trial for trial in self.trials if trial.number == number)
            if trial.state.is_finished():
                return
            if state.error:
                self.study._storage.set_trial_user_attr(trial._trial_id, "error", state.error)
            values = list(state.values) if state.state == "COMPLETE" else None
            self.study.tell(number, values, state=kinds[state.state])

    def _has_more(self, total: int) -> bool:
        """Return whether a trial is queued, or fewer than `total` exist; retries do not count twice."""
        from optuna.trial import TrialState

        trials = self.trials
        retries = sum("retry_of" in trial.user_attrs for trial in trials)
        return any(trial.state is TrialState.WAITING for trial in trials) or len(trials) - retries < total

    def _list_lost(self, *, running: bool = False) -> list[FrozenTrial]:
        """Return trials whose process has died: those whose member runs no more, or those whose member still runs."""
        from optuna.trial import TrialState

        begun = [trial for trial in self.trials if trial.state is TrialState.RUNNING]
        lost = [trial for trial in begun if self.worker.is_dead(trial.user_attrs.get("worker"))]
        return [trial for trial in lost if bool(is_locked(self.folder / str(trial.number) / ".lock")) is running]

    def _take_over(self, frozen: FrozenTrial) -> Trial | None:
        """Make a lost trial one of this process; None if its member had ended and only its result was not recorded."""
        optuna = import_optuna()
        if (state := read_state(self.folder / str(frozen.number), self.goals)) is not None:
            LOGGER.info("member %d had ended (%s); its result is recorded now", frozen.number, state.state)
            self.tell(frozen.number, state)
            return None
        self.study.sampler = self._build_sampler(frozen.number)
        trial: Trial = optuna.Trial(self.study, frozen._trial_id)
        for name, distribution in self.space.varied.items():  # it may have died before it had all its values
            trial._suggest(name, distribution)
        trial.set_user_attr("worker", self.worker.name)
        LOGGER.info("member %d was interrupted; it runs again", frozen.number)
        return trial

    def _build_sampler(self, number: int) -> Any:
        """Build the sampler of a trial, whose seed follows from the number of the trial."""
        from numpy.random import SeedSequence

        return self.build_sampler(int(SeedSequence([self.seed, number]).generate_state(1)[0]))


def _check_same_search(
    kept: Mapping[str, Any], facts: Mapping[str, Any], *, name: str, address: str, chosen: bool
) -> None:
    """Refuse another folder, and another search, whose members would not be comparable."""
    where = f"the study {name!r} in {address}"
    if chosen and kept["folder"] != facts["folder"]:
        raise ConfigError(
            f"{where} has its members in {kept['folder']}; continue it with hydra.sweep.dir={kept['folder']}, or give "
            "another hydra.sweeper.study_name"
        )
    differences = [*_compare_words(kept["fixed"], facts["fixed"]), *_compare_entries(kept, facts)]
    if differences:
        raise ConfigError(
            f"{where} belongs to another search: {'; '.join(differences)}; repeat the command of its multirun.yaml, or "
            "choose another hydra.sweep.dir or hydra.sweeper.study_name"
        )


def _compare_words(kept: Sequence[str], now: Sequence[str]) -> list[str]:
    """List words of the command line that were added or left out."""
    added, missing = [word for word in now if word not in kept], [word for word in kept if word not in now]
    return [f"{word} is new" for word in added] + [f"{word} is missing" for word in missing]


def _compare_entries(kept: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List varied options and objectives that differ."""
    differences = []
    for part in ("varied", "objectives"):
        for name in dict.fromkeys([*kept[part], *now[part]]):
            before, after = kept[part].get(name), now[part].get(name)
            if before != after:
                differences.append(f"{name}: {_shorten(before)} before, {_shorten(after)} now")
    return differences


def _shorten(entry: str | None) -> str:
    """Shorten the JSON of a distribution."""
    return "absent" if entry is None else re.sub(r'["{}]|attributes: ', "", entry.replace('": ', ": "))
