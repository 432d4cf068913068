"""Explain the samples of any loader with any module, without a Trainer."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seewhy.batch import Batch
from seewhy.data.base import BaseDataModule
from seewhy.errors import ConfigError, ExplanationError, nearest
from seewhy.explain import list_explainers
from seewhy.explain.any_module import keep_unchanged
from seewhy.explain.base import Explainer
from seewhy.progress import slow_bar
from seewhy.reporting.loaders.batches import choose_batches, count_samples
from seewhy.reporting.report import write_local_results
from seewhy.reporting.selection import ExplanationSettings, TargetSetting
from seewhy.reporting.session import Session, find_device
from seewhy.reporting.store import ExplanationStore, Place
from seewhy.reporting.verdicts import read_records

__all__ = [
    "ExplainedSample",
    "collect_samples",
    "explain_batches",
    "explain_loader",
    "find_explainers",
    "hash_weights",
    "move_batch",
]

Methods = str | Explainer | Sequence[str | Explainer]


def explain_loader(
    model: nn.Module,
    dataloader: Iterable[Any],
    num_samples: int = 10,
    save_dir: str | Path | None = None,
    *,
    methods: Methods = "grad_cam",
    target: TargetSetting = None,
    samples: str | Sequence[int | str] = "first",
    judge: Literal["auto", "all", "cheap", "none"] = "none",
    key_slices: Sequence[int] | None = None,
    batch_size: int = 8,
    seed: int = 0,
) -> list[ExplainedSample]:
    """Explain samples of a loader, and return their records with arrays.

    Args:
        model: any module that returns class scores [B, K]; a model of seewhy also names its inputs, layers and classes.
            It is left as it was: mode, gradients and hooks.
        dataloader: a DataLoader of any data set, or any iterable of batches: see
            `seewhy.reporting.loaders.batches.read_batches`.
        num_samples: number of samples; 0 is all.
        save_dir: folder for arrays, pictures, tables and a page, as `explain.py` writes them into `explanations/`; None
            writes nothing.
        methods: names of methods in `seewhy.explain`, or explainers with their options.
        target: class to explain, see `seewhy.reporting.selection.TargetChoice`; None is the predicted class.
        samples: `first`, `spread`, `random`, or a list of ids.
        judge: also score the maps, see `ExplanationSettings`; needs `save_dir`.
        key_slices: numbers of the slices that are drawn of volumes.
        batch_size: samples explained at once.
        seed: of a random choice and of the scores.

    Returns:
        One record for each sample, method and target; samples that a method refuses have none.

    Raises:
        ConfigError: unknown method or target, batches without images, or scores of maps that nobody would see.
        ExplanationError: a method refuses every sample.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> data = TensorDataset(torch.rand(5, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1]))
        >>> for record in explain_loader(net, DataLoader(data, batch_size=2), 3, methods="saliency"):
        ...     print(record.id, record.label, list(record.heatmaps), record.maps["image"].shape)
        sample_000000 0 ['image'] (4, 4)
        sample_000001 1 ['image'] (4, 4)
        sample_000002 2 ['image'] (4, 4)
    """
    settings = ExplanationSettings(
        target=target, samples=samples, max_samples=num_samples, batch_size=batch_size, judge=judge,
        key_slices=key_slices, seed=seed,
    )  # fmt: skip
    choice = settings.choice()
    if choice.needs_predictions:
        raise ConfigError(f"samples={samples!r} needs predictions; choose first, spread, random, or a list of ids")
    total = len(choice.ids) if choice.ids is not None else num_samples or count_samples(dataloader)
    return explain_batches(
        model,
        choose_batches(dataloader, model, choice),
        explainers=find_explainers(methods),
        settings=settings,
        save_dir=save_dir,
        count=total,
    )


def explain_batches(
    module: nn.Module,
    batches: Iterable[Batch],
    *,
    explainers: Mapping[str, Explainer],
    settings: ExplanationSettings,
    save_dir: str | Path | None = None,
    datamodule: BaseDataModule | None = None,
    options: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    count: int | None = None,
) -> list[ExplainedSample]:
    """Explain all samples of some batches.

    Args:
        module: the model.
        batches: in the vocabulary of `seewhy.batch`, on any device.
        explainers: method name → explainer.
        settings: targets, judging and files; the choice of samples is not used.
        save_dir: see `explain_loader`.
        datamodule: gives the turn of pictures; None does not turn them.
        options: method name → options of its explainer as plain data, for the record.
        facts: of the weights; None: their hash is computed.
        count: number of samples, for judging and the progress bar; None if it is not known.

    Returns:
        As `explain_loader`.
    """
    if settings.judge not in ("none", "auto") and save_dir is None:
        raise ConfigError(f"judge={settings.judge!r} writes tables; give save_dir, or judge='none'")
    known = facts or {"checkpoint": None, "sha256": hash_weights(module), "phantom": False}
    device = find_device(module)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if save_dir is None else Path(save_dir)
        session = Session(
            module, datamodule, explainers=explainers, settings=settings, store=ExplanationStore(folder),
            options=options or {}, facts=known, count=count or 1,
        )  # fmt: skip
        title = f"explaining by {', '.join(explainers)}"
        session.advance = stack.enter_context(slow_bar(title, count and count * session.steps_per_sample))
        with keep_unchanged(module):
            for batch in batches:
                session.explain(move_batch(batch, device), batch["id"])
        if session.refused and not any(read_records(session, place, session.samples) for place in session.places):
            raise ExplanationError("; ".join(session.refused[:3]))
        if save_dir is not None:
            records = write_local_results(session).get("records", [])
        else:
            names = list(dict.fromkeys(session.samples))
            records = [record for place in session.places for record in read_records(session, place, names)]
        return collect_samples(session, records, saved=save_dir is not None)


def find_explainers(methods: Methods) -> dict[str, Explainer]:
    """Explainers by method, with their default options where a method is given by name.

    Raises:
        ConfigError: unknown method, with the nearest.

    Example:
        >>> list(find_explainers(["grad_cam", "saliency"]))
        ['grad_cam', 'saliency']
    """
    given = [methods] if isinstance(methods, (str, Explainer)) else list(methods)
    known = list_explainers()
    found: dict[str, Explainer] = {}
    for item in given:
        if isinstance(item, Explainer):
            found[item.method] = item
            continue
        if item not in known:
            raise ConfigError(f"method={item!r} is unknown; {nearest(item, known)}; or give an explainer")
        module, name = known[item]
        found[item] = vars(import_module(module))[name]()
    if not found:
        raise ConfigError("no methods: name some, e.g. grad_cam")
    return found


def move_batch(batch: Batch, device: torch.device) -> Batch:
    """Move the tensors of a batch to a device."""

    def move(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device)
        return {name: move(item) for name, item in value.items()} if isinstance(value, Mapping) else value

    moved: Any = {key: move(value) if not isinstance(value, list) else value for key, value in batch.items()}
    result: Batch = moved
    return result


def hash_weights(module: nn.Module) -> str:
    """SHA-256 of the current weights, where they were not loaded from a file."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class ExplainedSample:
    """One sample, explained by one method for one target.

    Attributes:
        id: of the sample.
        method: name of the explainer.
        label: true class, [K] of them in {0, 1}, or None where unknown.
        predicted: index of the predicted class.
        predicted_name: its name.
        confidence: its calibrated probability.
        target: index of the explained class.
        target_name: its name; of a contrast, `a rather than b`.
        probability: calibrated probability of the explained class.
        maps: input → raw signed map [H, W] or [D, H, W] float32 at the size of the model's input, as in the
            `.npy` files of `explain.py`.
        heatmaps: input → the map as pictures show it: evidence, which is never negative, or the signed map of methods
            whose sign means something.
        shares: input → its share of all evidence, in [0, 1].
        scores: raw class scores.
        files: written arrays and pictures; empty if nothing was saved.
        record: everything else that `explanations.json` holds of this map.
    """

    id: str
    method: str
    label: int | list[float] | None
    predicted: int
    predicted_name: str
    confidence: float
    target: int
    target_name: str
    probability: float
    maps: dict[str, NDArray[np.float32]]
    heatmaps: dict[str, NDArray[np.float32]]
    shares: dict[str, float]
    scores: list[float]
    files: list[Path]
    record: Mapping[str, Any]


