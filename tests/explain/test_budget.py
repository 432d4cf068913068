"""Rows within a memory budget."""

import pytest
import torch
from torch import nn

from seewhy.errors import ConfigError
from seewhy.explain import ExplainedModel, Saliency
from seewhy.explain.budget import MemoryBudget, measure_peak_bytes
from seewhy.explain.gradient.base import compute_gradients
from seewhy.option_types import parse_bytes


@pytest.mark.parametrize(
    ("size", "count"), [("1GiB", 2**30), ("512 MiB", 2**29), ("1.5kb", 1500), (77, 77), ("77", 77), ("2GB", 2 * 10**9)]
)
def test_sizes_are_read(size, count):
    assert parse_bytes(size) == count


@pytest.mark.parametrize("size", ["", "GiB", "1TiBB", "-1MiB", 0, "a lot", 0.0])
def test_other_sizes_are_refused(size):
    with pytest.raises(ConfigError, match="1GiB"):
        parse_bytes(size)


def test_the_peak_is_that_of_what_lives_at_one_time():
    start = torch.zeros(1000)

    def work():
        first = start + 1  # 4000 bytes
        second = first + 1  # 8000
        del first
        third = second.double()  # 4000 + 8000
        return third.view(10, 100).t()[0].sum() + start.view(-1)[0]

    assert 12000 <= measure_peak_bytes(work, [start]) <= 12100


def test_what_autograd_keeps_counts():
    start = torch.zeros(1000, requires_grad=True)

    def work():
        end = start.sigmoid().sigmoid().sigmoid()
        torch.autograd.grad(end.sum(), start)

    with torch.no_grad():
        thrifty = measure_peak_bytes(lambda: start.sigmoid().sigmoid().sigmoid(), [start])
    # A percent is the slack at which the ledger is looked through.
    assert 0.99 * 8000 <= thrifty <= 8000
    assert 0.99 * 16000 <= measure_peak_bytes(work, [start]) <= 20100


def test_rows_share_the_budget_and_are_measured_once(nets, images):
    net = nets.Net().eval()
    subject = ExplainedModel(net, images)
    budget = MemoryBudget("1MiB")
    calls = []
    net.register_forward_pre_hook(lambda *_: calls.append(1))
    forward, gradient = budget.forward_rows(subject), budget.gradient_rows(subject)
    assert forward > gradient > 1
    assert (budget.forward_rows(subject), budget.gradient_rows(subject)) == (forward, gradient)
    assert len(calls) == 2
    assert MemoryBudget(2**21).gradient_rows(subject) in (2 * gradient, 2 * gradient + 1)
    assert MemoryBudget(1).gradient_rows(subject) == 1


def test_chunks_stay_within_the_budget(nets, images):
    net = nets.Net().eval().requires_grad_(False)
    subject = ExplainedModel(net, images[:1])
    size = 2**20
    rows = MemoryBudget(size).gradient_rows(subject)
    many = images[:1].repeat(rows, 1, 1, 1)
    target = torch.zeros(rows, dtype=torch.long)

    def work():
        compute_gradients(subject, {"image": many}, [target], target)

    peak = measure_peak_bytes(work, [*net.parameters(), *net.buffers(), many])
    assert 0.8 * size < peak <= 1.02 * size


class Full(nn.Module):
    def forward(self, image):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_a_full_device_is_said_in_words(images):
    with pytest.raises(ConfigError, match="memory_budget=1024MiB"):
        Saliency()(Full(), images)


def test_on_a_cpu_more_than_sixteen_rows_run_only_while_they_fit_its_cache():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    small, large = (ExplainedModel(net, torch.zeros(1, 1, side, side)) for side in (8, 1024))
    assert MemoryBudget("1GiB").forward_rows(large) == 16
    assert MemoryBudget("1GiB").forward_rows(small) == MemoryBudget("64MiB").forward_rows(small) > 16
