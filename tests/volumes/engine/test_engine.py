"""One pass over a volume: right numbers, the same bytes however split, errors seen at once."""

import itertools
import threading

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import nn

from seewhy.errors import CheckpointError, DataError
from seewhy.io.zarr.mapped import ArraySource
from seewhy.volumes.engine.writer import ArraySink
from seewhy.volumes.geometry import WINDOWS
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.predictor import predict_array

SHARES = (2, 0.8, 0.5)
"""Memory budgets, as shares of what the whole volume as one tile takes."""


class Watched(ArraySource):
    """Counts how often every voxel is read, and can fail or be slow to answer."""

    def __init__(self, array, *, chunks=(8, 16, 16), occupied=None, fails_after=None):
        super().__init__(array)
        self.chunks = chunks
        self.seen = np.zeros(self.shape[1:], dtype=int)
        self.stored = occupied
        self.fails_after, self.calls = fails_after, 0

    def _read_inside(self, box):
        self.calls += 1
        if self.fails_after is not None and self.calls > self.fails_after:
            raise DataError("array: chunk 0/1/2 is damaged")
        self.seen[box] += 1
        return super()._read_inside(box)

    def occupied(self, box):
        return self.stored is None or bool(self.stored[box].any())


def blended(job, profile):
    """sum(w * logits) / sum(w) over all patches in float64, without any part of the engine."""
    shape, patch = job.grid.shape, job.patch
    low = [min(starts[0], 0) for starts in job.grid.starts]
    extent = [max(size, p) for size, p in zip(shape, patch, strict=True)]
    image = np.zeros((1, *extent))
    place = tuple(slice(-a, -a + size) for a, size in zip(low, shape, strict=True))
    image[(slice(None), *place)] = job.volume
    weights = np.einsum("z,y,x->zyx", *(profile(size) for size in patch))
    total, count = np.zeros((job.classes.channels, *extent)), np.zeros(extent)
    for starts in itertools.product(*job.grid.starts):
        box = tuple(slice(s - a, s - a + p) for s, a, p in zip(starts, low, patch, strict=True))
        logits = job.net(torch.from_numpy(image[(slice(None), *box)])[None].float())[0].double().numpy()
        total[(slice(None), *box)] += logits * weights
        count[box] += weights
    return (total / count)[(slice(None), *place)]


@pytest.mark.parametrize("kind", sorted(WINDOWS))
@pytest.mark.parametrize("patch", [(16, 16, 16), (20, 9, 60)])
def test_equal_to_a_float64_reference(make_job, kind, patch):
    job = make_job(window=kind, patch=patch)
    logits = blended(job, WINDOWS[kind])
    expected = 255 / (1 + np.exp(logits[0] - logits[1]))
    found = job.run()
    assert expected.std() > 20
    assert np.abs(found - expected).max() < 0.501


def test_interior_equal_to_monai():
    """Within one step for a network whose patches disagree little at their borders.

    MONAI lifts every weight below 0.001 to it, so that bad borders of patches count for more than their Gaussian says;
    the more they differ, the more its result does. With weights that are not lifted there is no difference: below.
    """
    torch.manual_seed(0)
    wide = [nn.Conv3d(a, b, 3, padding=1) for a, b in ((1, 8), (8, 8), (8, 2))]
    net = nn.Sequential(wide[0], nn.ReLU(), wide[1], nn.ReLU(), wide[2]).requires_grad_(False)
    volume = np.random.default_rng(0).random((1, 96, 64, 64), dtype=np.float32)
    output_format = OutputFormat(mode="binary", channels=2)
    found = predict_array(volume, net, patch=(32, 32, 32), output_format=output_format, batch_size=4)
    tensor = torch.from_numpy(volume)[None]
    monai = sliding_window_inference(tensor, (32,) * 3, 4, net, overlap=0.5, mode="gaussian")
    expected = 255 * monai.softmax(1)[0, 1].numpy()
    inner = (slice(16, -16),) * 3
    assert np.abs(found - expected)[inner].max() < 1
    assert expected[inner].std() > 1


