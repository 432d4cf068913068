"""Tiles, units and memory."""

import json

import numpy as np
import pytest

from seewhy.errors import ConfigError
from seewhy.io.zarr.mapped import ArraySource
from seewhy.option_types import parse_bytes
from seewhy.volumes.estimate import OccupancySource, estimate
from seewhy.volumes.geometry import PatchGrid, voxels
from seewhy.volumes.memory import Costs, piece_rows
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import make_plan


def costs(shape=(200, 150, 170), *, shard=(32, 32, 32), **choices):
    given = {
        "grid": PatchGrid(shape=shape, patch=(32, 32, 32)),
        "output_format": OutputFormat(mode="binary", channels=2),
        "channels": 1,
        "itemsize": 2,
        "chunks": (32, 32, 32),
        "shard": shard,
        "batch_size": 2,
    }
    return Costs(**(given | choices))


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("budget", [6e6, 1e7, 1e9])
def test_tiles_are_whole_shards_that_cover_the_volume_once_within_the_budget(parts, budget):
    given = costs()
    plan = make_plan(given, memory_budget=int(budget), parts=parts)
    count = np.zeros(given.grid.shape, dtype=int)
    for tile in plan.tiles:
        count[tile.core] += 1
        for axis, size, length in zip(tile.core, given.shard, given.grid.shape, strict=True):
            assert axis.start % size == 0
            assert axis.stop % size == 0 or axis.stop == length
    assert (count == 1).all()
    assert plan.memory.total <= budget
    units = [plan.unit(tile, row) for tile in range(len(plan.tiles)) for row in range(plan.rows)]
    assert sum(map(voxels, units)) == sum(map(voxels, (span.core for span in plan.spans))) == count.size
    assert len(plan.spans) >= min(parts, len(units))
    assert plan.adopt(json.loads(json.dumps(plan.record()))).record() == plan.record()


def test_one_part_with_room_gets_one_tile_and_repeats_nothing():
    plan = make_plan(costs(), memory_budget=10**9)
    assert len(plan.tiles) == 1
    assert plan.patches == plan.needed == costs().grid.count


def test_work_is_shared_evenly():
    plan = make_plan(costs((640, 320, 320)), memory_budget=10**9, parts=8)
    loads = [span.count for span in plan.spans]
    assert len(loads) == 8
    assert max(loads) < 1.15 * np.mean(loads)


@pytest.mark.parametrize(
    "columns",
    [[], [[[0, 150], [0, 32]]], [[[0, 150], [0, 30]], [[0, 150], [30, 170]]], [[[0, 150], [170, 0]]], "columns", [5]],
)
def test_columns_of_another_plan_must_cover_the_region_in_whole_shards(columns):
    plan = make_plan(costs(), memory_budget=10**9)
    with pytest.raises((ValueError, TypeError)):
        plan.adopt({**plan.record(), "columns": columns})


def test_memory_does_not_depend_on_the_rows_of_the_volume():
    assert make_plan(costs((200, 64, 64)), memory_budget=10**9).memory == (
        make_plan(costs((20000, 64, 64)), memory_budget=10**9).memory
    )


def test_a_budget_too_small_says_what_is_needed():
    with pytest.raises(ConfigError, match=r"needs \d MB; raise it"):
        make_plan(costs(), memory_budget=1000)


def test_a_region_is_widened_to_whole_shards():
    plan = make_plan(costs(), memory_budget=10**9, roi=(slice(40, 41), slice(0, 150), slice(100, 165)))
    assert plan.region == (slice(32, 64), slice(0, 150), slice(96, 170))
    with pytest.raises(ConfigError, match=r"roi=\[300:310, 0:10, 0:10\] lies outside"):
        make_plan(costs(), memory_budget=10**9, roi=(slice(300, 310), slice(0, 10), slice(0, 10)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8GB", 8 * 10**9), ("512 MiB", 512 * 2**20), ("2e9", 2 * 10**9), (123, 123), ("1.5k", 1500)],
)
def test_bytes_are_parsed(text, expected):
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["much", "8XB", "", "1.2.3GB"])
def test_other_words_are_refused(text):
    with pytest.raises(ConfigError, match="memory_budget="):
        parse_bytes(text)


@pytest.mark.parametrize(("chunk", "rows"), [(1, 16), (8, 16), (16, 16), (12, 12), (32, 32), (128, 128), (500, 200)])
def test_pieces_are_whole_chunks_near_a_step(chunk, rows):
    grid = PatchGrid(shape=(200, 32, 32), patch=(32, 32, 32))  # steps of 15.3 rows
    assert piece_rows(grid, (chunk, 8, 8)) == {1: 15}.get(chunk, rows)


class Half(ArraySource):
    """Only the upper half is stored."""

    def occupied(self, box):
        return box[0].start < self.shape[1] // 2


def test_an_estimate_counts_what_a_run_does():
    source = Half(np.zeros((1, 192, 96, 96), dtype=np.uint16))
    source.chunks = (32, 32, 32)
    given = costs((192, 96, 96))
    plan = make_plan(given, memory_budget=10**9)
    found = estimate(plan, source, seconds_per_patch=0.5)
    assert found.patches == found.needed == plan.patches
    assert found.chunk_reads == 6 * 3 * 3
    assert found.read == 192 * 96 * 96 * 2
    assert found.written == 192 * 96 * 96
    assert found.occupied == 0.5
    assert found.seconds == pytest.approx(0.5 * 0.5 * plan.patches)
    text = "\n".join(found.lines())
    for words in (f"{plan.patches:,}", "50% run", "3.54 MB in 54 chunks", "accumulator"):
        assert words in text


def test_occupancy_of_many_cells_is_sampled():
    source = Half(np.zeros((1, 400, 40, 40), dtype=np.uint8))
    asked = []
    ask = source.occupied
    source.occupied = lambda box: asked.append(box) or ask(box)
    occupancy = OccupancySource(source, (2, 2, 2))
    assert len(asked) <= 4096
    assert all(voxels(box) <= 8 for box in asked)
    assert occupancy((slice(0, 200), slice(0, 40), slice(0, 40))) == pytest.approx(1, abs=0.05)
    assert occupancy((slice(200, 400), slice(0, 40), slice(0, 40))) == pytest.approx(0, abs=0.05)
