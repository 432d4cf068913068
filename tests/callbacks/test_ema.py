"""Averages of weights: their arithmetic, and what is left out of them."""

import pytest
import torch
from lightning.pytorch import Callback
from tiny_cyclegan import Batches, pairs, subject, tiny, trainer_for

from seewhy.callbacks.ema import ExponentialMovingAverage
from seewhy.errors import ConfigError


class Live(Callback):
    """Copies of the live weights after each batch, and of those that are validated."""

    def __init__(self):
        self.weights, self.validated = [], []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.weights.append({name: value.detach().clone() for name, value in pl_module.state_dict().items()})

    def on_validation_batch_end(self, trainer, pl_module, *_):
        self.validated.append({name: value.detach().clone() for name, value in pl_module.state_dict().items()})


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """A trained model, its live weights after each batch, and its callback before it lets go."""
    ema, live = ExponentialMovingAverage(decay=0.5), Live()
    kept = {}

    class Look(Callback):
        def on_train_end(self, trainer, pl_module):
            own = dict(pl_module.named_parameters())
            average = dict(ema._average_model.module.named_parameters())
            kept.update({name: average[name].data_ptr() == own[name].data_ptr() for name in own})

    model = tiny(losses={"weights": {"adversarial": 1.0, "cycle": 10.0, "nce": 1.0}}, nce={"dim": 8, "patches": 16})
    data = Batches([pairs(1, seed=seed) for seed in range(4)], subjects=[subject("a"), subject("b")])
    data.intensities = lambda domain: torch.ones(2, 4, 2).numpy()
    trainer = trainer_for(tmp_path_factory.mktemp("ema"), Look(), ema, live)
    trainer.fit(model, data)
    return model, live, kept


def test_one_update_follows_each_pair_of_steps(averaged):
    model, live, _ = averaged
    name = "generators.a2b.output.1.weight"
    expected = live.weights[0][name]
    for count, own in enumerate(live.weights[1:], start=1):
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * own[name]
    torch.testing.assert_close(model.get_parameter(name).data, expected)
    assert torch.equal(live.validated[0][name], model.get_parameter(name))
    assert not torch.equal(live.weights[-1][name], expected)


def test_what_only_training_needs_is_neither_averaged_nor_kept_twice(averaged):
    model, live, kept = averaged
    for name, value in model.state_dict().items():
        if not name.startswith("generators."):
            assert torch.equal(value, live.weights[-1][name]), name
            assert torch.equal(value, live.validated[-1][name]), name
    assert {name.split(".")[0] for name, shared in kept.items() if shared} == {"discriminators", "samplers"}
    assert not any(shared for name, shared in kept.items() if name.startswith("generators."))
    assert (model.typical_intensity("a") == 1).all()


def test_a_decay_out_of_range():
    with pytest.raises(ConfigError, match=r"callbacks.ema.decay=1.0 must be within"):
        ExponentialMovingAverage(decay=1.0)
