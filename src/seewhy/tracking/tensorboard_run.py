"""TensorBoard files of a run: curves, best scores, configuration, pictures, curves of classes, histograms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from torch import nn

from seewhy.metrics.direction import is_bound, is_constant
from seewhy.options import flatten_options
from seewhy.tracking.run import RunResults, TrackedRun, WatchedValues

__all__ = ["TensorBoardRun"]


class TensorBoardRun(TensorBoardLogger):
    """TensorBoard files in the run folder.

    TensorBoard has no tags, groups or artifacts: tags and notes are texts, and the files lie next to it in the folder.

    Args:
        save_dir: the run folder.
        name: folder in it.
        tags: of the run.
        notes: of the run.
    """

    key = "tensorboard"

    def __init__(
        self, *, save_dir: str, name: str = "tensorboard", tags: Sequence[str] = (), notes: str | None = None
    ) -> None:
        super().__init__(save_dir=save_dir, name=name, version="")
        self.tags, self.notes = list(tags), notes
        self._run: TrackedRun | None = None
        self._constants: dict[str, float] = {}

    def begin_run(self, run: TrackedRun) -> Mapping[str, Any]:
        """Take the run, whose texts are written with its results."""
        self._run = run
        return {}

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Hide what earlier files have from a step on, by TensorBoard's own mark."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        writer = self.experiment._get_file_writer()
        writer.add_event(Event(file_version="brain.Event:2"), step)
        writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing where the configuration has all of them."""
        if self._run is None:
            super().log_hyperparams(params, *args, **kwargs)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log curves; floors and counts are one point, and bounds of intervals are texts with the results."""
        shown = {}
        for name, value in metrics.items():
            if is_bound(name):
                continue
            if is_constant(name):
                if self._constants.get(name) == value:
                    continue
                self._constants[name] = value
            shown[name] = value
        super().log_metrics(shown, step)

    @rank_zero_only
    def log_results(self, results: RunResults) -> None:
        """Write texts, the table of hyperparameters with the best scores, figures and curves."""
        writer = self.experiment
        run = self._run
        if run is not None:
            facts = {"run": run.title, "job": run.job, **run.facts, "tags": self.tags, "notes": self.notes}
            writer.add_text(f"{run.job}/facts", _as_code(facts), results.step)
            writer.add_text(f"{run.job}/config", _as_code(run.config), results.step)
            if run.job == "train":
                self._log_table(run, results)
        bounds = {name: value for name, value in results.scores.items() if is_bound(name)}
        if bounds:
            writer.add_text("test/intervals", _as_code(bounds), results.step)
        for name, rows in results.tables.items():
            writer.add_text(name, _as_table(rows), results.step)
        for caption, path in results.figures.items():
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            writer.add_image(f"figures/{path.stem}", pixels, results.step, dataformats="HWC")
            writer.add_text(f"figures/{path.stem}/caption", caption, results.step)
        if results.outcomes is not None:
            for column, name in enumerate(results.outcomes.classes):
                truth, score = results.outcomes.truth[:, column], results.outcomes.probability[:, column]
                writer.add_pr_curve(f"test/precision_recall/{name}", truth.astype(int), score, results.step)

    def _log_table(self, run: TrackedRun, results: RunResults) -> None:
        """Log the row of the run in the table of hyperparameters, with its best scores and those of its test."""
        from torch.utils.tensorboard.summary import hparams

        best = {f"best/{name}": value for name, value in results.best.items()}
        test = {
            n: v for n, v in results.scores.items() if n.startswith("test/") and not (is_constant(n) or is_bound(n))
        }
        options = {name: _as_option(value) for name, value in flatten_options({**run.config, **run.facts}).items()}
        for name, value in best.items():
            self.experiment.add_scalar(name, value, results.step)
        for summary in hparams(options, {**best, **test}):
            self.experiment._get_file_writer().add_summary(summary)

    def close(self, status: str) -> str | None:
        """Write what is left."""
        self.finalize(status)
        return None

    def watch_weights(self, module: nn.Module, what: WatchedValues, every: int) -> None:
        """Do nothing: histograms are logged step by step."""

    @rank_zero_only
    def log_histograms(self, module: nn.Module, what: WatchedValues, step: int) -> None:
        """Log histograms of all parameters, their gradients, or both."""
        for name, parameter in module.named_parameters():
            if what in ("parameters", "all"):
                self.experiment.add_histogram(f"parameters/{name}", parameter.detach().float().cpu(), step)
            if what in ("gradients", "all") and parameter.grad is not None:
                self.experiment.add_histogram(f"gradients/{name}", parameter.grad.float().cpu(), step)


ROWS = 200
"""Rows of a table that is shown as text."""


def _as_code(values: Mapping[str, Any]) -> str:
    """Markdown of nested plain data."""
    return "".join(f"    {line}\n" for line in json.dumps(values, indent=1, default=str).splitlines())


def _as_option(value: Any) -> bool | int | float | str:
    """A value that TensorBoard's table of hyperparameters shows."""
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of a table."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    shown = [name for name in columns if not any(isinstance(row.get(name), np.ndarray) for row in rows)]
    lines = [shown, ["---"] * len(shown), *([_as_cell(row.get(name)) for name in shown] for row in rows[:ROWS])]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _as_cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
