"""Instance normalisation is torch's, by whatever kernel."""

import pytest
import torch
from torch.nn import functional as F

from seewhy.nets.generators.blocks import InstanceNorm2d


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("learns", [False, True])
def test_the_numbers_and_slopes_are_those_of_torch(memory_format, learns):
    random = torch.Generator().manual_seed(1)
    x = (3 * torch.randn(2, 5, 9, 8, generator=random, dtype=torch.float64) + 7).to(memory_format=memory_format)
    x.requires_grad_(learns)
    norm = InstanceNorm2d(5)
    found, wanted = norm(x), F.instance_norm(x)
    assert torch.allclose(found, wanted, atol=1e-12)
    assert not norm.state_dict()
    if learns:
        pull = torch.randn(x.shape, generator=random, dtype=torch.float64)
        slopes = [torch.autograd.grad((one * pull).sum(), x)[0] for one in (found, wanted)]
        assert torch.allclose(*slopes, atol=1e-12)


def test_images_do_not_meet():
    """One image of a batch is normalised as if it were alone."""
    scales = torch.tensor([1.0, 9.0, 0.1])[:, None, None, None]
    x = scales * torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(2))
    norm = InstanceNorm2d(4)
    assert torch.allclose(norm(x), torch.cat([norm(one[None]) for one in x]), atol=1e-6)


def test_a_map_of_one_place_cannot_be_normalised():
    with pytest.raises(ValueError, match="more than 1"):
        InstanceNorm2d(4)(torch.zeros(1, 4, 1, 1))
