"""W&B runs that hold the whole configuration, best scores, tables, curves, and files with their lineage."""

from __future__ import annotations

import json
import os
import re
import secrets
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from torch import nn

from seewhy.metrics.classification.probabilities import precision_recall_points, roc_points
from seewhy.metrics.direction import find_best_mode, is_bound, is_constant
from seewhy.tracking.media import log_table
from seewhy.tracking.run import ArtifactKind, Outcomes, RunArtifact, RunResults, TrackedRun, WatchedValues
from seewhy.tracking.wandb_file import drop_history_from

__all__ = ["WandbRun"]

AXIS = "trainer/global_step"
TYPES = {"data": "dataset", "model": "model", "results": "results", "maps": "explanations"}
"""Kind of an artifact → its type in W&B."""


class WandbRun(WandbLogger):
    """A W&B run of a training, which later commands on the run folder continue.

    Args:
        save_dir: the run folder; W&B writes to `wandb/` in it.
        project: of W&B.
        entity: user or team of W&B; None is the account's own.
        offline: write files only, which `wandb sync` uploads later.
        name: name of the run; None makes one of experiment, folder, and what a member of a sweep varies.
        group: None is the name of the sweep.
        tags: of the run.
        notes: of the run.
        artifacts: kinds of files to log as artifacts.
    """

    key = "wandb"

    def __init__(
        self,
        *,
        save_dir: str,
        project: str = "seewhy",
        entity: str | None = None,
        offline: bool = True,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        notes: str | None = None,
        artifacts: Sequence[ArtifactKind] = ("data", "model", "results", "maps"),
    ) -> None:
        super().__init__(name=name, save_dir=save_dir, offline=offline, project=project, entity=entity)
        self.group, self.tags, self.notes, self.kinds = group, list(tags), notes, tuple(artifacts or ())
        self._run: TrackedRun | None = None
        self._defined: set[str] = set()
        self._constants: dict[str, float] = {}
        self._data_dir: str | None = None

    # -- the run ---------------------------------------------------------------------------------------------

    def begin_run(self, run: TrackedRun) -> Mapping[str, Any]:
        """Give W&B the run's id, names and configuration; nothing is written yet."""
        earlier = dict(run.earlier or {})
        self._wandb_init.pop("anonymous", None)  # an option of Lightning that W&B warns of
        self._run, self._id = run, _choose_id(earlier.get("id"))
        title = self._wandb_init["name"] or earlier.get("name") or run.title
        tags = list(dict.fromkeys([*earlier.get("tags", ()), *self.tags, *(run.jobs[1:])]))
        group = self.group or earlier.get("group") or run.group
        self._wandb_init.update(
            id=self._id,
            name=title,
            group=None if "WANDB_SWEEP_ID" in os.environ else group,
            job_type=run.job,
            tags=tags,
            notes=self.notes or earlier.get("notes"),
            config=_make_config(run),
            settings={"silent": self._offline},
        )
        facts = {"id": self._id, "project": self._project, "name": title, "group": group, "tags": tags}
        return {**facts, "notes": self.notes or earlier.get("notes")}

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, started at first use."""
        if self._experiment is None and self._save_dir is not None:
            # Copies of an artifact's files wait here for their upload; W&B's own choice is the home folder.
            if "WANDB_DATA_DIR" not in os.environ:
                self._data_dir = os.environ["WANDB_DATA_DIR"] = str(Path(self._save_dir).absolute() / "wandb")
            Path(self._save_dir).mkdir(parents=True, exist_ok=True)
        return super().experiment

    def rewind(self, step: int) -> None:
        """Remove the rows from a step on from earlier offline files of this run; uploaded rows stay."""
        for path in Path(str(self._save_dir)).glob(f"wandb/*run-*-{self._id}/run-{self._id}.wandb"):
            if path.parent == Path(self.experiment.dir).parent:
                continue
            if path.parent.name.startswith("run-") or path.with_name(f"{path.name}.synced").exists():
                rank_zero_warn(f"{path.parent} is on a server, which keeps the rows from step {step} on")
            else:
                drop_history_from(path, step)

    def close(self, status: str) -> str | None:
        """End the W&B run; says how an offline one is uploaded."""
        run = self._experiment
        if run is None:
            return None
        offline, folder = bool(getattr(run, "offline", False)), Path(run.dir).parent
        run.finish(exit_code=int(status != "success"))
        self._experiment = None
        if self._data_dir is not None and os.environ.get("WANDB_DATA_DIR") == self._data_dir:
            del os.environ["WANDB_DATA_DIR"]
        if not offline:
            return None
        return f"W&B is offline: `wandb sync {folder}` uploads this run; logger.offline=false logs to the server"

    # -- numbers ---------------------------------------------------------------------------------------------

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Do nothing where the configuration has all of them."""
        if self._run is None:
            super().log_hyperparams(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log curves; floors, counts, bounds of intervals and test scores go to the summary, once."""
        summary = {name: value for name, value in metrics.items() if _belongs_to_summary(name, value)}
        changed = {name: value for name, value in summary.items() if self._constants.get(name) != value}
        if changed:
            self._constants |= changed
            self.experiment.summary.update({name: float(value) for name, value in changed.items()})
        curves = {name: value for name, value in metrics.items() if name not in summary}
        if set(curves) - {"epoch"}:
            self._define(curves)
            super().log_metrics(curves, step)

    def _define(self, names: Mapping[str, Any]) -> None:
        """Let the summary of a validation score be its best value, not its last."""
        modes = self._run.modes if self._run is not None else None
        for name in [name for name in names if name not in self._defined]:
            self._defined.add(name)
            mode = find_best_mode(name, modes) if isinstance(names[name], (int, float)) else None
            if mode is not None:
                self.experiment.define_metric(name, step_metric=AXIS, step_sync=True, summary=mode)

    # -- results ---------------------------------------------------------------------------------------------

    @rank_zero_only
    def log_results(self, results: RunResults) -> None:
        """Log the best scores, tables, curves, figures and artifacts of a job."""
        import wandb

        run = self.experiment
        modes = self._run.modes if self._run is not None else None
        run.summary.update({f"best/{name}": value for name, value in results.best.items()})
        is_continued = self._run is not None and bool(self._run.earlier) and self._run.job == "train"
        if is_continued:  # W&B knows only the rows of this session
            for name, value in results.best.items():
                run.summary[name] = {str(find_best_mode(name, modes)): value}
        missing = {n: v for n, v in results.scores.items() if n.startswith("test/") and n not in self._constants}
        run.summary.update(missing)
        for name, rows in results.tables.items():
            log_table([self], name, rows, step=results.step)
        for caption, path in results.figures.items():
            picture = wandb.Image(str(path), caption=caption)
            run.log({f"figures/{path.stem}": picture, AXIS: results.step})
        if results.outcomes is not None:
            run.log({**_draw_outcomes(results.outcomes), AXIS: results.step})
        for artifact in results.artifacts:
            if artifact.kind in self.kinds:
                self._log_artifact(artifact)

    def _log_artifact(self, item: RunArtifact) -> None:
        import wandb

        artifact = wandb.Artifact(item.name, type=TYPES[item.kind], metadata={**item.facts, "uses": list(item.uses)})
        for name, path in item.files.items():
            # The copy of an input is with the job that made it.
            artifact.add_file(str(path.absolute()), name=name, policy="immutable" if item.is_input else "mutable")
        if item.kind == "data":  # by hash: neither the files nor their names, which may be those of patients
            with artifact.new_file("data.json") as file:
                json.dump(dict(item.facts), file, indent=1, sort_keys=True)
        if item.is_input:
            self._use(artifact)
        else:
            self.experiment.log_artifact(artifact, aliases=["best"] if item.kind == "model" else None)

    def _use(self, artifact: Any) -> None:
        """Record that the run has read an artifact.

        `use_artifact` asks the server, and refuses offline; the record that it would send can be written all the same.
        """
        if not getattr(self.experiment, "offline", False):
            self.experiment.use_artifact(artifact)
            return
        try:
            self.experiment._log_artifact(artifact, is_user_created=True, use_after_commit=True)
        except (AttributeError, TypeError):
            rank_zero_warn(f"this version of wandb cannot record offline that the run uses {artifact.name}")

    # -- weights ---------------------------------------------------------------------------------------------

    @rank_zero_only
    def watch_weights(self, module: nn.Module, what: WatchedValues, every: int) -> None:
        """Log histograms of gradients, parameters or both, every some steps."""
        self.experiment.watch(module, log=what, log_freq=every, log_graph=False)

    def log_histograms(self, module: nn.Module, what: WatchedValues, step: int) -> None:
        """Do nothing: W&B watches by itself."""


def _choose_id(earlier: Any) -> str:
    """The id that `wandb agent` gives, that of the run before, or a new one."""
    if "WANDB_SWEEP_ID" in os.environ and os.environ.get("WANDB_RUN_ID"):
        return os.environ["WANDB_RUN_ID"]
    if isinstance(earlier, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", earlier):
        return earlier
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def _make_config(run: TrackedRun) -> dict[str, Any]:
    """The whole configuration; that of a later command is put next to that of the training."""
    if run.job == "train" or not run.earlier:
        return {**run.config, **run.facts, "jobs": list(run.jobs)}
    return {f"{run.job}_command": {**run.config, **run.facts}, "jobs": list(run.jobs)}


def _belongs_to_summary(name: str, value: Any) -> bool:
    return isinstance(value, (int, float)) and (name.startswith("test/") or is_constant(name) or is_bound(name))


def _draw_outcomes(outcomes: Outcomes) -> dict[str, Any]:
    """Confusion matrix, ROC and precision-recall curves as W&B charts."""
    import wandb

    charts: dict[str, Any] = {}
    if outcomes.exclusive:
        charts["test/confusion_matrix"] = wandb.plot.confusion_matrix(
            y_true=outcomes.truth.argmax(axis=1).tolist(), preds=outcomes.probability.argmax(axis=1).tolist(),
            class_names=list(outcomes.classes), title="Confusion matrix of the test",
        )  # fmt: skip
    kinds = {
        "roc": (roc_points, "ROC of the test", "false_positives", "tpr", "False positive rate", "True positive rate"),
        "precision_recall": (
            precision_recall_points, "Precision and recall of the test", "recall", "precision", "Recall", "Precision",
        ),
    }  # fmt: skip
    for key, (compute, title, x, y, x_title, y_title) in kinds.items():
        data = []
        for column, name in enumerate(outcomes.classes):
            points = compute(outcomes.truth[:, column], outcomes.probability[:, column])
            data += [] if points is None else [[name, float(a), float(b)] for a, b in zip(*points, strict=True)]
        if data:
            table = wandb.Table(columns=["class", x, y], data=data)
            charts[f"test/{key}"] = wandb.plot_table(
                "wandb/area-under-curve/v0", table, {"x": x, "y": y, "class": "class"},
                {"title": title, "x-axis-title": x_title, "y-axis-title": y_title},
            )  # fmt: skip
    return charts
