"""Record similarities, features, small pictures, lesions and tissues of each evaluated subject, no whole volumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from seewhy.batch import MODALITIES, Batch, Prediction
from seewhy.data.domains.baselines import Baseline, Quantiles, apply_baseline
from seewhy.data.domains.datamodule import BraTSDomainsDataModule
from seewhy.data.domains.measurement import QUANTILES
from seewhy.data.domains.store import DOMAINS, PreparedSubject
from seewhy.errors import DataError
from seewhy.metrics.gather import Row, gather_rows
from seewhy.metrics.translation.lesion import Lesion, LesionAppearance, measure_lesion
from seewhy.metrics.translation.scan_rule import RuleScan, ScanRule, fit_scan_rule
from seewhy.metrics.translation.similarity import DIRECTIONS, TranslationScores, centre_slices, subject_name
from seewhy.models.translation.unpaired import other_domain
from seewhy.run.translation.evaluation.features import FeatureExtractor, choose_slices, crop_tissue
from seewhy.run.translation.evaluation.settings import EvaluationSettings

__all__ = ["MODEL", "RAW", "REFERENCE", "ScanMeasurer", "SubjectRecorder", "collect_training_quantiles"]

MODEL, RAW = "model", "identity"
"""Methods: translation by the run's model, and no translation."""
LEAST_CONTRAST = 0.1
"""Contrast below which a relative change is meaningless: an invisible lesion cannot fade."""
REFERENCE = "b"
"""Domain of the reference scanner."""


class SubjectRecorder(Callback):
    """Callback that measures every predicted subject, translated by the model and by each baseline.

    Args:
        features: in which distances are measured.
        settings: of `evaluate`.
    """

    def __init__(self, *, features: FeatureExtractor, settings: EvaluationSettings) -> None:
        self.features, self.settings = features, settings
        self.baselines: Mapping[str, Baseline] = {}
        self.scans: ScanMeasurer | None = None
        self.scores = {MODEL: TranslationScores()}
        self._records: list[Row] = []

    def use(self, baselines: Mapping[str, Baseline], *, scans: ScanMeasurer | None = None) -> None:
        """Set what is fitted on training subjects, before any subject is measured.

        Args:
            baselines: fitted baselines, including `identity`.
            scans: measures volumes and intensities; subjects of the reference domain are then not translated.
        """
        self.baselines, self.scans = baselines, scans
        self.scores = {name: TranslationScores() for name in (*baselines, MODEL)}

    def records(self) -> list[Row]:
        """Return one record per subject, gathered from all ranks.

        Keys: `domain`, `subject`, `patient`, `slices`, `features`, `squares`, `lesions`, `scans` (rows of
        `ScanMeasurer`). `features` [N, M, D] and `squares` [N, M, side, side] are given by method, for the chosen
        slices.
        """
        return gather_rows(self._records, key=("domain", "subject"))

    def take_part(self) -> Any:
        """What was measured since the last call; see `seewhy.callbacks.sharing.SharesWork`."""
        records, self._records = self._records, []
        return {"records": records, "scores": {name: scores.take_rows() for name, scores in self.scores.items()}}

    def join_parts(self, parts: Sequence[Any]) -> None:
        """Take over what all processes have measured; see `seewhy.callbacks.sharing.SharesWork`."""
        for part in parts:
            self._records += part["records"]
            for name, rows in part["scores"].items():
                self.scores[name].add_rows(rows)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure one subject."""
        self.measure(outputs, batch)

    @torch.no_grad()
    def measure(self, prediction: Prediction, batch: Batch) -> None:
        """Measure one subject; a model of the other direction gives a prediction without `translated`."""
        image: Tensor = centre_slices(batch["image"])  # type: ignore[arg-type]
        domain, body = batch["domain"][0], batch["body"]
        images: dict[str, Tensor] = {}
        for name, translation in self._translate(prediction, image, body, domain).items():
            self.scores[name].update(translation, batch)
            images[name] = translation["translated"]
        chosen = choose_slices(body, self.settings.slices)
        kept = {name: values[chosen] for name, values in images.items()}
        self._records.append(
            {
                "domain": domain,
                "subject": subject_name(batch["id"][0], domain),
                "patient": batch["patient"][0],
                "slices": len(chosen),
                "features": {name: self.features(values, body[chosen]) for name, values in kept.items()},
                "squares": {
                    name: crop_tissue(values, body[chosen], self.settings.probe.size).cpu().numpy()
                    for name, values in kept.items()
                },
                "lesions": self._measure_lesions(images, batch),
                "scans": [] if self.scans is None else self.scans.measure(images, batch),
            }
        )

    def _translate(self, prediction: Prediction, image: Tensor, body: Tensor, domain: str) -> dict[str, Prediction]:
        """Translate a subject by all baselines, and add the model's prediction."""
        if self.scans is not None and domain == REFERENCE:
            return {RAW: {"translated": image}}
        translations: dict[str, Prediction] = {}
        array, inside = image.cpu().numpy(), body.cpu().numpy()
        for name, baseline in self.baselines.items():
            if name == RAW:  # no reconstruction: it would count as perfect
                translations[name] = {"translated": image}
                continue
            there = apply_baseline(baseline, array, inside, domain=domain)
            back = apply_baseline(baseline, there, inside, domain=other_domain(domain))
            translations[name] = {
                "translated": torch.from_numpy(there).to(image.device),
                "reconstructed": torch.from_numpy(back).to(image.device),
            }
        if "translated" in prediction:
            translations[MODEL] = prediction
        return translations

    def _measure_lesions(self, images: Mapping[str, Tensor], batch: Batch) -> list[Row]:
        """Return a row per method and modality; no rows without an annotated lesion."""
        if "mask" not in batch:
            return []
        mask: Any = batch["mask"]
        lesion = Lesion.from_mask(mask.cpu().numpy(), batch["body"].cpu().numpy(), margin=self.settings.lesion.margin)
        if lesion is None:
            return []
        domain = batch["domain"][0]
        head = {
            "subject": subject_name(batch["id"][0], domain), "patient": batch["patient"][0], "domain": domain,
            "direction": DIRECTIONS[domain], "voxels": int(lesion.inside.sum()),
        }  # fmt: skip
        before = _look(images[RAW], lesion)
        truth = _look(batch["counterpart"], lesion) if "counterpart" in batch else [None] * len(MODALITIES)
        rows = []
        for name, image in images.items():
            for modality, source, after, other in zip(MODALITIES, before, _look(image, lesion), truth, strict=True):
                rows.append({**head, "method": name, "modality": modality, **_compare(source, after, other)})
        return rows


