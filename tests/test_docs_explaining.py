"""What the pages on explanations and classification say is so: methods, columns, losses, files; their Python runs."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blank_figures import blank_figures
from omegaconf import OmegaConf

from seewhy.cli.compose import compose_train
from seewhy.losses.classification import LOSSES
from seewhy.phantoms.mri import write_mri_phantom
from seewhy.reporting.tables import COLUMNS
from seewhy.run.build import build_datamodule, build_model
from seewhy.run.explanations import explainers
from seewhy.run.folder import conf_dir
from seewhy.run.train import train

DOCS = Path(__file__).resolve().parents[1] / "docs"


def fenced(page: str, language: str) -> list[str]:
    """The blocks of a page in one language."""
    text = (DOCS / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def my(tmp_path_factory):
    """The examples of docs/adding.md as files in a folder on Python's path."""
    folder = tmp_path_factory.mktemp("cases")
    for text in [*fenced("adding.md", "python"), *fenced("adding.md", "yaml")]:
        path = folder / text.partition("\n")[0].removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.partition("\n")[2])
    sys.path.insert(0, str(folder / "my"))
    yield folder / "my"
    sys.path.remove(str(folder / "my"))


def rows_below(page: str, heading: str) -> list[list[str]]:
    """Cells of every table row of a section and its subsections, headings of tables and rules left out."""
    text = (DOCS / page).read_text()
    level = re.match("#+", heading)[0]
    section = re.split(rf"^#{{1,{len(level)}}} ", text.split(f"{heading}\n", 1)[1], flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    table = [line for line, below in zip(lines, [*lines[1:], ""], strict=True) if "| --- |" not in below + line]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def test_the_page_of_explanations_names_every_method_and_no_other():
    named = [re.fullmatch("`(.+)`", row[0])[1] for row in rows_below("explaining.md", "## Methods")]
    assert sorted(named) == sorted(path.stem for path in (conf_dir() / "explainer").glob("*.yaml"))
    readme = (DOCS.parent / "README.md").read_text()
    assert f"{len(named)} methods behind one call" in readme


def test_methods_without_a_sign_are_those_the_page_says():
    rows = rows_below("explaining.md", "### Methods at the input")
    nodes = explainers.load_explainer_nodes(
        OmegaConf.create({"methods": [row[0].strip("`") for row in rows], "options": {}, "memory_budget": None})
    )
    for name, explainer in explainers.build_explainers(nodes).items():
        said = next(row[-1] for row in rows if row[0] == f"`{name}`")
        assert (explainer.reading == "magnitude") == (said == "magnitude"), name


def test_the_columns_of_the_reference_come_first_and_are_on_the_page():
    row = next(
        line for line in (DOCS / "coming-from" / "mri-saliency.md").read_text().splitlines() if "`abs_mean`" in line
    )
    theirs, ours = row.strip("|").split(" | ")
    named = re.findall(r"`(\w+)`", theirs.split("`:", 1)[1])
    assert tuple(named) == COLUMNS[: len(named)]
    assert set(re.findall(r"`(\w+)`", ours)) - {"prediction"} == set(COLUMNS[len(named) :])


def test_the_losses_on_the_page_are_those_there_are():
    named = {row[0].strip("`") for row in rows_below("classification.md", "## Losses")}
    assert named == set(LOSSES)


def test_the_python_of_the_readme_runs():
    blocks = [*fenced("../README.md", "python"), fenced("faq.md", "python")[0]]
    assert len(blocks) == 2
    for text in blocks:
        names: dict[str, Any] = {}
        exec(compile(text, "README.md", "exec"), names)
        assert names["maps"].maps["image"].shape == (1, 224, 224)


def test_the_python_of_the_page_of_explanations_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known: dict[str, object] = {}
    ran = fenced("explaining.md", "python")
    for number, text in enumerate(ran):
        exec(compile(text, f"explaining.md, block {number}", "exec"), known)
    assert len(ran) >= 5


def test_the_python_for_users_of_the_amd_scripts_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [text] = fenced("coming-from/amd-grad-cam.md", "python")
    known: dict[str, Any] = {}
    exec(compile(text, "amd-grad-cam.md", "exec"), known)
    assert known["answer"]["heatmaps"]["fluid"].shape == (96, 96)
    assert (tmp_path / "gradcam_results" / "patient_001_gradcam_visualization.png").is_file()
    assert (tmp_path / "gradcam_results" / "patient_001_heatmaps" / "patient_001_fluid.png").is_file()


def test_the_python_for_any_model_and_loader_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    *_, text = fenced("python.md", "python")
    known: dict[str, object] = {}
    with blank_figures():
        exec(compile(text, "python.md", "exec"), known)
    assert len(known["records"]) == 4
    assert (tmp_path / "explained" / "explanations.json").is_file()


def test_the_python_for_a_training_without_hydra_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [text] = [text for text in fenced("python.md", "python") if "trainer.fit" in text]
    known: dict[str, Any] = {}
    exec(compile(text, "python.md", "exec"), known)
    assert known["prediction"].predicted in known["model"].classes


def test_the_data_set_of_cases_of_the_example_builds(my):
    config = compose_train(f"hydra.searchpath=[file://{my}]", "experiment=fundus", "data.root=here")
    assert tuple(build_datamodule(config).inputs) == tuple(build_model(config).explainable().inputs)


def test_the_classifier_and_the_explainer_of_the_examples_work(my, tmp_path, monkeypatch):
    conf = tmp_path / "conf"  # the commands look for explainers in the package's own configs only
    shutil.copytree(conf_dir(), conf)
    shutil.copy(my / "explainer" / "detail_gradient.yaml", conf / "explainer")
    monkeypatch.setattr(explainers, "conf_dir", lambda: conf)
    run = tmp_path / "run"
    config = compose_train(
        f"hydra.searchpath=[file://{my}]",
        "experiment=demo/mri",
        "model=projection",
        f"data.root={write_mri_phantom(tmp_path / 'heads', cases=12, shape=[32, 32, 32])}",
        "data.slices=null",
        "trainer.max_epochs=1",
        "trainer.enable_progress_bar=false",
        "trainer.enable_model_summary=false",
        "callbacks.progress=null",
        "explain.methods=[detail_gradient]",
        "explain.max_samples=2",
        f"++paths.output_dir={run}",
    )
    config.phantom = None
    with blank_figures():
        train(config)
    tree = fenced("explaining.md", "text")[0]
    files = re.findall(r"^  (\S+\.\w+)(?:, (\S+\.\w+))?", tree, flags=re.MULTILINE)
    named = {name for pair in files for name in pair if name}
    assert {"explanations.json", "ranking.png"} <= named
    assert sorted(name for name in named if not (run / "explanations" / name).is_file()) == []
    ours = sorted((run / "explanations" / "detail_gradient").glob("*/*_detail_gradient_attributions.npy"))
    assert len(ours) == 2
    assert all(np.load(path, allow_pickle=False).shape == (32, 32, 32) for path in ours)
    assert len(list(ours[0].parent.glob("*_detail_gradient_slice_*.png"))) == 7
    assert (ours[0].parent / f"{ours[0].parent.name}_detail_gradient.nii.gz").is_file()
    assert (run / "explanations" / "detail_gradient" / "slice_profile.png").is_file()