def test_everywhere_equal_to_monai_with_the_same_weights(make_network):
    volume = np.random.default_rng(5).random((1, 40, 48, 20), dtype=np.float32)
    net = make_network()
    found = predict_array(
        volume, net, patch=(16, 16, 24), output_format=OutputFormat(mode="binary", channels=2), batch_size=2
    )
    weights = np.einsum("z,y,x->zyx", *(WINDOWS["gaussian"](size) for size in (16, 16, 24)))
    tensor = torch.from_numpy(volume)[None]
    ours = torch.from_numpy(1e6 * weights).float()  # far above the floor of 0.001
    monai = sliding_window_inference(tensor, (16, 16, 24), 2, net, overlap=0.5, roi_weight_map=ours)
    assert np.abs(found - 255 * monai.softmax(1)[0, 1].numpy()).max() < 0.51


@pytest.mark.parametrize(
    "output_format",
    [
        {"mode": "binary", "channels": 2},
        {"mode": "multiclass", "channels": 2, "stored": "float32"},
        {"mode": "regions", "channels": 2, "stored": "uint16"},
        {"mode": "multiclass", "channels": 2, "stored": "labels"},
    ],
)
def test_same_bytes_for_any_split(make_job, tmp_path, output_format):
    first = make_job(output_format=output_format)
    whole, tiles = first.run(), set()
    for parts, share in itertools.product((1, 2, 4), SHARES):
        folder = tmp_path / f"{parts}-{share}"
        budget = share * first.plan.memory.total
        job = make_job(output_format=output_format, parts=parts, budget=budget, folder=folder)
        tiles.add(len(job.plan.tiles))
        assert job.run().tobytes() == whole.tobytes(), (parts, share, job.plan.tiles)
    assert len(tiles) > 2


def test_same_bytes_with_skipped_patches_for_any_split(make_job, tmp_path):
    volume = np.random.default_rng(0).random((1, 60, 40, 40), dtype=np.float32)
    volume[:, :30, :24] = 0
    first = make_job(volume=volume, skip_empty=True)
    whole = first.run()
    for parts, share in ((1, SHARES[2]), (3, SHARES[1]), (4, SHARES[2])):
        budget = share * first.plan.memory.total
        job = make_job(volume=volume, skip_empty=True, parts=parts, budget=budget, folder=tmp_path / f"{parts}-{share}")
        assert job.run().tobytes() == whole.tobytes()


def test_a_region_has_the_voxels_of_a_full_run(make_job):
    whole = make_job().run()
    job = make_job(roi=(slice(20, 30), slice(0, 37), slice(33, 40)))
    found = job.run()
    inside = (slice(16, 32), slice(0, 37), slice(32, 43))  # out to whole shards, or the volume's end
    assert np.array_equal(found[inside], whole[inside])
    outside = np.ones(found.shape, dtype=bool)
    outside[inside] = False
    assert (found[outside] == 77).all()
    assert job.engine().complete is False  # without a ledger a new engine knows nothing


@pytest.mark.parametrize("homogeneous", [False, True])
def test_skipped_patches_are_background_weighted_like_any(make_job, homogeneous):
    """Told from missing chunks, or only once read."""
    volume = np.random.default_rng(0).random((1, 60, 40, 40), dtype=np.float32)
    volume[:, :34, :26] = 0
    volume[:, :18] = 0
    stored = None if homogeneous else volume[0] != 0
    source = Watched(volume, occupied=stored)

    class Knowing(nn.Module):
        """The network, but declared background where a patch is all zero."""

        def forward(self, x):
            logits = net(x)
            empty = (x == 0).flatten(1).all(1)
            logits[empty] = torch.tensor([12.0, 0.0])[:, None, None, None]
            return logits

    job = make_job(volume=volume, source=source, skip_empty=True)
    net = job.net
    found = job.run()
    assert np.array_equal(found, make_job(volume=volume, net=Knowing()).run())
    assert not found[:20, :16].any()
    assert found[-10:].std() > 20
    assert homogeneous or source.seen[:16].max() == 0


def test_an_empty_volume_needs_no_network(make_job):
    def never(_):
        raise AssertionError

    job = make_job(volume=np.zeros((1, 40, 40, 40), dtype=np.float32), skip_empty=True)
    progress = job.engine().run(never)
    assert not job.sink.array.any()
    assert (progress.run, progress.skipped, progress.share) == (0, job.grid.count, 1.0)


def test_every_voxel_is_read_once_by_a_single_tile(make_job, volume):
    source = Watched(volume)
    job = make_job(source=source)
    found = job.run()
    assert (source.seen == 1).all()
    assert np.array_equal(found, make_job().run())


