"""Drawing synthetic CT volumes: nodules and vessels among hollow balls and sheets that are as bright as they are.

CTPhantom: synthetic CT volumes as OME-Zarr with labels, as volume segmentation finds them on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from seewhy.errors import ConfigError
from seewhy.io.atomic import write_json
from seewhy.phantoms.fields import FloatArray, smooth_field
from seewhy.phantoms.write_cached import check_least, counted, write_once

__all__ = ["BODY", "CLASSES", "Body", "BodyRecipe", "draw_body", "write_ct_phantom"]

CLASSES = ("background", "nodule", "vessel")
"""Names of the labels, in order of their numbers."""
AIR, FAT, TISSUE = -1000.0, -90.0, 45.0
"""Hounsfield units."""
APART = 1.5
"""Least distance between two objects in mm."""
TRIES = 300
"""Places tried for an object before it is left out."""

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class BodyRecipe:
    """What the bodies look like; lengths in mm, brightness in Hounsfield units, pairs are ends of uniform draws.

    Attributes:
        brightness: of nodules, vessels, hollow balls and sheets alike, drawn anew for each.
        nodules: how many solid balls (class 1).
        nodule_radius: of those.
        balls: how many hollow balls, which are no nodules.
        ball_radius: of those, outside.
        wall: thickness of theirs.
        generations: how often the vessel (class 2) branches.
        vessel_radius: of its root and of its last branches.
        branch: length of a branch, as a share of the body's smaller half axis.
        sheets: how many flat discs, which are no vessels.
        sheet_radius: of those.
        sheet: thickness of theirs.
        cupping: how much darker the middle is than the rim, as after beam hardening.
        shading: standard deviation of the smooth errors over the whole field of view.
        noise: standard deviation.
    """

    brightness: tuple[float, float] = (150.0, 190.0)
    nodules: tuple[int, int] = (3, 5)
    nodule_radius: tuple[float, float] = (3.5, 5.5)
    balls: tuple[int, int] = (3, 5)
    ball_radius: tuple[float, float] = (4.5, 6.5)
    wall: float = 1.8
    generations: int = 3
    vessel_radius: tuple[float, float] = (2.1, 1.4)
    branch: tuple[float, float] = (0.28, 0.40)
    sheets: tuple[int, int] = (3, 4)
    sheet_radius: tuple[float, float] = (8.0, 12.0)
    sheet: float = 2.8
    cupping: float = 30.0
    shading: float = 12.0
    noise: float = 25.0


@dataclass(frozen=True)
class Body:
    """One synthetic volume; axes run along the body (Z), to the back (Y) and to a side (X).

    Attributes:
        image: [Z, Y, X] int16, Hounsfield units.
        label: [Z, Y, X] uint8, numbers of `CLASSES`.
    """

    image: NDArray[np.int16]
    label: NDArray[np.uint8]


def draw_body(
    recipe: BodyRecipe, *, shape: tuple[int, int, int], spacing: tuple[float, float, float], seed: int, number: int
) -> Body:
    """Draw one volume; the same arguments give the same values.

    Args:
        recipe: what such bodies look like.
        shape: voxels along Z, Y, X.
        spacing: mm between them.
        seed: of the data set.
        number: of the volume, counted from 0.
    """
    rng = np.random.default_rng([seed, number])
    space = _Space(shape, spacing)
    rim = space.rim(rng)
    image = np.where(rim < 0, np.float32(FAT), np.float32(AIR))
    tissue = np.float32(TISSUE) + 8 * smooth_field(rng, shape, 3)
    image = np.where(rim < -3, tissue, image)
    bone = _bones(space)
    image = _painted(image, bone, np.float32(rng.uniform(450, 650)) + 90 * smooth_field(rng, shape, 1), space)
    image = _painted(image, bone + 2, np.float32(180), space)  # marrow inside the shell
    taken = np.minimum(bone, -rim - 6)  # distance to bones and to the rim
    label = np.zeros(shape, np.uint8)
    for number_of_class, distance in _objects(rng, recipe, space, taken):
        image = _painted(image, distance, np.float32(rng.uniform(*recipe.brightness)), space)
        label[distance <= 0] = number_of_class
    image = image - np.where(rim < 0, recipe.cupping * np.clip(-rim / space.half, 0, 1), 0)
    image = image + recipe.shading * smooth_field(rng, shape, 8)
    image = image + recipe.noise * _grain(rng, shape)
    return Body(np.clip(np.rint(image), -1024, 3071).astype(np.int16), label)


class _Space:
    """Coordinates of voxel centres in mm from the middle of the volume, and distances in it."""

    def __init__(self, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
        self.shape, self.spacing = shape, spacing
        extents = [length * step for length, step in zip(shape, spacing, strict=True)]
        axes = [
            ((np.arange(length) + 0.5) * step - extent / 2).astype(np.float32)
            for length, step, extent in zip(shape, spacing, extents, strict=True)
        ]
        self.z, self.y, self.x = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
        self.length = extents[0]
        self.half = min(extents[1:]) / 2

    def voxels(self, points: Vector) -> NDArray[np.int64] | None:
        """Voxels that points [n, 3] lie in, or None where one lies outside the volume."""
        places = np.floor(points / self.spacing + np.array(self.shape) / 2).astype(np.int64)
        return places if bool(((places >= 0) & (places < self.shape)).all()) else None

    def rim(self, rng: np.random.Generator) -> FloatArray:
        """Signed distance to the body's surface, an elliptic cylinder; negative inside."""
        tall, wide = self.half * rng.uniform(0.84, 0.90), self.half * rng.uniform(0.92, 0.97)
        level = np.sqrt((self.y / tall) ** 2 + (self.x / wide) ** 2)
        field: FloatArray = (level - 1) * np.float32(min(tall, wide)) + 0.8 * smooth_field(rng, self.shape, 6)
        return field

    def ball(self, centre: Vector, radius: float) -> FloatArray:
        """Signed distance to a ball."""
        z, y, x = (np.float32(one) for one in centre)
        return np.sqrt((self.z - z) ** 2 + (self.y - y) ** 2 + (self.x - x) ** 2) - np.float32(radius)

    def capsule(self, start: Vector, end: Vector, radii: tuple[float, float]) -> FloatArray:
        """Signed distance to a rod with round ends, whose radius changes from one end to the other."""
        axis = end - start
        along = (self.z - start[0]) * axis[0] + (self.y - start[1]) * axis[1] + (self.x - start[2]) * axis[2]
        share = np.clip(along / float(axis @ axis), 0, 1).astype(np.float32)
        square = sum(
            (grid - np.float32(begin) - share * np.float32(step)) ** 2
            for grid, begin, step in zip((self.z, self.y, self.x), start, axis, strict=True)
        )
        return np.asarray(np.sqrt(square) - (radii[0] + share * (radii[1] - radii[0])), np.float32)

    def disc(self, centre: Vector, normal: Vector, radius: float, thickness: float) -> FloatArray:
        """Signed distance to a flat disc."""
        across = (self.z - centre[0]) * normal[0] + (self.y - centre[1]) * normal[1] + (self.x - centre[2]) * normal[2]
        flat = np.abs(across) - thickness / 2
        return np.maximum(flat, self.ball(centre, radius)).astype(np.float32)


