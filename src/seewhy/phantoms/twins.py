"""Draw twins of phantom cases: the same case with other evidence, or with the same evidence and other looks.

The parts of a phantom are drawn independently, so a twin differs from its case in one thing only. A network that uses
the known evidence predicts the class that the evidence of the twin tells; so one can check that it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from seewhy.errors import DataError
from seewhy.io.documents import read_json
from seewhy.phantoms.amd import EYE, GRADES, Eye, draw_eye, list_eyes
from seewhy.phantoms.mri import HEAD, draw_head, list_heads, make_affine

__all__ = ["Twin", "draw_twins"]

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Twin:
    """A twin of a case.

    Attributes:
        case: id of the case.
        change: what differs, in a few words.
        moved: whether the evidence differs; else the class must stay.
        label: class that a network predicts which uses the known evidence, and nothing else.
        images: name → image [H, W], without those that are missing; or a volume [X, Y, Z] with its affine, as
            `seewhy.load(…).predict` takes them.
    """

    case: str
    change: str
    moved: bool
    label: int
    images: dict[str, Array] | tuple[Array, Array]


class _Settings(TypedDict):
    """Entries of a phantom's `dataset.json` that twins are drawn by."""

    name: str
    phantom: bool
    cases: NotRequired[int]
    seed: NotRequired[int]
    size: NotRequired[int]
    carriers: NotRequired[list[str]]
    mark: NotRequired[str | None]
    two_eyes_every: NotRequired[int]
    shape: NotRequired[list[int]]
    spacing: NotRequired[float]


def draw_twins(root: str | Path, cases: Sequence[str]) -> list[Twin]:
    """Draw the twins of some cases of an AMD or MRI phantom.

    - Lesions (AMD): without the lesions, or with lesions in a healthy eye; with several carriers also without each of
      these images, which must not change the class, because another one tells it.
    - A mark (AMD): with the mark of another grade; and with other lesions, which must not change the class.
    - MRI: with both regions healthy, or with one of a healthy head abnormal.

    Args:
        root: folder of the phantom.
        cases: ids.

    Raises:
        DataError: a folder without such a phantom, or cases that it does not have.

    Example:
        >>> from seewhy.phantoms.amd import write_amd_phantom
        >>> from seewhy.phantoms.twins import draw_twins
        >>> root = write_amd_phantom("marked", cases=4, size=32, mark="fluid")
        >>> [(twin.change, twin.moved) for twin in draw_twins(root, ["P001_L"])]
        [('another mark', True), ('other lesions', False)]
    """
    settings: Any = read_json(Path(root) / "dataset.json", _Settings)
    if settings["name"] == "amd":
        eyes = {eye.name: eye for eye in list_eyes(settings["cases"], settings["seed"], settings["two_eyes_every"])}
        _check_known(cases, eyes, root)
        return [twin for case in cases for twin in _draw_eyes(eyes[case], settings)]
    if settings["name"] == "mri":
        heads = {patient: (number, label) for number, (patient, label) in enumerate(list_heads(settings["cases"]))}
        _check_known(cases, heads, root)
        return [_draw_head(case, *heads[case], settings) for case in cases]
    raise DataError(f"{root} holds the phantom {settings['name']!r}; twins are drawn of amd and mri")


def _check_known(cases: Sequence[str], known: dict[str, Any], root: str | Path) -> None:
    unknown = [case for case in cases if case not in known]
    if unknown:
        raise DataError(
            f"{root} has no case {unknown[0]!r} ({len(unknown)} such); its cases are {next(iter(known))}, …"
        )


def _draw_eyes(eye: Eye, settings: dict[str, Any]) -> Iterator[Twin]:
    """Draw the twins of an eye."""
    carriers, mark, seed = settings["carriers"], settings["mark"], settings["seed"]
    lesions = eye.grade_lesions(mark, seed)

    def draw(change: str, moved: bool, label: int, *, missing: str | None = None, **changed: Any) -> Twin:
        marked = None if mark is None else (mark, label)
        options = {"grade": lesions, "carriers": carriers, "mark": marked, **changed}
        images, _ = draw_eye(EYE, **options, size=settings["size"], seed=seed, number=eye.number)
        return Twin(
            case=eye.name,
            change=change,
            moved=moved,
            label=label,
            images={name: image for name, image in images.items() if name != missing},
        )

    if mark is not None:
        yield draw("another mark", True, (eye.label + 1) % GRADES)
        yield draw("other lesions", False, eye.label, grade=(lesions + 2) % GRADES)
    elif eye.label == 0:
        yield draw("with lesions", True, 2, grade=2)
    else:
        yield draw("without lesions", True, 0, grade=0)
        if len(carriers) > 1:
            for name in carriers:
                yield draw(f"{name} missing", False, eye.label, missing=name)


def _draw_head(case: str, number: int, label: str, settings: dict[str, Any]) -> Twin:
    """Draw the twin of a head; class 0 is healthy, 1 abnormal."""
    ill = "left" if label == "HC" else None
    head = draw_head(HEAD, shape=tuple(settings["shape"]), ill=ill, seed=settings["seed"], number=number)
    change = "a region abnormal" if ill else "both regions healthy"
    image = np.asarray(head.image, np.float32)
    affine = make_affine(settings["shape"], settings["spacing"])
    return Twin(case=case, change=change, moved=True, label=int(ill is not None), images=(image, affine))
