"""Reading and writing PNG and TIFF pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from seewhy.errors import DataError
from seewhy.io.atomic import atomic_path

__all__ = ["IMAGE_SUFFIXES", "ImagePages", "image_shape", "read_image", "write_image"]

IMAGE_SUFFIXES = (".png", ".tif", ".tiff")


def read_image(path: str | Path, *, page: int | None = None) -> NDArray[Any]:
    """Read one picture with the values of the file.

    Args:
        path: a PNG or TIFF file.
        page: which page of a TIFF of several, counted from 0; None expects a file of one.

    Returns:
        [H, W] uint8, uint16, int32 or float32; [H, W, 3] uint8 for colour (palettes are resolved), [H, W, 4]
        with transparency. Black-and-white files give 0 and 255.

    Raises:
        DataError: the file is missing, damaged or no picture, or has several pages and none was asked for.
    """
    path = Path(path)
    with _opened(path) as picture:
        pages = getattr(picture, "n_frames", 1)
        if page is None and pages > 1:
            raise DataError(f"{path} holds {pages} pages; expected one, or say which with `page`")
        return _page(picture, path, page or 0)


class ImagePages:
    """The pages of a picture that stays open, for who reads many of them: the first read finds where all of them lie.

    It is opened anew in every process, and used by one thread at a time.

    Args:
        path: a TIFF file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._picture: Image.Image | None = None
        self._process = -1

    def read(self, page: int) -> NDArray[Any]:
        """Values of one page, as `read_image` gives them, and with its errors."""
        with _told(self.path):
            if self._picture is None or self._process != os.getpid():
                self._picture, self._process = Image.open(self.path), os.getpid()
            return _page(self._picture, self.path, page)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_picture": None}


def image_shape(path: str | Path) -> tuple[int, ...]:
    """Shape that `read_image` gives, without decoding a value; a PNG's checksums are verified.

    Args:
        path: a PNG or TIFF file.

    Returns:
        (H, W), or (H, W, 3) or (H, W, 4) for colour.

    Raises:
        DataError: as `read_image`, as far as the header and the checksums tell.
    """
    path = Path(path)
    with _opened(path) as picture:
        pages = getattr(picture, "n_frames", 1)
        if pages > 1:
            raise DataError(f"{path} holds {pages} pages; expected one")
        width, height = picture.size
        transparent = picture.mode in ("RGBA", "PA") or (picture.mode == "P" and "transparency" in picture.info)
        colour = transparent or picture.mode in ("RGB", "P", "CMYK", "YCbCr", "LAB", "HSV")
        picture.verify()
    return (height, width, 4 if transparent else 3) if colour else (height, width)


def write_image(path: str | Path, array: NDArray[Any]) -> Path:
    """Write one picture, atomically and without loss; the suffix chooses the format.

    Args:
        path: ends in `.png`, `.tif` or `.tiff`.
        array: [H, W] uint8 or uint16 (float32 in TIFF only), or [H, W, 3] or [H, W, 4] uint8; bool is stored as
            0 and 255.

    Raises:
        DataError: another suffix, shape or type.
    """
    final = Path(path)
    if final.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError(f"{final}: pictures are written as {', '.join(IMAGE_SUFFIXES)}")
    values = np.asarray(array)
    values = values.astype(np.uint8) * 255 if values.dtype == bool else values
    types = ("uint8", "uint16") if final.suffix.lower() == ".png" else ("uint8", "uint16", "float32")
    gray = values.ndim == 2 and values.dtype.name in types
    colour = values.ndim == 3 and values.shape[2] in (3, 4) and values.dtype == np.uint8
    if not (gray or colour):
        raise DataError(
            f"{final}: an array of shape {values.shape} and type {values.dtype} does not fit; expected "
            f"[H, W] of {' or '.join(types)}, or [H, W, 3 or 4] of uint8"
        )
    with atomic_path(final) as temporary:
        Image.fromarray(np.ascontiguousarray(values)).save(temporary)
    return final


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture whose header is read; what goes wrong until it is closed is told with its name."""
    with _told(path), Image.open(path) as picture:
        yield picture


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of Pillow as ours, with the name of the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is no PNG or TIFF picture; convert it or leave it out") from error
    except (OSError, EOFError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} is cut off or damaged ({error}); copy or download it again") from error


def _page(picture: Image.Image, path: Path, page: int) -> NDArray[Any]:
    """Values of one page of an open picture."""
    pages = getattr(picture, "n_frames", 1)
    if not 0 <= page < pages:
        raise DataError(f"{path} holds {pages} pages; there is no page {page}")
    picture.seek(page)
    return _values(picture)


def _values(picture: Image.Image) -> NDArray[Any]:
    """Values of the current page, in a layout that means the same for every file."""
    if picture.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
        transparent = picture.mode == "PA" or "transparency" in picture.info
        picture = picture.convert("RGBA" if transparent else "RGB")
    elif picture.mode in ("1", "LA"):
        picture = picture.convert("L")
    values = np.array(picture)
    return values.astype(values.dtype.newbyteorder("=")) if values.dtype.byteorder == ">" else values