def _bones(space: _Space) -> FloatArray:
    """Signed distance to a spine at the back and to ribs around."""
    back = space.half * 0.62
    spine = np.sqrt((space.y - back) ** 2 + space.x**2) - 5.5 + 0 * space.z
    around = np.abs(np.sqrt(space.y**2 + space.x**2) - space.half * 0.74) - 1.6
    ribs = np.maximum(around, np.abs((space.z + 0.35 * space.y) % 16 - 8) - 2.4)
    return np.minimum(spine, ribs).astype(np.float32)


@dataclass(frozen=True)
class _Shape:
    """Something that may be put into the body: points inside it, how far it reaches from each, and its surface."""

    points: Vector  # [n, 3]
    reach: Vector  # [n]
    surface: Callable[[], FloatArray]


def _objects(
    rng: np.random.Generator, recipe: BodyRecipe, space: _Space, taken: FloatArray
) -> Iterator[tuple[int, FloatArray]]:
    """Class and signed distance of everything bright; 0 is the class of what only looks like it."""
    free = taken
    kinds: list[tuple[int, int, Callable[[float], _Shape]]] = [
        (2, 1, lambda size: _tree(rng, recipe, space, size)),
        (0, _count(rng, recipe.sheets), lambda size: _sheet(rng, recipe, space, size)),
        (1, _count(rng, recipe.nodules), lambda _: _ball(rng, space, recipe.nodule_radius)),
        (0, _count(rng, recipe.balls), lambda _: _ball(rng, space, recipe.ball_radius)),
    ]
    for turn, (label, count, draw) in enumerate(kinds):
        for _ in range(count):
            shape = _placed(draw, free, space)
            if shape is None:
                continue
            distance = shape.surface()
            free = np.minimum(free, distance)
            hollow = turn == 3
            yield label, np.maximum(distance, -distance - recipe.wall) if hollow else distance


