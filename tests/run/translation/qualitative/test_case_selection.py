"""Cases are chosen by the scores that there are, with known answers."""

import json
import math

import pytest

from seewhy.errors import ConfigError, DataError
from seewhy.run.translation.qualitative.case_list import (
    CATEGORIES,
    CaseOptions,
    describe_category,
    find_changed_categories,
    read_cases,
    write_cases,
)
from seewhy.run.translation.qualitative.figures import remove_figures
from seewhy.run.translation.qualitative.selection import (
    choose_comparison,
    collect_cases,
    select_cases,
)

METRICS = ("ssim", "psnr", "mae", "mse")


def rows_of(values, *, direction="a2b", comparison="cycle", modalities=("t1", "t2")):
    """Long rows; `values` is subject → slice → {metric: value}, the same for all modalities but ± .01 apart."""
    rows = []
    for subject, slices in values.items():
        for number, scores in slices.items():
            for place, modality in enumerate(modalities):
                for metric in METRICS:
                    value = scores.get(metric, 0.5) + 0.01 * (2 * place - 1)
                    head = {"subject": subject, "patient": subject, "domain": direction[0], "direction": direction}
                    row = {"slice": number, "id": f"{direction[0]}_{subject}_{number:03d}", "modality": modality}
                    rows.append({**head, **row, "comparison": comparison, "metric": metric, "value": value})
    return rows


def ids_of(values, domain="a"):
    return [f"{domain}_{subject}_{number:03d}" for subject, slices in values.items() for number in slices]


def chosen(values, **options):
    table = collect_cases(rows_of(values), ids_of(values), direction="a2b", comparison="cycle")
    found = select_cases(table, CaseOptions(**options))
    return {name: [(case.subject, case.slice) for case in cases] for name, cases in found.items()}


SUBJECTS = {
    "P1": {3: {"ssim": 0.9}, 4: {"ssim": 0.91}, 5: {"ssim": 0.1}},
    "P2": {0: {"ssim": 0.8}, 1: {"ssim": 0.2}},
    "P3": {7: {"ssim": 0.5}, 8: {"ssim": 0.55}},
    "P4": {2: {"ssim": 0.5}},
}


def test_best_worst_and_median_take_one_slice_of_each_subject():
    found = chosen(SUBJECTS, n_best=3, n_worst=2, n_median=2)
    assert found["best"] == [("P1", 4), ("P2", 0), ("P3", 8)]
    assert found["worst"] == [("P1", 5), ("P2", 1)]
    # The median of .1 .2 .5 .5 .55 .8 .9 .91 is .525: .5 (first among the samples) and .55 are equally near.
    assert found["median"] == [("P3", 7), ("P4", 2)]


def test_more_of_a_subject_where_that_is_asked_for():
    found = chosen(SUBJECTS, n_best=3, max_per_subject=2)
    assert found["best"] == [("P1", 4), ("P1", 3), ("P2", 0)]


def test_a_category_has_no_more_cases_than_there_are_subjects():
    assert len(chosen(SUBJECTS, n_random=10)["random"]) == 4


def test_errors_are_better_when_they_are_small():
    values = {f"P{n}": {0: {"mae": 0.1 * n}} for n in (3, 1, 2)}
    found = chosen(values, metric="mae", n_best=1, n_worst=1)
    assert found["best"] == [("P1", 0)]
    assert found["worst"] == [("P3", 0)]


def test_ties_go_by_the_order_of_samples():
    values = {name: {0: {"ssim": 0.5}, 1: {"ssim": 0.5}} for name in ("Z", "A", "M")}
    found = chosen(values, n_best=2, n_worst=2, n_median=1, n_interesting=1)
    assert found["best"] == found["worst"] == [("Z", 0), ("A", 0)]
    assert found["median"] == found["interesting"] == [("Z", 0)]


def test_what_has_no_score_is_never_chosen():
    values = {"P1": {0: {"ssim": math.nan}, 1: {"ssim": 0.3}}, "P2": {0: {"ssim": 0.4, "psnr": math.nan}}}
    found = chosen(values)
    assert all(cases == [("P1", 1)] for cases in found.values())


def test_equal_images_have_infinite_psnr_and_are_the_best():
    values = {"P1": {0: {"psnr": 30.0}}, "P2": {0: {"psnr": math.inf}}, "P3": {0: {"psnr": math.inf}}}
    found = chosen(values, metric="psnr", n_best=2, n_median=1)
    assert found["best"] == [("P2", 0), ("P3", 0)]
    assert found["median"] == [("P2", 0)]


