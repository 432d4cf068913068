import contextlib
import io

import numpy as np
import pandas as pd
import pytest

from seewhy.data.domains.combat import fit_site_effects


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
