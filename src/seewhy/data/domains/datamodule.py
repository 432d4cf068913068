"""Unpaired scans of two sites: BraTS-like subjects with four modalities each, as stacks of adjacent slices."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seewhy.batch import MODALITIES, STACK_SLICES, Batch
from seewhy.data.base import BaseDataModule
from seewhy.data.case_files import CaseFiles, Reading
from seewhy.data.dataset_info import read_info
from seewhy.data.domains.dataset import (
    Center,
    PairDataset,
    PairSampler,
    SubjectDataset,
    collate_pairs,
    list_centers,
    make_sample_id,
)
from seewhy.data.domains.preparation import locate_domain_folders, prepare_domains, prepare_subject
from seewhy.data.domains.stacks import StackReader, move_stacks
from seewhy.data.domains.store import (
    COUNTERPARTS,
    DOMAINS,
    DomainStore,
    PreparedSubject,
    is_store,
    open_store,
    read_subject,
)
from seewhy.data.domains.subjects import Subject
from seewhy.data.domains.validation import check_counterparts, check_domain_options, check_subjects, check_training
from seewhy.data.splits import PARTS, Split, choose_split
from seewhy.errors import ConfigError, DataError
from seewhy.io.geometry import Display
from seewhy.io.names import safe_name
from seewhy.io.npy import read_npy
from seewhy.io.scans.scan import SCAN_SUFFIXES, write_scan
from seewhy.option_types import BatchSize, Fraction, Percent, PositiveInt

__all__ = ["BraTSDomainsDataModule"]


class BraTSDomainsDataModule(BaseDataModule):
    """Two folders of subjects with t1, t1ce, t2 and flair, without any pairing between them.

    Subjects are prepared once into memory-mapped arrays, so that memory stays flat; a folder that `seewhy prepare
    domains` made is read as it is. Training batches are chance pairs of stacks, one of each domain; validation, test
    and predict batches are all slices of one subject in order, with what is needed to go back to its files. Layout
    and range of both: `seewhy.batch`. Patients are split, not slices; one scanned at both sites is in one part.

    Args:
        root: the data set's folder, or a prepared one.
        a: folder of domain a, relative to `root`; None where there is none (to predict the other).
        b: folder of domain b.
        counterparts: folder, relative to `root`, with `a/<subject>` and `b/<subject>`: the same subjects as the
            other domain's scanner saw them, for evaluation only; None or a missing folder: none.
        cache_dir: where prepared subjects are kept; None is `prepared` in `root`, or `prepared_<a>_<b>` for folders of
            other names than a and b, so that each pair of several scanners has its store.
        patient_pattern: regular expression that finds the patient in a subject's name; None: one subject each.
        slices: per training stack: 3, or 5 to hold the stacks of both neighbours too.
        image_size: side or [rows, columns] of the grid around the tissue; None keeps the files' size.
        crop_size: side of the training square around a random voxel of tissue; None trains on the whole grid.
        multiple_of: what the sides must be divisible by, as the network wants; they are padded to it.
        percentiles: of the tissue, which become -1 and 1.
        min_content: least tissue of a training slice, as a share of that in the subject's fullest slice.
        domain: whose subjects are predicted: `a`, `b` or `both`.
        max_patients: use the first so many patients of each domain only.
        batch_size: pairs per step and device.
        shared: the options of `seewhy.data.base.BaseDataModule`; `fractions` apply to each domain.

    Raises:
        ConfigError: options that do not exist or do not fit together.
    """

    collate = staticmethod(collate_pairs)

    def __init__(
        self,
        *,
        root: str,
        a: str | None = "a",
        b: str | None = "b",
        counterparts: str | None = "counterparts",
        cache_dir: str | None = None,
        patient_pattern: str | None = None,
        slices: PositiveInt = STACK_SLICES,
        image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None,
        crop_size: PositiveInt | None = None,
        multiple_of: PositiveInt = 4,
        percentiles: tuple[Percent, Percent] = (0.5, 99.5),
        min_content: Fraction = 0.1,
        domain: str = "both",
        max_patients: PositiveInt | None = None,
        batch_size: BatchSize = 4,
        **shared: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **shared)
        check_domain_options(
            a=a, b=b, slices=slices, crop_size=crop_size, multiple_of=multiple_of, min_content=min_content,
            max_patients=max_patients, domain=domain, percentiles=percentiles, image_size=image_size,
        )  # fmt: skip
        self.root, self.folders, self.counterparts = Path(root), {"a": a, "b": b}, counterparts
        self.cache_dir = self.root / _name_store(a, b) if cache_dir is None else Path(cache_dir)
        self.patient_pattern, self.max_patients = patient_pattern, max_patients
        low, high = percentiles
        rows, columns = (image_size, image_size) if isinstance(image_size, int) else image_size or (0, 0)
        self.reader = StackReader(
            percentiles=(float(low), float(high)),
            image_size=None if image_size is None else (int(rows), int(columns)),
            multiple_of=multiple_of,
        )
        self.slices, self.crop_size, self.min_content = slices, crop_size, min_content
        self.domain = domain

    # -- what there is ---------------------------------------------------------------------------------------

    @cached_property
    def store(self) -> DomainStore:
        """The prepared subjects; what is not prepared yet is, once."""
        if is_store(self.root):
            return self._prepared()
        folders = locate_domain_folders(self.root, self.folders, self.counterparts)
        phantom = bool(read_info(self.root / "dataset.json").get("phantom", False))
        return prepare_domains(folders, self.cache_dir, patient_pattern=self.patient_pattern, phantom=phantom)

    def _prepared(self) -> DomainStore:
        """The store that `root` is, with the options that apply to one: its domains are named a and b."""
        folders = {**self.folders, COUNTERPARTS: self.counterparts}
        named = [f"data.{part}={name}" for part, name in folders.items() if name not in (None, part)]
        if named:
            raise ConfigError(
                f"{self.root} is prepared already, with the domains a and b and their counterparts, so "
                f"{', '.join(named)} names nothing; leave it out, or set it to null to do without that part"
            )
        store = open_store(self.root)
        if self.patient_pattern is not None:
            store = store.assign_patients(self.patient_pattern)
        return store if self.counterparts is not None else replace(store, counterparts={})

    @cached_property
    def subjects(self) -> list[PreparedSubject]:
        """Subjects of domain a, then of b, in the order of their names."""
        found = []
        for domain in DOMAINS:
            own = self.store.list_domain(domain) if self.folders[domain] is not None else []
            patients = list(dict.fromkeys(subject.patient for subject in own))[: self.max_patients]
            found += [subject for subject in own if subject.patient in patients]
        return found

    @cached_property
    def split(self) -> Split:
        """Patients of train, val and test, by the same shares of each domain."""
        domains: dict[str, set[str]] = {}
        for subject in self.subjects:
            domains.setdefault(subject.patient, set()).add(subject.domain)
        # Patients who were scanned at both sites are a group, so that each is in one part with all scans.
        strata = {
            p: len(DOMAINS) if len(names) > 1 else DOMAINS.index(next(iter(names))) for p, names in domains.items()
        }
        return choose_split(list(domains), strata=strata, **self.split_options)

    def items_of(self, part: str) -> list[PreparedSubject]:
        """Subjects of `train`, `val`, `test` or `all`; for `predict` those of `predict_on` and `domain`."""
        own = self.predict_on if part == "predict" else part
        chosen = self.subjects
        if own != "all":
            patients = set(self.split.part(own))
            chosen = [subject for subject in chosen if subject.patient in patients]
        one = part == "predict" and self.domain != "both"
        return [subject for subject in chosen if not one or subject.domain == self.domain]

    def ids_of(self, item: PreparedSubject) -> list[str]:
        """Ids of a subject's slices in an evaluation batch."""
        return [make_sample_id(item, number) for number in range(*item.box[0])]

    def list_centers(self, domain: str) -> list[Center]:
        """Training slices of a domain."""
        own = [subject for subject in self.items_of("train") if subject.domain == domain]
        return [center for subject in own for center in list_centers(subject, min_content=self.min_content)]

    def intensities(self, domain: str) -> NDArray[np.float32]:
        """Intensities [N, M, 2] that become -1 and 1 in each training subject of a domain."""
        own = [subject for subject in self.items_of("train") if subject.domain == domain]
        return np.stack([self.reader.measure_intensity(subject) for subject in own])

    @property
    def input_names(self) -> tuple[str, ...]:
        """The modalities."""
        return tuple(MODALITIES)

    @property
    def case_suffixes(self) -> tuple[str, ...]:
        """Scans and arrays."""
        return (*SCAN_SUFFIXES, ".npy")

    def read_files(self, case: CaseFiles, scratch: Path) -> Batch:
        """See `BaseDataModule.read_files`; all modalities of a subject, and the domain whose scanner made them."""
        if case.domain not in DOMAINS:
            raise ConfigError(f"domain={case.domain!r}: which scanner made {case.id}? Set domain=a or domain=b")
        files = {name: _as_scan(case.only_file(name), scratch) for name in MODALITIES}
        prepare_subject(scratch / case.id, Subject(case.id, case.id, case.id, files, dict.fromkeys(MODALITIES)))
        subject = read_subject(scratch / case.id, case.domain)
        problems = self.reader.find_problems(subject)
        if problems:
            raise DataError(problems, where=case.id)
        return SubjectDataset([subject], self.reader, counterparts={})[0]

    def describe_reading(self) -> Reading:
        """Scans of one domain in all modalities; see `BaseDataModule.describe_reading`.

        Raises:
            ConfigError: both domains are chosen.
        """
        from seewhy_run.steps.subjects import ReadSubject

        if self.domain not in DOMAINS:
            raise ConfigError(f"data.domain={self.domain}: an export translates one domain; set data.domain=a or b")
        step = ReadSubject(
            modalities=tuple(MODALITIES),
            percentiles=self.reader.percentiles,
            image_size=self.reader.image_size,
            multiple_of=self.reader.multiple_of,
        )
        return Reading(step=step, inputs=tuple(MODALITIES), size=self.reader.image_size, domain=self.domain)

    @property
    def is_phantom(self) -> bool:
        """Whether the subjects are synthetic, as the sources' `dataset.json` says."""
        return self.store.is_phantom

    @property
    def predict_choice(self) -> str:
        """The options that choose the predicted subjects, for messages."""
        return f"data.predict_on={self.predict_on}, data.domain={self.domain}"

    def display_of(self, patient: str) -> Display:
        """How pictures of a patient are turned upright, as the files say."""
        return next((subject.display for subject in self.subjects if subject.patient == patient), Display())

    def split_record(self) -> dict[str, Any]:
        """The split with its hash, how it was made and what it holds, for `split.json`."""
        counts: dict[str, dict[str, int]] = {}
        for part in PARTS:
            own = self.items_of(part)
            counts[part] = {"patients": len(self.split.part(part))}
            for domain in DOMAINS:
                kept = [subject for subject in own if subject.domain == domain]
                counts[part][f"{domain}_subjects"] = len(kept)
                counts[part][f"{domain}_slices"] = sum(len(subject.content) for subject in kept)
        return {**self.split.to_dict(), "counts": counts}

    def fingerprint(self) -> str:
        """SHA-256 over domains, subjects, patients, and names and sizes of their files."""
        digest = hashlib.sha256()
        for subject in self.subjects:
            sources = [[name, size] for name, size, _ in subject.record["sources"]]
            digest.update(f"{subject.domain}\0{subject.id}\0{subject.patient}\0{sources}\n".encode())
        return digest.hexdigest()

    # -- Lightning's hooks -----------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Prepare, split and look over the subjects.

        Raises:
            DataError: everything that is wrong with any subject, or a domain without training slices.
        """
        check_subjects(self.subjects, self.reader, where=self.root)
        check_counterparts(self.store)
        if stage == "fit":
            sides = {domain: self.list_centers(domain) for domain in DOMAINS}
            check_training(sides, self.reader, whole=self.crop_size is None, where=self.root)

    def training_data(self) -> PairDataset:
        """Chance pairs of stacks."""
        return PairDataset(
            self.list_centers("a"), self.list_centers("b"), self.reader,
            slices=self.slices, crop_size=self.crop_size, seed=self.seed,
        )  # fmt: skip

    def training_sampler(self, dataset: PairDataset, **options: Any) -> PairSampler:
        """The order of training pairs."""
        return PairSampler(len(dataset.a), len(dataset.b), **options)

    def evaluation_data(self, items: Sequence[PreparedSubject]) -> SubjectDataset:
        """Whole subjects."""
        return SubjectDataset(items, self.reader, counterparts=self.store.counterparts)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch as Lightning does, but each slice of a subject once, though it is in several stacks."""
        if "image" not in batch:
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        others = {name: value for name, value in batch.items() if name != "image"}
        moved = super().transfer_batch_to_device(others, device, dataloader_idx)
        return {"image": move_stacks(batch["image"], device), **moved}

    def tissue_shares(self, part: str) -> dict[str, float]:
        """See `BaseDataModule.tissue_shares`."""
        return {
            name: count / max(subject.content)
            for subject in self.items_of(part)
            for name, count in zip(self.ids_of(subject), subject.content, strict=True)
        }


def _name_store(a: str | None, b: str | None) -> str:
    """Name of the folder of prepared subjects: `prepared`, and the domains' folders where these are not a and b."""
    names = [name for name in (a, b) if name is not None]
    plain = all(safe_name(name) == name for name in names)
    return "prepared" if not plain or set(names) <= set(DOMAINS) else "_".join(["prepared", *names])


def _as_scan(path: Path, scratch: Path) -> Path:
    """The file itself, or a scan of unknown orientation with the values of an array [X, Y, Z]."""
    if path.suffix.lower() != ".npy":
        return path
    target = scratch / f"{path.stem}.nrrd"
    return write_scan(target, read_npy(path), affine=np.eye(4), oriented=False)
