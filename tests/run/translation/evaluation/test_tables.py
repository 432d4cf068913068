import math

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from seewhy.errors import ConfigError
from seewhy.run.folder import conf_dir
from seewhy.run.translation.evaluation.distances import count_trainings, run_probes, summarize_probes
from seewhy.run.translation.evaluation.settings import EvaluationSettings, ProbeOptions
from seewhy.run.translation.evaluation.tables import (
    build_cycle_results,
    build_evaluation_results,
    summarize_lesions,
    summarize_similarity,
)


def patient_row(patient, value, comparison="cycle", subject=None):
    metrics = dict.fromkeys(("ssim", "psnr", "mae", "mse"), value)
    return {"patient": patient, "subject": subject or patient, "direction": "a2b", "comparison": comparison, **metrics}


def test_similarity_is_over_patients():
    rows = [patient_row("p1", 1.0), patient_row("p1", 3.0, subject="again"), patient_row("p2", 8.0),
            patient_row("p3", 0.0)]  # fmt: skip
    entry = summarize_similarity(rows)["a2b"]["cycle"]["ssim"]
    assert entry["mean"] == pytest.approx(10 / 3)
    assert entry["patients"] == 3
    assert entry["interval"][0] < entry["mean"] < entry["interval"][1]


def test_infinite_similarity_has_no_mean():
    entry = summarize_similarity([patient_row("p1", math.inf), patient_row("p2", 1.0)])["a2b"]["cycle"]["psnr"]
    assert entry == {"mean": None, "interval": None, "patients": 2}


def lesion_row(patient, before, after, *, volume_source=100, volume=50, **more):
    return {
        "patient": patient, "direction": "a2b", "method": "model", "modality": "flair", "contrast_source": before,
        "contrast": after, "contrast_counterpart": None, "dice_source": 0.9, "dice": 0.8, "dice_counterpart": None,
        "relative_change": (after - before) / abs(before), "volume_source": volume_source, "volume": volume,
        "volume_ratio": volume / volume_source, **more,
    }  # fmt: skip


def test_lesions_are_summed_up_over_patients():
    rows = [lesion_row("p1", 1.0, 0.5, volume=30), lesion_row("p2", 2.0, 1.0, volume_source=200, volume=60),
            lesion_row("p3", -4.0, -2.0, volume_source=300, volume=90)]  # fmt: skip
    (entry,) = summarize_lesions(rows)
    assert entry["patients"] == 3
    assert entry["relative_change"]["mean"] == pytest.approx((-0.5 - 0.5 + 0.5) / 3)
    assert entry["contrast_counterpart"] is None
    assert entry["volume_ratio"]["mean"] == pytest.approx(0.3)
    assert entry["contrast_correlation"] == pytest.approx(1.0)
    assert entry["volume_correlation"] == pytest.approx(1.0)
    (two,) = summarize_lesions(rows[:2])
    assert two["volume_correlation"] is None


def test_lesions_of_a_patient_scanned_often_weigh_no_more():
    rows = [lesion_row("p1", 1.0, 0.5, volume=100, subject=f"scan {n}") for n in range(8)]
    rows += [lesion_row("p2", 1.0, 0.5, volume=300), lesion_row("p3", 1.0, 0.5, volume_source=10, volume=30)]
    (entry,) = summarize_lesions(rows)
    assert entry["volume_ratio"]["mean"] == pytest.approx((1 + 3 + 3) / 3)
    assert entry["volume_ratio"]["patients"] == entry["patients"] == 3


def test_correlations_are_of_the_same_patients():
    """Each of two patients lacks another number; the others' numbers lie on a line."""
    rows = [lesion_row(f"p{n}", 1.0 + n, 2.0 + n) for n in range(4)]
    rows.insert(0, lesion_row("early", math.nan, 9.0, relative_change=None))
    rows.append(lesion_row("late", 0.1, math.nan, relative_change=None))
    (entry,) = summarize_lesions(rows)
    assert entry["contrast_correlation"] == pytest.approx(1.0)
    (few,) = summarize_lesions([rows[0], *rows[3:]])
    assert few["contrast_correlation"] is None


def long_rows(comparison, direction="a2b"):
    return [
        {"direction": direction, "comparison": comparison, "metric": metric, "id": name, "modality": modality,
         "value": value + step}
        for metric in ("ssim", "psnr", "mae", "mse") for name, value in (("s1", 0.0), ("s2", 1.0))
        for modality, step in (("t1", 0.0), ("t2", 0.5))
    ]  # fmt: skip


def test_the_references_files_hold_true_numbers_and_null_where_there_is_none():
    header = {"checkpoint": "x", "checkpoint_epoch": 3, "checkpoint_best_metric": 0.5, "test_samples": 2,
              "evaluation_timestamp": "now"}  # fmt: skip
    distances = {"a2b": {"methods": {"model": {"frechet": {"value": 12.5}}}}}
    found = build_evaluation_results(header, long_rows("translation"), distances, features="statistics")
    assert found["a2b"]["ssim"] == {
        "mean": 0.75, "std": 0.5, "median": 0.75, "min": 0.25, "max": 1.25, "q25": 0.5, "q75": 1.0,
    }  # fmt: skip
    assert found["a2b"]["fid"] == {"value": 12.5}
    assert set(found["a2b"]["lpips"].values()) == {None}
    assert set(found["b2a"]["ssim"].values()) == {None}
    assert found["b2a"]["fid"] == {"value": None}
    unpaired = build_evaluation_results(
        header, long_rows("cycle") + long_rows("change"), distances, features="statistics"
    )
    assert set(unpaired["a2b"]["psnr"].values()) == {None}
    cycle = build_cycle_results(header, long_rows("cycle", "b2a"))
    assert cycle["cycle_b"]["mae"]["mean"] == 0.75
    assert cycle["cycle_a"]["mae"]["mean"] is None
    assert "checkpoint_best_metric" not in cycle


