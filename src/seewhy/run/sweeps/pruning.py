"""Connect the training of a member with its trial in the study of the search."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from seewhy.callbacks.training.early_stopping import PruneTrial
from seewhy.run.sweeps.member_state import read_sweeper_options

if TYPE_CHECKING:
    from seewhy.run.sweeps.search import StudyOptions

__all__ = ["build_pruning_callback"]


def build_pruning_callback(config: DictConfig) -> list[PruneTrial]:
    """Build the callback that reports to the trial of this member; none outside a search that prunes.

    Args:
        config: of the job.
    """
    if not HydraConfig.initialized():
        return []
    node: Any = HydraConfig.get().sweeper
    if node.get("trial") is None or node.get("pruner") is None:
        return []
    from seewhy.run.sweeps.search import StudyOptions, read_goals

    options = read_sweeper_options(StudyOptions, node)
    [objective] = goals = read_goals(options, config)
    return [PruneTrial(objective, lambda: _Connection(options, goals))]


class _Connection:
    """Trial of a study that another process has claimed.

    Args:
        options: of the search, with the storage and the number of the trial.
        goals: objective → direction.
    """

    def __init__(self, options: StudyOptions, goals: dict[str, str]) -> None:
        from seewhy.run.sweeps.search import build_pruner
        from seewhy.run.sweeps.study import import_optuna, open_storage

        optuna = import_optuna()
        storage, _ = open_storage(str(options.storage))
        assert options.pruner is not None
        pruner = build_pruner(options.pruner, goals)
        # The random sampler does nothing to the trial when it is opened.
        study = optuna.load_study(
            study_name=options.study_name, storage=storage, pruner=pruner, sampler=optuna.samplers.RandomSampler()
        )
        frozen = next(trial for trial in study.get_trials(deepcopy=False) if trial.number == options.trial)
        self.reported = set(frozen.intermediate_values)
        self.trial = optuna.Trial(study, frozen._trial_id)

    def report(self, value: float, step: int) -> None:
        """Report a value; epochs that an interrupted training repeats keep their first value."""
        if step not in self.reported and not math.isnan(value):
            self.trial.report(value, step)
            self.reported.add(step)

    def should_prune(self) -> bool:
        """Return whether Optuna's pruner ends the trial."""
        return bool(self.trial.should_prune())
