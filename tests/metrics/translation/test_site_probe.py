import pytest
import torch

from seewhy.metrics.translation.site_probe import (
    LogisticProbe,
    NetworkProbe,
    Site,
    describe_shortage,
    probe_rows,
    subject_folds,
)

PATIENTS, SLICES = 4, 4


def pictures(seed, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(-0.5, 0.5, 16)
    return ramp + shift + 0.2 * torch.randn(PATIENTS * SLICES, 2, 16, 16, generator=generator)


def owners(site):
    return [f"{site}{i // SLICES}" for i in range(PATIENTS * SLICES)]


def features(samples):
    return samples.mean(dim=(2, 3))


def summary(rows):
    table = {}
    for row in rows:
        table.setdefault((row["method"], row["direction"], row["kind"]), []).append(row["balanced_accuracy"])
    return {key: sum(values) / len(values) for key, values in table.items()}


def marked(values):
    """Brighter as the other site is, which fools a probe, but with a dot in the corner."""
    values = values + 0.6
    values[:, 0, :3, :3] = -2.0
    return values


def test_frozen_is_fooled_where_trained_again_is_not():
    a, b = pictures(0), pictures(1, shift=0.6)
    sites = (
        Site(a, {"marked": marked(a), "clean": a + 0.6}, owners("a")),
        Site(b, {"marked": b, "clean": b - 0.6}, owners("b")),
    )
    found = summary(probe_rows(NetworkProbe(steps=80), *sites, seeds=(0,), folds=4))
    assert found["raw", None, "raw"] > 0.95
    assert found["marked", "a2b", "frozen"] < 0.65
    assert found["marked", "a2b", "retrained"] > 0.95
    assert found["clean", "a2b", "frozen"] == pytest.approx(0.5, abs=0.1)
    assert found["clean", "a2b", "retrained"] < 0.7  # with 4 patients it can be well below chance
    assert found["marked", "b2a", "frozen"] == found["raw", None, "raw"]  # nothing was changed there


def test_identical_sites_are_at_chance_and_logistic_sees_a_shift():
    a, b, shifted = (features(pictures(seed, shift)) for seed, shift in ((0, 0.0), (1, 0.0), (2, 0.3)))
    same = summary(probe_rows(LogisticProbe(), Site(a, {}, owners("a")), Site(b, {}, owners("b")), seeds=range(5)))
    assert same["raw", None, "raw"] == pytest.approx(0.5, abs=0.12)
    other = summary(probe_rows(LogisticProbe(), Site(a, {}, owners("a")), Site(shifted, {}, owners("b")), seeds=(0,)))
    assert other["raw", None, "raw"] == 1.0


def test_logistic_regression_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(60, 5, generator=generator, dtype=torch.float64) * torch.tensor([1, 10, 0.1, 1, 1])
    second = samples[:, 0] + torch.randn(60, generator=generator) > 0.7
    found = LogisticProbe(strength=0.5).fit(samples, second, seed=0).scores(samples)
    scaled = StandardScaler().fit_transform(samples.numpy())
    model = LogisticRegression(C=0.5, class_weight="balanced", tol=1e-10).fit(scaled, second.numpy())
    torch.testing.assert_close(found, torch.from_numpy(model.decision_function(scaled)), atol=1e-4, rtol=1e-4)


def test_nobody_is_tested_on_whom_a_probe_was_trained():
    class Remembering:
        name = "remembering"

        def fit(self, samples, second, *, seed):
            self.seen = samples
            return super_fit(samples, second)

    trained = []

    def super_fit(samples, second):
        from seewhy.metrics.translation.site_probe import Fitted

        def scores(held):
            trained.append(bool((held[:, None] == samples[None]).all(dim=2).any()))
            return torch.zeros(len(held), dtype=torch.float64)

        return Fitted(scores, True)

    a, b = features(pictures(0)), features(pictures(1))
    sites = Site(a, {"t": a}, owners("a")), Site(b, {"t": b}, owners("b"))
    assert len(list(probe_rows(Remembering(), *sites, seeds=range(2), folds=4))) == 2 * (4 * 5 + 2 * 2)
    assert trained
    assert not any(trained)


def test_rows_have_auc_and_place():
    a, b = features(pictures(0)), features(pictures(1, 0.3))
    rows = list(probe_rows(LogisticProbe(), Site(a, {}, owners("a")), Site(b, {}, owners("b")), seeds=(3,), folds=2))
    assert [(row["seed"], row["fold"], row["kind"]) for row in rows] == [
        *[(3, fold, "floor") for fold in (0, 1, 0, 1)], (3, 0, "raw"), (3, 1, "raw"),
    ]  # fmt: skip
    assert all(row["auc"] == 1.0 and row["converged"] for row in rows if row["kind"] == "raw")


def test_the_floor_tells_halves_of_the_targets_patients_apart():
    """Patients alike but for themselves: whoever is held out is missed as often as found, or more often."""
    a, b = pictures(0), pictures(1, shift=0.6)
    rows = list(probe_rows(LogisticProbe(), Site(features(a), {}, owners("a")), Site(features(b), {}, owners("b")),
                           seeds=range(6)))  # fmt: skip
    found = summary(rows)
    assert found["raw", None, "raw"] == 1.0
    for direction in ("a2b", "b2a"):
        assert 0.2 < found["real", direction, "floor"] < 0.7
    few = [patient for patient in owners("a") if patient != "a3"]
    some = Site(features(a)[: len(few)], {}, few)
    kinds = {(row["direction"], row["kind"]) for row in probe_rows(LogisticProbe(), some, some, seeds=(0,))}
    assert kinds == {(None, "raw")}  # halves of three patients leave one alone


def test_same_seed_same_network():
    a, b = pictures(0), pictures(1, 0.1)
    second = torch.arange(len(a) + len(b)) >= len(a)
    state = torch.random.get_rng_state()
    scores = [NetworkProbe(steps=20).fit(torch.cat([a, b]), second, seed=s).scores(a) for s in (0, 0, 1)]
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])
    assert torch.equal(state, torch.random.get_rng_state())


