"""Validate options, subjects, counterparts and training slices of `BraTSDomainsDataModule`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from seewhy.data.base import check_counts
from seewhy.data.domains.dataset import Center
from seewhy.data.domains.stacks import StackReader
from seewhy.data.domains.store import DOMAINS, DomainStore, PreparedSubject
from seewhy.data.uniformity import find_other_spacings, find_turned
from seewhy.errors import ConfigError, DataError, nearest
from seewhy.options import choice_problems

__all__ = ["check_counterparts", "check_domain_options", "check_subjects", "check_training"]

SLICES = (3, 5)


def check_domain_options(
    *,
    a: str | None,
    b: str | None,
    slices: int,
    crop_size: int | None,
    multiple_of: int,
    min_content: float,
    max_patients: int | None,
    domain: str,
    percentiles: Sequence[float],
    image_size: int | Sequence[int] | None,
) -> None:
    """Check options of `BraTSDomainsDataModule`.

    Raises:
        ConfigError: all options that are invalid or contradict each other.
    """
    check_counts(crop_size=crop_size, multiple_of=multiple_of, max_patients=max_patients)
    problems = []
    if a is None and b is None:
        problems.append("data.a and data.b are both null; set the folder of at least one domain")
    if a is not None and a == b:
        problems.append(f"data.a and data.b are both {a!r}; set a different folder for each domain")
    if slices not in SLICES:
        problems.append(f"data.slices={slices} must be 3, or 5 to include the stacks of both neighbours")
    if crop_size is not None and crop_size % multiple_of:
        problems.append(f"data.crop_size={crop_size} must be a multiple of data.multiple_of={multiple_of}")
    if not 0 <= min_content <= 1:
        problems.append(f"data.min_content={min_content} must be a share between 0 and 1")
    if not _is_pair_of(percentiles, Real) or not 0 <= percentiles[0] < percentiles[1] <= 100:
        problems.append(f"data.percentiles={percentiles} must be two increasing numbers between 0 and 100")
    if image_size is not None and not _is_pair_of([image_size] * 2 if isinstance(image_size, int) else image_size, int):
        problems.append(f"data.image_size={image_size} must be a side, [rows, columns], or null")
    problems += choice_problems(domain, (*DOMAINS, "both"), "data.domain")
    if problems:
        raise ConfigError("; ".join(problems))


def _is_pair_of(values: object, kind: type) -> bool:
    """Return whether an option is a pair of numbers of a type, excluding bool."""
    if not isinstance(values, Sequence) or len(values) != 2:
        return False
    return all(isinstance(value, kind) and not isinstance(value, bool) for value in values)


def check_subjects(subjects: Sequence[PreparedSubject], reader: StackReader, *, where: Path) -> None:
    """Check that the tissue fits into the grid and that all subjects have the same orientation; warn of voxel sizes.

    Args:
        subjects: subjects of both domains.
        reader: defines the grid.
        where: the data set, for the message.

    Raises:
        DataError: all subjects that do not.
    """
    problems = [problem for subject in subjects for problem in reader.find_problems(subject)]
    named = {f"{subject.domain}: {subject.id}": subject for subject in subjects}
    turned = find_turned({name: subject.codes for name, subject in named.items()})
    problems += [f"{name} is {text}: a network would learn to rotate heads" for name, text in turned.items()]
    if problems:
        raise DataError(problems, where=str(where))
    others = find_other_spacings({name: subject.geometry.spacing for name, subject in named.items()})
    if others:
        rank_zero_warn(
            f"{where}: {len(others)} of {len(named)} subjects have other voxel sizes, so that a network learns to "
            f"rescale heads: {'; '.join(f'{name} has {text}' for name, text in list(others.items())[:5])}"
        )


def check_counterparts(store: DomainStore) -> None:
    """Check that every counterpart belongs to a subject and has the same grid.

    Raises:
        DataError: all counterparts that do not.
    """
    problems = []
    subjects = {(subject.domain, subject.id): subject for subject in store.subjects}
    for (domain, name), other in store.counterparts.items():
        subject = subjects.get((domain, name))
        if subject is None:
            names = [subject.id for subject in store.list_domain(domain)]
            problems.append(f"counterparts/{domain}: no subject {name} in domain {domain}; {nearest(name, names)}")
        elif (other.shape, other.codes) != (subject.shape, subject.codes):
            problems.append(
                f"counterparts/{domain}: {name} is {other.shape} {other.codes}, but its subject is "
                f"{subject.shape} {subject.codes}; resample it first"
            )
        elif difference := subject.geometry.difference(other.geometry):
            problems.append(
                f"counterparts/{domain}: {name} has another grid than its subject: {difference}; resample it first"
            )
    if problems:
        raise DataError(problems, where=str(store.root))


def check_training(sides: Mapping[str, Sequence[Center]], reader: StackReader, *, whole: bool, where: Path) -> None:
    """Check that both domains have training slices, and that whole slices have one size.

    Images of both domains pass a network in one batch: those to translate with those for the identity loss, and real
    images with translated ones.

    Args:
        sides: domain → training slices.
        reader: defines the grid.
        whole: whether training uses whole slices rather than squares.
        where: the data set, for the message.

    Raises:
        DataError: all problems.
    """
    problems = []
    for domain, centers in sides.items():
        if not centers:
            problems.append(
                f"domain {domain} has no training slice; set its folder (data.{domain}), or assign patients to "
                "training with data.fractions or data.train_patients"
            )
    subjects = {center.subject.folder: center.subject for centers in sides.values() for center in centers}.values()
    sizes = Counter(
        f"{'x'.join(map(str, reader.find_placement(subject).grid[1:]))} in {subject.domain}" for subject in subjects
    )
    if whole and len({size.split()[0] for size in sizes}) > 1:
        listed = ", ".join(f"{size} ({count} subjects)" for size, count in sizes.most_common(4))
        problems.append(
            f"slices of different sizes cannot form a batch: {listed}; set data.image_size or data.crop_size"
        )
    if problems:
        raise DataError(problems, where=str(where))