def collect_samples(session: Session, records: Sequence[Mapping[str, Any]], *, saved: bool) -> list[ExplainedSample]:
    """Read the finished maps of a session.

    Args:
        session: after its samples were explained.
        records: of the maps, with their `pictures` where these were drawn.
        saved: whether the session's folder remains.
    """
    store = session.store
    folders = {place.target: place for place in session.places}
    samples = []
    for record in records:
        place = Place(record["method"], _find_folder(record, folders))
        written = [*record["files"], *record.get("pictures", ())] if saved else []
        samples.append(
            ExplainedSample(
                id=record["id"],
                method=record["method"],
                label=record["label"],
                predicted=record["predicted"],
                predicted_name=record["predicted_name"],
                confidence=record["confidence"],
                target=record["target"],
                target_name=record["target_name"],
                probability=record["probability"],
                maps=store.raw(record),
                heatmaps=store.arrays(place, record["id"]),
                shares=record["shares"],
                scores=record["scores"],
                files=[store.folder / name for name in written],
                record=record,
            )
        )
    return samples


def _find_folder(record: Mapping[str, Any], folders: Mapping[str, Place]) -> str:
    """Folder of the target of a record, from the path of its first file."""
    parts = Path(record["files"][0]).parts
    return parts[1] if len(folders) > 1 else ""