def test_interesting_is_where_ranks_disagree():
    values = {
        "P1": {0: {"ssim": 0.9, "psnr": 30, "mae": 0.1}},
        "P2": {0: {"ssim": 0.8, "psnr": 20, "mae": 0.2}},
        "P3": {0: {"ssim": 0.7, "psnr": 40, "mae": 0.3}},  # worst by two, best by one
    }
    assert chosen(values, n_interesting=1)["interesting"] == [("P3", 0)]


def test_random_cases_depend_on_the_seed_alone():
    values = {f"P{n}": {0: {"ssim": 0.01 * n}} for n in range(30)}
    first = chosen(values, seed=1)["random"]
    assert first == chosen(values, seed=1)["random"]
    assert first != chosen(values, seed=2)["random"]
    assert len(set(first)) == 10


def test_the_mean_over_modalities_or_one_of_them():
    rows = rows_of({"P1": {0: {"ssim": 0.5}}})
    both = collect_cases(rows, ["a_P1_000"], direction="a2b", comparison="cycle")
    one = collect_cases(rows, ["a_P1_000"], direction="a2b", comparison="cycle", modality="t2")
    assert both[0].scores["ssim"] == pytest.approx(0.5)
    assert one[0].scores["ssim"] == pytest.approx(0.51)


def test_slivers_are_left_out():
    values = {"P1": {0: {"ssim": 0.9}, 1: {"ssim": 0.8}}}
    table = collect_cases(
        rows_of(values), ids_of(values), direction="a2b", comparison="cycle",
        tissue={"a_P1_000": 0.29, "a_P1_001": 0.3}, min_tissue=0.3,
    )  # fmt: skip
    assert [case.slice for case in table] == [1]


def test_subjects_are_ranked_by_their_mean_and_shown_by_the_slice_nearest_to_it():
    values = {
        "P1": {0: {"ssim": 0.9}, 1: {"ssim": 0.1}, 2: {"ssim": 0.4}},
        "P2": {0: {"ssim": 0.6}, 1: {"ssim": 0.5}},
    }
    table = collect_cases(rows_of(values), ids_of(values), direction="a2b", comparison="cycle")
    found = select_cases(table, CaseOptions(unit="subject", n_best=2))["best"]
    assert [(case.subject, case.slice) for case in found] == [("P2", 0), ("P1", 2)]
    assert [case.scores["ssim"] for case in found] == pytest.approx([0.55, 1.4 / 3])


def test_indices_are_places_among_all_test_samples():
    values = {"P1": {4: {"ssim": 0.1}, 5: {"ssim": 0.2}}}
    samples = ["a_P0_000", *ids_of(values), "b_Q_000"]
    assert [case.index for case in collect_cases(rows_of(values), samples, direction="a2b", comparison="cycle")] == [
        1,
        2,
    ]


def test_scores_of_other_samples_are_refused():
    with pytest.raises(DataError, match=r"2 of 2 .*a_P1_004.*seewhy evaluate"):
        collect_cases(rows_of({"P1": {4: {}, 5: {}}}), ["a_P9_000"], direction="a2b", comparison="cycle")


def test_translation_where_there_are_counterparts_else_cycle():
    cycle, true = rows_of(SUBJECTS), rows_of(SUBJECTS, comparison="translation")
    assert choose_comparison(cycle, "a2b", "auto") == "cycle"
    assert choose_comparison(cycle + true, "a2b", "auto") == "translation"
    assert choose_comparison(cycle + true, "a2b", "cycle") == "cycle"
    assert choose_comparison(cycle, "a2b", "translation") is None
    assert choose_comparison(cycle, "b2a", "auto") is None


def test_a_cycle_is_never_called_a_translation():
    options = CaseOptions(metric="psnr", modality="t2")
    assert describe_category("best", options, "cycle") == "slices with the best cycle PSNR (t2)"
    assert (
        describe_category("worst", options, "translation") == "slices with the worst PSNR to the true counterpart (t2)"
    )


