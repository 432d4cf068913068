"""Draw and write the CT phantom: volumes as OME-Zarr with labels, for segmentation.

A body holds nodules and vessels, and hollow balls and sheets of the same brightness that belong to the background.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from seewhy.errors import ConfigError
from seewhy.option_types import NonNegativeInt, PositiveInt
from seewhy.phantoms.drawing import FloatArray, draw_field
from seewhy.phantoms.writing import check_minimums, write_or_reuse
from seewhy.progress import track_slowly

__all__ = ["BODY", "CLASSES", "Body", "BodyRecipe", "draw_body", "write_ct_phantom"]

CLASSES = ("background", "nodule", "vessel")
"""Names of the labels 0, 1 and 2."""
AIR, FAT, TISSUE = -1000.0, -90.0, 45.0
"""Hounsfield units."""
APART = 1.5
"""Smallest distance between two objects in mm."""
TRIES = 300
"""Number of positions tried for an object before it is left out."""
VERSION = 1
"""Raised whenever the same settings draw other volumes, so that older folders are not reused."""

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class BodyRecipe:
    """Appearance of the bodies; lengths in mm, brightness in Hounsfield units, pairs are limits of uniform draws.

    Attributes:
        brightness: brightness of nodules, vessels, hollow balls and sheets, drawn for each object.
        nodules: number of solid balls (class 1).
        nodule_radius: radius of the nodules.
        balls: number of hollow balls (background).
        ball_radius: outer radius of the hollow balls.
        wall: thickness of the hollow balls' walls.
        generations: how often the vessel (class 2) branches.
        vessel_radius: radius of the vessel's root and of its last branches.
        branch: length of a branch, as a share of the body's smaller half axis.
        sheets: number of flat discs (background).
        sheet_radius: radius of the discs.
        sheet: thickness of the discs.
        cupping: how much darker the middle is than the rim, as after beam hardening.
        shading: standard deviation of smooth errors over the whole field of view.
        noise: standard deviation of the noise.
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


BODY = BodyRecipe()


