import builtins
import contextlib
import io
import sys
import types

import numpy as np
import pandas as pd
import pytest

from seewhy.data.domains import baselines
from seewhy.data.domains.baselines import BASELINES, apply_baseline, fit_baselines, fit_site_effects
from seewhy.errors import ConfigError

Q = np.linspace(0, 1, 1001)


def tables(*, seed=0, subjects=6):
    """Quantiles of normal tissue: b is 0.2 brighter and half as wide in the first modality, alike in the second."""
    rng = np.random.default_rng(seed)
    found = {"a": [], "b": []}
    for domain in found:
        for _ in range(subjects):
            first = rng.normal(0, 0.3, 5000) if domain == "a" else rng.normal(0.2, 0.15, 5000)
            second = rng.normal(0, 0.3, 5000)
            shift = rng.normal(0, 0.02, 2)
            rows = [
                np.quantile(np.clip(values + move, -1, 1), Q)
                for values, move in zip((first, second), shift, strict=True)
            ]
            found[domain].append(rows)
    return {domain: np.asarray(rows) for domain, rows in found.items()}


def scan(seed=9):
    rng = np.random.default_rng(seed)
    body = rng.random((4, 20, 20)) > 0.3
    image = np.where(body[:, None], np.clip(rng.normal(0, 0.3, (4, 2, 20, 20)), -1, 1), -1)
    return image.astype(np.float32), body


@pytest.mark.parametrize("name", ["histogram", "nyul", "combat"])
def test_a_scan_gets_the_other_sites_brightness_and_width(name):
    ready, missing = fit_baselines([name], tables())
    if missing:
        pytest.skip(missing[name])
    image, body = scan()
    result = apply_baseline(ready[name], image, body, domain="a")
    values = result[:, 0][body]
    assert values.mean() == pytest.approx(0.2, abs=0.03)
    assert values.std() == pytest.approx(0.15, abs=0.03)  # ComBat shrinks what it corrects
    alike = result[:, 1][body] - image[:, 1][body]
    assert abs(alike.mean()) < 0.04
    assert (result.transpose(0, 2, 3, 1)[~body] == -1).all()
    order = np.argsort(image[:, 0][body])
    assert (np.diff(values[order]) >= -1e-6).all()  # no two intensities change places
    back = apply_baseline(ready[name], result, body, domain="b")
    assert np.abs(back[:, 0] - image[:, 0])[body].mean() < 0.06


def test_identity_changes_nothing():
    ready, _ = fit_baselines(["identity"], tables())
    image, body = scan()
    assert np.array_equal(apply_baseline(ready["identity"], image, body, domain="b"), image)


def test_matching_makes_histograms_equal():
    pytest.importorskip("skimage")
    quantiles = tables()
    ready, _ = fit_baselines(["histogram"], quantiles)
    image, body = scan()
    values = apply_baseline(ready["histogram"], image, body, domain="a")[:, 0][body]
    pooled = quantiles["b"][:, 0].ravel()
    steps = np.linspace(0.02, 0.98, 49)
    np.testing.assert_allclose(np.quantile(values, steps), np.quantile(pooled, steps), atol=0.01)


def test_combat_removes_a_pure_shift():
    quantiles = tables()
    quantiles["b"] = quantiles["a"] + 0.25  # the same subjects, brighter
    ready, _ = fit_baselines(["combat"], quantiles)
    image, body = scan()
    image *= 0.5
    image.transpose(0, 2, 3, 1)[~body] = -1
    moved = apply_baseline(ready["combat"], image, body, domain="a")
    np.testing.assert_allclose(moved[:, 0][body] - image[:, 0][body], 0.25, atol=0.01)
    back = apply_baseline(ready["combat"], moved, body, domain="b")
    np.testing.assert_allclose(back[:, 0][body], image[:, 0][body], atol=0.01)


def test_combat_leaves_quantiles_that_the_normalisation_fixes():
    """With percentiles [1, 99] the 1st and the 99th are -1 and 1 in every subject, up to rounding: no site effect."""
    fixed = {}
    for domain, own in tables(seed=3).items():
        own = own.astype(np.float32)
        low, high = own[..., 10, None], own[..., 990, None]
        fixed[domain] = np.clip((own - low) * (2 / (high - low)) - 1, -1, 1)
    ready, _ = fit_baselines(["combat"], fixed)
    for domain, own in fixed.items():
        for modality in range(2):
            moved = ready["combat"](own[0, modality], modality, domain=domain)
            np.testing.assert_allclose(moved[:11], -1, atol=1e-6)
            np.testing.assert_allclose(moved[-11:], 1, atol=1e-6)
            assert np.abs(moved - own[0, modality]).max() > 0.005  # the others are corrected


def test_combat_moves_quantiles_without_spread_as_the_means_do():
    """Subjects that are all alike leave nothing to be standardised by."""
    own = tables()["a"][:1].repeat(3, axis=0) * 0.5
    ready, missing = fit_baselines(["combat"], {"a": own, "b": own + 0.25})
    assert not missing
    np.testing.assert_allclose(ready["combat"](own[0, 0], 0, domain="a"), own[0, 0] + 0.25, atol=1e-9)


