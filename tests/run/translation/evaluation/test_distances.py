import numpy as np
import pytest

from seewhy.metrics.translation.feature_distances import frechet_distance, kernel_table
from seewhy.run.translation.evaluation.distances import FeatureSample, measure_direction, measure_distances
from seewhy.run.translation.evaluation.settings import DistanceOptions

M, D = 4, 3


def sample(seed, shift=0.0, *, patients=8, slices=6, name="p"):
    rng = np.random.default_rng(seed)
    values = shift + rng.normal(size=(patients, 1, M, D)) * 0.3 + rng.normal(size=(patients, slices, M, D))
    return FeatureSample(values.reshape(-1, M, D), [f"{name}{i}" for i in range(patients) for _ in range(slices)])


def test_a_translation_onto_the_target_is_at_the_floor_and_none_is_far_above():
    raw, target = sample(0, 2.0), sample(1, name="q")
    found = measure_direction(
        {"identity": raw, "model": raw._replace(values=raw.values - 2.0)}, target, options=DistanceOptions(), seed=0
    )
    for measure in ("frechet", "kid", "mmd"):
        floor, good, none = (
            found["floor"][measure], found["methods"]["model"][measure], found["methods"]["identity"][measure],
        )  # fmt: skip
        assert abs(good["matched"] - floor["matched"]) < 3 * floor["matched_sd"], measure
        assert none["matched"] > floor["matched"] + 10 * floor["matched_sd"], measure
        assert set(none["modalities"]) == {"t1", "t1ce", "t2", "flair"}
    assert found["methods"]["identity"]["kid"]["interval"][0] > 0
    assert found["floor"]["frechet"]["value"] is None  # halves only


def test_values_are_means_over_modalities_of_distances_of_all_scans():
    raw, target = sample(0, 1.0), sample(1, name="q")
    found = measure_direction({"identity": raw}, target, options=DistanceOptions(repeats=2, resamples=10), seed=0)
    each = [frechet_distance(raw.values[:, m], target.values[:, m]) for m in range(M)]
    told = found["methods"]["identity"]["frechet"]
    assert told["value"] == pytest.approx(np.mean(each))
    assert list(told["modalities"].values()) == pytest.approx(each)


def test_intervals_are_of_the_mean_over_modalities():
    raw, target = sample(0, 1.0, patients=5, slices=2), sample(1, name="q", patients=6, slices=2)
    options = DistanceOptions(repeats=1, resamples=50)
    told = measure_direction({"identity": raw}, target, options=options, seed=7)["methods"]["identity"]["kid"]
    owners, rng, means = (raw.patients, target.patients), np.random.default_rng(7), []
    tables = [kernel_table(raw.values[:, m], target.values[:, m], subjects=owners) for m in range(M)]
    for _ in range(50):
        drawn = rng.integers(0, 5, 5), rng.integers(0, 6, 6)
        means.append(np.mean([table.distance(*drawn) for table in tables]))
    assert told["interval"] == pytest.approx(np.nanquantile(means, [0.025, 0.975]))


def test_matched_distances_are_of_as_many_patients_as_the_floor():
    """With equal numbers the Fréchet distance of the target to itself is the floor's; with all of them it is less."""
    target = sample(1, name="q")
    twin = FeatureSample(sample(2).values, sample(2).patients)
    found = measure_direction({"identity": twin}, target, options=DistanceOptions(repeats=40, resamples=10), seed=0)
    told, floor = found["methods"]["identity"]["frechet"], found["floor"]["frechet"]
    assert told["value"] < 0.8 * floor["matched"]
    assert told["matched"] == pytest.approx(floor["matched"], rel=0.25)


def test_numbers_are_equal_where_the_source_has_fewer_patients_than_half_the_target():
    """Patients with the same slices: distances are 0 at equal numbers, and only there, since covariances shrink."""
    slices = np.random.default_rng(0).normal(size=(3, M, D))

    def alike(count, name):
        return FeatureSample(np.tile(slices, (count, 1, 1)), [f"{name}{i}" for i in range(count) for _ in range(3)])

    for source, target, size in ((3, 20, 3), (20, 7, 3), (4, 8, 4)):
        raw = {"identity": alike(source, "p")}
        found = measure_direction(raw, alike(target, "q"), options=DistanceOptions(repeats=4, resamples=10), seed=0)
        assert found["matched_patients"] == size
        told, floor = found["methods"]["identity"]["frechet"], found["floor"]["frechet"]
        assert told["value"] > 1e-4
        assert told["matched"] == pytest.approx(0, abs=1e-9)
        assert floor["matched"] == pytest.approx(0, abs=1e-9)


def test_too_few_patients_give_none_not_a_number():
    raw, target = sample(0, patients=2), sample(1, patients=2, name="q")
    found = measure_direction({"identity": raw}, target, options=DistanceOptions(repeats=3, resamples=10), seed=0)
    assert found["floor"]["kid"]["matched"] is None
    assert found["methods"]["identity"]["kid"]["value"] is not None
    assert found["methods"]["identity"]["kid"]["interval"] is None
    one = measure_direction({"identity": sample(0, patients=1)}, target, options=DistanceOptions(), seed=0)
    assert one["methods"]["identity"]["mmd"]["value"] is None


def records(methods=("identity", "model")):
    found = []
    for domain, shift in (("a", 1.0), ("b", 0.0)):
        whole = sample(ord(domain), shift, patients=4)
        for patient in whole.names():
            own = whole.values[[name == patient for name in whole.patients]]
            found.append({"domain": domain, "patient": domain + patient, "features": dict.fromkeys(methods, own)})
    return found


def test_both_directions_and_standardised_features_do_not_depend_on_units():
    options = DistanceOptions(repeats=3, resamples=10)
    plain = measure_distances(records(), standardized=True, options=options, seed=0)
    scaled = records()
    for row in scaled:
        row["features"] = {name: values * [1, 100, 0.01] + 7 for name, values in row["features"].items()}
    other = measure_distances(scaled, standardized=True, options=options, seed=0)
    for direction in ("a2b", "b2a"):
        for measure in ("frechet", "kid", "mmd"):
            one, two = (found[direction]["methods"]["model"][measure]["value"] for found in (plain, other))
            assert one == pytest.approx(two, rel=1e-6)


def test_a_model_of_one_direction_is_measured_in_that_one():
    rows = records()
    for row in rows:
        if row["domain"] == "b":
            row["features"] = {"identity": row["features"]["identity"]}
    found = measure_distances(rows, standardized=False, options=DistanceOptions(repeats=2, resamples=10), seed=0)
    assert "model" in found["a2b"]["methods"]
    assert "model" not in found["b2a"]["methods"]