@dataclass(frozen=True)
class Body:
    """One synthetic volume; axes run along the body (Z), to the back (Y) and sideways (X).

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
        recipe: appearance of the bodies.
        shape: voxels along Z, Y, X.
        spacing: mm between voxels along Z, Y, X.
        seed: seed of the data set.
        number: the volume's number, counted from 0.

    Example:
        >>> from seewhy.phantoms.ct import BODY, draw_body
        >>> body = draw_body(BODY, shape=(32, 48, 48), spacing=(2.0, 1.5, 1.5), seed=0, number=0)
        >>> body.image.shape, str(body.image.dtype), sorted(set(body.label.ravel().tolist()))
        ((32, 48, 48), 'int16', [0, 1, 2])
    """
    rng = np.random.default_rng([seed, number])
    space = _Space(shape, spacing)
    rim = space.draw_rim(rng)
    image = np.where(rim < 0, np.float32(FAT), np.float32(AIR))
    tissue = np.float32(TISSUE) + 8 * draw_field(rng, shape, 3)
    image = np.where(rim < -3, tissue, image)
    bone = _measure_bones(space)
    image = _paint(image, bone, np.float32(rng.uniform(450, 650)) + 90 * draw_field(rng, shape, 1), space)
    image = _paint(image, bone + 2, np.float32(180), space)  # marrow inside the shell
    taken = np.minimum(bone, -rim - 6)  # distance to bones and to the rim
    label = np.zeros(shape, np.uint8)
    for number_of_class, distance in _draw_objects(rng, recipe, space, taken):
        image = _paint(image, distance, np.float32(rng.uniform(*recipe.brightness)), space)
        label[distance <= 0] = number_of_class
    image = image - np.where(rim < 0, recipe.cupping * np.clip(-rim / space.half, 0, 1), 0)
    image = image + recipe.shading * draw_field(rng, shape, 8)
    image = image + recipe.noise * _draw_grain(rng, shape)
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

    def find_voxels(self, points: Vector) -> NDArray[np.int64] | None:
        """Find the voxels that contain points [n, 3]; None if a point lies outside the volume."""
        places = np.floor(points / self.spacing + np.array(self.shape) / 2).astype(np.int64)
        return places if bool(((places >= 0) & (places < self.shape)).all()) else None

    def draw_rim(self, rng: np.random.Generator) -> FloatArray:
        """Draw the signed distance to the body's surface, an elliptic cylinder; negative inside."""
        tall, wide = self.half * rng.uniform(0.84, 0.90), self.half * rng.uniform(0.92, 0.97)
        level = np.sqrt((self.y / tall) ** 2 + (self.x / wide) ** 2)
        field: FloatArray = (level - 1) * np.float32(min(tall, wide)) + 0.8 * draw_field(rng, self.shape, 6)
        return field

    def measure_ball(self, centre: Vector, radius: float) -> FloatArray:
        """Compute the signed distance to a ball."""
        z, y, x = (np.float32(position) for position in centre)
        return np.sqrt((self.z - z) ** 2 + (self.y - y) ** 2 + (self.x - x) ** 2) - np.float32(radius)

    def measure_capsule(self, start: Vector, end: Vector, radii: tuple[float, float]) -> FloatArray:
        """Compute the signed distance to a rod with round ends, whose radius changes from one end to the other."""
        axis = end - start
        along = (self.z - start[0]) * axis[0] + (self.y - start[1]) * axis[1] + (self.x - start[2]) * axis[2]
        share = np.clip(along / float(axis @ axis), 0, 1).astype(np.float32)
        square = sum(
            (grid - np.float32(begin) - share * np.float32(step)) ** 2
            for grid, begin, step in zip((self.z, self.y, self.x), start, axis, strict=True)
        )
        return np.asarray(np.sqrt(square) - (radii[0] + share * (radii[1] - radii[0])), np.float32)

    def measure_disc(self, centre: Vector, normal: Vector, radius: float, thickness: float) -> FloatArray:
        """Compute the signed distance to a flat disc."""
        across = (self.z - centre[0]) * normal[0] + (self.y - centre[1]) * normal[1] + (self.x - centre[2]) * normal[2]
        flat = np.abs(across) - thickness / 2
        return np.maximum(flat, self.measure_ball(centre, radius)).astype(np.float32)


def _measure_bones(space: _Space) -> FloatArray:
    """Compute the signed distance to a spine at the back and to the ribs."""
    back = space.half * 0.62
    spine = np.sqrt((space.y - back) ** 2 + space.x**2) - 5.5 + 0 * space.z
    around = np.abs(np.sqrt(space.y**2 + space.x**2) - space.half * 0.74) - 1.6
    ribs = np.maximum(around, np.abs((space.z + 0.35 * space.y) % 16 - 8) - 2.4)
    return np.minimum(spine, ribs).astype(np.float32)


@dataclass(frozen=True)
class _Shape:
    """Candidate object: points inside it, its extent around each point, and its signed distance."""

    points: Vector  # [n, 3]
    reach: Vector  # [n]
    surface: Callable[[], FloatArray]


def _draw_objects(
    rng: np.random.Generator, recipe: BodyRecipe, space: _Space, taken: FloatArray
) -> Iterator[tuple[int, FloatArray]]:
    """Draw class and signed distance of all bright objects; class 0 are the look-alikes."""
    free = taken
    kinds: list[tuple[int, int, Callable[[float], _Shape]]] = [
        (2, 1, lambda size: _draw_tree(rng, recipe, space, size)),
        (0, _draw_count(rng, recipe.sheets), lambda size: _draw_sheet(rng, recipe, space, size)),
        (1, _draw_count(rng, recipe.nodules), lambda _: _draw_ball(rng, space, recipe.nodule_radius)),
        (0, _draw_count(rng, recipe.balls), lambda _: _draw_ball(rng, space, recipe.ball_radius)),
    ]
    for turn, (label, count, draw) in enumerate(kinds):
        for _ in range(count):
            shape = _find_free_shape(draw, free, space)
            if shape is None:
                continue
            distance = shape.surface()
            free = np.minimum(free, distance)
            hollow = turn == 3
            yield label, np.maximum(distance, -distance - recipe.wall) if hollow else distance