def _placed(draw: Callable[[float], _Shape], free: FloatArray, space: _Space) -> _Shape | None:
    """A shape that touches nothing, or None where there is no room."""
    for turn in range(TRIES):
        shape = draw(1 - 0.6 * turn / TRIES)  # what finds no room gets smaller
        places = space.voxels(shape.points)
        if places is not None and bool((free[tuple(places.T)] > shape.reach + APART).all()):
            return shape
    return None


def _count(rng: np.random.Generator, ends: tuple[int, int]) -> int:
    return int(rng.integers(ends[0], ends[1] + 1))


def _place(rng: np.random.Generator, space: _Space) -> Vector:
    """A point in the inner part of the body."""
    angle, radius = rng.uniform(0, 2 * np.pi), space.half * 0.6 * np.sqrt(rng.uniform())
    return np.array([rng.uniform(-0.42, 0.42) * space.length, radius * np.sin(angle), radius * np.cos(angle)])


def _ball(rng: np.random.Generator, space: _Space, radius: tuple[float, float]) -> _Shape:
    centre, size = _place(rng, space), float(rng.uniform(*radius))
    return _Shape(centre[None], np.array([size]), lambda: space.ball(centre, size))


def _sheet(rng: np.random.Generator, recipe: BodyRecipe, space: _Space, size: float) -> _Shape:
    centre, normal, radius = _place(rng, space), _direction(rng), size * float(rng.uniform(*recipe.sheet_radius))
    first = np.cross(normal, [1.0, 0.0, 0.0] if abs(normal[0]) < 0.9 else [0.0, 1.0, 0.0])
    first = first / np.linalg.norm(first)
    angles = np.arange(24) * (2 * np.pi / 24)
    ring = np.cos(angles)[:, None] * first + np.sin(angles)[:, None] * np.cross(normal, first)
    points = np.concatenate([centre + share * radius * ring for share in (0.0, 0.5, 1.0)])
    reach = np.full(len(points), recipe.sheet)
    return _Shape(points, reach, lambda: space.disc(centre, normal, radius, recipe.sheet))


def _direction(rng: np.random.Generator) -> Vector:
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


def _tree(rng: np.random.Generator, recipe: BodyRecipe, space: _Space, size: float) -> _Shape:
    """A vessel that forks `generations` times on its way along the body."""
    root = np.array([-0.42 * space.length, *rng.uniform(-0.15, 0.05, 2) * space.half])
    radii = np.linspace(*recipe.vessel_radius, recipe.generations + 2)
    tips, rods = [(root, np.array([1.0, *rng.normal(0, 0.15, 2)]))], []
    for generation in range(recipe.generations + 1):
        grown = []
        for start, heading in tips:
            turn = _direction(rng)
            for side in (1, -1) if generation else (1,):
                toward = heading / np.linalg.norm(heading) + (0.7 * side if generation else 0.0) * turn
                toward = toward / np.linalg.norm(toward)
                end = start + toward * size * rng.uniform(*recipe.branch) * space.half
                rods.append((start, end, (float(radii[generation]), float(radii[generation + 1]))))
                grown.append((end, toward + np.array([0.4, 0.0, 0.0])))  # branches go on along the body
        tips = grown
    points = np.concatenate([a + np.linspace(0, 1, 5)[:, None] * (b - a) for a, b, _ in rods])
    reach = np.full(len(points), recipe.vessel_radius[0])
    return _Shape(points, reach, lambda: np.minimum.reduce([space.capsule(*rod) for rod in rods]))


def _painted(image: FloatArray, distance: FloatArray, brightness: FloatArray | np.float32, space: _Space) -> FloatArray:
    """The image with an object in it; voxels at its surface hold a share of both."""
    share = np.clip(0.5 - distance / min(space.spacing), 0, 1)
    return np.asarray(image + share * (brightness - image), np.float32)


