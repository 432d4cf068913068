from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from seewhy.data.domains.dataset import PairSampler


def stream(epochs, *args, **options):
    """All pairs of some epochs."""
    sampler = PairSampler(*args, **options)
    pairs = []
    for epoch in epochs:
        sampler.set_epoch(epoch)
        pairs += list(sampler)
    return pairs


@settings(max_examples=40, deadline=None)
@given(
    a=st.integers(1, 9), b=st.integers(1, 9), size=st.integers(1, 4), batches=st.integers(1, 5), seed=st.integers(0, 99)
)
def test_each_domain_is_passed_through_evenly(a, b, size, batches, seed):
    pairs = stream(range(6), a, b, batch_size=size, batches_per_epoch=batches, seed=seed)
    assert [pair.number for pair in pairs] == list(range(6 * size * batches))
    for length, chosen in ((a, [pair.a for pair in pairs]), (b, [pair.b for pair in pairs])):
        for first in range(0, len(chosen) - length + 1, length):
            assert sorted(chosen[first : first + length]) == list(range(length))


def test_a_resumed_run_gets_the_pairs_of_an_uninterrupted_one():
    options = {"batch_size": 3, "batches_per_epoch": 4, "seed": 5}
    assert stream(range(6), 7, 11, **options) == stream(range(2), 7, 11, **options) + stream(
        range(2, 6), 7, 11, **options
    )


def test_ranks_share_the_stream_of_one():
    alone = stream([3], 7, 11, batch_size=4, batches_per_epoch=5)
    ranks = [stream([3], 7, 11, batch_size=2, batches_per_epoch=5, num_replicas=2, rank=rank) for rank in (0, 1)]
    assert [pair for both in zip(*ranks, strict=True) for pair in both] == alone


def test_partners_change_from_pass_to_pass_even_in_domains_of_equal_length():
    passes = [stream([epoch], 50, 50, batch_size=50) for epoch in range(4)]
    partners = [{pair.a: pair.b for pair in pairs} for pairs in passes]
    for first in range(4):
        for second in range(first):
            assert sum(partners[first][a] == partners[second][a] for a in range(50)) < 8
        assert sum(a == b for a, b in partners[first].items()) < 8
    assert stream([0], 50, 50, batch_size=50, seed=1) != passes[0]


def test_an_epoch_is_a_pass_over_the_larger_domain():
    assert len(PairSampler(100, 30, batch_size=8)) == 96
    assert len(PairSampler(3, 2, batch_size=8)) == 8
    assert len(PairSampler(100, 30, batch_size=8, num_replicas=2)) == 48
    seen = Counter(pair.b for pair in stream([0], 100, 30, batch_size=10))
    assert set(seen.values()) == {3, 4}
