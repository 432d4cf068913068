"""Page of pictures, text, boxes and lines, as a bitmap of any resolution or as a figure with vector text."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seewhy.figures.colours import RGB

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PIXELS_PER_INCH", "Colour", "Font", "Page", "font", "line_height", "to_hex"]

Font = ImageFont.FreeTypeFont
Colour = tuple[int, int, int]
PIXELS_PER_INCH = 100
"""Resolution in which a page is laid out; letters of 11 pixels are 8 points high."""
WHITE: Colour = (255, 255, 255)


@lru_cache(maxsize=64)
def font(size: int, *, bold: bool = False) -> Font:
    """DejaVu Sans from matplotlib, which has characters missing in Pillow's default font (≥, –, ⚠)."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def line_height(face: Font) -> int:
    """Distance between lines of text in pixels."""
    return round(face.size * 1.35)


class Page:
    """White page to which items are added, each above the earlier ones.

    Positions are pixels from the upper left corner, 100 per inch.

    Args:
        width: in pixels.
        height: in pixels.

    Example:
        >>> page = Page(120, 50)
        >>> page.add_text((4, 4), "slice 12", size=11)
        >>> page.add_picture((4, 24), np.zeros((20, 30, 3), np.uint8))
        >>> page.to_image().size, page.to_image(dpi=300).size
        ((120, 50), (360, 150))
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._items: list[_Item] = []

    def add_text(
        self,
        place: tuple[float, float],
        text: str,
        *,
        size: int,
        ink: Colour = (31, 35, 40),
        bold: bool = False,
        anchor: str = "la",
        turned: bool = False,
    ) -> None:
        """Add one line of text.

        Args:
            place: of the anchor.
            text: the line.
            size: in pixels.
            ink: colour.
            bold: bold letters.
            anchor: as in Pillow: `l` or `m` for left or middle, then `a` or `m` for the top of a line or its middle.
            turned: read from below to above; `place` is the middle of the line's left edge.
        """
        self._items.append(_Text(place, text, size, ink, bold, anchor, turned))

    def add_picture(self, place: tuple[float, float], picture: RGB) -> None:
        """Add a picture [H, W, 3] uint8, which keeps its pixels."""
        self._items.append(_Picture(place, np.ascontiguousarray(picture)))

    def add_box(
        self,
        corners: tuple[float, float, float, float],
        *,
        outline: Colour | None = None,
        fill: Colour | None = None,
    ) -> None:
        """Add a rectangle with an edge one pixel wide; the last row and column belong to it."""
        self._items.append(_Box(corners, outline, fill))

    def add_line(self, ends: tuple[float, float, float, float], *, ink: Colour) -> None:
        """Add a line one pixel wide."""
        self._items.append(_Line(ends, ink))

    def add_page(self, place: tuple[float, float], page: Page) -> None:
        """Add the items of another page, moved to a place; its white background is left out."""
        self._items += [item.move(*place) for item in page._items]

    def to_image(self, *, dpi: int = PIXELS_PER_INCH) -> Image.Image:
        """Draw a bitmap; at 100 dpi every pixel of a picture is one pixel of it."""
        scale = dpi / PIXELS_PER_INCH
        image = Image.new("RGB", (round(self.width * scale), round(self.height * scale)), WHITE)
        draw = ImageDraw.Draw(image)
        for item in self._items:
            item.paint(image, draw, scale)
        return image

    def _repr_png_(self) -> bytes:
        """PNG file, by which a notebook shows the page."""
        buffer = io.BytesIO()
        self.to_image().save(buffer, format="PNG")
        return buffer.getvalue()

    def to_figure(self) -> Figure:
        """Draw a figure of the same size, in which text is text and a picture keeps its pixels."""
        from seewhy.figures.style import blank_figure

        figure = blank_figure(self.width / PIXELS_PER_INCH, self.height / PIXELS_PER_INCH)
        figure.set_layout_engine("none")
        for order, item in enumerate(self._items):
            item.draw(figure, self._to_share, order)
        return figure

    def _to_share(self, x: float, y: float) -> tuple[float, float]:
        """Convert a place to shares of the figure, upwards as matplotlib counts."""
        return x / self.width, 1 - y / self.height


Place = tuple[float, float]
ToShare = Callable[[float, float], Place]


class _Item(Protocol):
    """Something on a page."""

    def move(self, x: float, y: float) -> _Item:
        """Copy of the item at another place."""
        ...

    def paint(self, image: Image.Image, draw: ImageDraw.ImageDraw, scale: float) -> None:
        """Draw into a bitmap."""
        ...

    def draw(self, figure: Figure, to_share: ToShare, order: int) -> None:
        """Draw into a figure."""
        ...


class _Text(_Item):
    def __init__(self, place: Place, text: str, size: int, ink: Colour, bold: bool, anchor: str, turned: bool) -> None:
        self.place, self.text, self.size, self.ink = place, text, size, ink
        self.bold, self.anchor, self.turned = bold, anchor, turned

    def move(self, x: float, y: float) -> _Text:
        place = (self.place[0] + x, self.place[1] + y)
        return _Text(place, self.text, self.size, self.ink, self.bold, self.anchor, self.turned)

    def paint(self, image: Image.Image, draw: ImageDraw.ImageDraw, scale: float) -> None:
        face = font(round(self.size * scale), bold=self.bold)
        x, y = self.place[0] * scale, self.place[1] * scale
        if not self.turned:
            draw.text((x, y), self.text, fill=self.ink, font=face, anchor=self.anchor)
            return
        along = Image.new("RGB", (int(face.getlength(self.text)) + 2, line_height(face)), WHITE)
        ImageDraw.Draw(along).text((1, 0), self.text, fill=self.ink, font=face)
        image.paste(along.rotate(90, expand=True), (round(x), round(y - along.width / 2)))

    def draw(self, figure: Figure, to_share: ToShare, order: int) -> None:
        ascent, descent = font(self.size, bold=self.bold).getmetrics()
        x, y = self.place
        down = ascent if self.anchor[1] == "a" else ascent - (ascent + descent) / 2
        at = to_share(x + down, y) if self.turned else to_share(x, y + down)
        middle = self.turned or self.anchor[0] == "m"
        figure.text(
            *at, self.text, color=to_hex(self.ink), fontsize=self.size * 72 / PIXELS_PER_INCH, family="DejaVu Sans",
            weight="bold" if self.bold else "normal", rotation=90 if self.turned else 0, rotation_mode="anchor",
            ha="center" if middle else "left", va="baseline", parse_math=False, zorder=order,
        )  # fmt: skip


class _Picture(_Item):
    def __init__(self, place: Place, picture: RGB) -> None:
        self.place, self.picture = place, picture

    def move(self, x: float, y: float) -> _Picture:
        return _Picture((self.place[0] + x, self.place[1] + y), self.picture)

    def paint(self, image: Image.Image, draw: ImageDraw.ImageDraw, scale: float) -> None:
        picture = Image.fromarray(self.picture)
        if scale != 1:
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            picture = picture.resize(size, Image.Resampling.NEAREST)
        image.paste(picture, (round(self.place[0] * scale), round(self.place[1] * scale)))

    def draw(self, figure: Figure, to_share: ToShare, order: int) -> None:
        height, width = self.picture.shape[:2]
        left, top = to_share(*self.place)
        right, bottom = to_share(self.place[0] + width, self.place[1] + height)
        axes = figure.add_axes((left, bottom, right - left, top - bottom), zorder=order)
        axes.imshow(self.picture, aspect="auto", interpolation="none")
        axes.set_axis_off()


class _Box(_Item):
    def __init__(self, corners: tuple[float, float, float, float], outline: Colour | None, fill: Colour | None) -> None:
        self.corners, self.outline, self.fill = corners, outline, fill

    def move(self, x: float, y: float) -> _Box:
        x0, y0, x1, y1 = self.corners
        return _Box((x0 + x, y0 + y, x1 + x, y1 + y), self.outline, self.fill)

    def paint(self, image: Image.Image, draw: ImageDraw.ImageDraw, scale: float) -> None:
        x0, y0, x1, y1 = self.corners
        corners = (x0 * scale, y0 * scale, (x1 + 1) * scale - 1, (y1 + 1) * scale - 1)
        draw.rectangle(corners, outline=self.outline, fill=self.fill, width=max(1, round(scale)))

    def draw(self, figure: Figure, to_share: ToShare, order: int) -> None:
        from matplotlib.patches import Rectangle

        x0, y0, x1, y1 = self.corners
        inset = 0.5 if self.outline else 0.0  # the middle of an edge that is one pixel wide
        left, top = to_share(x0 + inset, y0 + inset)
        right, bottom = to_share(x1 + 1 - inset, y1 + 1 - inset)
        style: dict[str, Any] = {
            "facecolor": to_hex(self.fill) if self.fill else "none",
            "edgecolor": to_hex(self.outline) if self.outline else "none",
            "linewidth": 72 / PIXELS_PER_INCH if self.outline else 0,
        }
        patch = Rectangle(
            (left, bottom), right - left, top - bottom, transform=figure.transFigure, zorder=order, **style
        )
        figure.add_artist(patch)


class _Line(_Item):
    def __init__(self, ends: tuple[float, float, float, float], ink: Colour) -> None:
        self.ends, self.ink = ends, ink

    def move(self, x: float, y: float) -> _Line:
        x0, y0, x1, y1 = self.ends
        return _Line((x0 + x, y0 + y, x1 + x, y1 + y), self.ink)

    def paint(self, image: Image.Image, draw: ImageDraw.ImageDraw, scale: float) -> None:
        draw.line([end * scale for end in self.ends], fill=self.ink, width=max(1, round(scale)))

    def draw(self, figure: Figure, to_share: ToShare, order: int) -> None:
        from matplotlib.lines import Line2D

        x0, y0, x1, y1 = self.ends
        (left, top), (right, bottom) = to_share(x0 + 0.5, y0 + 0.5), to_share(x1 + 0.5, y1 + 0.5)
        line = Line2D(
            (left, right), (top, bottom), transform=figure.transFigure, color=to_hex(self.ink),
            linewidth=72 / PIXELS_PER_INCH, zorder=order,
        )  # fmt: skip
        figure.add_artist(line)


def to_hex(colour: Colour) -> str:
    """Write a colour as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
