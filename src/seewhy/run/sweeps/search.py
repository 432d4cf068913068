"""Search for the best options: run the members of a study until it has its number of trials."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from seewhy.errors import ConfigError, SeewhyError
from seewhy.io.atomic import atomic_path
from seewhy.metrics.direction import find_mode
from seewhy.option_types import Fraction, NonNegativeInt, PositiveInt
from seewhy.options import accepted_options, check_choice, quote_value
from seewhy.run.checks import check_objectives
from seewhy.run.folder import RunFolder
from seewhy.run.processes.new_folder import check_sweep_folder
from seewhy.run.sweeps.member_state import MemberState, Sweeper, read_state, read_sweeper_options, write_state
from seewhy.run.sweeps.search_space import SearchSpace, read_search_space
from seewhy.run.sweeps.study import JOURNAL, SharedStudy, import_optuna

if TYPE_CHECKING:
    from optuna import Trial

__all__ = ["StudyOptions", "build_pruner", "read_goals", "run_search"]

LOGGER = logging.getLogger(__name__)

SAMPLERS = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    "cma": "CmaEsSampler",
    "gp": "GPSampler",
    "qmc": "QMCSampler",
}
PRUNERS = {"median": "MedianPruner", "hyperband": "HyperbandPruner", "halving": "SuccessiveHalvingPruner"}
GRID = "grid"
POLL = 2.0
"""Seconds between two looks at members that still run though their sweep has ended."""


@dataclass(frozen=True)
class StudyOptions:
    """Options `hydra.sweeper` of a search.

    Attributes:
        n_trials: number of members of the study, over all commands that share or continue it.
        n_jobs: members that one command gives to its launcher at a time.
        sampler: name, or a mapping with the `_target_` of a sampler of Optuna.
        pruner: name, or a mapping with the `_target_` of a pruner of Optuna; None prunes nothing.
        seed: of the sampler.
        storage: journal file or address of a database; None is `study.journal` in the folder of the sweep.
        study_name: name of the study in its storage.
        objectives: scores of `results.json`; None is `objective`.
        direction: `maximize` or `minimize`, one or one per objective; None finds it by the names.
        params: option → values to search.
        retry_failed: whether values of failed members run again, as new members.
        max_failure_rate: share of failed members of this command above which it ends.
        trial: number of the trial of a member; seewhy sets it.
    """

    n_trials: PositiveInt = 20
    n_jobs: PositiveInt = 1
    sampler: str | dict[str, Any] = "tpe"
    pruner: str | dict[str, Any] | None = None
    seed: NonNegativeInt = 0
    storage: str | None = None
    study_name: str = "study"
    objectives: list[str] | None = None
    direction: str | list[str] | None = None
    params: dict[str, Any] | None = None
    retry_failed: bool = False
    max_failure_rate: Fraction = 1.0
    trial: NonNegativeInt | None = None


def run_search(sweeper: Sweeper, words: Sequence[str]) -> None:
    """Run the members of a study that are missing, and write its table, figure and page.

    Args:
        sweeper: the plugin that Hydra has built.
        words: of the command line, without options of Hydra.

    Raises:
        ConfigError: impossible options, or a folder or study that belongs to another sweep.
        SeewhyError: members of this command have failed.
    """
    from seewhy.run.sweeps.page import finish_sweep

    config = sweeper.config
    options = read_sweeper_options(StudyOptions, sweeper.options)
    import_optuna()
    space = read_search_space(options.params, words, config_loader=sweeper.hydra_context.config_loader)
    goals = read_goals(options, config)
    combinations = space.grid()[: options.n_trials] if options.sampler == GRID else None
    if options.pruner is not None:
        build_pruner(options.pruner, goals)
    sweeper.check_members([space.list_overrides(_first_values(space))])
    study = _open_study(options, config, space, goals)
    search = _Search(sweeper, study, options, total=options.n_trials if combinations is None else len(combinations))
    with study.working():
        if combinations is not None:
            study.queue(combinations)
        if options.retry_failed:
            LOGGER.info("failed members that run again: %s", study.queue_failed() or "none")
        try:
            search.run()
        finally:
            finish_sweep(study.folder, config, goals)
    if search.failed:
        listed = "; ".join(f"{number} ({error})" for number, error in list(search.failed.items())[:5])
        raise SeewhyError(
            f"{len(search.failed)} members of {study.folder} failed: {listed}; the same command with hydra.sweep.dir="
            f"{study.folder} hydra.sweeper.retry_failed=true runs them again"
        )


def read_goals(options: StudyOptions, config: DictConfig) -> dict[str, str]:
    """Return the objectives of a search with their directions.

    Raises:
        ConfigError: no objective, a test score that was not asked for, or directions that do not fit.
    """
    names = options.objectives or ([] if config.objective is None else [str(config.objective)])
    if not names:
        raise ConfigError("a search needs an objective, e.g. objective=val/loss")
    check_objectives(config, names)
    given = options.direction
    directions: Sequence[str | None] = [given] * len(names) if given is None or isinstance(given, str) else given
    if len(directions) != len(names):
        raise ConfigError(f"hydra.sweeper.direction={given} has {len(directions)} entries for {len(names)} objectives")
    goals = {}
    for name, direction in zip(names, directions, strict=True):
        if direction is None:
            try:
                direction = {"min": "minimize", "max": "maximize"}[find_mode(name)]
            except ConfigError:
                raise ConfigError(
                    f"objective={name!r} does not tell whether lower or higher is better; add direction=minimize or "
                    "direction=maximize"
                ) from None
        check_choice(direction, ["maximize", "minimize"], "direction")
        goals[name] = direction
    return goals


def build_pruner(choice: str | Mapping[str, Any], goals: Mapping[str, str]) -> Any:
    """Build a pruner of Optuna.

    Raises:
        ConfigError: an unknown name, several objectives, or an objective that is not measured in every epoch.
    """
    unknown = [name for name in goals if not name.startswith("val/")]
    if len(goals) > 1 or unknown:
        raise ConfigError(f"hydra.sweeper.pruner needs one objective of the validation, not {', '.join(goals)}")
    return _build_part(choice, PRUNERS, import_optuna().pruners, "pruner")


def _build_part(
    choice: str | Mapping[str, Any], names: Mapping[str, str], module: Any, option: str, **fixed: Any
) -> Any:
    """Build a sampler or a pruner from its name or from a mapping with `_target_`."""
    if isinstance(choice, str):
        check_choice(choice, [*names, *([GRID] if option == "sampler" else [])], f"hydra.sweeper.{option}")
        return getattr(module, names.get(choice, "RandomSampler"))(**fixed)
    if "seed" in choice:
        raise ConfigError(f"hydra.sweeper.{option}.seed={choice['seed']}: the seed of each trial follows from "
                          "hydra.sweeper.seed; set that instead")  # fmt: skip
    try:
        accepted = accepted_options(get_class(str(choice.get("_target_"))))
        return instantiate(dict(choice), **{key: fixed[key] for key in fixed if accepted is None or key in accepted})
    except Exception as error:  # Hydra's errors, and those of what it calls
        raise ConfigError(f"hydra.sweeper.{option}={dict(choice)} cannot be built: {error}") from error


def _open_study(options: StudyOptions, config: DictConfig, space: SearchSpace, goals: Mapping[str, str]) -> SharedStudy:
    """Open the study, and let Hydra's configuration name its folder, address and trials."""
    folder = Path(str(config.hydra.sweep.dir)).absolute()
    words = [str(word).lstrip("+") for word in config.hydra.overrides.hydra]
    address = options.storage or str(folder / JOURNAL)
    if options.storage is None and not (folder / JOURNAL).is_file():
        check_sweep_folder(folder)
    optuna = import_optuna()
    folder.mkdir(parents=True, exist_ok=True)
    study = SharedStudy(
        address, name=options.study_name, folder=folder, space=space, goals=goals, seed=options.seed,
        chosen=any(word.startswith("hydra.sweep.dir=") for word in words),
        build_sampler=lambda seed: _build_part(options.sampler, SAMPLERS, optuna.samplers, "sampler", seed=seed),
    )  # fmt: skip
    if study.folder != folder:
        LOGGER.info("the study %s is continued in %s", options.study_name, study.folder)
        folder.rmdir()  # made for this command, and empty
    if not study.trials:
        check_sweep_folder(study.folder)
    config.hydra.sweep.dir = str(study.folder)
    if not (study.folder / "multirun.yaml").is_file():
        with atomic_path(study.folder / "multirun.yaml") as temporary:
            OmegaConf.save(config, temporary)
    return study


