"""The ring of rows gives what a whole volume of sums would."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seewhy.volumes.engine.consumers import Accumulator
from seewhy.volumes.geometry import PatchGrid
from seewhy.volumes.plan import Tile


@settings(max_examples=40, deadline=None)
@given(
    top=st.integers(0, 30),
    left=st.integers(0, 20),
    height=st.integers(1, 20),
    overlap=st.sampled_from([0.0, 0.3, 0.5, 0.8]),
    seed=st.integers(0, 99),
)
def test_same_bits_as_one_large_array(top, left, height, overlap, seed):
    grid = PatchGrid(shape=(37, 22, 25), patch=(8, 7, 6), overlap=overlap)
    core = (slice(top, 37), slice(left, min(left + height, 22)), slice(3, 19))
    whole = torch.zeros(2, 37, 22, 25)
    ring = Accumulator(channels=2, depth=8, core=core)
    draw = torch.Generator().manual_seed(seed)
    tile = Tile(grid, core)
    taken = []
    logits = {}
    for z in range(len(grid.starts[0])):
        for y in range(len(grid.starts[1])):
            for x in range(len(grid.starts[2])):
                logits[z, y, x] = torch.randn(2, 8, 7, 6, generator=draw)
                whole[(slice(None), *grid.box((z, y, x)))] += logits[z, y, x]
    for z in tile.zs:
        for y in tile.ys:
            for x in tile.xs:
                ring.add(logits[z, y, x], grid.box((z, y, x)))
        final = grid.starts[0][z + 1] if z + 1 in tile.zs else 37
        taken += [rows.clone() for rows in ring.take(final)]
    assert torch.equal(torch.cat(taken, 1), whole[(slice(None), *core)])
    assert not ring.ring.any()


def test_patches_outside_change_nothing():
    ring = Accumulator(channels=1, depth=4, core=(slice(8, 16), slice(0, 4), slice(0, 4)))
    for box in [
        (slice(4, 8), slice(0, 4), slice(0, 4)),
        (slice(8, 12), slice(4, 8), slice(0, 4)),
        (slice(8, 12), slice(0, 4), slice(-4, 0)),
        (slice(16, 20), slice(0, 4), slice(0, 4)),
    ]:
        ring.add(torch.ones(1, 4, 4, 4), box)
    assert not ring.ring.any()
