"""A benchmark of explanation methods: its members, what is not computed again, its tables and its findings."""

import json
import math

import pytest
from blank_figures import blank_figures

from seewhy.io.documents import read_csv
from seewhy.run.benchmark.page import list_cells
from seewhy.run.benchmark.results import BenchmarkResults, MethodResult
from seewhy.run.benchmark.scores import Evidence, MethodScores, order_methods

TINY = [
    "experiment=benchmark/explanations",
    "hydra.sweeper.experiments=[benchmark/shortcut]",
    "hydra.sweeper.seeds=[1]",
    "explain.methods=[grad_cam,saliency]",
    "explain.max_samples=4",
    "explain.mask_tuning=2",
    "explain.pictures=1",
    "phantom.cases=24",
    "phantom.size=32",
    "data.inputs=[fluid]",
    "trainer.max_epochs=1",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """Runs the command in this process; returns its folder and what it printed."""
    import sys

    from seewhy.cli.hydra_commands import run_hydra_command

    home = tmp_path_factory.mktemp("benchmark")

    def run(*words):
        monkeypatch = pytest.MonkeyPatch()
        monkeypatch.chdir(home)
        monkeypatch.setattr(sys, "argv", ["train.py", *TINY, *words])
        try:
            with blank_figures():
                run_hydra_command("train")
        finally:
            monkeypatch.undo()
        return home / "lightning_logs" / "benchmark" / "explanations"

    return run


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "checkpoints").iterdir()}


@pytest.mark.slow
def test_one_command_trains_explains_and_compares_and_a_second_adds_only_what_is_new(benchmark, capsys):
    folder = benchmark()
    member = folder / "shortcut_1"
    methods = [row["method"] for row in read_csv(folder / "benchmark.csv").rows]
    controls = {"control_centre", "control_edges", "control_intensity", "control_random"}
    assert set(methods) == {"grad_cam", "saliency"} | controls
    assert {row["order"] for row in read_csv(folder / "agreement.csv").rows} > {"verdicts and curves", "verdicts"}
    evidence = json.loads((member / "evidence.json").read_text())["changes"]
    assert {name: one["count"] for name, one in evidence.items()} == {"another mark": 4, "other lesions": 4}
    assert (folder / "benchmark.html").stat().st_size > 0
    assert (folder / "benchmark.png").stat().st_size > 0
    printed = capsys.readouterr().out
    assert "Spearman of the order without masks" in printed
    assert max(map(len, printed[printed.index("phantoms: methods") :].splitlines()[:10])) <= 80
    pictures = list((member / "explanations" / "saliency").glob("*_visualization.png"))
    assert len([path for path in pictures if not path.name.startswith("summary")]) == 1

    before, records = stamps(member), member / "explanations" / "records" / "grad_cam"
    explained = {path.name: path.stat().st_mtime_ns for path in records.iterdir()}
    benchmark()
    assert stamps(member) == before
    benchmark("hydra.sweeper.further_methods=[input_x_gradient]")
    assert stamps(member)["best.ckpt"] == before["best.ckpt"]
    assert {path.name: path.stat().st_mtime_ns for path in records.iterdir()} == explained
    assert "input_x_gradient" in {row["method"] for row in read_csv(folder / "benchmark.csv").rows}


def test_a_member_that_was_trained_otherwise_is_not_mixed_in(benchmark, capsys):
    folder = benchmark()
    table = (folder / "benchmark.csv").read_bytes()
    agreement = read_csv(folder / "agreement.csv").rows
    for name in ("spearman", "spearman_pointing", "spearman_energy"):
        assert all(row[name] in ("", "nan") or -1 <= float(row[name]) <= 1 for row in agreement)
    with pytest.raises(SystemExit):
        benchmark("trainer.max_epochs=2")
    error = capsys.readouterr().err
    assert "trainer.max_epochs=1, now it is 2" in error
    assert "hydra.sweep.dir" in error
    assert (folder / "benchmark.csv").read_bytes() == table


def test_seeds_belong_to_the_benchmark(benchmark, capsys):
    with pytest.raises(SystemExit):
        benchmark("seed=3")
    assert "hydra.sweeper.seeds" in capsys.readouterr().err


def score(method, passes, value, **others):
    return MethodScores(method, passes, {"deletion_gap_tuned": value, "insertion_gap_tuned": value, **others})


def test_methods_that_pass_come_first_and_curves_order_the_rest():
    scores = [score("a", False, 0.9), score("b", True, 0.1), score("c", True, 0.2), score("d", None, 0.3)]
    both = order_methods(scores, "verdicts and curves")
    assert sorted("abcd", key=lambda name: -both["abcd".index(name)]) == ["c", "b", "a", "d"]
    assert order_methods(scores, "verdicts") == [0.0, 1.0, 1.0, 0.0]
    assert all(math.isnan(value) for value in order_methods(scores, "curves"))


def row(method, place, true_place, passes=3):
    return MethodResult(
        method=method, passes=passes, members=3, place=place, true_place=true_place, order=1 / place,
        truth=1 / true_place, scores={"auprc": 0.5, "pointing": 0.25}, by_phantom={"amd": 0.5},
    )  # fmt: skip


def test_controls_above_a_passing_method_are_found_by_both_orders():
    rows = [
        row("grad_cam", 1, 1),
        row("saliency", 2, 4),
        row("eigen_cam", 3, 2, passes=0),
        row("control_edges", 4, 3, 0),
    ]
    found = BenchmarkResults(
        rows=rows, agreement={}, by_phantom={}, by_truth={}, truths={}, left_out=[], evidence={}, accuracy={}
    )
    assert found.controls_above(truth=False) == []
    assert found.controls_above(truth=True) == [("control_edges", "saliency")]
    columns, cells = list_cells(found)
    assert columns[:4] == ["", "method", "passes", "true place"]
    assert [line[2] for line in cells][:2] == ["3/3", "3/3"]


@pytest.mark.parametrize(("moved", "kept", "used"), [(1.0, None, True), (0.9, 0.7, False), (0.5, 1.0, False)])
def test_the_evidence_is_known_only_if_the_network_uses_it(moved, kept, used):
    assert Evidence(moved, kept, {}).is_used is used