def _look(image: Tensor, lesion: Lesion) -> list[LesionAppearance]:
    """Measure a lesion in each modality."""
    return [measure_lesion(plane, lesion) for plane in np.moveaxis(image.float().cpu().numpy(), 1, 0)]


def _compare(source: LesionAppearance, after: LesionAppearance, other: LesionAppearance | None) -> Row:
    """Compare a lesion before and after translation, and in the other scanner's scan; None for undefined numbers."""
    change = (after.contrast - source.contrast) / abs(source.contrast)
    return {
        "contrast_source": source.contrast,
        "contrast": after.contrast,
        "contrast_counterpart": None if other is None else other.contrast,
        "relative_change": change if abs(source.contrast) >= LEAST_CONTRAST else None,
        "volume_source": source.volume,
        "volume": after.volume,
        "volume_ratio": after.volume / source.volume if source.volume else None,
        "volume_counterpart": None if other is None else other.volume,
        "dice_source": source.dice,
        "dice": after.dice,
        "dice_counterpart": None if other is None else other.dice,
    }


# -- scans of travelling heads --------------------------------------------------------------------------------


class ScanMeasurer:
    """Measures volumes by a rule that is fixed on the reference's training scans, and intensities in fixed voxels.

    The voxels are those of the tissues in the reference's own first scan of the same head, so that only intensities
    differ between scans. They are known where both scans have the same grid.

    Args:
        datamodule: set up; domain b is the reference.
        rule: of another run with the same reference; None fits one.

    Raises:
        DataError: the reference has no training scans.
    """

    def __init__(self, datamodule: BraTSDomainsDataModule, *, rule: ScanRule | None = None) -> None:
        self.reader = datamodule.reader
        self.rule = self._fit(datamodule) if rule is None else rule
        self._subjects = {(subject.domain, subject.id): subject for subject in datamodule.subjects}
        self._first: dict[str, PreparedSubject] = {}
        for subject in datamodule.subjects:
            if subject.domain == REFERENCE:
                self._first.setdefault(subject.patient, subject)

    def measure(self, images: Mapping[str, Tensor], batch: Batch) -> list[Row]:
        """Measure one subject.

        Args:
            images: method → [S, M, H, W] in [-1, 1].
            batch: the subject.

        Returns:
            Rows `method`, `kind` (`volume` in mL, `intensity` from -1 to 1), `modality` (empty for volumes), `region`,
            `value`.
        """
        domain, body = batch["domain"][0], batch["body"].cpu().numpy()
        subject = self._subjects[domain, subject_name(batch["id"][0], domain)]
        voxel = float(np.prod(subject.geometry.spacing)) / 1000
        regions = self._find_regions(subject, body)
        rows = []
        for method, image in images.items():
            scan = RuleScan(image.float().cpu().numpy(), body, None)
            about: Row = {"method": method, "kind": "volume", "modality": ""}
            volumes = self.rule.measure_volumes(scan, voxel=voxel)
            rows += [{**about, "region": name, "value": value} for name, value in volumes.items()]
            for name, region in regions.items():
                means = scan.image.transpose(1, 0, 2, 3)[:, region].mean(axis=1, dtype=np.float64)
                rows += [
                    {**about, "kind": "intensity", "modality": modality, "region": name, "value": float(value)}
                    for modality, value in zip(MODALITIES, means, strict=True)
                ]
        return rows

    def _find_regions(self, subject: PreparedSubject, body: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
        """Find the reference's regions on the grid of a subject; none if it was not scanned there on the same grid."""
        first = self._first.get(subject.patient)
        if first is None or first.shape != subject.shape or subject.geometry.difference(first.geometry):
            return {}
        placement, span = self.reader.find_placement(subject), subject.box[0]
        planes = self.reader.read_planes(first, placement, *span, body=body)
        return self.rule.find_regions(RuleScan(planes, body, self.reader.read_mask(first, placement, *span)))

    @staticmethod
    def _fit(datamodule: BraTSDomainsDataModule) -> ScanRule:
        """Fit the rule on the reference's training scans."""
        training = [subject for subject in datamodule.items_of("train") if subject.domain == REFERENCE]
        if not training:
            raise DataError("domain b has no training subjects, on which the rule for tissues and lesions is fixed")
        return fit_scan_rule(_read_scans(datamodule, training))


def _read_scans(datamodule: BraTSDomainsDataModule, subjects: list[PreparedSubject]) -> Iterator[RuleScan]:
    dataset: Any = datamodule.evaluation_data(subjects)
    for number in range(len(dataset)):
        batch = dataset[number]
        mask = batch["mask"].numpy() if "mask" in batch else None
        yield RuleScan(centre_slices(batch["image"]).numpy(), batch["body"].numpy(), mask)


# -- training subjects ----------------------------------------------------------------------------------------


def collect_training_quantiles(datamodule: BraTSDomainsDataModule) -> Quantiles:
    """Return domain → [N, M, Q] quantiles of the normalised tissue of the training subjects; no others are read.

    Raises:
        DataError: a domain without training subjects.
    """
    quantiles: dict[str, list[Any]] = {domain: [] for domain in DOMAINS}
    for subject in datamodule.items_of("train"):
        low, high = datamodule.reader.measure_intensity(subject).T[:, :, None]
        normal = (subject.quantiles - low) * (2 / np.maximum(high - low, np.float32(1e-12))) - 1
        quantiles[subject.domain].append(np.clip(normal, -1, 1))
    empty = [domain for domain, values in quantiles.items() if not values]
    if empty:
        raise DataError(f"domain {empty[0]} has no training subjects, which the baselines are fitted on")
    expected = (len(MODALITIES), len(QUANTILES))
    return {domain: np.asarray(values).reshape(-1, *expected) for domain, values in quantiles.items()}
