import pytest
import torch
from torch import nn

from seewhy.errors import ConfigError
from seewhy.nets.affinity import RandomWalk, affinity_labels, attention_affinity, radius_window


def test_affinity_is_the_projection_of_symmetrised_attention():
    attention = [torch.randn(2, 3, 6, 6), torch.randn(2, 3, 6, 6)]
    projection = nn.Conv2d(6, 1, 1)
    heads = torch.cat(attention, 1)
    expected = projection(heads + heads.transpose(-1, -2)).squeeze(1)
    found = attention_affinity(attention, projection)
    torch.testing.assert_close(found, expected)
    assert torch.equal(found, found.transpose(-1, -2))


def test_gradients_reach_attention_and_projection():
    attention = torch.randn(1, 2, 4, 4, requires_grad=True)
    projection = nn.Conv2d(2, 1, 1)
    attention_affinity([attention], projection).sum().backward()
    assert attention.grad.abs().min() > 0
    assert projection.weight.grad.abs().min() > 0
    torch.testing.assert_close(projection.bias.grad, torch.tensor([16.0]))


@pytest.mark.parametrize(("height", "width", "radius"), [(4, 4, 1), (5, 3, 2), (3, 7, 0), (18, 18, 8), (2, 2, 9)])
def test_radius_window_counts(height, width, radius):
    window = radius_window(height, width, radius)

    def neighbours(n):  # ordered pairs on a line at most `radius` apart
        return sum(abs(a - b) <= radius for a in range(n) for b in range(n))

    assert window.sum() == neighbours(height) * neighbours(width)
    assert torch.equal(window, window.T)
    assert window.diagonal().all()
    inner = (height // 2) * width + width // 2
    if radius <= min(height // 2, width // 2, (height - 1) // 2, (width - 1) // 2):
        assert window[inner].sum() == (2 * radius + 1) ** 2


def test_affinity_label_truth_table():
    labels = torch.tensor([[[0, 1, 255], [1, 2, 0]]])
    found = affinity_labels(labels, size=(2, 3), radius=5)[0]
    flat = labels.flatten().tolist()
    for a, first in enumerate(flat):
        for b, second in enumerate(flat):
            expected = 255 if 255 in (first, second) else int(first == second)
            assert found[a, b] == expected


def test_affinity_labels_outside_the_radius_are_unknown():
    found = affinity_labels(torch.ones(1, 3, 4, dtype=torch.long), size=(3, 4), radius=1)[0]
    window = radius_window(3, 4, 1)
    assert (found[window] == 1).all()
    assert (found[~window] == 255).all()


def test_affinity_labels_shrink_by_nearest_neighbour():
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[:, 16:] = 1
    found = affinity_labels(labels, size=(2, 2), radius=2)[0]
    assert torch.equal(found, torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]))


def test_walk_with_identity_only_damps():
    evidence = torch.rand(2, 3, 4, 5)
    affinity = torch.eye(20).expand(2, 20, 20)
    torch.testing.assert_close(RandomWalk()(evidence, affinity), evidence / 1.1)
    torch.testing.assert_close(RandomWalk(steps=3)(evidence, affinity), evidence / 1.1**3)
    torch.testing.assert_close(RandomWalk(steps=0)(evidence, affinity), evidence)


def test_walk_stays_in_blocks_of_the_affinity():
    block = torch.zeros(1, 16, 16)
    block[:, :8, :8] = 1
    block[:, 8:, 8:] = 1
    evidence = torch.zeros(1, 1, 4, 4)
    evidence[..., 0, 0] = 1
    walked = RandomWalk(radius=4, damping=0.0)(evidence, block)
    torch.testing.assert_close(walked[0, 0, :2], torch.full((2, 4), 1 / 8))
    assert torch.equal(walked[0, 0, 2:], torch.zeros(2, 4))


def test_walk_is_an_average_with_sharpened_weights():
    affinity = torch.tensor([[[1.0, 0.5], [0.5, 1.0]]])
    evidence = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    walked = RandomWalk(radius=1, power=2)(evidence, affinity)
    torch.testing.assert_close(walked.flatten(), torch.tensor([1 / 1.35, 0.25 / 1.35]))


def test_walk_does_not_leave_the_radius():
    evidence = torch.zeros(1, 1, 1, 9)
    evidence[..., 0] = 1
    walked = RandomWalk(radius=2)(evidence, torch.ones(1, 9, 9))
    assert (walked.flatten()[:3] > 0).all()
    assert torch.equal(walked.flatten()[3:], torch.zeros(6))


def test_walk_keeps_float32_under_autocast():
    evidence, affinity = torch.rand(1, 2, 4, 4), torch.rand(1, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = RandomWalk()(evidence, affinity)
    assert torch.equal(found, RandomWalk()(evidence, affinity))


@pytest.mark.parametrize("options", [{"radius": -1}, {"steps": -1}, {"power": 0}, {"damping": -0.1}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError, match="random walk"):
        RandomWalk(**options)
