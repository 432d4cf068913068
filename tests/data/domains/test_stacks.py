import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seewhy.batch import MODALITIES
from seewhy.data.domains.datamodule import BraTSDomainsDataModule
from seewhy.data.domains.stacks import StackReader, make_overlapping_stacks, move_stacks
from seewhy.errors import ConfigError, DataError


def source_of(reader, subject, planes):
    """Normalised values [n, M, H, W] back in the intensities of the files."""
    low, high = (ends[:, None, None] for ends in reader.measure_intensity(subject).T)
    return low + (planes + 1) / 2 * (high - low)


def z_scored(volumes, *, side):
    """The middle of a head as some tools leave it: tissue around 0, and -9 around a tissue of some columns."""
    heads = {name: (values - values[values > 0].mean()) / values[values > 0].std() for name, values in volumes.items()}
    inside = (np.indices(volumes["t1"].shape)[1] < side) & (volumes["t1"] > 0)
    return {name: np.where(inside, values, -9).astype(np.float32) for name, values in heads.items()}


@pytest.fixture
def subject(domains):
    return BraTSDomainsDataModule(root=str(domains), fractions=[1, 0, 0]).subjects[0]


WHOLE = StackReader(percentiles=(0, 100))


def test_planes_are_the_files_slices_and_the_background_stays_background(subject, volumes):
    placement = WHOLE.find_placement(subject)
    planes = WHOLE.read_planes(subject, placement, *subject.box[0])
    body = WHOLE.read_body(subject, placement, *subject.box[0])
    assert planes.dtype == np.float32
    assert planes.min() == -1
    assert planes.max() == 1
    assert (planes[np.broadcast_to(~body[:, None], planes.shape)] == -1).all()
    for place, name in enumerate(MODALITIES):
        back = placement.restore(np.where(body, source_of(WHOLE, subject, planes)[:, place], 0))
        np.testing.assert_allclose(back, volumes()[name], atol=0.01)


def test_beyond_its_own_tissue_a_counterpart_is_background(domains, write, volumes):
    """Also where 0 is no background but the middle of the tissue."""
    write(domains / "a", "Z_0", z_scored(volumes(), side=21))
    write(domains / "counterparts" / "a", "Z_0", z_scored(volumes(), side=15), seg=False)
    module = BraTSDomainsDataModule(root=str(domains), domain="a", predict_on="all")
    module.setup("predict")
    batch = next(one for one in module.predict_dataloader() if one["patient"][0] == "Z-0")
    beyond = batch["body"][:, None].expand_as(batch["counterpart"]).clone()
    beyond[..., :15] = False
    assert beyond.any()
    assert (batch["counterpart"][beyond] == -1).all()
    within = batch["body"].clone()
    within[..., 15:] = False
    assert (batch["counterpart"][:, 0][within] > -1).float().mean() > 0.98


def test_percentiles_cut_both_ends(subject):
    reader = StackReader(percentiles=(10, 90))
    low, high = reader.measure_intensity(subject)[0]
    inside = subject.volume[:, 0][np.asarray(subject.body)]
    np.testing.assert_allclose((low, high), np.percentile(inside, [10, 90]), rtol=1e-4)
    placement = reader.find_placement(subject)
    body = reader.read_body(subject, placement, *subject.box[0])
    values = reader.read_planes(subject, placement, *subject.box[0])[:, 0][body]
    np.testing.assert_allclose([(values == -1).mean(), (values == 1).mean()], 0.1, atol=0.01)


def test_beyond_the_ends_of_the_volume_the_outermost_slice_is_repeated(subject):
    placement = WHOLE.find_placement(subject)
    assert subject.box[0] == (1, 10)  # tissue up to the last slice; slice 0 is empty
    planes = WHOLE.read_planes(subject, placement, -1, 12)
    assert (planes[:2] == -1).all()
    np.testing.assert_array_equal(planes[11], planes[10])
    np.testing.assert_array_equal(planes[12], planes[10])
    assert not np.array_equal(planes[9], planes[10])


@pytest.mark.parametrize("size", [None, (12, 16), (16, 32), (32, 32)])
def test_any_grid_goes_back_to_the_same_voxels(subject, volumes, size):
    reader = StackReader(percentiles=(0, 100), image_size=size)
    placement = reader.find_placement(subject)
    assert placement.size == tuple(stop - start for start, stop in placement.crop), "nothing is resized"
    assert placement.grid[1:] == (size or (20, 24))
    planes = reader.read_planes(subject, placement, *subject.box[0])
    assert reader.find_problems(subject) == []
    body = reader.read_body(subject, placement, *subject.box[0])
    back = placement.restore(np.where(body, source_of(reader, subject, planes)[:, 3], 0))
    np.testing.assert_allclose(back, volumes()["flair"], atol=0.01)


def test_sides_are_padded_to_what_the_network_wants(subject):
    assert StackReader(multiple_of=16).find_placement(subject).grid[1:] == (32, 32)
    assert StackReader(multiple_of=1).find_placement(subject).grid[1:] == (20, 24)


def test_a_grid_that_cuts_tissue_is_refused_by_name(domains):
    module = BraTSDomainsDataModule(root=str(domains), image_size=8)
    with pytest.raises(DataError, match=r"a: A-0 .*11x16.*data\.image_size=\[8, 8\]"):
        module.setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentiles": (99, 1)}, r"data\.percentiles=\[99, 1\]"),
        ({"image_size": (30, 32)}, r"data\.image_size=\[30, 32\].*data\.multiple_of=4"),
        ({"multiple_of": 0}, r"data\.multiple_of=0"),
    ],
)
def test_numbers_that_make_no_grid_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        StackReader(**options)


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 5), slices=st.sampled_from([1, 3, 5]), modalities=st.integers(1, 4), rows=st.integers(1, 3),
    columns=st.integers(1, 3),
)  # fmt: skip
def test_channels_of_a_stack_are_slice_major(count, slices, modalities, rows, columns):
    planes = torch.randn(count + slices - 1, modalities, rows, columns)
    stacks = make_overlapping_stacks(planes, slices=slices)
    assert stacks.shape == (count, slices * modalities, rows, columns)
    assert stacks.untyped_storage().data_ptr() == planes.untyped_storage().data_ptr(), "nothing is copied"
    for number in range(count):
        for offset in range(slices):
            for modality in range(modalities):
                channel = offset * modalities + modality
                assert torch.equal(stacks[number, channel], planes[number + offset, modality])
    for given_stacks in (stacks, stacks.contiguous()):
        assert torch.equal(move_stacks(given_stacks, torch.device("cpu")), stacks)
        elsewhere = move_stacks(given_stacks, torch.device("meta"))
        assert (elsewhere.shape, elsewhere.stride()) == (stacks.shape, given_stacks.stride())
    assert move_stacks(stacks, torch.device("meta")).untyped_storage().nbytes() == planes.nbytes
