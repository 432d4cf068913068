"""Read PNG, TIFF and JPEG pictures, and write PNG and TIFF."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from seewhy.errors import DataError
from seewhy.io.atomic import atomic_path
from seewhy.io.checks.read_errors import reading, recognize
from seewhy.io.checks.sizes import check_announced
from seewhy.io.tiff import TIFF_SUFFIXES, is_tiff, open_tiff, read_tiff_picture, tiff_picture_shape, turn

__all__ = ["IMAGE_SUFFIXES", "PICTURE_SUFFIXES", "check_lossless", "image_shape", "read_image", "write_image"]

IMAGE_SUFFIXES = (".png", *TIFF_SUFFIXES)
"""Formats that keep values, for masks too."""
PICTURE_SUFFIXES = (*IMAGE_SUFFIXES, ".jpg", ".jpeg")
"""Formats of pictures that are read."""
LOSSY = {"OJPEG", "JPEG", "JPEG_LOSSY", "WEBP", "JPEGXR_NDPI", "JPEGXL", "JPEG2000", "APERIO_JP2000_YCBC"}
"""Compressions of TIFF that change values, or may do so."""
DAMAGE = (SyntaxError, TypeError, KeyError, IndexError, struct.error, OverflowError)
"""Errors of Pillow for damaged files."""
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "I;16")
"""Of Pillow, for pictures whose values are kept."""
ORIENTATION = 274
"""Tag of Exif."""


def read_image(path: str | Path, *, page: int | None = None) -> NDArray[Any]:
    """Read one picture with the values that are stored in the file.

    A picture with an orientation tag is turned as viewers show it. Greys with 0 as white (WhiteIsZero in TIFF) keep
    their values. PNG with 2 or 4 bits per grey is scaled to 8 bits, as its specification says.

    Args:
        path: a PNG, TIFF or JPEG file.
        page: page of a TIFF with several pages, counted from 0; None expects a single page.

    Returns:
        [H, W] of any integer or float type in TIFF, uint8 or uint16 in PNG, uint8 in JPEG; [H, W, 3] for colour
        (palettes are resolved to uint8), [H, W, 4] with transparency. Black-and-white files have the values 0 and 255.

    Raises:
        DataError: the file is missing, damaged, not a picture, of a kind of values that cannot be kept (named), or has
            several pages and `page` is None.

    Example:
        >>> _ = write_image("slice.png", np.array([[0, 128], [255, 64]], np.uint8))
        >>> read_image("slice.png")
        array([[  0, 128],
               [255,  64]], dtype=uint8)
    """
    path = Path(path)
    if is_tiff(path):
        return read_tiff_picture(path, page)
    with _open(path) as picture:
        if page is not None and page != 0:
            raise DataError(f"{path} has 1 page; there is no page {page}")
        return _values(picture, path)


def image_shape(path: str | Path) -> tuple[int, ...]:
    """Shape of the array that `read_image` returns, without decoding values; verifies the checksums of a PNG.

    Args:
        path: a PNG, TIFF or JPEG file.

    Returns:
        (H, W), or (H, W, 3) or (H, W, 4) for colour.

    Raises:
        DataError: like `read_image`, for errors that the header and checksums reveal.
    """
    path = Path(path)
    if is_tiff(path):
        return tiff_picture_shape(path)
    with _open(path) as picture:
        width, height = picture.size
        transparent = picture.mode in ("RGBA", "PA") or (picture.mode == "P" and "transparency" in picture.info)
        colour = transparent or picture.mode in ("RGB", "P")
        turned = _orientation(picture) > 4
        picture.verify()
    height, width = (width, height) if turned else (height, width)
    return (height, width, 4 if transparent else 3) if colour else (height, width)


def check_lossless(path: str | Path) -> None:
    """Check that a mask is stored with its values: JPEG blurs outlines, so that labels change and new ones appear.

    Args:
        path: a picture; other formats pass.

    Raises:
        DataError: JPEG (by content, whatever the name), or TIFF with such a compression.

    Example:
        >>> Image.new("L", (8, 8)).save("mask.jpg")
        >>> check_lossless("mask.jpg")
        Traceback (most recent call last):
        seewhy.errors.DataError: mask.jpg is stored as JPEG, which changes the values of a mask; ...
    """
    path = Path(path)
    kind = recognize(path)
    if kind == "TIFF" and path.suffix.lower() in PICTURE_SUFFIXES:
        with open_tiff(path) as tiff:
            packed = {page.compression.name for page in tiff.pages} & LOSSY
        kind = f"TIFF with {sorted(packed)[0]}" if packed else kind
    if kind in ("JPEG", "JPEG 2000") or (kind or "").startswith("TIFF with"):
        raise DataError(f"{path} is stored as {kind}, which changes the values of a mask; export it again as PNG")


def write_image(path: str | Path, array: NDArray[Any]) -> Path:
    """Write one picture atomically and losslessly; the suffix determines the format.

    Args:
        path: ends in `.png`, `.tif` or `.tiff`.
        array: [H, W] uint8 or uint16 (float32 in TIFF only), or [H, W, 3] or [H, W, 4] uint8; bool is stored as
            0 and 255.

    Raises:
        DataError: another suffix, shape or type.
    """
    final = Path(path)
    if final.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError(f"{final}: unknown suffix; expected one of {', '.join(IMAGE_SUFFIXES)}")
    values = np.asarray(array)
    values = values.astype(np.uint8) * 255 if values.dtype == bool else values
    types = ("uint8", "uint16") if final.suffix.lower() == ".png" else ("uint8", "uint16", "float32")
    gray = values.ndim == 2 and values.dtype.name in types
    colour = values.ndim == 3 and values.shape[2] in (3, 4) and values.dtype == np.uint8
    if not (gray or colour):
        raise DataError(
            f"{final}: array of shape {values.shape} and type {values.dtype}; expected "
            f"[H, W] of {' or '.join(types)}, or [H, W, 3 or 4] of uint8"
        )
    with atomic_path(final) as temporary:
        Image.fromarray(np.ascontiguousarray(values)).save(temporary)
    return final


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """Open a PNG or JPEG and read its header; errors until it is closed name the file."""
    with _reading(path), Image.open(path, formats=("PNG", "JPEG")) as picture:
        if picture.format == "PNG":
            width, height = picture.size
            check_announced(path, width * height // 8, stored=path.stat().st_size, packed=True)
        pages = getattr(picture, "n_frames", 1)
        if pages > 1:
            raise DataError(f"{path} has {pages} pages; expected one page")
        if picture.mode not in MODES or _is_cut(path, picture):
            raise DataError(
                f"{path} has {picture.mode} colours of more than 8 bits or of another space; expected grey of 8 or 16 "
                "bits, or RGB of 8 bits; convert it"
            )
        yield picture


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        with reading(path, kind="PNG, TIFF or JPEG", foreign=UnidentifiedImageError, damage=DAMAGE):
            yield
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path} is too large for a picture ({error}); split it into smaller pictures, or store it as zarr"
        ) from error


def _is_cut(path: Path, picture: Image.Image) -> bool:
    """Whether Pillow cuts 16 bits of a PNG's colours or transparent greys to 8."""
    if picture.format != "PNG" or picture.mode in ("1", "L", "I", "I;16"):
        return False
    with path.open("rb") as file:
        return file.read(25)[24] > 8


def _values(picture: Image.Image, path: Path) -> NDArray[Any]:
    """Values of the picture, in a layout that does not depend on the file's mode."""
    orientation = _orientation(picture)
    if picture.mode in ("P", "PA"):
        transparent = picture.mode == "PA" or "transparency" in picture.info
        picture = picture.convert("RGBA" if transparent else "RGB")
    elif picture.mode == "LA":
        grey, opacity = picture.split()
        if len(set(opacity.getextrema())) > 1:
            raise DataError(f"{path} is transparent in places; save it without transparency")
        picture = grey
    elif picture.mode == "1":
        picture = picture.convert("L")
    values = turn(np.array(picture), orientation)
    return values.astype(values.dtype.newbyteorder("=")) if values.dtype.byteorder == ">" else values


def _orientation(picture: Image.Image) -> int:
    """Orientation of Exif, from the header; the method of PNG pictures would decode all values."""
    return int(Image.Image.getexif(picture).get(ORIENTATION, 1))
