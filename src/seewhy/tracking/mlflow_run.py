"""MLflow runs: parameters, tags, curves, best scores, the data set as an input, pictures, tables and files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from lightning.pytorch.loggers.mlflow import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from seewhy.io.atomic import atomic_path
from seewhy.metrics.direction import is_bound, is_constant
from seewhy.tracking.media import log_table
from seewhy.tracking.run import ArtifactKind, Outcomes, RunArtifact, RunResults, TrackedRun

__all__ = ["MLflowRun"]


class MLflowRun(MLFlowLogger):
    """An MLflow run of a training, which later commands on the run folder continue.

    Args:
        save_dir: folder of a file store; used without `tracking_uri`.
        tracking_uri: of a server or another store.
        experiment_name: of MLflow.
        name: name of the run; None makes one of experiment, folder, and what a member of a sweep varies.
        tags: of the run.
        notes: of the run.
        artifacts: kinds of files to log; data are an input of the run, of which only hash and place are kept.
    """

    key = "mlflow"

    def __init__(
        self,
        *,
        save_dir: str = "./mlruns",
        tracking_uri: str | None = None,
        experiment_name: str = "seewhy",
        name: str | None = None,
        tags: Sequence[str] = (),
        notes: str | None = None,
        artifacts: Sequence[ArtifactKind] = ("data", "model", "results", "maps"),
    ) -> None:
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or Path(save_dir).absolute().as_uri()
        if uri.startswith("file:"):  # MLflow 3.17 and later want to be asked for a file store
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        super().__init__(experiment_name=experiment_name, tracking_uri=uri, run_name=name, save_dir=save_dir)
        self.labels, self.notes, self.kinds = list(tags), notes, tuple(artifacts or ())
        self._run: TrackedRun | None = None
        self._constants: dict[str, float] = {}

    def begin_run(self, run: TrackedRun) -> Mapping[str, Any]:
        """Start or continue the MLflow run, with its tags and parameters."""
        from mlflow.exceptions import MlflowException

        self._run = run
        earlier = dict(run.earlier or {})
        if isinstance(earlier.get("run_id"), str):
            try:
                self._mlflow_client.get_run(earlier["run_id"])
                self._run_id = earlier["run_id"]
            except MlflowException:
                rank_zero_warn(f"{self._tracking_uri} has no run {earlier['run_id']}; a new one is started")
        self._run_name = self._run_name or run.title
        tags = {
            "job": run.job,
            "jobs": ",".join(run.jobs),
            **{key: _as_text(v) for key, v in run.facts.items() if v is not None},
        }
        tags |= dict.fromkeys([*self.labels, *run.jobs[1:]], "true")
        tags |= {"group": run.group} if run.group else {}
        tags |= {"mlflow.note.content": self.notes} if self.notes else {}
        client, run_id = self.experiment, self.run_id
        for key, value in tags.items():
            client.set_tag(run_id, key, value)
        known = set(client.get_run(run_id).data.params)
        params = {k: v for k, v in _flat_params(run).items() if k not in known}
        if params and run.job == "train":
            super().log_hyperparams(params)
        return {"run_id": run_id, "tracking_uri": self._tracking_uri}

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Remove rows from a step on; only a file store allows it, and servers keep both."""
        if not self._tracking_uri.startswith("file:"):
            rank_zero_warn(f"{self._tracking_uri} keeps the rows from step {step} on, which are logged again")
            return
        root = Path(unquote(urlparse(self._tracking_uri).path))
        for path in (root / str(self.experiment_id) / str(self.run_id) / "metrics").rglob("*"):
            if path.is_file():
                lines = path.read_text().splitlines()  # time, value, step
                kept = [line for line in lines if int(line.split()[2]) < step]
                if not kept:
                    path.unlink()
                elif len(kept) < len(lines):
                    with atomic_path(path) as temporary:
                        temporary.write_text("".join(f"{line}\n" for line in kept))

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Do nothing where the configuration has all of them."""
        if self._run is None:
            super().log_hyperparams(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log curves; floors and counts are one point, and bounds of intervals exist for a test only."""
        shown = {}
        for name, value in metrics.items():
            if is_bound(name) and not name.startswith("test/"):
                continue
            if is_constant(name):
                if self._constants.get(name) == value:
                    continue
                self._constants[name] = value
            shown[name_metric(name)] = value
        if shown:
            super().log_metrics(shown, step)

    @rank_zero_only
    def log_results(self, results: RunResults) -> None:
        """Log best scores, tables, outcomes, figures and artifacts."""
        client, run_id = self.experiment, self.run_id
        for name, value in results.best.items():
            client.log_metric(run_id, name_metric(f"best/{name}"), value)
        for name, rows in results.tables.items():
            log_table([self], name, rows)
        for caption, path in results.figures.items():
            client.log_artifact(run_id, str(path), "figures")
            client.log_text(run_id, caption, f"figures/{path.stem}.txt")
        if results.outcomes is not None:
            client.log_dict(run_id, _outcome_record(results.outcomes), "tables/test_outcomes.json")
        for artifact in results.artifacts:
            if artifact.kind in self.kinds:
                self._log_artifact(artifact)

    def _log_artifact(self, item: RunArtifact) -> None:
        client, run_id = self.experiment, self.run_id
        if item.kind == "data":
            from mlflow.entities import Dataset, DatasetInput

            source = json.dumps({"uri": item.reference.absolute().as_uri() if item.reference else ""})
            digest = str(item.facts.get("hash", ""))[:36]
            data = Dataset(name=item.name, digest=digest, source_type="local", source=source)
            client.log_inputs(run_id, [DatasetInput(dataset=data, tags=[])])
            return
        if item.is_input:
            return  # a file of the same run already
        for name, path in item.files.items():
            folder = Path(item.kind, name).parent.as_posix()
            client.log_artifact(run_id, str(path), folder)
        client.log_dict(run_id, {**item.facts, "name": item.name, "uses": list(item.uses)}, f"{item.kind}/about.json")

    def close(self, status: str) -> str | None:
        """End the run as finished or failed."""
        self.finalize(status)
        return None


def name_metric(name: str) -> str:
    """Name of a score for MLflow, whose file store cannot hold both `val/f1` and `val/f1/early`: a file and a folder.

    Example:
        >>> name_metric("val/f1"), name_metric("val/f1/early")
        ('val/f1', 'val/f1.early')
    """
    first, _, rest = name.partition("/")
    return f"{first}/{rest.replace('/', '.')}" if rest else first


def _flat_params(run: TrackedRun) -> dict[str, Any]:
    from lightning.fabric.utilities.logger import _flatten_dict

    flat: dict[str, Any] = _flatten_dict(dict(run.config))
    return flat


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _outcome_record(outcomes: Outcomes) -> dict[str, Any]:
    record: dict[str, Any] = {"classes": list(outcomes.classes)}
    record["probability"] = outcomes.probability.round(6).tolist()
    record["truth"] = outcomes.truth.astype(int).tolist()
    if outcomes.exclusive:
        chosen, true = outcomes.probability.argmax(axis=1), outcomes.truth.argmax(axis=1)
        count = len(outcomes.classes)
        record["confusion"] = [[int(((true == a) & (chosen == b)).sum()) for b in range(count)] for a in range(count)]
    return record