def _find_free_shape(draw: Callable[[float], _Shape], free: FloatArray, space: _Space) -> _Shape | None:
    """Draw shapes until one touches no other object; None if there is no room."""
    for turn in range(TRIES):
        shape = draw(1 - 0.6 * turn / TRIES)  # sizes shrink with every failure
        places = space.find_voxels(shape.points)
        if places is not None and bool((free[tuple(places.T)] > shape.reach + APART).all()):
            return shape
    return None


def _draw_count(rng: np.random.Generator, ends: tuple[int, int]) -> int:
    return int(rng.integers(ends[0], ends[1] + 1))


def _draw_point(rng: np.random.Generator, space: _Space) -> Vector:
    """Draw a point in the inner part of the body."""
    angle, radius = rng.uniform(0, 2 * np.pi), space.half * 0.6 * np.sqrt(rng.uniform())
    return np.array([rng.uniform(-0.42, 0.42) * space.length, radius * np.sin(angle), radius * np.cos(angle)])


def _draw_ball(rng: np.random.Generator, space: _Space, radius: tuple[float, float]) -> _Shape:
    centre, size = _draw_point(rng, space), float(rng.uniform(*radius))
    return _Shape(centre[None], np.array([size]), lambda: space.measure_ball(centre, size))


def _draw_sheet(rng: np.random.Generator, recipe: BodyRecipe, space: _Space, size: float) -> _Shape:
    centre, normal, radius = (
        _draw_point(rng, space),
        _draw_direction(rng),
        size * float(rng.uniform(*recipe.sheet_radius)),
    )
    first = np.cross(normal, [1.0, 0.0, 0.0] if abs(normal[0]) < 0.9 else [0.0, 1.0, 0.0])
    first = first / np.linalg.norm(first)
    angles = np.arange(24) * (2 * np.pi / 24)
    ring = np.cos(angles)[:, None] * first + np.sin(angles)[:, None] * np.cross(normal, first)
    points = np.concatenate([centre + share * radius * ring for share in (0.0, 0.5, 1.0)])
    reach = np.full(len(points), recipe.sheet)
    return _Shape(points, reach, lambda: space.measure_disc(centre, normal, radius, recipe.sheet))


def _draw_direction(rng: np.random.Generator) -> Vector:
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


def _draw_tree(rng: np.random.Generator, recipe: BodyRecipe, space: _Space, size: float) -> _Shape:
    """Draw a vessel that forks `generations` times along the body."""
    root = np.array([-0.42 * space.length, *rng.uniform(-0.15, 0.05, 2) * space.half])
    radii = np.linspace(*recipe.vessel_radius, recipe.generations + 2)
    tips, rods = [(root, np.array([1.0, *rng.normal(0, 0.15, 2)]))], []
    for generation in range(recipe.generations + 1):
        grown = []
        for start, heading in tips:
            turn = _draw_direction(rng)
            for side in (1, -1) if generation else (1,):
                toward = heading / np.linalg.norm(heading) + (0.7 * side if generation else 0.0) * turn
                toward = toward / np.linalg.norm(toward)
                end = start + toward * size * rng.uniform(*recipe.branch) * space.half
                rods.append((start, end, (float(radii[generation]), float(radii[generation + 1]))))
                grown.append((end, toward + np.array([0.4, 0.0, 0.0])))  # branches go on along the body
        tips = grown
    points = np.concatenate([a + np.linspace(0, 1, 5)[:, None] * (b - a) for a, b, _ in rods])
    reach = np.full(len(points), recipe.vessel_radius[0])
    return _Shape(points, reach, lambda: np.minimum.reduce([space.measure_capsule(*rod) for rod in rods]))