def _grain(rng: np.random.Generator, shape: tuple[int, int, int]) -> FloatArray:
    """Noise of unit variance whose neighbours hang together a little, as a reconstruction kernel makes it."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 0.5)
    return np.asarray(noise / noise.std(), np.float32)


BODY = BodyRecipe()
VERSION = 1
"""Raised whenever the same settings would draw other volumes, so that old folders are not taken for new ones."""


def write_ct_phantom(
    root: str | Path,
    *,
    volumes: int = 12,
    shape: Sequence[int] = (64, 80, 80),
    spacing: Sequence[float] = (1.25, 1.0, 1.0),
    chunk: int = 32,
    seed: int = 0,
) -> Path:
    """Write `images/<volume>.zarr`, `labels/<volume>.zarr` and `dataset.json`, unless they are there already.

    Every volume shows a body with bones, a few nodules (label 1) and a vessel that branches (label 2). Hollow balls
    and flat sheets of the same brightness belong to the background, and the middle of the body is darker than its
    rim, so that shape tells the classes and no threshold does. Stores are OME-Zarr 0.5 (zarr format 3) with one
    level, images int16 in Hounsfield units, labels uint8.

    Args:
        root: the data set's folder.
        volumes: how many, each of a patient of its own.
        shape: voxels along the body (Z), to the back (Y) and to a side (X).
        spacing: mm between voxels along Z, Y, X.
        chunk: voxels per side of a chunk.
        seed: the same seed gives the same bytes.

    Returns:
        `root` as a path.

    Raises:
        ConfigError: a number that draws no volume.
        DataError: `root` holds another phantom or data that is none.
    """
    if len(shape) != 3 or len(spacing) != 3 or min(spacing) <= 0:
        raise ConfigError(
            f"phantom.shape={list(shape)} and phantom.spacing={list(spacing)} must be three numbers each, above 0"
        )
    check_least({"volumes": (volumes, 1), "shape": (min(shape), 32), "chunk": (chunk, 8), "seed": (seed, 0)})
    settings = {
        "name": "ct", "phantom": True, "version": VERSION, "modality": "ct", "volumes": volumes,
        "shape": [int(n) for n in shape], "spacing": [float(n) for n in spacing], "chunk": chunk, "seed": seed,
        "classes": list(CLASSES),
    }  # fmt: skip

    def write(folder: Path) -> None:
        _write_volumes(folder, settings)
        write_json(folder / "dataset.json", settings)

    files = {"images/*.zarr/zarr.json": volumes, "labels/*.zarr/zarr.json": volumes}
    return write_once(root, settings, write, files=files, kind="volumes")


def _write_volumes(folder: Path, settings: dict[str, Any]) -> None:
    """Draw and write all volumes."""
    depth, rows, columns = settings["shape"]
    dz, dy, dx = settings["spacing"]
    for number in counted(settings["volumes"], "writing ct phantom"):
        body = draw_body(BODY, shape=(depth, rows, columns), spacing=(dz, dy, dx), seed=settings["seed"], number=number)
        name = f"ct{number + 1:03d}"
        for part, array in (("images", body.image), ("labels", body.label)):
            _write_store(folder / part / f"{name}.zarr", array, name, settings)


def _write_store(path: Path, array: NDArray[Any], name: str, settings: dict[str, Any]) -> None:
    """One OME-Zarr 0.5 group with the array as its only level."""
    import zarr

    scale = {"type": "scale", "scale": settings["spacing"]}
    axes = [{"name": axis, "type": "space", "unit": "millimeter"} for axis in "zyx"]
    multiscale = {
        "name": name, "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
    }  # fmt: skip
    attributes: dict[str, Any] = {"ome": {"version": "0.5", "multiscales": [multiscale]}}
    if np.issubdtype(array.dtype, np.unsignedinteger):
        colours = [{"label-value": value} for value in range(len(CLASSES))]
        attributes["ome"]["image-label"] = {"version": "0.5", "colors": colours}
    group = zarr.create_group(str(path), zarr_format=3, attributes=attributes)
    level = group.create_array(
        "0", shape=array.shape, dtype=array.dtype, chunks=(settings["chunk"],) * 3, dimension_names=list("zyx")
    )
    level[...] = array
