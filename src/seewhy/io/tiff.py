"""Read TIFF files with tifffile: stored values, turned as the orientation tag says, and the axes of a series."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.checks.read_errors import reading

__all__ = [
    "TIFF_SUFFIXES",
    "is_tiff",
    "load_tiff",
    "open_tiff",
    "read_page",
    "read_tiff_picture",
    "reading_tiff",
    "tiff_picture_shape",
    "turn",
    "turn_page",
]

TIFF_SUFFIXES = (".tif", ".tiff")
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF and BigTIFF, little- and big-endian."""
DAMAGE = re.compile(r"offset|corrupt|series|failed|missing|incomplete", re.IGNORECASE)
"""Remarks of tifffile about files that it reads in part."""
MOST_PACKED = 10_000
"""Bytes of values that one stored byte can stand for; more is a damaged or hostile header."""
TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda page: page,
    2: lambda page: page[:, ::-1],
    3: lambda page: page[::-1, ::-1],
    4: lambda page: page[::-1],
    5: lambda page: page.swapaxes(0, 1),
    6: lambda page: np.rot90(page, -1),
    7: lambda page: np.rot90(page, 2).swapaxes(0, 1),
    8: lambda page: np.rot90(page),
}
"""Orientation tag → array as it is displayed."""


def is_tiff(path: Path) -> bool:
    """Whether a file has the content of a TIFF, or its name where there is no content."""
    start = b""
    if path.is_file():  # reading a pipe would wait for ever
        with suppress(OSError), path.open("rb") as file:
            start = file.read(4)
    return start in MAGIC if start else path.suffix.lower() in TIFF_SUFFIXES


@contextmanager
def open_tiff(path: Path) -> Iterator[Any]:
    """Open a file as `tifffile.TiffFile`; errors until it is closed name the file.

    Raises:
        DataError: the file is missing, damaged, or not TIFF.
    """
    with reading_tiff(path):
        tiff = load_tiff(path)
        try:
            yield tiff
        finally:
            tiff.close()


def read_tiff_picture(path: Path, page: int | None) -> NDArray[Any]:
    """Read one page as a picture; see `seewhy.io.image.read_image`."""
    with open_tiff(path) as tiff:
        return _to_picture(tiff.pages[_choose_page(tiff, path, page)], path)


def tiff_picture_shape(path: Path) -> tuple[int, ...]:
    """Shape of the array that `read_tiff_picture` returns, without decoding values."""
    with open_tiff(path) as tiff:
        page = tiff.pages[_choose_page(tiff, path, None)]
        samples = 3 if page.photometric.name == "PALETTE" else page.samplesperpixel
        shape = turn_page(page, np.empty((page.imagelength, page.imagewidth, 0))).shape[:2]
        return shape if samples < 3 else (*shape, samples)


def read_page(page: Any, path: Path) -> NDArray[Any]:
    """Read the stored values of a page, turned as its orientation tag says.

    Args:
        page: of tifffile.
        path: name in error messages.

    Returns:
        [H, W], or [H, W, S] for several samples per pixel, in this machine's byte order.

    Raises:
        DataError: values that are not plain numbers of grey or RGB, by name.
    """
    kind = page.keyframe
    photometric, bits = kind.photometric.name, kind.bitspersample
    if photometric not in ("MINISBLACK", "MINISWHITE", "RGB", "YCBCR", "PALETTE", "MASK"):
        raise DataError(f"{path} has {photometric} colours; expected grey, RGB or a palette; convert it")
    if photometric == "MINISWHITE" and bits == 1:
        raise DataError(f"{path} is black-and-white with 0 as white (WhiteIsZero); save it with 0 as black")
    if kind.dtype is None or kind.dtype.kind not in "buif":
        raise DataError(f"{path} holds values of type {kind.dtype}; expected bool, integer or float")
    if kind.axes not in ("YX", "YXS", "SYX"):
        raise DataError(f"{path} has pages with the axes {kind.axes}; expected Y and X")
    stored, announced = sum(page.databytecounts), kind.size * bits // 8
    if announced > stored * (MOST_PACKED if int(kind.compression) != 1 else 1):
        raise DataError(
            f"{path} is truncated or damaged: a page announces {announced} bytes of values and stores {stored}"
        )
    values = np.asarray(page.asarray(maxworkers=1))
    values = np.moveaxis(values, 0, -1) if kind.axes == "SYX" else values
    return turn_page(page, values).astype(values.dtype.newbyteorder("="), copy=False)


