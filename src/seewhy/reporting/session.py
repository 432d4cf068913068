"""Explanation of samples, batch after batch: maps, their scores and records, and the samples that were refused."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.batch import Batch
from seewhy.data.base import BaseDataModule
from seewhy.errors import ConfigError, ExplanationError, SeewhyError
from seewhy.explain.base import Explainer
from seewhy.explain.explained_model import Explainable, ExplainedModel
from seewhy.explain.maps import Maps
from seewhy.explain.targets import Target, predict_classes
from seewhy.io.atomic import replace_non_finite
from seewhy.models.protocols import DescribesItself, PreparesExplanation
from seewhy.probability import calibrated_probability
from seewhy.reporting.judging import Judges, compute_part_shares
from seewhy.reporting.regions import Regions, to_arrays
from seewhy.reporting.sample import SampleView, select_inputs, select_rows, view_sample
from seewhy.reporting.selection import ExplanationSettings, TargetChoice
from seewhy.reporting.store import ExplanationStore, Place, fingerprint

__all__ = ["Session", "find_device"]


class Session:
    """One pass over samples with one model.

    Args:
        module: the model. One that `seewhy.models.protocols.DescribesItself` names its inputs, layers and classes; one
            that `PreparesExplanation` chooses for each batch the module that is explained in its place.
        datamodule: gives the turn of pictures; None does not turn them.
        explainers: method name → explainer.
        settings: samples, targets and files.
        store: folder of the results.
        options: method name → options of its explainer as plain data, which identify a map.
        facts: of the run, kept in every record: checkpoint, its hash, …
        context: plain data of the model and the data that maps depend on.
        count: number of samples of the run.
        validation: gives batches to tune thresholds on; see `Judges`.
        calibration: gives batches to calibrate regions on; see `Regions`.
        masked: gives batches to tune and check a copy of the network on; see `Judges`.
        advance: called with the number of finished steps, of which there are `steps_per_sample` for each sample.
        title: of figures; empty is the name of the model's class.

    Attributes:
        places: method and target of everything that is made; known after the first batch.
        samples: ids of this process's samples, in order.
        seconds: wall time of this process for `maps`, `judging`, `files` and `pictures`.
        refused: one line per sample and method without a map that can be trusted.
        advance: called with the number of finished steps.
    """

    def __init__(
        self,
        module: nn.Module,
        datamodule: BaseDataModule | None = None,
        *,
        explainers: Mapping[str, Explainer],
        settings: ExplanationSettings,
        store: ExplanationStore,
        options: Mapping[str, Any],
        facts: Mapping[str, Any],
        context: object = None,
        count: int = 1,
        validation: Callable[[int], Iterable[Batch]] = lambda count: (),
        calibration: Callable[[int], Iterable[Batch]] = lambda count: (),
        masked: Callable[[str, int], Iterable[Batch]] = lambda part, count: (),
        advance: Callable[[int], object] = lambda steps: None,
        title: str = "",
    ) -> None:
        self.module, self.datamodule, self.settings, self.store = module, datamodule, settings, store
        self.explainers, self.options, self.facts = dict(explainers), dict(options), dict(facts)
        self.about, self.explained = _describe_module(module), module
        regions = None
        if settings.region_alpha is not None:
            regions = Regions(
                settings.region_alpha, samples=count, calibration=calibration, targets=self._find_targets,
                seed=settings.seed,
            )  # fmt: skip
        self.judges = Judges(
            self.explainers, settings, samples=count, validation=validation, regions=regions, masked=masked
        )
        self.places: list[Place] = []
        self.samples: list[str] = []
        self.refused: list[str] = []
        self.seconds = {"maps": 0.0, "judging": 0.0, "files": 0.0, "pictures": 0.0}
        self.advance, self.title = advance, title or type(module).__name__
        self._targets: TargetChoice | None = None
        # Everything that a map depends on; another checkpoint or option makes another key.
        parts: dict[str, Any] = {
            "target": settings.target, "batch_size": settings.batch_size, "judge": settings.judge,
            "atlas": settings.atlas, "seed": settings.seed,
        }  # fmt: skip
        parts |= {"metrics": list(settings.metrics)} if settings.metrics else {}
        parts |= {} if settings.region_alpha is None else {"region_alpha": settings.region_alpha}
        parts |= {"mask_tuning": settings.mask_tuning} if settings.mask_tuning else {}
        parts |= {"sha256": facts.get("sha256"), "context": context}
        self.key = fingerprint(parts)
        self.keys = {name: fingerprint({**parts, "options": self.options.get(name)}) for name in self.explainers}

    @property
    def steps_per_sample(self) -> int:
        """Steps of a sample for a progress bar: its maps and their scores by each method, and the floors."""
        return 2 * len(self.explainers) + 1 if self.judges.active else len(self.explainers)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time of a block to a part of `seconds`."""
        start = self._read_clock()
        try:
            yield
        finally:
            self.seconds[part] += self._read_clock() - start

    @property
    def targets(self) -> TargetChoice:
        """The targets of every sample; known after the first batch."""
        if self._targets is None:
            raise RuntimeError("Session.targets is known only after the first batch")
        return self._targets

    def explain(self, batch: Batch, chosen: Collection[str]) -> None:
        """Explain the chosen samples of a batch that are not finished yet.

        Args:
            batch: on the module's device.
            chosen: ids.
        """
        rows = [row for row, name in enumerate(batch["id"]) if name in chosen]
        part = self._prepare(select_rows(batch, rows)) if rows else None
        if part is None:
            return
        for start in range(0, len(rows), self.settings.batch_size):
            stop = min(start + self.settings.batch_size, len(rows))
            is_new = not self.store.folder.exists()
            try:
                self._explain_chunk(select_rows(part, list(range(start, stop))))
            except SeewhyError:
                if is_new:  # a later method does not fit: without the others' first maps there is nothing half-written
                    self.store.remove()
                raise

    def _prepare(self, part: Batch) -> Batch | None:
        """Choose the explained module and the targets for some samples; None if they cannot be explained."""
        if isinstance(self.module, PreparesExplanation):
            try:
                self.explained, part = self.module.prepare_explanation(part)
            except ExplanationError as error:
                self.refused.append(f"{part['patient'][0]}: {error}")
                return None
            self.about = _describe_module(self.explained)
        elif not isinstance(self.module, DescribesItself):
            self.about = ExplainedModel(self.module, select_inputs(part)).about  # names of the inputs
        if self._targets is None:
            # The number of classes is that of the scores of the first samples.
            self._targets = TargetChoice(
                self.settings.target, self.about, classes=max(2, self._compute_scores(part).shape[1])
            )
            self.places = [Place(method, folder) for method in self.explainers for folder in self.targets.folders]
        return part

    def _compute_scores(self, batch: Batch) -> Tensor:
        subject = ExplainedModel(self.explained, select_inputs(batch))
        with torch.no_grad():
            return subject.scores(subject.inputs)

    def _find_targets(self, batch: Batch) -> list[Target]:
        return self.targets.of(batch.get("label"), lambda: self._compute_scores(batch))

    def _explain_chunk(self, batch: Batch) -> None:
        """Explain a few samples by every method; a chunk is always computed whole, so that results are repeatable."""
        views = [view_sample(batch, row, self.about, self.datamodule) for row in range(len(batch["id"]))]
        seen = len(set(self.samples))
        for view in views:
            for number in (self.settings.key_slices or ()) if view.is_volume else ():
                view.slice_position(number)  # raises for a slice that the model does not see
            if self.settings.atlas is not None and not view.is_volume:
                raise ConfigError(
                    f"explain.atlas={self.settings.atlas} is for volumes, but {view.id} has planes; set "
                    "explain.atlas=null"
                )
            self.samples.append(view.id)
        targets = self._find_targets(batch)
        base: Maps | None = None  # for the floors, of the whole batch
        for method in self.explainers:
            places = [Place(method, folder) for folder in self.targets.folders]
            left = len(views) * (2 if self.judges.active else 1)
            if not all(self._is_finished(place, view, seen) for place in places for view in views):
                for part, rows, seconds in self._compute_maps(method, batch, targets):
                    self.advance(len(rows))
                    left -= len(rows)
                    base = part[0] if len(rows) == len(views) else base
                    for place, maps in zip(places, part, strict=True):
                        self._store_maps(place, maps, select_rows(batch, rows), [views[row] for row in rows], seconds)
            self.advance(left)
        with self.timed("files"):
            for view in views:  # not before the maps: a method that does not fit the model then leaves no file
                self.store.write_view(view)
        if self.judges.active:
            if not all(self.store.has_floors(view.id, self.key) for view in views):
                self._store_floors(batch, targets[0], views, base)
            self.advance(len(views))

    def _is_finished(self, place: Place, view: SampleView, seen: int) -> bool:
        """Whether nothing remains to be computed: the first samples are needed until there is a verdict.

        Args:
            place: method and target.
            view: the sample.
            seen: number of samples before its chunk.
        """
        waiting = self.judges.active and self.judges.testing
        tested = not waiting or seen >= self.judges.settings.cases
        key = self.keys[place.method]
        has_region = self.judges.regions is None or self.store.has_region(place, view.id)
        is_tested = tested or self.store.verdict(place, key) is not None
        return self.store.finished(place, view.id, key) and has_region and is_tested

    def _compute_maps(
        self, method: str, batch: Batch, targets: list[Target]
    ) -> Iterator[tuple[list[Maps], list[int], float]]:
        """Maps for each target, their rows in the batch, and seconds per map.

        Where a method refuses the batch, its samples are tried separately.
        """
        count = len(batch["id"])
        try:
            start = self._read_clock()
            maps = self.explainers[method].for_targets(self.explained, select_inputs(batch), targets)
            seconds = self._read_clock() - start
            self.seconds["maps"] += seconds
            yield maps, list(range(count)), seconds / (count * len(targets))
        except ExplanationError as error:
            if count == 1:
                self.refused.append(f"{method}, {batch['id'][0]}: {error}")
                return
            for row in range(count):
                part = [target[[row]] if isinstance(target, Tensor) else target for target in targets]
                for maps, _, seconds in self._compute_maps(method, select_rows(batch, [row]), part):
                    yield maps, [row], seconds

    def _read_clock(self) -> float:
        """Wall time in seconds, after the device has finished its work."""
        device = find_device(self.module)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def _store_maps(self, place: Place, maps: Maps, batch: Batch, views: list[SampleView], seconds: float) -> None:
        """Judge and write the maps of some samples."""
        with self.timed("judging"):
            judged = self.judges.judge(place, self.explained, select_inputs(batch), maps, batch.get("mask"))
            regions: dict[str, Tensor] = {}
            if self.judges.regions is not None:
                own, regions = self.judges.regions.measure(
                    self.explainers[place.method], self.explained, select_inputs(batch), maps,
                    number=self.targets.folders.index(place.target),
                )  # fmt: skip
                judged = [{**row, **more} for row, more in zip(judged, own, strict=True)]
        maps = maps.cpu()
        with self.timed("files"):
            for row, view in enumerate(views):
                sample = maps[row]
                facts = {**self.facts, "key": self.keys[place.method], **self._describe_prediction(sample)}
                facts |= {**_describe_view(view), "seconds": seconds, "judged": replace_non_finite(judged[row])}
                facts["parts"] = compute_part_shares(sample, view, self.settings.atlas)
                if regions:
                    self.store.write_region(place, view.id, to_arrays(regions, row))
                self.store.write(place, view, sample, facts, nifti=self.settings.nifti)

    def _store_floors(self, batch: Batch, target: Target, views: list[SampleView], base: Maps | None) -> None:
        """Judge and write the floors of some samples."""
        with self.timed("judging"):
            floors = self.judges.judge_floors(
                self.explained, select_inputs(batch), target, batch.get("mask"), base=base
            )
        for row, view in enumerate(views):
            rows = [
                {**replace_non_finite(scores[row]), "id": view.id, "patient": view.patient}
                for scores in floors.values()
            ]
            self.store.write_floors(view.id, self.key, rows)

    def _describe_prediction(self, maps: Maps) -> dict[str, Any]:
        """Names of prediction and target, with the probabilities of the model's own predictions."""
        about = self.about
        each = calibrated_probability(maps.scores[:1], about.temperature, multi_label=about.multi_label)[0]
        predicted = int(predict_classes(maps.scores[:1]))
        target = self.targets.name(int(maps.target[0]))
        reference = None if maps.reference is None else self.targets.name(int(maps.reference[0]))
        return {
            "probability": float(each[int(maps.target[0])]),
            "target_name": target if reference is None else f"{target} rather than {reference}",
            "reference_name": reference,
            "predicted": predicted,
            "predicted_name": self.targets.name(predicted),
            "confidence": float(each[predicted]),
            "classes": list(self.about.classes),
            "measures": about.measures,
            "shown_as": about.shown_as,
        }


def find_device(module: nn.Module) -> torch.device:
    """The device of a module's first parameter or buffer; the CPU for one without."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def _describe_view(view: SampleView) -> dict[str, Any]:
    """Facts that the pictures of a sample need."""
    depth = next((len(image) for image in view.images.values() if image is not None and image.ndim == 3), 0)
    return {
        "display": view.display.record(),
        "spacing": None if view.spacing is None else [value for value in view.spacing if value == value],
        "slice_numbers": [view.slice_number(position) for position in range(depth)],
    }


def _describe_module(module: nn.Module) -> Explainable:
    return module.explainable() if isinstance(module, DescribesItself) else Explainable()
