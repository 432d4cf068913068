"""Explaining batch after batch: maps, their records, and what remains to be done at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from seewhy.batch import Batch
from seewhy.errors import ExplanationError
from seewhy.explain.base import Explainer
from seewhy.explain.explained_model import Explainable, Target
from seewhy.explain.maps import Maps
from seewhy.reporting.judging import Judges
from seewhy.reporting.sample_view import SampleView, inputs_of, parts_of, view_of
from seewhy.reporting.selection import ExplanationSettings, TargetChoice
from seewhy.reporting.store import ExplanationStore, Place, fingerprint

__all__ = ["Session"]


class Session:
    """One pass over samples with one module.

    Args:
        module: its `explainable()` says what can be explained. If it has `explained(batch)`, that gives for each batch
            the module to explain in its place, and the batch as that takes it.
        datamodule: knows how pictures are turned, if it is one of ours.
        explainers: method name → explainer.
        options: method name → its options as plain data, which belong to what a map is.
        settings: what to explain and to write.
        store: where it goes.
        facts: of the run, which every record holds: checkpoint, its hash, …
        context: plain data of the model and the data, on which maps depend too.
        count: number of samples of the run.
        validation: gives batches to tune thresholds on, see `Judges`.

    Attributes:
        places: method and target of everything that is made, known after the first batch.
        samples: ids of this process's samples, in order.
        refused: one line per sample and method that gave no map that can be trusted.
    """

    def __init__(
        self,
        module: LightningModule,
        datamodule: object,
        explainers: Mapping[str, Explainer],
        options: Mapping[str, Any],
        settings: ExplanationSettings,
        store: ExplanationStore,
        facts: Mapping[str, Any],
        *,
        context: object = None,
        count: int = 1,
        validation: Callable[[], Iterable[Batch]] = tuple,
    ) -> None:
        self.module, self.datamodule, self.settings, self.store = module, datamodule, settings, store
        self.explainers, self.options, self.facts = dict(explainers), dict(options), dict(facts)
        self.about, self.explained = about_of(module), cast(nn.Module, module)
        self.targets: TargetChoice | None = None
        self.places: list[Place] = []
        self.samples: list[str] = []
        self.judges = Judges(
            self.explainers, settings, samples=count, validation=validation,
            inputs_of=lambda batch: inputs_of(batch, slice(None)),
        )  # fmt: skip
        self.refused: list[str] = []
        # Everything that decides what a map is; another checkpoint or option makes another key.
        decides = {key: getattr(settings, key) for key in ("target", "batch_size", "judge", "atlas", "seed")}
        decides |= {"sha256": facts.get("sha256"), "context": context}
        self.key = fingerprint(decides)
        self.keys = {name: fingerprint({**decides, "options": self.options.get(name)}) for name in self.explainers}

    def explain(self, batch: Batch, chosen: Collection[str]) -> None:
        """Explain those samples of a batch that are chosen and not finished yet.

        Args:
            batch: on the module's device.
            chosen: ids.
        """
        rows = [row for row, name in enumerate(batch["id"]) if name in chosen]
        if not rows:
            return
        part = rows_of(batch, rows)
        if hasattr(self.module, "explained"):
            try:
                self.explained, part = self.module.explained(part)  # type: ignore[operator]
            except ExplanationError as error:
                self.refused.append(f"{part['patient'][0]}: {error}")
                return
            self.about = about_of(self.explained)
        if self.targets is None:
            self._settle(part)
        for start in range(0, len(rows), self.settings.batch_size):
            self._chunk(rows_of(part, list(range(start, min(start + self.settings.batch_size, len(rows))))))

    def _settle(self, batch: Batch) -> None:
        """Find out how many classes there are, and with that what the targets are."""
        scores = self._scores(batch)
        self.targets = TargetChoice(self.settings.target, self.about, classes=max(2, scores.shape[1]))
        self.places = [Place(method, folder) for method in self.explainers for folder in self.targets.folders]

    def _scores(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            scores: Tensor = self.explained(inputs_of(batch, slice(None)))
        return scores if scores.ndim == 2 else scores[:, None]

    def _predicted(self, batch: Batch) -> Tensor:
        scores = self._scores(batch)
        return (scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(dim=1)

    def _chunk(self, batch: Batch) -> None:
        """Explain a few samples by every method; a chunk is always computed whole, so that results repeat."""
        assert self.targets is not None
        views = [view_of(batch, row, self.about, self.datamodule) for row in range(len(batch["id"]))]
        for view in views:
            self._check_slices(view)
            self.store.write_view(view)
            self.samples.append(view.id)
        targets = self.targets.of(batch.get("label"), lambda: self._predicted(batch))
        for method in self.explainers:
            places = [Place(method, folder) for folder in self.targets.folders]
            if not all(self._done(place, view) for place in places for view in views):
                for part, rows, seconds in self._maps(method, batch, targets):
                    for place, maps in zip(places, part, strict=True):
                        self._keep(place, maps, rows_of(batch, rows), [views[row] for row in rows], seconds)
        if self.judges.active and not all(self.store.has_floors(view.id, self.key) for view in views):
            self._floors(batch, targets[0], views)

    def _done(self, place: Place, view: SampleView) -> bool:
        """Whether nothing remains to be computed: the first samples are needed until there is a verdict."""
        tested = len(set(self.samples)) > self.judges.settings.cases or not self.judges.active
        key = self.keys[place.method]
        return self.store.finished(place, view.id, key) and (tested or self.store.verdict(place, key) is not None)

    def _maps(self, method: str, batch: Batch, targets: list[Target]) -> Iterator[tuple[list[Maps], list[int], float]]:
        """Maps for each target, the rows they are of, and seconds per map.

        Where a method refuses, samples are tried one by one.
        """
        count = len(batch["id"])
        try:
            start = self._clock()
            found = self.explainers[method].for_targets(self.explained, inputs_of(batch, slice(None)), targets)
            yield found, list(range(count)), (self._clock() - start) / (count * len(targets))
        except ExplanationError as error:
            if count == 1:
                self.refused.append(f"{method}, {batch['id'][0]}: {error}")
                return
            for row in range(count):
                for part, _, seconds in self._maps(method, rows_of(batch, [row]), _rows_of_targets(targets, [row])):
                    yield part, [row], seconds

    def _clock(self) -> float:
        """Wall time, when what was asked of the device is done."""
        if self.module.device.type == "cuda":
            torch.cuda.synchronize(self.module.device)
        return time.perf_counter()

    def _keep(self, place: Place, maps: Maps, batch: Batch, views: list[SampleView], seconds: float) -> None:
        """Judge and write the maps of some samples."""
        judged = self.judges.judge(place, self.explained, inputs_of(batch, slice(None)), maps, batch.get("mask"))
        maps = maps.cpu()
        for row, view in enumerate(views):
            own = maps[row]
            facts = {**self.facts, "key": self.keys[place.method], **self._said(own), **_told(view), "seconds": seconds}
            facts |= {"judged": _plain(judged[row]), "parts": parts_of(own, view, self.settings.atlas)}
            self.store.write(place, view, own, facts, nifti=self.settings.nifti)

    def _floors(self, batch: Batch, target: Target, views: list[SampleView]) -> None:
        found = self.judges.judge_floors(self.explained, inputs_of(batch, slice(None)), target, batch.get("mask"))
        for row, view in enumerate(views):
            rows = [{**_plain(rows[row]), "id": view.id, "patient": view.patient} for rows in found.values()]
            self.store.write_floors(view.id, self.key, rows)

    def _said(self, maps: Maps) -> dict[str, Any]:
        """Prediction and target in words, with the probabilities that the model's own predictions have."""
        assert self.targets is not None
        scores = maps.scores[0] / float(getattr(self.module, "temperature", 1.0))  # of calibrated classifiers
        predicted = int(scores[0] > 0) if len(scores) == 1 else int(scores.argmax())
        if len(scores) == 1:
            each = torch.stack([-scores[0], scores[0]]).sigmoid()
        else:
            each = scores.sigmoid() if self.about.multi_label else scores.softmax(dim=0)
        return {
            "probability": float(each[int(maps.target[0])]),
            "target_name": self.targets.name(int(maps.target[0])),
            "predicted": predicted,
            "predicted_name": self.targets.name(predicted),
            "confidence": float(each[predicted]),
            "classes": list(self.about.classes),
        }

    def _check_slices(self, view: SampleView) -> None:
        if view.is_volume:
            for number in self.settings.key_slices or ():
                view.slice_position(number)


def _told(view: SampleView) -> dict[str, Any]:
    """What pictures need to know of a sample."""
    depth = next((len(image) for image in view.images.values() if image is not None and image.ndim == 3), 0)
    return {
        "display": view.display.record(),
        "spacing": None if view.spacing is None else [value for value in view.spacing if value == value],
        "slice_numbers": [view.slice_number(position) for position in range(depth)],
    }


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON takes it."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }


def about_of(module: nn.Module) -> Explainable:
    """What a module says of itself."""
    told = getattr(module, "explainable", None)
    return told() if told is not None else Explainable()


def _rows_of_targets(targets: list[Target], rows: list[int]) -> list[Target]:
    """The targets of some samples."""
    return [one[rows] if isinstance(one, Tensor) else one for one in targets]


def rows_of(batch: Batch, rows: list[int]) -> Batch:
    """Some samples of a batch, whatever kind its entries are."""
    part: dict[str, Any] = {}
    for key, value in batch.items():
        if isinstance(value, Tensor):
            part[key] = value[rows]
        elif isinstance(value, Mapping):
            part[key] = {name: one[rows] for name, one in value.items()}
        else:
            part[key] = [value[row] for row in rows]  # type: ignore[index]
    return part  # type: ignore[return-value]