def test_batches_have_one_shape_and_come_from_a_thread(make_job):
    job = make_job(batch_size=7)
    shapes, threads = set(), set()

    def predict(image):
        shapes.add(tuple(image.shape))
        threads.add(threading.current_thread())
        return job.net(image)

    job.engine().run(predict)
    assert shapes == {(7, 1, 16, 16, 16)}
    assert threads == {threading.main_thread()}
    assert not [thread for thread in threading.enumerate() if thread.name in ("patches", "write-behind")]


def test_normalised_by_the_whole_volume(make_job, volume):
    schemes = ({"scheme": "zscore"},)
    scaled = (volume - volume.mean(dtype=np.float64).astype(np.float32)) / volume.std(dtype=np.float64)
    plain = make_job(volume=scaled.astype(np.float32)).run()
    assert np.abs(make_job(schemes=schemes).run().astype(int) - plain).max() <= 1


def test_padding_is_zero_after_normalisation(make_job):
    volume = np.full((1, 10, 20, 20), 7, dtype=np.float32)
    volume[0, 0, 0, 0] = 8
    seen = []
    job = make_job(volume=volume, schemes=({"scheme": "scale", "by": 7},))
    job.engine().run(lambda image: (seen.append(image.clone()), job.net(image))[1])
    first = seen[0][0, 0]
    assert not first[:3].any()
    assert not first[13:].any()
    assert (first[4:13] == 1).all()


def test_a_failing_read_surfaces(make_job, volume):
    job = make_job(source=Watched(volume, fails_after=3))
    with pytest.raises(DataError, match="chunk 0/1/2 is damaged"):
        job.run()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("patches", "read-ahead", "write-behind"))]


class Full(ArraySink):
    """A disk that is full after some writes."""

    def __init__(self, array, *, after):
        super().__init__(array)
        self.left = after

    def write(self, box, block):
        if not self.left:
            raise OSError(28, "No space left on device")
        self.left -= 1
        super().write(box, block)


def test_a_failing_write_surfaces_and_what_was_written_is_kept(make_job, volume, tmp_path):
    whole = make_job().run()
    array = np.full(volume.shape[1:], 77, np.uint8)
    with pytest.raises(DataError, match=r"No space left on device.*start again"):
        make_job(sink=Full(array, after=2), folder=tmp_path).run()
    assert np.array_equal(array[:32], whole[:32])
    seen = []
    job = make_job(sink=ArraySink(array), folder=tmp_path)
    job.engine().run(lambda image: (seen.append(1), job.net(image))[1])
    assert np.array_equal(array, whole)
    assert len(seen) < job.grid.count / 4


def test_wrong_channels_are_named(make_job):
    job = make_job()
    with pytest.raises(CheckpointError, match=r"logits of \[4, 3, 16, 16, 16\], expected \[4, 2, 16, 16, 16\]"):
        job.engine().run(lambda image: torch.zeros(4, 3, 16, 16, 16))


def test_overflow_is_named(make_job):
    with pytest.raises(DataError, match="not finite"):
        make_job(net=nn.Sequential(make_job().net, nn.Hardtanh(-1e38, 1e38))).engine().run(
            lambda image: torch.full((4, 2, 16, 16, 16), float("inf"))
        )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_patches_of_one_value_that_is_not_finite_are_not_empty(make_job, value):
    job = make_job(volume=np.full((1, 40, 40, 40), value, dtype=np.float32), skip_empty=True)
    with pytest.raises(DataError, match=r"voxels of \[0:16, .* are not finite"):
        job.run()


def test_batches_must_be_accepted_in_order(make_job):
    job = make_job()
    engine = job.engine()
    batches = iter(engine)
    first, second = next(batches), next(batches)
    with pytest.raises(RuntimeError, match="in the order"):
        engine.accept(second, job.net(second["image"]))
    del first
    engine.abandon()


def test_batches_that_were_not_accepted_are_counted(make_job):
    job = make_job()
    engine = job.engine()
    batch = next(iter(engine))
    with pytest.raises(RuntimeError, match="1 batches were not accepted"):
        engine.close()
    engine.abandon()
    with pytest.raises(RuntimeError, match="iterate over the engine first"):
        job.engine().accept(batch, job.net(batch["image"]))
