"""The replay buffer: what it keeps, what it gives back, and that it goes on where it was."""

import io

import pytest
import torch

from seewhy.errors import CheckpointError, ConfigError
from seewhy.models.translation.adversarial import ReplayBuffer


def numbered(first, count):
    return torch.arange(first, first + count).float()[:, None, None, None].expand(-1, 1, 2, 2)


def values(batch):
    return batch[:, 0, 0, 0].tolist()


def test_until_full_images_pass():
    buffer = ReplayBuffer(5)
    assert values(buffer(numbered(0, 3))) == [0, 1, 2]
    assert values(buffer(numbered(3, 2))) == [3, 4]
    assert len(buffer) == 5


def test_then_half_are_exchanged_and_none_is_lost():
    buffer, given, back = ReplayBuffer(10, seed=3), 0, []
    for _ in range(100):
        back += values(buffer(numbered(given, 4)))
        given += 4
    old = sum(out != number for number, out in enumerate(back))
    assert 150 < old < 240  # of 390 draws, half
    # Passed images and exchanged ones: each kept image leaves at most once, and all others are still in the buffer.
    kept = [float(image[0, 0, 0]) for image in buffer.images]
    assert len(buffer) == 10
    late = back[10:]
    assert len(set(late)) == len(late)
    assert set(late) | set(kept) == set(range(given))


def test_capacity_zero_and_no_graph():
    image = torch.randn(2, 1, 3, 3, requires_grad=True)
    for capacity in (0, 4):
        found = ReplayBuffer(capacity)(image)
        assert torch.equal(found, image)
        assert not found.requires_grad
    with pytest.raises(ConfigError, match="replay=-1"):
        ReplayBuffer(-1)


def test_kept_images_are_copies():
    buffer, image = ReplayBuffer(2), numbered(1, 2).clone()
    buffer(image)
    image.zero_()
    assert [float(one[0, 0, 0]) for one in buffer.images] == [1, 2]


@pytest.mark.parametrize("seen", [0, 3, 20])
def test_a_resumed_buffer_goes_on(seen):
    buffer = ReplayBuffer(6, seed=1)
    if seen:
        buffer(numbered(0, seen))
    file = io.BytesIO()
    torch.save(buffer.state_dict(), file)
    file.seek(0)
    other = ReplayBuffer(6, seed=99)
    other.load_state_dict(torch.load(file, weights_only=True))
    for step in range(10):
        batch = numbered(100 + 4 * step, 4)
        assert torch.equal(buffer(batch), other(batch))


def test_draws_are_its_own():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    buffer = ReplayBuffer(1)
    buffer(numbered(0, 9))
    assert torch.equal(torch.rand(3), expected)
    runs = [values(ReplayBuffer(2, seed=seed)(numbered(0, 30))) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_another_capacity_is_refused():
    with pytest.raises(CheckpointError, match=r"holds 5 images, model\.replay=6"):
        ReplayBuffer(6).load_state_dict(ReplayBuffer(5).state_dict())