def probe_records(patients=4, *, one_way=False):
    """Two sites that differ by a shift, which the model takes away."""
    rng = np.random.default_rng(0)
    rows = []
    for domain, shift in (("a", 0.0), ("b", 3.0)):
        for number in range(patients):
            features = rng.normal(size=(5, 4, 2)) + shift
            squares = rng.normal(size=(5, 4, 8, 8)).astype(np.float32) * 0.1 + shift / 3
            known = not (one_way and domain == "b")
            back = 3.0 if domain == "a" else -3.0
            rows.append({
                "domain": domain, "patient": f"{domain}{number}", "slices": 5,
                "features": {"identity": features, **({"model": features + back} if known else {})},
                "squares": {"identity": squares, **({"model": squares + np.float32(back / 3)} if known else {})},
            })  # fmt: skip
    return rows


def test_probes_are_summed_up_over_seeds_and_folds():
    choice, advanced = ProbeOptions(seeds=2, steps=30, size=8), []
    rows, reason = run_probes(probe_records(), choice=choice, seed=5, advance=lambda: advanced.append(1))
    assert reason is None
    assert len(advanced) == count_trainings(probe_records(), choice)
    assert {row["seed"] for row in rows} == {5, 6}
    entries = {(e["probe"], e["method"], e["direction"], e["kind"]): e for e in summarize_probes(rows)}
    for probe in ("network", "logistic"):
        assert entries[probe, "raw", None, "raw"]["balanced_accuracy"] > 0.95
        assert entries[probe, "model", "a2b", "frozen"]["balanced_accuracy"] == pytest.approx(0.5, abs=0.1)
        assert entries[probe, "model", "b2a", "retrained"]["balanced_accuracy"] < 0.75
        assert entries[probe, "real", "a2b", "floor"]["fits"] == 2 * 2
    own = [row["auc"] for row in rows if row["probe"] == "logistic" and row["kind"] == "retrained"
           and row["direction"] == "a2b"]  # fmt: skip
    entry = entries["logistic", "model", "a2b", "retrained"]
    assert entry["auc"] == pytest.approx(np.mean(own))
    means = [np.mean(own[:4]), np.mean(own[4:])]
    assert entry["auc_seed_sd"] == pytest.approx(np.std(means, ddof=1))


def test_too_few_patients_are_said_instead_of_a_number():
    rows, reason = run_probes(probe_records(3), choice=ProbeOptions(seeds=1, steps=1), seed=0)
    assert rows == []
    assert reason.startswith("the site probe cannot be estimated from 3 of domain a and 3 of domain b")


def test_a_model_of_one_direction_is_probed_in_that_one():
    choice = ProbeOptions(seeds=1, steps=1)
    rows, _ = run_probes(probe_records(one_way=True), choice=choice, seed=0)
    assert {row["direction"] for row in rows if row["method"] == "model"} == {"a2b"}


def settings(**changes):
    node = OmegaConf.load(conf_dir() / "evaluate" / "default.yaml")
    node.seed = 0
    for name, value in changes.items():
        OmegaConf.update(node, name.replace("__", "."), value, force_add=True)
    return EvaluationSettings.of(node)


def test_the_files_defaults_are_those_of_the_classes():
    found = settings()
    assert (found.features, found.probe, found.distances, found.lesion) == (
        type(found.features)(), type(found.probe)(), type(found.distances)(), type(found.lesion)(),
    )  # fmt: skip


def test_wrong_options_are_named_all_at_once():
    with pytest.raises(ConfigError, match=r"evaluate\.probe\.sead.*nearest: 'seeds'"):
        settings(probe__sead=3)
    with pytest.raises(ConfigError, match=r"evaluate.slices=-1 .*0 or more; evaluate.probe.folds=1 .*2 or more"):
        settings(slices=-1, probe__folds=1)
    with pytest.raises(ConfigError, match=r"evaluate\.lesion\.modality='flare'.*nearest: 'flair'"):
        settings(lesion__modality="flare")
    with pytest.raises(ConfigError) as said:
        settings(slices=None, probe__steps=1.5, distances__repeats="x", lesion__modality=None, features=3)
    assert str(said.value).split("; ") == [
        "evaluate.slices=None must be an integer, 0 or more",
        "evaluate.features=3 must be a mapping from option names to values",
        "evaluate.distances.repeats='x' must be an integer, 1 or more",
        "evaluate.probe.steps=1.5 must be an integer, 1 or more",
        "evaluate.lesion.modality=None must be 't1' or 't1ce' or 't2' or 'flair'",
    ]
    with pytest.raises(ConfigError, match="choose evaluate=default"):
        EvaluationSettings.of(None)


def test_a_baseline_needs_no_brackets():
    assert settings(baselines="identity").baselines == ("identity",)
    assert settings(baselines=["nyul", "combat"]).baselines == ("nyul", "combat")
    assert settings(baselines=None).baselines == ()


def test_nothing_random_is_left_to_the_outside():
    state = torch.random.get_rng_state()
    first, second = (
        run_probes(probe_records(), choice=ProbeOptions(seeds=1, folds=2, steps=10), seed=1)[0] for _ in range(2)
    )
    assert first == second
    assert torch.equal(state, torch.random.get_rng_state())
