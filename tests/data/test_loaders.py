import pytest
from torch.utils.data import DistributedSampler

from seewhy.data.loaders import EpochSampler, PatientSampler


def stream(epochs, *, length=10, batch_size=2, batches_per_epoch=None, seed=3, num_replicas=1):
    """All draws of some epochs in the order of their numbers."""
    draws = []
    for rank in range(num_replicas):
        sampler = EpochSampler(
            length,
            batch_size=batch_size,
            batches_per_epoch=batches_per_epoch,
            seed=seed,
            num_replicas=num_replicas,
            rank=rank,
        )
        for epoch in epochs:
            sampler.set_epoch(epoch)
            drawn = list(sampler)
            assert len(drawn) == len(sampler)
            draws += drawn
    return sorted(draws)


@pytest.mark.parametrize("num_replicas", [1, 2, 3])
@pytest.mark.parametrize("batches", [None, 1, 3, 11])
def test_stream_is_permutation_after_permutation(num_replicas, batches):
    draws = stream(range(12), batches_per_epoch=batches, num_replicas=num_replicas)
    assert [draw.number for draw in draws] == list(range(len(draws)))  # disjoint, complete, nothing dropped
    samples = [draw.sample for draw in draws]
    passes = [samples[start : start + 10] for start in range(0, len(samples) - 9, 10)]
    assert passes
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len({tuple(one) for one in passes}) == len(passes)


def test_global_batches_do_not_depend_on_the_number_of_ranks():
    one = stream(range(4), batch_size=6, batches_per_epoch=2)
    assert one == stream(range(4), batch_size=3, batches_per_epoch=2, num_replicas=2)
    assert one == stream(range(4), batch_size=2, batches_per_epoch=2, num_replicas=3)


def test_first_batch_of_all_ranks_is_the_start_of_the_stream():
    ranks = [EpochSampler(50, batch_size=4, batches_per_epoch=3, num_replicas=2, rank=rank) for rank in (0, 1)]
    first = [draw.number for sampler in ranks for draw in list(sampler)[:4]]
    assert sorted(first) == list(range(8))


def test_resume_at_an_epoch_continues_the_stream():
    assert stream(range(6), batches_per_epoch=4)[3 * 8 :] == stream(range(3, 6), batches_per_epoch=4)


def test_seed_and_epoch_decide():
    assert stream([0]) == stream([0])
    assert [draw.sample for draw in stream([0])] != [draw.sample for draw in stream([1])]
    assert [draw.sample for draw in stream([0])] != [draw.sample for draw in stream([0], seed=4)]


def test_data_set_smaller_than_a_batch():
    draws = stream([0], length=3, batch_size=8)
    assert len(draws) == 8
    assert {draw.sample for draw in draws} == {0, 1, 2}


@pytest.mark.parametrize("length", [1, 2, 5, 6])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_patients_are_dealt_once_or_padded_evenly(length, ranks):
    dealt = [list(PatientSampler(length, num_replicas=ranks, rank=rank)) for rank in range(ranks)]
    assert sorted(index for part in dealt for index in part) == list(range(length))
    padded = [PatientSampler(length, pad=True, num_replicas=ranks, rank=rank) for rank in range(ranks)]
    assert len({len(sampler) for sampler in padded}) == 1
    assert {index for sampler in padded for index in sampler} == set(range(length))
    assert len(padded[0]) == -(-length // ranks)


def test_lightning_leaves_them_alone():
    # Lightning replaces every sampler that is no DistributedSampler when it runs on several devices.
    assert isinstance(EpochSampler(3, batch_size=1), DistributedSampler)
    assert isinstance(PatientSampler(3), DistributedSampler)
