"""Two optimisers by hand: accumulation, clipping, schedules, half precision, several processes."""

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins.precision import MixedPrecision
from tiny_cyclegan import Batches, halves, pairs, tiny, trainer_for

from seewhy.errors import ConfigError
from seewhy.models.base import learning_rate_factor
from seewhy.models.translation.adversarial import freeze_parameters

SGD = {"name": "sgd", "lr": 0.1}


def fitted(folder, batches, *callbacks, trainer=None, **options):
    model = tiny(**options)
    trainer_for(folder, *callbacks, **(trainer or {})).fit(model, Batches(batches))
    return model


def assert_equal(one, other, **tolerance):
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], msg=name, equal_nan=True, **tolerance)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_a_window_of_small_batches_makes_the_step_of_a_large_one(tmp_path, clip):
    batch, options = pairs(4), {"optimizer": SGD, "replay": 0, "clip": clip}
    whole = fitted(tmp_path, [batch], **options)
    parts = fitted(tmp_path, halves(batch), accumulate=2, **options)
    start = tiny(**options)
    assert_equal(whole, parts, rtol=1e-4, atol=2e-5)
    moved = [name for name, value in start.named_parameters() if not torch.equal(value, whole.get_parameter(name))]
    assert {name.split(".")[0] for name in moved} == {"generators", "discriminators"}


def test_the_last_window_of_an_epoch_is_shorter(tmp_path):
    batches, options = [pairs(2, seed=seed) for seed in range(3)], {"optimizer": SGD, "replay": 0}
    counted = fitted(tmp_path, batches, accumulate=2, **options)
    assert counted.trainer.global_step == 4  # two windows, two optimisers
    first, last = fitted(tmp_path, batches[:2], accumulate=2, **options), fitted(tmp_path, batches[2:], **options)
    last.load_state_dict(first.state_dict())
    trainer_for(tmp_path).fit(last, Batches(batches[2:]))
    assert_equal(counted, last)


class Watched(Callback):
    """Norms and learning rates at each step."""

    def __init__(self):
        self.norms, self.rates = [], []

    def on_train_start(self, trainer, pl_module):
        for optimizer in trainer.optimizers:
            optimizer.register_step_post_hook(self._look)

    def _look(self, optimizer, args, kwargs):
        own = [p.grad.norm() for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.norms.append(float(torch.stack(own).norm()))
        self.rates.append(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_clipping_bounds_the_norm_of_each_optimisers_gradients(tmp_path, precision):
    free, clipped = Watched(), Watched()
    for watch, clip in ((free, None), (clipped, 1e-3)):
        fitted(tmp_path, [pairs(2)], watch, trainer={"precision": precision}, clip=clip)
    assert min(free.norms) > 2e-3
    assert clipped.norms == pytest.approx([1e-3] * 2, rel=1e-3)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_schedules_apply_to_both_optimisers_once_per_step(tmp_path, name):
    scheduler, watch = {"name": name, "warmup": 2, "warmup_ratio": 0.1, "decay_from": 0.5}, Watched()
    other = {"lr": 4e-3}
    batches = [pairs(1, seed=seed) for seed in range(5)]
    fitted(
        tmp_path, batches, watch, trainer={"max_epochs": 2}, scheduler=scheduler, discriminator_optimizer=other,
        accumulate=2,
    )  # fmt: skip
    factors = [learning_rate_factor(step, total=6, **scheduler) for step in range(6)]
    assert watch.rates[::2] == pytest.approx([1e-3 * factor for factor in factors])
    assert watch.rates[1::2] == pytest.approx([4e-3 * factor for factor in factors])
    assert factors[0] == pytest.approx(0.1)
    assert factors[5] < 0.6


def test_the_end_of_a_schedule_knows_max_steps(tmp_path):
    watch = Watched()
    scheduler = {"name": "linear"}
    batches = [pairs(1, seed=seed) for seed in range(5)]
    fitted(tmp_path, batches, watch, trainer={"max_epochs": 4, "max_steps": 6}, scheduler=scheduler)
    assert watch.rates[::2] == pytest.approx([1e-3, 1e-3 * 2 / 3, 1e-3 / 3])
    with pytest.raises(ConfigError, match=r"trainer.max_epochs=-1 has no end"):
        fitted(tmp_path, batches, trainer={"max_epochs": -1}, scheduler=scheduler)


@pytest.mark.parametrize(
    ("option", "remedy"),
    [({"accumulate_grad_batches": 2}, "set model.accumulate"), ({"gradient_clip_val": 1.0}, "set model.clip")],
)
def test_options_of_the_trainer_that_do_not_apply_name_ours(tmp_path, option, remedy):
    with pytest.raises(ConfigError, match=remedy) as error:
        fitted(tmp_path, [pairs(1)], trainer=option)
    assert "\n" not in str(error.value)


def test_numbers_that_train_nothing():
    with pytest.raises(ConfigError, match=r"model.accumulate=0 .*; model.clip=-1 "):
        tiny(accumulate=0, clip=-1)
    with pytest.raises(ConfigError, match=r"model.discriminator_optimizer.name='adan' is unknown; nearest: 'adam'"):
        tiny(discriminator_optimizer={"name": "adan"})


def test_one_scale_serves_both_optimisers(tmp_path):
    """Growth after every second step: gradients of the second optimiser must not be divided by the new scale."""
    batches, options = [pairs(1, seed=seed) for seed in range(4)], {"optimizer": SGD, "replay": 0, "accumulate": 2}
    found = {}
    for name, scale in (("small", 1.0), ("grown", 1024.0)):
        watch = Watched()
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1, growth_factor=2.0)
        plugin = MixedPrecision("16-mixed", "cpu", scaler)
        model = fitted(tmp_path, batches, watch, trainer={"plugins": [plugin]}, **options)
        found[name] = watch.norms
        assert float(model.trainer.precision_plugin.scaler.get_scale()) == scale * 2**2  # two steps, not four
    assert found["small"] == pytest.approx(found["grown"], rel=0.02)


def test_a_gradient_that_is_not_finite_is_skipped_by_its_optimiser_alone(tmp_path):
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**40))
    model = fitted(tmp_path, [pairs(1)], trainer={"plugins": [plugin]}, optimizer=SGD)
    start = tiny(optimizer=SGD)
    assert torch.equal(model.generators["a2b"].output[1].weight, start.generators["a2b"].output[1].weight)
    assert all(torch.isfinite(value).all() for value in model.parameters())
    assert model.trainer.precision_plugin.scaler.get_scale() == 2.0**39


def test_half_precision_learns_nearly_the_same(tmp_path):
    full, half = (
        fitted(tmp_path, [pairs(2)], trainer={"precision": precision}, optimizer=SGD)
        for precision in ("32-true", "bf16-mixed")
    )
    start = tiny(optimizer=SGD)
    step = torch.cat([(full.get_parameter(n) - p).flatten() for n, p in start.named_parameters()])
    other = torch.cat([(half.get_parameter(n) - p).flatten() for n, p in start.named_parameters()])
    assert torch.cosine_similarity(step, other, dim=0) > 0.8
    assert {value.dtype for value in half.parameters()} == {torch.float32}


def test_frozen_parts_let_gradients_pass():
    net = torch.nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    x = torch.ones(1, 2, requires_grad=True)
    with freeze_parameters(net):
        net(x).sum().backward()
    assert x.grad is not None
    assert net.weight.grad is None
    assert (net.weight.requires_grad, net.bias.requires_grad) == (True, False)
