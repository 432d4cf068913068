"""`seewhy evaluate` on several runs: one table for travelling heads, with floors, ceilings and intervals over heads."""

import csv
import json
import shutil

import numpy as np
import pytest

from seewhy.cli.compose import compose_saved, expand_runs
from seewhy.errors import ConfigError, DataError
from seewhy.metrics.agreement import concordance, intraclass_correlation
from seewhy.run.translation.comparison.members import list_compared_runs, name_methods
from seewhy.run.translation.evaluate import evaluate

TINY = (
    "experiment=demo/travelling",
    "model=demo_cut",
    "phantom.travelling=4",
    "phantom.own=3",
    "phantom.shape=[32,32,24]",
    "data.val_patients=[]",
    "data.test_patients=[T001,T002,T003,T004]",
    "data.crop_size=24",
    "data.batch_size=2",
    "data.batches_per_epoch=1",
    "model.generator.width=4",
    "model.discriminator.width=4",
    "test=false",
    "trainer.max_epochs=1",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
)
QUICK = (
    "evaluate.slices=2", "evaluate.baselines=[combat]",
    "evaluate.probe.seeds=1", "evaluate.probe.steps=3", "evaluate.probe.size=8",
    "evaluate.distances.repeats=4", "evaluate.distances.resamples=10", "trainer.enable_progress_bar=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def sweep(train_here, tmp_path_factory):
    """Two runs as members of a sweep: scanners s2 and s3, harmonised to s1."""
    folder = tmp_path_factory.mktemp("travelling") / "sweep"
    train_here(folder / "0", base=TINY)
    shutil.copytree(folder / "0", folder / "1")  # the second run has the weights of the first
    config = folder / "1" / "config.yaml"
    config.write_text(config.read_text().replace("    a: s2", "    a: s3"))
    for number, scanner in enumerate(("s2", "s3")):
        run = folder / str(number)
        (run / ".hydra").mkdir()
        (run / ".hydra" / "overrides.yaml").write_text(f"[model=demo_cut, data.a={scanner}]")
        (run / ".hydra" / "hydra.yaml").write_text("hydra: {runtime: {choices: {model: demo_cut}}}")
    return folder


@pytest.fixture(scope="module")
def told(sweep):
    """`comparison.json` of a comparison of both runs."""
    evaluate(compose_saved("evaluate", sweep, *QUICK))
    return json.loads((sweep / "comparison" / "comparison.json").read_text())


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_everything_is_written_with_what_was_compared(sweep, told):
    folder = sweep / "comparison"
    assert {path.name for path in folder.iterdir()} >= {
        "agreement.csv", "scanners.csv", "heads.csv", "comparison.json", "comparison.png", "comparison.pdf",
    }  # fmt: skip
    assert (told["reference"], told["compared"], told["phantom"]) == ("s1", ["s2", "s3"], True)
    assert told["heads"] == ["T001", "T002", "T003", "T004"]
    assert [run["scanner"] for run in told["runs"]] == ["s2", "s3"]
    methods = {"identity", "combat", "demo_cut"}
    assert {name for name, status in told["methods"].items() if status == "ok"} == methods
    assert {row["method"] for row in rows(folder / "agreement.csv")} == {*methods, "rescan"}
    assert {row["method"] for row in rows(folder / "scanners.csv")} == {*methods, "real"}


def test_coefficients_are_those_of_the_values_in_the_table_of_heads(sweep, told):
    values = {
        (row["method"], row["scanner"], row["head"], row["scan"]): float(row["value"])
        for row in rows(sweep / "comparison" / "heads.csv")
        if (row["kind"], row["region"]) == ("volume", "white")
    }
    heads = told["heads"]
    for method in ("identity", "combat", "demo_cut"):
        table = [
            [values["identity", "s1", head, "1"], *(values[method, scanner, head, "1"] for scanner in ("s2", "s3"))]
            for head in heads
        ]
        row = next(r for r in told["agreement"] if (r["method"], r["kind"], r["region"]) == (method, "volume", "white"))
        assert row["icc"] == pytest.approx(intraclass_correlation(table))
        assert row["ccc"] == pytest.approx(concordance(table))
        assert row["icc_low"] <= row["icc"] <= row["icc_high"]
        assert (row["heads"], row["scanners"]) == (4, 3)
    again = [[values["identity", "s1", head, scan] for scan in ("1", "2")] for head in heads]
    ceiling = next(
        r for r in told["agreement"] if (r["method"], r["kind"], r["region"]) == ("rescan", "volume", "white")
    )
    assert ceiling["icc"] == pytest.approx(intraclass_correlation(again))
    assert ceiling["status"] == "ceiling"


def test_probes_and_kid_have_intervals_over_heads_and_means_over_scanners(told):
    cells = {(row["method"], row["scanner"]): row for row in told["scanners"]}
    for method in ("identity", "demo_cut"):
        for name in ("kid", "logistic_frozen", "logistic_retrained", "network_retrained"):
            mean = cells[method, "mean"]
            both = [cells[method, scanner][name] for scanner in ("s2", "s3")]
            assert mean[name] == pytest.approx(np.mean(both))
            assert mean[f"{name}_low"] <= mean[f"{name}_high"]
    assert cells["identity", "mean"]["logistic_frozen"] == cells["identity", "mean"]["logistic_retrained"]
    assert abs(cells["real", "mean"]["kid"]) < cells["identity", "mean"]["kid"]


def test_the_table_is_one_and_fits_a_terminal(told, capsys):
    from rich.console import Console

    from seewhy.figures.translation.comparison import comparison_table

    Console(width=80).print(comparison_table(told))
    printed = capsys.readouterr().out
    assert "PHANTOM" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert printed.count("demo_cut") == 5  # a row per section, none cut
    for name in ("unharmonised", "s1 twice", "s1, others", "volume ICC", "FLAIR CCC"):
        assert name in printed


def test_a_list_of_runs_and_overrides_reach_every_run(sweep):
    runs = f"run=[{sweep / '0'},{sweep / '1'}]"
    members = list_compared_runs(compose_saved("evaluate", None, runs, "data.num_workers=1", *QUICK))
    assert [(member.method, member.scanner) for member in members] == [("demo_cut", "s2"), ("demo_cut", "s3")]
    assert [member.config.data.num_workers for member in members] == [1, 1]
    assert [member.config.data.a for member in members] == ["s2", "s3"]
    assert all(member.config.evaluate.probe.seeds == 1 for member in members)


def test_runs_that_do_not_belong_together_are_refused(sweep, tmp_path):
    with pytest.raises(ConfigError, match="two runs of demo_cut harmonise s2"):
        evaluate(compose_saved("evaluate", None, f"run=[{sweep / '0'},{sweep / '0'}]", *QUICK))
    with pytest.raises(DataError, match=r"only 2 of the evaluated patients.*3 or more"):
        evaluate(compose_saved("evaluate", sweep, "data.test_patients=[T001,T002]", *QUICK))
    with pytest.raises(ConfigError, match="names no run folder"):
        expand_runs(["run=[]"])


def test_methods_are_named_by_what_can_make_them_differ(sweep, tmp_path):
    folders = []
    for number, words in enumerate(("model=demo_cut, seed=1, paths.log_dir=x", "model=demo_cut, seed=2, data.a=s3")):
        folders.append(tmp_path / str(number))
        (folders[-1] / ".hydra").mkdir(parents=True)
        (folders[-1] / ".hydra" / "overrides.yaml").write_text(f"[{words}]")
        (folders[-1] / ".hydra" / "hydra.yaml").write_text("hydra: {runtime: {choices: {model: demo_cut}}}")
    assert name_methods(folders) == ["demo_cut seed=1", "demo_cut seed=2"]
    assert name_methods([sweep / "0", sweep / "1"]) == ["demo_cut", "demo_cut"]
    assert name_methods([tmp_path]) == [tmp_path.name]  # Hydra did not make it


def test_a_single_run_stays_a_single_run(sweep, tmp_path):
    assert expand_runs([f"run={sweep / '0'}", "seed=1"]) == [f"run={sweep / '0'}", "seed=1"]
    assert expand_runs([f"run={sweep}"])[0].endswith("/0'")
    assert expand_runs([f"run={tmp_path}"]) == [f"run={tmp_path}"]  # holds nothing; the error lists runs
