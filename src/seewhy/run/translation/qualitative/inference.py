"""Chosen cases translated again: only their slices and the neighbours that the way back needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from seewhy.models.translation.unpaired import other_domain
from seewhy.run.run_loader import SavedRun

__all__ = ["Translated", "check_model", "subjects_with", "translate_cases"]

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Translated:
    """One slice with what became of it, as stored (not turned upright).

    Attributes:
        stack: [3M, H, W] in [-1, 1], the slice and its neighbours.
        translated: [M, H, W].
        reconstructed: [M, H, W]; None where there is no way back.
        counterpart: [M, H, W] as the other scanner saw it; None where that is not known.
        body: [H, W] bool.
        spacing: [2] millimetres between rows and between columns; NaN where unknown.
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
    """Refuse a model that translates nothing.

    Raises:
        ConfigError: it has no `translate`.
    """
    if not hasattr(run.model, "translate"):
        raise ConfigError(
            f"run={run.folder.path}: {type(run.model).__name__} translates no scans, so it has no such cases; "
            "for maps of a classifier see explain.samples=best"
        )


def translate_cases(run: SavedRun, ids: Sequence[str]) -> dict[str, Translated]:
    """Sample → its translation, by the run's weights.

    Args:
        run: with a model that translates.
        ids: of test samples.

    Raises:
        DataError: a sample that the test subjects do not have.
    """
    found: dict[str, Translated] = {}
    for batch in subjects_with(run, ids, "translating cases"):
        for position, name in enumerate(batch["id"]):
            if name in ids:
                found[name] = _translated(run, batch, position)
    missing = [name for name in ids if name not in found]
    if missing:
        raise DataError(
            f"{len(missing)} cases (first: {missing[0]}) are no test samples of this run as it is configured now; "
            "choose cases anew: cases.stages=[select,…]"
        )
    return found


def subjects_with(run: SavedRun, ids: Sequence[str], task: str) -> Iterator[Batch]:
    """Test subjects that have one of these samples, on the device of the run, with a bar on stderr."""
    device = run.trainer.strategy.root_device
    run.model.to(device)
    batches = run.datamodule.loader_of(ids, "test")
    names = {name.rpartition("_")[0] for name in ids}
    with _evaluating(run):
        for batch in track(batches, task, total=len(names), transient=True, console=Console(stderr=True)):
            yield run.trainer.strategy.batch_to_device(batch, device)


@contextmanager
def _evaluating(run: SavedRun) -> Iterator[None]:
    """The precision of the run's own evaluation, and no gradients."""
    run.model.eval()
    with torch.no_grad(), run.trainer.precision_plugin.predict_step_context():
        yield


def _translated(run: SavedRun, batch: Batch, position: int) -> Translated:
    model: Any = run.model
    domain, image, body = batch["domain"][position], batch["image"], batch["body"]
    assert isinstance(image, Tensor)
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
    own, inside = centre_slices(image[position][None]), body[position][None]
    pairs = {"cycle": (back, own), "translation": (made, counterpart)}
    scores = {
        (comparison, metric): value[0].float().cpu().numpy()
        for comparison, (one, other) in pairs.items()
        if one is not None and other is not None
        for metric, value in slice_similarity(one, other, inside).items()
    }
    return Translated(
        stack=_array(image[position]),
        translated=_array(made[0]),
        reconstructed=None if back is None else _array(back[0]),
        counterpart=None if counterpart is None else _array(counterpart[0]),
        body=body[position].cpu().numpy(),
        spacing=np.asarray(batch["spacing"][position].cpu().numpy()),
        display=run.datamodule.display_of(batch["patient"][position]),
        scores=scores,
    )


def _array(values: Tensor) -> Array:
    return np.asarray(values.float().cpu().numpy())
