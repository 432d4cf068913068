"""Places of patches and their vectors."""

import pytest
import torch

from seewhy.errors import ConfigError
from seewhy.nets.generators.patch_sampler import PatchSampler, draw_places


def test_places_are_drawn_once_and_from_the_foreground():
    foreground = torch.zeros(2, 1, 16, 24, dtype=torch.bool)
    foreground[0, 0, 4:12, 8:16] = True
    foreground[1, 0, 0, 0] = True  # touches one place only
    like = torch.empty(0)
    places = draw_places((8, 12), 10, batch=2, foreground=foreground, like=like)
    rows, columns = places[0] // 12, places[0] % 12
    assert rows.min() >= 2
    assert rows.max() < 6
    assert columns.min() >= 4
    assert columns.max() < 8
    assert 0 in places[1].tolist()
    assert all(len(set(row.tolist())) == 10 for row in places)
    everywhere = draw_places((8, 12), 200, batch=2, foreground=None, like=like)
    assert torch.equal(everywhere.sort(dim=1).values, torch.arange(96).expand(2, -1))


def test_places_are_drawn_evenly():
    torch.manual_seed(0)
    counts = torch.bincount(draw_places((3, 4), 3, batch=4000, foreground=None, like=torch.empty(0)).flatten())
    assert counts.min() > 850
    assert counts.max() < 1150  # 1000 each


def test_vectors_are_those_of_their_places():
    torch.manual_seed(1)
    sampler = PatchSampler([3, 5], dim=7, patches=4)
    maps = [torch.randn(2, 3, 6, 6, requires_grad=True), torch.randn(2, 5, 3, 3)]
    vectors, places = sampler(maps)
    assert [one.shape for one in vectors] == [(2, 4, 7)] * 2
    assert torch.allclose(vectors[1].norm(dim=2), torch.ones(2, 4))
    row, column = divmod(int(places[0][1, 2]), 6)
    expected = torch.nn.functional.normalize(sampler.projections[0](maps[0][1, :, row, column]), dim=0)
    assert torch.allclose(vectors[0][1, 2], expected, atol=1e-6)
    again, same = sampler(maps, places)
    assert all(torch.equal(one, other) for one, other in zip(vectors, again, strict=True))
    assert same == places
    vectors[0].sum().backward()
    touched = maps[0].grad.abs().sum(1).flatten(1) > 0
    assert all(set(touched[b].nonzero().flatten().tolist()) == set(places[0][b].tolist()) for b in range(2))


def test_one_patch_cannot_be_told_from_others():
    with pytest.raises(ConfigError, match="patches=1"):
        PatchSampler([3], patches=1)
