"""Losses of a training step on a GPU that is only imagined: types and devices are followed, nothing is computed.

A backward pass asks for a real GPU. Each test runs in a process of its own: after imagined tensors on a GPU, autograd
refuses to work in processes that are forked later, as other tests do.
"""

import multiprocessing

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from seewhy.models.translation.cyclegan_25d import CycleGAN25D

WEIGHTS = {"adversarial": 1.0, "cycle": 10.0, "identity": 5.0, "ssim": 1.0, "gradient": 1.0, "nce": 1.0}


def model():
    return CycleGAN25D(
        optimizer={"name": "adam", "lr": 1e-3},
        scheduler={"name": "constant"},
        generator={"name": "sa", "width": 8, "blocks": 2, "attention_blocks": [1]},
        discriminator={"width": 8, "scales": 2},
        losses={"weights": WEIGHTS},
        nce={"dim": 16, "patches": 8, "identity": True},
        replay=50,  # never full here: draws need numbers, which imagined tensors have none of
    )


def moved(module):
    """Its parameters and buffers as imagined ones on a GPU."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = torch.nn.Parameter(torch.empty(parameter.shape, device="cuda"))
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda")
    return module


@pytest.mark.parametrize("half", [False, True])
def test_losses_stay_on_their_device_in_single_precision(half):
    child = multiprocessing.get_context("fork").Process(target=compute_losses, args=(half,))
    child.start()
    child.join(120)
    assert child.exitcode == 0


def compute_losses(half):
    made = model()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.autocast("cuda", torch.bfloat16, enabled=half):
        made = moved(made)
        batch = {
            domain: {
                "image": torch.rand(2, 20, 64, 64, device="cuda"),
                "body": torch.ones(2, 5, 64, 64, dtype=torch.bool, device="cuda"),
            }
            for domain in "ab"
        }
        sides = {domain: made.step.side(own) for domain, own in batch.items()}
        found = made.step.generator_losses(sides)
        judged = made.step.discriminator_losses(sides, made.replays.exchange(found.fakes))
        for loss in (found.total, *judged.values()):
            assert (loss.device.type, loss.dtype) == ("cuda", torch.float32)
        # Histories that went through a checkpoint are on the CPU; new fakes are not.
        made.replays.resume_from(made.replays.gather_state())
        made.replays.begin(0)
        made.replays.exchange(found.fakes)
        for state in made.replays.gather_state()[0].values():
            assert state["images"].device.type == "cpu"
