"""Format and resolution of the figures of whole commands: every PNG has its twin, and records name files that exist."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seewhy.cli.compose import compose_saved, compose_train
from seewhy.cli.main import main
from seewhy.errors import ConfigError
from seewhy.figures.style import FigureOptions, current_figure_options
from seewhy.run.explanations.explain import explain
from seewhy.run.predict import predict
from seewhy.run.train import train
from seewhy.run.translation.cases import cases
from seewhy.run.translation.evaluate import evaluate

TWO = (
    "explain.methods=[saliency]",
    "explain.judge=cheap",
    "explain.max_samples=2",
    "trainer.enable_progress_bar=false",
)


def twins(folder, kind):
    """Stems of the PNG files and of those of another format, in all folders below."""
    return [sorted(str(path.with_suffix("")) for path in folder.rglob(f"*.{end}")) for end in ("png", kind)]


@pytest.mark.slow
def test_explanations_have_every_figure_as_pdf_and_at_the_resolution(single, tmp_path):
    sizes = {}
    for name, words in (("plain", ()), ("print", ("figures.format=pdf", "figures.dpi=200"))):
        explain(compose_saved("explain", single, f"explain.folder={tmp_path / name}", *TWO, *words))
        folder = tmp_path / name / "explanations"
        sizes[name] = {p.relative_to(folder): np.array(Image.open(p).size) for p in folder.rglob("*.png")}
    pictures, documents = twins(tmp_path / "print", "pdf")
    assert pictures == documents
    assert len(pictures) > 4
    assert twins(tmp_path / "plain", "pdf")[1] == []
    assert sizes["plain"].keys() == sizes["print"].keys()
    for path, size in sizes["plain"].items():
        drawn = path.name in ("ranking.png", "attribution_summary.png")
        assert abs(sizes["print"][path] - size * (200 / 150 if drawn else 2)).max() <= 1, path
    records = json.loads((tmp_path / "print" / "explanations" / "explanations.json").read_text())["explanations"]
    named = [name for record in records for name in record["pictures"]]
    assert named
    assert all((tmp_path / "print" / "explanations" / name).is_file() for name in named)
    assert current_figure_options() == FigureOptions()


@pytest.mark.parametrize("function", [train, predict, explain, evaluate, cases])
def test_every_command_that_draws_refuses_an_unknown_format(single, function):
    name = function.__name__
    make = compose_train if name == "train" else lambda *words: compose_saved(name, single, *words)
    words = ["experiment=demo/brats", "paths.output_dir=none"] if name == "train" else []
    with pytest.raises(ConfigError, match=r"figures\.format='pfd' is unknown; nearest: 'pdf'"):
        function(make(*words, "figures.format=pfd"))


def test_a_network_from_elsewhere_is_judged_with_figures_for_print(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "from torch import nn\n\ndef one():\n"
        "    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))\n"
    )
    np.savez("data.npz", images=np.random.default_rng(0).random((2, 1, 16, 16), np.float32))
    words = ["judge", "net.py:one", "data.npz", "--methods", "saliency", "--judge", "none"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--figures-format", "svg"])
    assert end.value.code == 0
    pictures, drawn = twins(Path("judged"), "svg")
    assert pictures == drawn != []
    with pytest.raises(SystemExit) as end:
        main([*words, "--figures-format", "svgg"])
    assert end.value.code == 1


@pytest.mark.slow
def test_a_training_leaves_every_figure_as_pdf(home, tiny, tmp_path):
    words = [*tiny, f"paths.output_dir={tmp_path}", f"paths.data_dir={home / 'data'}", "figures.format=pdf"]
    train(compose_train(*words))
    pictures, documents = twins(tmp_path, "pdf")
    assert pictures == documents
    names = {Path(stem).name for stem in pictures}
    assert {"training", "scores", "cases", "curves"} <= names