def test_the_record_has_the_references_schema_and_says_how_it_was_made(tmp_path):
    table = collect_cases(rows_of(SUBJECTS), ids_of(SUBJECTS), direction="a2b", comparison="cycle")
    options = CaseOptions(n_best=2, seed=7)
    facts = {"n_samples": 8, "selection_date": "2026-01-01", "checkpoint": "best.ckpt", "checkpoint_epoch": 3}
    path = tmp_path / "case_ids.json"
    written = write_cases(
        path,
        {"a2b": select_cases(table, options)},
        options,
        comparisons={"a2b": "cycle"},
        facts={**facts, "phantom": False},
    )
    record = json.loads(path.read_text())
    assert record == written == read_cases(path)
    assert {"n_samples", "selection_date", "checkpoint", "checkpoint_epoch", "seed", "selection_method"} <= set(
        record["metadata"]
    )
    assert record["metadata"]["selection_method"] == "true_per_sample_scores"
    assert record["metadata"]["comparison"] == {"a2b": "cycle"}
    best = record["best"]
    assert best["indices"] == [1, 3]
    assert best["ssim_a2b"] == pytest.approx([0.91, 0.8])
    assert best["psnr_a2b"] == pytest.approx([0.5, 0.5])
    assert best["cases"][0] | {"ssim": 0, "psnr": 0, "mae": 0, "mse": 0} == {
        "index": 1, "id": "a_P1_004", "subject": "P1", "patient": "P1", "domain": "a", "slice": 4,
        "direction": "a2b", "comparison": "cycle", "ssim": 0, "psnr": 0, "mae": 0, "mse": 0,
    }  # fmt: skip
    assert best["indices_b"] == best["cases_b"] == best["ssim_b2a"] == []
    every = {index for name in CATEGORIES for index in record[name]["indices"]}
    assert record["all_indices"] == sorted(every)


def test_a_selection_changes_the_categories_that_have_other_cases(tmp_path):
    table = collect_cases(rows_of(SUBJECTS), ids_of(SUBJECTS), direction="a2b", comparison="cycle")

    def written(date="2026-01-01", **choice):
        options, facts = CaseOptions(**choice), {"selection_date": date, "checkpoint": "best.ckpt"}
        chosen = {"a2b": select_cases(table, options)}
        return write_cases(tmp_path / "case_ids.json", chosen, options, comparisons={"a2b": "cycle"}, facts=facts)

    first = written()
    assert find_changed_categories(None, first) == list(CATEGORIES)
    assert find_changed_categories(first, written("2026-01-02")) == []
    assert find_changed_categories(first, written(n_best=1, n_random=0)) == ["best", "random"]
    assert find_changed_categories(first, written(metric="psnr")) == list(CATEGORIES)


def test_figures_of_a_category_are_removed_and_nothing_else(tmp_path):
    for name in ("fig_best_comparison_t1.pdf", "fig_best_comparison_t1_b2a.png", "fig_best_multimodality.png",
                 "fig_worst_comparison_t1.pdf", "fig_best_comparison_t1.svg", "fig_best_of_mine.png"):  # fmt: skip
        (tmp_path / name).touch()
    remove_figures(tmp_path, ["best"])
    remove_figures(tmp_path / "none", ["best"])
    assert {path.name for path in tmp_path.iterdir()} == {
        "fig_worst_comparison_t1.pdf", "fig_best_comparison_t1.svg", "fig_best_of_mine.png",
    }  # fmt: skip


def test_a_record_of_another_kind(tmp_path):
    with pytest.raises(DataError, match=r"does not exist.*cases\.stages=\[select"):
        read_cases(tmp_path / "case_ids.json")
    (tmp_path / "case_ids.json").write_text('{"best": {"indices": [1]}}')
    with pytest.raises(DataError, match=r"case_ids\.json.*cases\.stages=\[select"):
        read_cases(tmp_path / "case_ids.json")


def test_wrong_options_are_said_at_once():
    with pytest.raises(ConfigError) as caught:
        CaseOptions(metric="sim", stages=["infr"], n_best=-1, min_tissue=2, max_per_subject=0)
    text = str(caught.value)
    assert "cases.metric='sim' is unknown; nearest: 'ssim'" in text
    for said in ("cases.stages: 'infr' is unknown", "n_best=-1", "min_tissue=2", "max_per_subject=0"):
        assert said in text
    with pytest.raises(ConfigError, match=r"cases\.categories and cases\.modalities must not be empty"):
        CaseOptions(categories=[], modalities=[])


def test_slices_without_one_of_the_metrics_are_named():
    rows = [row for row in rows_of(SUBJECTS) if (row["id"], row["metric"]) != ("a_P2_001", "psnr")]
    with pytest.raises(DataError, match=r"1 of 8 scored slices \(first: a_P2_001\) have no psnr"):
        collect_cases(rows, ids_of(SUBJECTS), direction="a2b", comparison="cycle")