def test_folds_cut_nobody_and_hold_both_sites():
    a, b = ["p1", "p2", "both", "p3", "p1"], ["q1", "q2", "both", "q3"]
    folds = subject_folds(a, b, folds=3, seed=0)
    assert sorted(name for fold in folds for name in fold) == ["both", "p1", "p2", "p3", "q1", "q2", "q3"]
    assert len(subject_folds(["a"] * 5 + ["b"], list("xyz"), folds=5, seed=0)) == 2
    plain = subject_folds(["a1", "a2", "a3", "a4"], ["b1", "b2", "b3", "b4"], folds=4, seed=1)
    assert all({name[0] for name in fold} == {"a", "b"} for fold in plain)


def test_every_fold_has_both_sites_whoever_was_scanned_twice():
    for shared in range(7):
        for own_a, own_b in ((0, 0), (1, 0), (2, 5), (4, 4)):
            both = [f"c{i}" for i in range(shared)]
            a, b = both + [f"a{i}" for i in range(own_a)], both + [f"b{i}" for i in range(own_b)]
            for folds in range(1, min(5, len(a), len(b)) + 1):
                dealt = subject_folds(a, b, folds=folds, seed=0)
                assert len(dealt) == folds
                for site in (a, b):
                    counts = [len(fold & set(site)) for fold in dealt]
                    assert sum(counts) == len(site)
                    assert max(counts) - min(counts) <= 1


def test_patients_scanned_at_both_sites_do_not_undo_the_probe():
    a, b = features(pictures(0)), features(pictures(1, shift=0.6))
    names = owners("a"), [name.replace("b3", "a3").replace("b2", "a2") for name in owners("b")]
    rows = list(probe_rows(LogisticProbe(), *(Site(values, {}, own) for values, own in zip((a, b), names, strict=True)),
                           seeds=(0, 1), folds=4))  # fmt: skip
    raw = [row["balanced_accuracy"] for row in rows if row["kind"] == "raw"]
    assert raw == [1.0] * 8


def test_too_few_patients_are_said_in_words():
    few = Site(torch.zeros(3, 2), {}, ["a1", "a2", "a3"])
    enough = Site(torch.zeros(4, 2), {}, ["b1", "b2", "b3", "b4"])
    assert "3 of domain a and 4 of domain b" in describe_shortage(few, enough)
    assert describe_shortage(enough, enough) is None
