"""Spatial gates become maps; channel gates are read by name."""

import pytest
import timm
import torch
from timm.layers.cbam import CbamModule
from torch import nn
from torch.nn.functional import interpolate

import seewhy.explain as explain
from seewhy.errors import ConfigError, ExplanationError
from seewhy.explain.attention.gates import read_channel_gates


class Gated(nn.Module):
    """CBAM of timm between two convolutions."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.first, self.second = nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.coarse, self.fine = CbamModule(8, rd_ratio=0.5), CbamModule(8, rd_ratio=0.5)
        self.head = nn.Linear(8, 3)

    def forward(self, image):
        x = self.fine(self.first(image))
        return self.head(self.coarse(self.second(x)).mean((2, 3)))


class Peephole(nn.Module):
    """A gate that is known: the sigmoid of the image, written in whatever form."""

    def __init__(self, form, axes=2):
        super().__init__()
        self.form, self.axes, self.gate = form, axes, nn.Sigmoid()

    def forward(self, image):
        x = image.clone()
        gate = {
            "module": lambda: self.gate(x),
            "function": lambda: torch.sigmoid(x),
            "method": lambda: x.sigmoid(),
            "in place": lambda: x.sigmoid_(),
        }[self.form]()
        return (image * gate).flatten(2).mean(2).expand(-1, 2) * torch.tensor([1.0, -1.0])


@pytest.fixture
def image():
    return torch.randn(2, 1, 24, 32, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("form", ["module", "function", "method", "in place"])
def test_a_known_gate_in_every_form(image, form):
    net = Peephole(form)
    with torch.no_grad():
        expected = net(image)
    maps = explain.Gates()(net, image)
    assert torch.equal(maps.maps["image"], image[:, 0].sigmoid())
    assert torch.equal(maps.scores, expected)
    volume = image[:, :, None].expand(-1, -1, 4, -1, -1).clone()
    assert torch.equal(explain.Gates()(Peephole(form, 3), volume).maps["image"], volume[:, 0].sigmoid())


def own_gates(net, image):
    """What the sigmoids of timm's modules give, by their own hooks."""
    found = {}
    hooks = [
        part.gate.register_forward_hook(lambda _, __, output, name=name: found.setdefault(name, []).append(output))
        for name, part in net.named_modules()
        if hasattr(part, "gate")
    ]
    with torch.no_grad():
        net.eval()(image)
    for hook in hooks:
        hook.remove()
    return found


def test_gates_of_cbam(image):
    net = Gated()
    own = own_gates(net, image)

    def placed(name):
        return interpolate(own[name][0], image.shape[2:], mode="bilinear", align_corners=False)[:, 0]

    last = explain.Gates()(net, image)
    torch.testing.assert_close(last.maps["image"], placed("coarse.spatial"))
    assert last.layers == {"image": "coarse.spatial"}
    torch.testing.assert_close(explain.Gates(gate=0)(net, image).maps["image"], placed("fine.spatial"))
    torch.testing.assert_close(explain.Gates(modules="fine")(net, image).maps["image"], placed("fine.spatial"))
    mean = (placed("fine.spatial") + placed("coarse.spatial")) / 2
    torch.testing.assert_close(explain.Gates(gate=None)(net, image).maps["image"], mean)
    assert 0 < last.maps["image"].min() < last.maps["image"].max() < 1
    assert any("same for every class" in note for note in last.notes)


def test_channel_gates_are_read_by_name(image):
    net = Gated().train()
    own = own_gates(net, image)
    found = read_channel_gates(net.train(), image)
    assert set(found) == {"fine.channel", "coarse.channel"}
    for name, values in found.items():
        assert torch.equal(values, own[name][0].flatten(1))
    assert net.training
    assert set(read_channel_gates(net, image, modules="fine")) == {"fine.channel"}
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


def test_channel_gates_of_an_efficientnet_and_no_map_of_them():
    net = timm.create_model("efficientnet_b0", num_classes=2)
    image = torch.randn(2, 3, 32, 32)
    found = read_channel_gates(net, image)
    assert len(found) == 16
    assert all(values.shape[0] == 2 and 0 <= values.min() <= values.max() <= 1 for values in found.values())
    with pytest.raises(ExplanationError, match=r"channel gates \(blocks\.0\.0\.se, …\).*read_channel_gates"):
        explain.Gates()(net, image)


def test_runs_of_one_gate_are_told_apart(image):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.cbam, self.head = CbamModule(1, rd_channels=1), nn.Linear(1, 2)

        def forward(self, image):
            return self.head(self.cbam(self.cbam(image)).mean((2, 3)))

    assert set(read_channel_gates(Twice(), image)) == {"cbam.channel", "cbam.channel#2"}
    with pytest.raises(ConfigError, match=r"gate=2.*image.*-2 to 1"):
        explain.Gates(gate=2)(Twice(), image)


def test_no_gates_or_none_where_they_are_looked_for(image, nets):
    with pytest.raises(ConfigError, match=r"gates.* Net"):
        explain.Gates()(nets.Net(), image)
    with pytest.raises(ConfigError, match=r"'second'.*'coarse\.spatial'"):
        explain.Gates(modules="second")(Gated(), image)
    with pytest.raises(ConfigError, match=r"no module 'coarse\.spatail'; nearest: 'coarse\.spatial'"):
        explain.Gates(modules="coarse.spatail")(Gated(), image)