def test_nyul_puts_deciles_where_training_subjects_have_them():
    pytest.importorskip("intensity_normalization")
    quantiles = tables()
    ready, _ = fit_baselines(["nyul"], quantiles)
    image, body = scan()
    values = apply_baseline(ready["nyul"], image, body, domain="a")[:, 0][body]
    percentiles = [1, *range(10, 100, 10), 99]
    own = np.percentile(quantiles["b"][:, 0], percentiles, axis=1)
    low, high = own[0].mean(), own[-1].mean()
    standard = (low + (own - own[0]) / (own[-1] - own[0]) * (high - low)).mean(axis=1)
    np.testing.assert_allclose(np.percentile(values, percentiles), standard, atol=2e-3)


def test_only_the_target_and_training_matter_for_matching():
    """A scan's own subject is no part of what is fitted: the fit is done before it is seen, and never changes."""
    pytest.importorskip("skimage")
    ready, _ = fit_baselines(["histogram"], tables())
    image, body = scan(1)
    before = apply_baseline(ready["histogram"], image, body, domain="a")
    apply_baseline(ready["histogram"], *scan(2), domain="b")
    assert np.array_equal(before, apply_baseline(ready["histogram"], image, body, domain="a"))


def test_a_missing_library_is_reported_with_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **options):
        if name.partition(".")[0] in ("skimage", "intensity_normalization"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    ready, missing = fit_baselines(list(BASELINES), tables())
    assert list(ready) == ["identity", "combat"]
    assert set(missing) == {"histogram", "nyul"}
    assert all("pip install 'seewhy[harmonization]'" in text for text in missing.values())
    assert "skimage" in missing["histogram"]


def test_a_library_with_another_interface_is_reported_in_one_line(monkeypatch):
    """intensity-normalization 4 has no NyulNormalizer."""
    monkeypatch.setitem(sys.modules, "intensity_normalization", types.ModuleType("intensity_normalization"))
    monkeypatch.setattr(baselines, "version", lambda package: "4.0.0")
    ready, missing = fit_baselines(["identity", "nyul"], tables())
    assert list(ready) == ["identity"]
    assert all(fact in missing["nyul"] for fact in ("intensity-normalization 3", "4.0.0", "seewhy[harmonization]"))
    assert "\n" not in missing["nyul"]


def test_too_few_training_subjects_and_unknown_names_are_reported():
    _, missing = fit_baselines(["combat"], tables(subjects=1))
    assert "1 of domain a" in missing["combat"]
    assert "2 or more" in missing["combat"]
    with pytest.raises(ConfigError, match=r"nyull.*'nyul'"):
        fit_baselines(["nyull"], tables())


def two_sites(subjects, *, features=26, seed=0):
    """Tables of two sites: b is shifted by 0.3 and twice as wide, each feature with its own deviation from that."""
    rng = np.random.default_rng(seed)
    level, shift = rng.uniform(-1, 1, features), rng.normal(0.3, 0.1, features)
    return {
        "a": level + 0.1 * rng.normal(size=(subjects[0], features)),
        "b": level + shift + 0.2 * rng.normal(size=(subjects[1], features)),
    }


@pytest.mark.parametrize(("subjects", "features"), [((6, 6), 26), ((2, 9), 52), ((40, 3), 13), ((5, 7), 2)])
def test_estimates_are_those_of_neurocombat(subjects, features):
    package = pytest.importorskip("neuroCombat")
    tables = two_sites(subjects, features=features, seed=sum(subjects))
    sites = [site for site, table in tables.items() for _ in table]
    with contextlib.redirect_stdout(io.StringIO()):
        both = np.concatenate(list(tables.values())).T
        expected = package.neuroCombat(both, pd.DataFrame({"site": sites}), "site")["estimates"]
    effects = fit_site_effects(tables)
    np.testing.assert_allclose(effects.mean, expected["stand.mean"][:, 0], rtol=1e-9)
    np.testing.assert_allclose(effects.spread, np.sqrt(expected["var.pooled"][:, 0]), rtol=1e-9)
    assert list(expected["batches"]) == ["a", "b"]
    for row, site in enumerate("ab"):
        np.testing.assert_allclose(effects.shift[site], expected["gamma.star"][row], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(effects.scale[site], np.sqrt(expected["delta.star"][row]), rtol=1e-6)


def test_known_effects_are_found():
    effects = fit_site_effects(two_sites((400, 400), features=30))
    gap = (effects.shift["b"] - effects.shift["a"]) * effects.spread
    np.testing.assert_allclose(gap.mean(), 0.3, atol=0.05)
    np.testing.assert_allclose(effects.scale["b"] / effects.scale["a"], 2, rtol=0.15)


def test_shrinkage_draws_effects_of_few_subjects_to_their_mean():
    tables = two_sites((3, 3), features=40)
    effects = fit_site_effects(tables)
    plain = {site: (table.mean(axis=0) - effects.mean) / effects.spread for site, table in tables.items()}
    for site in tables:
        assert effects.shift[site].std() < 0.95 * plain[site].std()
        assert effects.shift[site].mean() == pytest.approx(plain[site].mean(), abs=0.15)
