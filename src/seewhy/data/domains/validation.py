"""What an unpaired run cannot start with: options, subjects and training slices that are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path

from seewhy.data.domains.dataset import Center
from seewhy.data.domains.preparation import DomainStore
from seewhy.data.domains.stacks import StackReader
from seewhy.data.domains.store import DOMAINS, PreparedSubject
from seewhy.data.validation import check_numbers, check_predict_on
from seewhy.errors import ConfigError, DataError, nearest

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
    batch_size: int,
    batches_per_epoch: int | None,
    max_patients: int | None,
    domain: str,
    predict_on: str,
    percentiles: Sequence[float],
    image_size: int | Sequence[int] | None,
) -> None:
    """Refuse options of `BraTSDomainsDataModule` that do not exist or do not fit together.

    Raises:
        ConfigError: all of them.
    """
    check_numbers(
        batch_size=batch_size, batches_per_epoch=batches_per_epoch, crop_size=crop_size, multiple_of=multiple_of,
        max_patients=max_patients,
    )  # fmt: skip
    check_predict_on(predict_on)
    problems = []
    if a is None and b is None:
        problems.append("data.a and data.b are both null; name the folder of one domain at least")
    if a is not None and a == b:
        problems.append(f"data.a and data.b are both {a!r}; give each domain its own folder")
    if slices not in SLICES:
        problems.append(f"data.slices={slices} must be 3, or 5 for the stacks of both neighbours too")
    if crop_size is not None and crop_size % multiple_of:
        problems.append(f"data.crop_size={crop_size} must be a multiple of data.multiple_of={multiple_of}")
    if not 0 <= min_content <= 1:
        problems.append(f"data.min_content={min_content} must be a share between 0 and 1")
    if not _are(percentiles, Real) or not 0 <= percentiles[0] < percentiles[1] <= 100:
        problems.append(f"data.percentiles={percentiles} must be two rising numbers between 0 and 100")
    if image_size is not None and not _are([image_size] * 2 if isinstance(image_size, int) else image_size, int):
        problems.append(f"data.image_size={image_size} must be a side, [rows, columns], or null")
    if domain not in (*DOMAINS, "both"):
        problems.append(f"data.domain={domain!r} is unknown; {nearest(domain, [*DOMAINS, 'both'])}")
    if problems:
        raise ConfigError("; ".join(problems))


def _are(values: object, kind: type) -> bool:
    """Whether an option is a pair of numbers of a kind; yes and no are none."""
    if not isinstance(values, Sequence) or len(values) != 2:
        return False
    return all(isinstance(value, kind) and not isinstance(value, bool) for value in values)


def check_subjects(subjects: Sequence[PreparedSubject], reader: StackReader, *, where: Path) -> None:
    """Refuse subjects whose tissue the grid would cut off, and such as are turned otherwise than most.

    Args:
        subjects: of both domains.
        reader: with the grid.
        where: the data set, for the message.

    Raises:
        DataError: all of them.
    """
    problems = [problem for subject in subjects for problem in reader.problems(subject)]
    usual = Counter(subject.codes for subject in subjects if subject.codes is not None).most_common(1)
    problems += [
        f"{subject.domain}: {subject.id} is stored as {subject.codes}, most others as {usual[0][0]}; a network would "
        "learn to turn heads: store all in one orientation, e.g. with nibabel.as_closest_canonical"
        for subject in subjects
        if subject.codes is not None and subject.codes != usual[0][0]
    ]
    if problems:
        raise DataError(problems, where=str(where))


def check_counterparts(store: DomainStore) -> None:
    """Refuse counterparts that belong to no subject, or do not lie on theirs voxel by voxel.

    Raises:
        DataError: all of them.
    """
    problems = []
    subjects = {(subject.domain, subject.id): subject for subject in store.subjects}
    for (domain, name), other in store.counterparts.items():
        own = subjects.get((domain, name))
        if own is None:
            known = [subject.id for subject in store.of_domain(domain)]
            problems.append(f"counterparts/{domain}: {name} is no subject of {domain}; {nearest(name, known)}")
        elif (other.shape, other.codes) != (own.shape, own.codes):
            problems.append(
                f"counterparts/{domain}: {name} is {other.shape} {other.codes}, but the subject it belongs to is "
                f"{own.shape} {own.codes}; resample it first"
            )
        elif apart := own.geometry.difference(other.geometry):
            problems.append(
                f"counterparts/{domain}: {name} does not lie on the subject it belongs to: {apart}; resample it first"
            )
    if problems:
        raise DataError(problems, where=str(store.root))


def check_training(sides: Mapping[str, Sequence[Center]], reader: StackReader, *, whole: bool, where: Path) -> None:
    """Refuse domains without training slices, and whole slices of different sizes.

    Images that go through the same network go in one batch: of one domain what is to be translated with what should
    stay as it is of the other, and real images with fakes.

    Args:
        sides: domain → training slices.
        reader: with the grid.
        whole: whether training sees whole slices, no squares.
        where: the data set, for the message.

    Raises:
        DataError: all of it.
    """
    problems = []
    for domain, own in sides.items():
        if not own:
            problems.append(
                f"domain {domain} has no training slice; give it subjects (data.{domain}), or put some of them into "
                "training with data.fractions or data.train_patients"
            )
    subjects = {center.subject.folder: center.subject for own in sides.values() for center in own}.values()
    sizes = Counter(
        f"{'x'.join(map(str, reader.placement(subject).grid[1:]))} in {subject.domain}" for subject in subjects
    )
    if whole and len({size.split()[0] for size in sizes}) > 1:
        listed = ", ".join(f"{size} ({count} subjects)" for size, count in sizes.most_common(4))
        problems.append(
            f"slices of different sizes cannot form a batch: {listed}; set data.image_size or data.crop_size"
        )
    if problems:
        raise DataError(problems, where=str(where))
