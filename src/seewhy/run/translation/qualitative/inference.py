"""Translate selected cases again: only their slices and the neighbours that the way back needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from seewhy.batch import STACK_SLICES, Batch
from seewhy.errors import ConfigError, DataError
from seewhy.io.geometry import Display
from seewhy.metrics.translation.similarity import centre_slices, slice_similarity
from seewhy.models.protocols import TranslatesScans
from seewhy.models.translation.unpaired import other_domain
from seewhy.run.loaded.saved_run import SavedRun

__all__ = ["TranslatedSlice", "check_model", "load_subjects", "translate_cases"]

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class TranslatedSlice:
    """A slice and its translations, as stored (not turned upright).

    Attributes:
        stack: [3M, H, W] in [-1, 1], the slice and its neighbours.
        translated: [M, H, W].
        reconstructed: [M, H, W]; None if no network translates back.
        counterpart: [M, H, W] real scan of the other scanner; None if unknown.
        body: [H, W] bool.
        spacing: [2] millimetres between rows and between columns; NaN if unknown.
        display: how it is turned upright.
        scores: (comparison, metric) → [M].
    """

    stack: Array
    translated: Array
    reconstructed: Array | None
    counterpart: Array | None
    body: Array
    spacing: Array
    display: Display
    scores: Mapping[tuple[str, str], Array]


def check_model(run: SavedRun) -> None:
    """Check that the model of a run translates.

    Raises:
        ConfigError: it is not a `seewhy.models.protocols.TranslatesScans`.
    """
    if not isinstance(run.model, TranslatesScans):
        raise ConfigError(
            f"run={run.folder.path}: {type(run.model).__name__} does not translate scans, so it has no such cases; "
            "for maps of a classifier see explain.samples=best"
        )


def translate_cases(run: SavedRun, ids: Sequence[str]) -> dict[str, TranslatedSlice]:
    """Translate samples with the weights of a run; returns sample → its translation.

    Args:
        run: with a model that translates.
        ids: of test samples.

    Raises:
        DataError: a sample that the test subjects do not have.
    """
    result: dict[str, TranslatedSlice] = {}
    for batch in load_subjects(run, ids, "translating cases"):
        for position, name in enumerate(batch["id"]):
            if name in ids:
                result[name] = _translate(run, batch, position)
    missing = [name for name in ids if name not in result]
    if missing:
        raise DataError(
            f"{len(missing)} cases (first: {missing[0]}) are not test samples of this run with its present "
            "configuration; select cases again: cases.stages=[select,…]"
        )
    return result


def load_subjects(run: SavedRun, ids: Sequence[str], task: str) -> Iterator[Batch]:
    """Yield the test subjects of samples on the run's device, in its precision and without gradients.

    A progress bar is shown on stderr.
    """
    device = run.trainer.strategy.root_device
    run.model.to(device)
    batches = run.datamodule.loader_of(ids, "test")
    names = {name.rpartition("_")[0] for name in ids}
    run.model.eval()
    with torch.no_grad(), run.trainer.precision_plugin.predict_step_context():
        for batch in track(batches, task, total=len(names), transient=True, console=Console(stderr=True)):
            yield run.trainer.strategy.batch_to_device(batch, device)


def _translate(run: SavedRun, batch: Batch, position: int) -> TranslatedSlice:
    model: Any = run.model
    image: Any = batch["image"]
    domain, body = batch["domain"][position], batch["body"]
    around = STACK_SLICES // 2
    first = max(position - around, 0)
    near = slice(first, position + around + 1)
    here = slice(position - first, position - first + 1)
    made = model.translate(image[near], domain=domain, body=body[near])
    back = None
    if model.translates(other_domain(domain)):
        back = model.reconstruct(made, domain=domain, body=body[near])[here]
    made = made[here]
    counterpart = batch["counterpart"][position][None] if "counterpart" in batch else None
    pairs = {"cycle": (back, centre_slices(image[position][None])), "translation": (made, counterpart)}
    scores = {
        (comparison, metric): value[0].float().cpu().numpy()
        for comparison, (output, target) in pairs.items()
        if output is not None and target is not None
        for metric, value in slice_similarity(output, target, body[position][None]).items()
    }
    return TranslatedSlice(
        stack=_to_array(image[position]),
        translated=_to_array(made[0]),
        reconstructed=None if back is None else _to_array(back[0]),
        counterpart=None if counterpart is None else _to_array(counterpart[0]),
        body=body[position].cpu().numpy(),
        spacing=np.asarray(batch["spacing"][position].cpu().numpy()),
        display=run.datamodule.display_of(batch["patient"][position]),
        scores=scores,
    )


def _to_array(values: Tensor) -> Array:
    return np.asarray(values.float().cpu().numpy())
