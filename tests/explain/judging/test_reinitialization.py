"""Other weights for a while, and the very same ones afterwards."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from seewhy.errors import ConfigError
from seewhy.explain.explained_model import Explainable, ExplainedModel
from seewhy.explain.judging.reinitialization import find_head, reinitialize


def fingerprint(module: nn.Module) -> list[tuple[str, int, bytes, bool]]:
    """Every tensor's name, address, bytes and whether it learns."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return [(n, t.data_ptr(), t.detach().numpy().tobytes(), t.requires_grad) for n, t in tensors.items()]


def hooks(module: nn.Module) -> int:
    """Hooks of any kind on any part."""
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


@pytest.fixture
def subject(trained, cases) -> ExplainedModel:
    """The trained network with its cases."""
    return ExplainedModel(trained, cases.image)


def test_everything_is_as_before(trained, subject):
    before, state = fingerprint(trained), torch.get_rng_state()
    weights = {name: one.detach().clone() for name, one in trained.named_parameters()}
    with reinitialize(subject, seed=0):
        assert not any(torch.equal(one, weights[name]) for name, one in trained.named_parameters())
    assert fingerprint(trained) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert hooks(trained) == 0


@pytest.mark.parametrize("where", ["inside", "while drawing"])
def test_everything_is_as_before_after_an_error(trained, subject, monkeypatch, where):
    before, state = fingerprint(trained), torch.get_rng_state()
    if where == "while drawing":
        monkeypatch.setattr(trained.head, "reset_parameters", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError), reinitialize(subject, seed=0):
        raise ZeroDivisionError
    assert fingerprint(trained) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_the_seed_decides_the_weights(trained, subject):
    drawn = []
    for seed in (0, 0, 1):
        with reinitialize(subject, seed=seed):
            drawn.append(trained.features[4].weight.detach().clone())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_only_the_given_parts_change(trained, subject):
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    with reinitialize(subject, [trained.head], seed=0):
        changed = {name for name, value in trained.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight", "head.bias"}


def test_gradients_pass_in_inference_mode(trained, cases):
    with torch.inference_mode():
        subject = ExplainedModel(trained, cases.image)
        with reinitialize(subject, seed=0), torch.inference_mode(False), torch.enable_grad():
            image = subject.inputs["image"].requires_grad_()
            (gradient,) = torch.autograd.grad(subject.scores({"image": image}).sum(), image)
    assert gradient.abs().sum() > 0


def test_batch_statistics_are_measured_anew(trained, subject):
    seen: list[Tensor] = []
    norm = trained.features[1]
    with reinitialize(subject, seed=0):
        hook = norm.register_forward_hook(lambda _, args, output: seen.extend((args[0], output)))
        with torch.no_grad():
            trained(subject.inputs["image"])
        hook.remove()
        mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    received, output = seen
    assert mean == pytest.approx(received.mean(dim=(0, 2, 3)), abs=1e-5)
    assert variance == pytest.approx(received.var(dim=(0, 2, 3)), rel=1e-4)
    assert output.std(dim=(0, 2, 3)) == pytest.approx(torch.ones(8), rel=1e-3)


def test_statistics_of_a_part_that_runs_twice_are_of_both_calls():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = FrozenBatchNorm2d(1)
            self.top = nn.Linear(1, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.top((self.norm(a) + self.norm(b)).mean(dim=(2, 3)))

    module = Twice()
    a, b = torch.rand(1, 1, 4, 4), 3 + torch.rand(1, 1, 4, 4)
    with reinitialize(ExplainedModel(module, (a, b)), seed=0):
        both = torch.cat([a, b]).flatten()
        assert module.norm.running_mean.item() == pytest.approx(both.mean().item(), rel=1e-5)
        assert module.norm.running_var.item() == pytest.approx(both.var().item(), rel=1e-4)
    assert module.norm.running_mean.item() == 0.0


def test_parameters_without_a_rule_are_shuffled_and_tied_ones_stay_tied():
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.arange(12.0).reshape(3, 4))
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x.mean(dim=(2, 3)))) + self.position.sum(dim=0)

    module = Tokens()
    with reinitialize(ExplainedModel(module, torch.rand(2, 4, 5, 5)), seed=0):
        assert sorted(module.position.flatten().tolist()) == list(range(12))
        assert module.position.flatten().tolist() != list(range(12))
        assert module.second.weight is module.first.weight
    assert module.position.flatten().tolist() == list(range(12))


class Declared(nn.Module):
    """Two branches, a hidden layer, and a parameter of its own; says which layers its maps are of."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.left, self.right = (nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU()) for _ in range(2))
        self.hidden, self.top = nn.Linear(6, 5), nn.Linear(5, 2)

    def explainable(self) -> Explainable:
        return Explainable(inputs=("a", "b"), layers={"a": "left", "b": "right"})

    def forward(self, image: dict[str, Tensor]) -> Tensor:
        pooled = [self.left(image["a"]).mean(dim=(2, 3)), self.right(image["b"]).mean(dim=(2, 3))]
        return self.top(self.hidden(torch.cat(pooled, dim=1)).relu()) * self.scale


def test_the_head_is_what_runs_behind_the_layers_of_the_maps():
    module = Declared()
    assert find_head(ExplainedModel(module, {"a": torch.rand(1, 1, 8, 8), "b": torch.rand(1, 1, 8, 8)})) == [
        module.hidden,
        module.top,
    ]
    assert hooks(module) == 0


def test_the_head_of_an_unknown_module_is_its_last_linear_part_in_the_forward():
    early = nn.Linear(8, 2)
    module = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 8, 3), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), top=early, end=nn.Identity()
        )
    )
    assert find_head(ExplainedModel(module, torch.rand(1, 1, 8, 8))) == [early]
    with pytest.raises(ConfigError, match=r"Sequential.*parameters"):
        find_head(ExplainedModel(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), torch.rand(1, 2, 4, 4)))
