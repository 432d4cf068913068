"""Gates of CBAM against their formulas."""

import pytest
import torch

from seewhy.nets.generators.blocks import CBAM


@pytest.mark.parametrize("channels", [8, 128])
def test_gates_are_the_formulas(channels):
    torch.manual_seed(1)
    net, x = CBAM(channels), torch.randn(2, channels, 9, 10)
    first, second = net.channel_attn.fc[1].weight[..., 0, 0], net.channel_attn.fc[3].weight[..., 0, 0]
    assert len(first) == max(channels // 16, 4)
    gate = ((x.mean((2, 3)) @ first.T).relu() @ second.T).sigmoid()[:, :, None, None]
    assert torch.allclose(net.channel_attn(x), gate, atol=1e-6)
    y = x * gate
    pooled = torch.stack([y.mean(1), y.max(1).values], 1)
    place = torch.nn.functional.conv2d(pooled, net.spatial_attn.conv.weight, padding=3).sigmoid()
    assert torch.allclose(net.spatial_attn(y), place, atol=1e-6)
    assert torch.allclose(net(x), y * place, atol=1e-6)


def test_a_gate_never_closes():
    net, x = CBAM(8), torch.rand(1, 8, 9, 9) + 1
    with torch.no_grad():
        for weight in net.parameters():
            weight.fill_(0.0)
        net.spatial_attn.conv.weight.fill_(-50.0)
    assert net.spatial_attn(x).max() < 1e-10
    assert torch.allclose(net(x), x * 0.5 * 0.01)
