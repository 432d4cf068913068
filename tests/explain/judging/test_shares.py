"""Shares by slice and region, by hand, and that they add up."""

import pytest
import torch

from seewhy.errors import ConfigError
from seewhy.explain.judging.localization import compute_region_shares, compute_slice_shares


@pytest.fixture
def maps(maps_of):
    generator = torch.Generator().manual_seed(0)
    return maps_of(
        volume=torch.randn(2, 3, 4, 5, generator=generator), plane=5 * torch.randn(2, 6, 7, generator=generator)
    )


@pytest.mark.parametrize("axis", [0, 1])
def test_slices_add_up_to_their_inputs_share(maps, axis):
    found = compute_slice_shares(maps, axis=axis)
    assert found["volume"].shape == (2, (3, 4)[axis])
    for name, share in maps.shares().items():
        assert found[name].sum(dim=1) == pytest.approx(share, abs=1e-5)
    assert sum(one.sum(dim=1) for one in found.values()) == pytest.approx(torch.ones(2))


def test_slices_by_hand(maps_of):
    volume = torch.zeros(1, 3, 2, 2)
    volume[0, 0], volume[0, 2, 0, 0], volume[0, 1] = 1.0, 4.0, -7.0
    assert compute_slice_shares(maps_of(image=volume))["image"].tolist() == [[0.5, 0.0, 0.5]]


def test_regions_add_up_and_keep_their_labels(maps):
    atlas = torch.randint(0, 3, (3, 4, 5), generator=torch.Generator().manual_seed(1)) * 10
    found = compute_region_shares(maps, {"volume": atlas})["volume"]
    assert list(found) == [0, 10, 20]
    evidence = maps.evidence()
    total = evidence["volume"].sum(dim=(1, 2, 3)) + evidence["plane"].sum(dim=(1, 2))
    for label, share in found.items():
        assert share == pytest.approx((evidence["volume"] * (atlas == label)).sum(dim=(1, 2, 3)) / total, abs=1e-6)
    assert sum(found.values()) == pytest.approx(maps.shares()["volume"], abs=1e-5)


def test_an_atlas_may_differ_by_sample(maps_of):
    maps = maps_of(image=torch.tensor([[[1.0, 3.0]], [[1.0, 3.0]]]))
    found = compute_region_shares(maps, torch.tensor([[[1, 2]], [[2, 1]]]))["image"]
    assert found[1].tolist() == [0.25, 0.75]
    assert found[2].tolist() == [0.75, 0.25]


def test_no_evidence_no_share(maps_of):
    maps = maps_of(image=-torch.ones(1, 2, 2))
    assert compute_slice_shares(maps)["image"].tolist() == [[0.0, 0.0]]


def test_what_does_not_fit_is_told(maps):
    with pytest.raises(ConfigError, match=r"axis=.*0 to 1"):
        compute_slice_shares(maps, axis=2)
    with pytest.raises(ConfigError, match="mapping input"):
        compute_region_shares(maps, torch.ones(3, 4, 5, dtype=torch.long))
    with pytest.raises(ConfigError, match="nearest: 'volume'"):
        compute_region_shares(maps, {"volum": torch.ones(3, 4, 5, dtype=torch.long)})
    with pytest.raises(ConfigError, match="expected integers"):
        compute_region_shares(maps, {"volume": torch.ones(3, 4, 5)})
