"""The order of channels, and that a cycle of three slices closes in it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seewhy.batch import MODALITIES, STACK_SLICES
from seewhy.errors import ConfigError
from seewhy.nets.generators.base import centre_slice, cut_windows, repeat_slice, stack_slices, stack_volume


def labelled(batch, slices, modalities):
    """A stack whose values say which sample, slice and modality they are of: 1000 b + 10 s + m."""
    b, s, m = (torch.arange(n) for n in (batch, slices, modalities))
    values = 1000 * b[:, None, None] + 10 * s[:, None] + m
    return values.flatten(1)[:, :, None, None].float().expand(-1, -1, 2, 3)


def test_the_order_that_batches_have():
    stack = labelled(1, STACK_SLICES, len(MODALITIES))[0, :, 0, 0]
    assert stack.tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert centre_slice(stack[None, :, None, None], len(MODALITIES)).flatten().tolist() == [10, 11, 12, 13]


sizes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.sampled_from([1, 3, 5]), st.integers(0, 3))


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_a_cycle_closes_on_slices_where_they_belong(size):
    """Translating each window to its centre gives the inner slices, in place, for the other generator."""
    batch, modalities, slices, extra = size
    half = slices // 2
    context = labelled(batch, slices + 2 * half + extra, modalities)
    given_to_first = cut_windows(context, modalities=modalities, slices=slices)
    count = len(given_to_first) // batch
    assert count == 1 + 2 * half + extra
    fakes = centre_slice(given_to_first, modalities)  # a generator that is the identity
    inner = context[:, half * modalities : (half + count) * modalities]
    assert torch.equal(stack_slices(fakes, count), inner)
    if extra % 2 == 0:
        closed = centre_slice(stack_slices(fakes, count), modalities)
        assert torch.equal(closed, centre_slice(context, modalities))


@settings(max_examples=40, deadline=None)
@given(sizes)
def test_windows_hold_neighbours_in_order(size):
    batch, modalities, slices, extra = size
    count = slices + extra
    context = labelled(batch, count, modalities)
    made = cut_windows(context, modalities=modalities, slices=slices, edges=True).unflatten(0, (batch, count))
    for b in range(batch):
        for centre in range(count):
            around = [min(max(centre + step, 0), count - 1) for step in range(-(slices // 2), slices // 2 + 1)]
            expected = [1000 * b + 10 * s + m for s in around for m in range(modalities)]
            assert made[b, centre, :, 0, 0].tolist() == expected


def test_a_volume_and_back():
    volume = torch.randn(4, 6, 5, 7)
    stacks = stack_volume(volume)
    assert stacks.shape == (6, 12, 5, 7)
    assert torch.equal(centre_slice(stacks, 4).transpose(0, 1), volume)
    assert torch.equal(stacks[2], volume[:, 1:4].transpose(0, 1).flatten(0, 1))
    assert torch.equal(stacks[0, :4], volume[:, 0])
    assert torch.equal(stacks[-1, 8:], volume[:, -1])
    assert stack_volume(volume[:, :1]).shape == (1, 12, 5, 7)


def test_repetition_in_both_layouts():
    image = torch.arange(4.0)[None, :, None, None]
    assert repeat_slice(image).flatten().tolist() == [0, 1, 2, 3] * 3
    assert repeat_slice(image, legacy_layout=True).flatten().tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert torch.equal(centre_slice(repeat_slice(image), 4), image)
    assert not torch.equal(centre_slice(repeat_slice(image, legacy_layout=True), 4), image)


def test_gradients_pass():
    context = torch.randn(1, 5 * 2, 4, 4, requires_grad=True)
    centre_slice(stack_slices(centre_slice(cut_windows(context, modalities=2), 2), 3), 2).sum().backward()
    assert context.grad.sum() == 2 * 16
    assert context.grad[:, 4:6].min() == 1


def test_channels_that_make_no_stack():
    with pytest.raises(ConfigError, match=r"10 channels.*odd multiple of the 4"):
        centre_slice(torch.zeros(1, 10, 2, 2), 4)
    with pytest.raises(ConfigError, match=r"8 channels.*odd multiple"):
        centre_slice(torch.zeros(1, 8, 2, 2), 4)
    with pytest.raises(ConfigError, match=r"of 3 slices .* 2;"):
        cut_windows(torch.zeros(1, 8, 2, 2), modalities=4)
    with pytest.raises(ConfigError, match=r"of 2 slices .* 3;"):
        cut_windows(torch.zeros(1, 12, 2, 2), modalities=4, slices=2)