def _to_picture(page: Any, path: Path) -> NDArray[Any]:
    """Values of a page, with its palette resolved and its unused transparency removed."""
    kind = page.keyframe
    bits = kind.bitspersample
    if bits not in (1, 8, 16, 32, 64):
        raise DataError(f"{path} has {bits} bits per value; save it with 8 or 16")
    values = read_page(page, path)
    if kind.photometric.name == "PALETTE":
        colours = np.moveaxis(np.asarray(kind.colormap), 0, -1)
        return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)[values]
    if values.ndim == 3 and values.shape[2] == 2:
        if (values[..., 1] != values[0, 0, 1]).any():
            raise DataError(f"{path} is transparent in places; save it without transparency")
        values = values[..., 0]
    elif values.ndim == 3 and values.shape[2] not in (3, 4):
        raise DataError(f"{path} has {values.shape[2]} values per pixel; expected 1, or 3 colours")
    return values.astype(np.uint8) * np.uint8(255) if values.dtype == bool else values


def turn_page(page: Any, values: NDArray[Any]) -> NDArray[Any]:
    """Turn an array [H, W, …] as the page's orientation tag says."""
    tag = page.keyframe.tags.get("Orientation")
    return turn(values, 1 if tag is None else int(tag.value))


def turn(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn an array [H, W, …] as displayed for an orientation of Exif and TIFF, 1 to 8; others leave it as it is."""
    return TURNS.get(orientation, TURNS[1])(values)


def _choose_page(tiff: Any, path: Path, page: int | None) -> int:
    count = len(tiff.pages)
    if not count:
        raise DataError(f"{path} is truncated or damaged (it has no page); copy or download it again")
    if page is None and count > 1:
        raise DataError(f"{path} has {count} pages; expected one page, or choose one with `page`")
    if not 0 <= (page or 0) < count:
        raise DataError(f"{path} has {count} pages; there is no page {page}")
    return page or 0


def load_tiff(path: Path) -> Any:
    """Open a file as `tifffile.TiffFile` and find its pages; those that are in other files are not looked for.

    To be called in `reading_tiff`, like everything that reads from the result.
    """
    import tifffile

    tiff = tifffile.TiffFile(path, _multifile=False)
    list(tiff.series)
    return tiff


class _Remarks(logging.Handler):
    """Collects what tifffile logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def reading_tiff(path: Path) -> Iterator[None]:
    """Convert the errors of tifffile and of its codecs, which have no common base class.

    tifffile logs damage that it can skip; here it is an error, because pages or values would be missing without a word.
    """
    from tifffile import TiffFileError

    logger, remarks = logging.getLogger("tifffile"), _Remarks()
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(remarks)
    try:
        with reading(path, kind="TIFF", foreign=TiffFileError, damage=(Exception,)):
            yield
            damage = next((text for text in remarks.texts if DAMAGE.search(text)), None)
            if damage is not None:
                raise ValueError(re.sub(r"<tifffile\.(\w+)[^>]*>", r"\1", damage))
    except DataError as error:
        codec = re.search(r"COMPRESSION\.(\w+).*requires the '?imagecodecs", str(error))
        if codec is None:
            raise
        raise DataError(f"{path} is compressed with {codec[1]}; to read it: pip install imagecodecs") from error
    finally:
        logger.removeHandler(remarks)
        logger.propagate = propagated