def _paint(image: FloatArray, distance: FloatArray, brightness: FloatArray | np.float32, space: _Space) -> FloatArray:
    """Return the image with an object in it; voxels at its surface are mixed."""
    share = np.clip(0.5 - distance / min(space.spacing), 0, 1)
    return np.asarray(image + share * (brightness - image), np.float32)


def _draw_grain(rng: np.random.Generator, shape: tuple[int, int, int]) -> FloatArray:
    """Draw noise of unit variance, slightly correlated between neighbours as by a reconstruction kernel."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 0.5)
    return np.asarray(noise / noise.std(), np.float32)


def write_ct_phantom(
    root: str | Path,
    *,
    volumes: PositiveInt = 12,
    shape: Sequence[int] = (64, 80, 80),
    spacing: Sequence[float] = (1.25, 1.0, 1.0),
    chunk: PositiveInt = 32,
    seed: NonNegativeInt = 0,
) -> Path:
    """Write `images/<volume>.zarr`, `labels/<volume>.zarr` and `dataset.json`, or reuse those of an earlier call.

    Every volume shows a body with bones, a few nodules (label 1) and a vessel that branches (label 2). Hollow balls
    and flat sheets of the same brightness belong to the background, and the middle of the body is darker than its
    rim, so that shape distinguishes the classes and no threshold does. Stores are OME-Zarr 0.5 (zarr format 3) with one
    level, images int16 in Hounsfield units, labels uint8.

    Args:
        root: the data set's folder.
        volumes: number of volumes, one per patient.
        shape: voxels along the body (Z), to the back (Y) and sideways (X).
        spacing: mm between voxels along Z, Y, X.
        chunk: voxels per side of a chunk.
        seed: the same seed gives the same bytes.

    Returns:
        `root` as a path.

    Raises:
        ConfigError: a number below its minimum.
        DataError: `root` holds another phantom or other data.

    Example:
        >>> from seewhy.phantoms.ct import write_ct_phantom
        >>> root = write_ct_phantom("ct", volumes=1, shape=(32, 32, 32), chunk=16)
        >>> sorted(path.relative_to(root).as_posix() for path in root.glob("*/*.zarr"))
        ['images/ct001.zarr', 'labels/ct001.zarr']
    """
    if len(shape) != 3 or len(spacing) != 3 or min(spacing) <= 0:
        raise ConfigError(
            f"phantom.shape={list(shape)} and phantom.spacing={list(spacing)} must be three numbers each, above 0"
        )
    check_minimums({"volumes": (volumes, 1), "shape": (min(shape), 32), "chunk": (chunk, 8), "seed": (seed, 0)})
    settings = {
        "name": "ct", "phantom": True, "version": VERSION, "modality": "ct", "volumes": volumes,
        "shape": [int(n) for n in shape], "spacing": [float(n) for n in spacing], "chunk": chunk, "seed": seed,
        "classes": list(CLASSES),
    }  # fmt: skip

    files = {"images/*.zarr/zarr.json": volumes, "labels/*.zarr/zarr.json": volumes}
    return write_or_reuse(root, settings, partial(_write_volumes, settings=settings), files=files, kind="volumes")


def _write_volumes(folder: Path, settings: dict[str, Any]) -> None:
    """Draw and write all volumes."""
    depth, rows, columns = settings["shape"]
    dz, dy, dx = settings["spacing"]
    for number in track_slowly(range(settings["volumes"]), "writing ct phantom"):
        body = draw_body(BODY, shape=(depth, rows, columns), spacing=(dz, dy, dx), seed=settings["seed"], number=number)
        name = f"ct{number + 1:03d}"
        for part, array in (("images", body.image), ("labels", body.label)):
            _write_store(folder / part / f"{name}.zarr", array, name, settings)


def _write_store(path: Path, array: NDArray[Any], name: str, settings: dict[str, Any]) -> None:
    """Write an OME-Zarr 0.5 group with the array as its only level."""
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
