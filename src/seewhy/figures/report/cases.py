"""Cases of a browser: their pictures and facts, and the JSON file of each, whose contents are checked on reading."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from seewhy.errors import DataError
from seewhy.io.atomic import atomic_path, list_files
from seewhy.io.documents import read_json
from seewhy.io.names import safe_name

__all__ = ["BrowserCase", "PictureLayer", "PicturePlane", "PictureSlice", "choose_slices", "read_cases", "write_case"]

LOGGER = logging.getLogger(__name__)

MEDIA_TYPES = ("image/webp", "image/png", "image/jpeg")
"""Types of pictures that a case may have; a browser runs nothing in them, as it would in SVG."""
LayerKind = Literal["image", "truth", "map", "prediction"]


@dataclass(frozen=True, kw_only=True)
class PictureLayer:
    """What one picture of every slice shows.

    Attributes:
        kind: an image, or something drawn over the image of the same input: the true mask, a map, the predicted mask.
        input: name of the input.
        name: name of the image or map, e.g. `Grad-CAM`.
        top: brightest level of a map as a share of the full colour of all cases: more than 1 is cut there.
        signed: whether grey 128 of a map is zero.
        note: warning about a map, e.g. that it failed a test.
    """

    kind: LayerKind
    input: str = ""
    name: str = ""
    top: float = 1.0
    signed: bool = False
    note: str = ""


@dataclass(frozen=True)
class PictureSlice:
    """Pictures of a slice.

    Attributes:
        number: of the slice in its scan.
        pictures: data URL of each layer, None where the slice has none.
    """

    number: int
    pictures: Sequence[str | None]


@dataclass(frozen=True, kw_only=True)
class PicturePlane:
    """Slices along one axis.

    Attributes:
        name: e.g. `axial`, or empty.
        slices: in order of their numbers.
        key: position of the slice that is shown first.
        total: slices that the scan has, of which these are a choice.
        sides: letters of the sides of the body at the left and right edge, or None.
        mm: width of a picture in millimetres, or None.
    """

    name: str = ""
    slices: Sequence[PictureSlice] = ()
    key: int = 0
    total: int = 0
    sides: tuple[str, str] | None = None
    mm: float | None = None


@dataclass(frozen=True, kw_only=True)
class BrowserCase:
    """A patient, image or volume.

    Attributes:
        id: unique name.
        patient: patient of the case.
        label: true class as text, empty if unknown.
        prediction: predicted class as text.
        right: whether they agree; None if unknown.
        probability: of the prediction, or None.
        doubts: why a reader should distrust the prediction, found without the truth.
        scores: name → number, e.g. Dice.
        facts: further names and values.
        layers: what each picture of a slice shows.
        planes: slices; empty without pictures.
    """

    id: str
    patient: str
    label: str = ""
    prediction: str = ""
    right: bool | None = None
    probability: float | None = None
    doubts: Sequence[str] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    layers: Sequence[PictureLayer] = ()
    planes: Sequence[PicturePlane] = ()

    def count_bytes(self) -> int:
        """Bytes of all pictures."""
        pictures = (text for plane in self.planes for item in plane.slices for text in item.pictures)
        return sum(len(text) for text in pictures if text)


def choose_slices(total: int, count: int, key: int) -> list[int]:
    """Choose positions spread evenly over a scan, with the position that must be among them.

    Example:
        >>> choose_slices(10, 4, 5), choose_slices(3, 8, 0), choose_slices(10, 1, 7)
        ([0, 3, 5, 9], [0, 1, 2], [7])
    """
    if total <= count:
        return list(range(total))
    even = [round(i * (total - 1) / max(count - 1, 1)) for i in range(count)]
    nearest = min(range(count), key=lambda i: abs(even[i] - key))
    return sorted({*even[:nearest], key, *even[nearest + 1 :]})


# -- files ----------------------------------------------------------------------------------------------------


PICTURE = re.compile(rf"data:(?:{'|'.join(map(re.escape, MEDIA_TYPES))});base64,[A-Za-z0-9+/]*={{0,2}}")


def write_case(folder: Path, case: BrowserCase) -> Path:
    """Write `<folder>/<id>.json`."""
    path = folder / f"{safe_name(case.id)}.json"
    with atomic_path(path) as temporary:
        text = json.dumps({"format": 1, **asdict(case)}, allow_nan=False, separators=(",", ":"))
        temporary.write_text(text, encoding="utf-8")
    return path


def read_cases(folder: Path) -> list[BrowserCase]:
    """Read the cases of a folder in order of their names; damaged files are skipped with a warning.

    Files may come from a stranger: types are checked, and a picture must be base64 text of a type without scripts.
    """
    cases = []
    for path in list_files(folder, "*.json"):
        try:
            cases.append(_read_case(path))
        except DataError as error:
            LOGGER.warning("case left out of the page: %s", error)
    return cases


def _read_case(path: Path) -> BrowserCase:
    case: BrowserCase = read_json(path, BrowserCase)
    slices = [part for plane in case.planes for part in plane.slices]
    if any(len(part.pictures) != len(case.layers) for part in slices):
        raise DataError(f"{path}: a slice must have one picture per layer ({len(case.layers)}), or null")
    if any(text is not None and not PICTURE.fullmatch(text) for part in slices for text in part.pictures):
        raise DataError(f"{path}: a picture must be base64 text of one of {', '.join(MEDIA_TYPES)}")
    planes = [replace(plane, key=min(max(plane.key, 0), max(len(plane.slices) - 1, 0))) for plane in case.planes]
    return replace(case, planes=planes)