class _Search:
    """Loop over batches of members.

    Attributes:
        failed: number of a failed member → its error.
    """

    def __init__(self, sweeper: Sweeper, study: SharedStudy, options: StudyOptions, *, total: int) -> None:
        self.study, self.options, self.total = study, options, total
        self.launcher = sweeper.build_launcher()
        self.failed: dict[int, str] = {}
        self.done = 0

    def run(self) -> None:
        """Run members until nothing is left to start.

        Raises:
            SeewhyError: too many of them fail.
        """
        while True:
            trials = self.study.claim(self.options.n_jobs, total=self.total)
            if trials:
                self._run_batch(trials)
            elif waits := self.study.waits_for():
                LOGGER.info("waiting for members %s, which an earlier command has started", waits)
                time.sleep(POLL)
            else:
                return
            if self.done and len(self.failed) / self.done > self.options.max_failure_rate:
                raise SeewhyError(
                    f"{len(self.failed)} of {self.done} members failed (hydra.sweeper.max_failure_rate="
                    f"{self.options.max_failure_rate}), the last one: {list(self.failed.values())[-1]}"
                )

    def _run_batch(self, trials: Sequence[Trial]) -> None:
        """Launch trials, and record how they ended."""
        overrides = [self._list_overrides(trial) for trial in trials]
        returns = self.launcher.launch(overrides, initial_job_idx=trials[0].number)
        for trial, job in zip(trials, returns, strict=True):
            folder = self.study.folder / str(trial.number)
            state = read_state(folder, self.study.goals)
            if state is None:  # it ended before Hydra could call its callbacks
                state = MemberState("FAIL", error=_describe_failure(job))
                write_state(folder, state)
            self.study.tell(trial.number, state)
            self.done += 1
            if state.state == "FAIL":
                self.failed[trial.number] = str(state.error)
                LOGGER.error("member %d failed: %s", trial.number, state.error)

    def _list_overrides(self, trial: Trial) -> list[str]:
        """Return the overrides of a member: its values, its folder, and its checkpoint if it was interrupted."""
        folder = self.study.folder / str(trial.number)
        address = self.options.storage or str(self.study.folder / JOURNAL)
        words = [
            *self.study.space.list_overrides(trial.params),
            f"hydra.sweep.dir={quote_value(str(self.study.folder))}",
            f"hydra.sweep.subdir={quote_value(str(trial.number))}",
            f"hydra.sweeper.trial={trial.number}",
            f"hydra.sweeper.storage={quote_value(address)}",
        ]
        if RunFolder(folder).has_checkpoint():
            words.append("ckpt_path=last")
        return words


def _describe_failure(job: JobReturn) -> str:
    """Return the error of a job that has not written how it ended."""
    try:
        value = job.return_value
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"it ended without a result ({value})" if job.status is JobStatus.COMPLETED else "unknown error"


def _first_values(space: SearchSpace) -> dict[str, Any]:
    """Return one value of every option that is varied."""
    return {
        name: distribution.choices[0] if hasattr(distribution, "choices") else distribution.low
        for name, distribution in space.varied.items()
    }
