"""Check the documentation: its commands compose, its options and files exist, its examples run."""

import ast
import importlib
import inspect
import re
import shlex
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from seewhy.cli.compose import compose_saved as compose_experiment
from seewhy.cli.compose import compose_train, expand_overrides, register_run, store_schemas
from seewhy.cli.main import HYDRA, make_parser
from seewhy.data.splits import split_from_file
from seewhy.nets.affinity import RandomWalk
from seewhy.nets.classifiers.backbones import PlanarFeatures, SpatialFeatures
from seewhy.nets.encoders.cnn import CNN
from seewhy.nets.encoders.mit import MiT
from seewhy.nets.encoders.timm_encoder import TimmEncoder
from seewhy.nets.refinement import PixelAdaptiveRefinement, refine_regions
from seewhy.run.build import build_model, find_node_problems
from seewhy.run.checks import check_config
from seewhy.run.explanations import explainers
from seewhy.run.folder import conf_dir
from seewhy.run.loaded.saved_run import read_checkpoint
from seewhy.run.train import train

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
GROUPS = sorted(path.name for path in conf_dir().iterdir() if path.is_dir())
OPEN = {
    "model.affinity": [RandomWalk],
    "model.backbone": [PlanarFeatures, SpatialFeatures],
    "model.encoder": [CNN, MiT, TimmEncoder],
    "model.refinement": [PixelAdaptiveRefinement],
    "model.regions": [refine_regions],
}
"""Mappings whose keys are keywords of these functions, so that a yaml does not list all of them."""
OTHER_TOOLS = {
    ".", "apptainer", "curl", "docker", "mkdocs", "mlflow", "pip", "pytest", "tensorboard", "torchrun", "venv", "wandb",
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = page.read_text()
    return [Block(page, text[: match.start()].count("\n") + 1, match[1], match[2]) for match in found]


def commands() -> list[tuple[str, list[str]]]:
    """Every command of every page as (where, words); placeholders filled, comments and variables dropped."""
    found = []
    for block in (block for page in PAGES for block in blocks(page) if block.language == "bash"):
        text = re.sub(r"<[^<>\n]+>|…", "somewhere", block.text.replace("\\\n", " "))
        for line in text.splitlines():
            for part in re.split(r"\s&&\s", line):
                words = shlex.split(part, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words = words[1:]
                if words:
                    found.append((f"{block.page.name}:{block.line} {' '.join(words)}", words))
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def inline_code() -> list[tuple[str, str]]:
    return [(page.name, code) for page in PAGES for code in re.findall(r"`([^`\n]+)`", prose(page))]


@pytest.fixture(scope="module")
def my(tmp_path_factory):
    """The examples of docs/adding.md as files in a folder on Python's path."""
    folder = tmp_path_factory.mktemp("examples") / "my"
    for block in blocks(ROOT / "docs" / "adding.md"):
        name, _, text = block.text.partition("\n")
        if block.language in ("python", "yaml"):
            assert name.startswith("# my/"), f"adding.md:{block.line}: the first line must name the file"
            path = folder.parent / name.removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run folders with the configuration that `predict` and `explain` compose from, by experiment."""
    folders = {name: tmp_path_factory.mktemp("run") for name in ("brats", "amd", "mri", "demo/cyclegan", "volume")}
    for name, folder in folders.items():
        composed = compose_train(f"experiment={name}", "data.root=here", "++paths.output_dir=here")
        OmegaConf.save({"config": OmegaConf.to_container(composed, resolve=True)}, folder / "config.yaml")
    return folders


def experiment_of(where: str, run: str) -> str:
    """Experiment of the run that a command of a page refers to."""
    if where.startswith(("volumes.md", "vesuvius.md")) or " volume." in where:
        return "volume"
    if "mri" in run or where.startswith(("mri.md", "mri-saliency.md")):
        return "mri"
    if where.startswith("harmonization.md") or " data.domain=" in where or run.endswith("cyclegan"):
        return "demo/cyclegan"
    pages = ("explaining.md", "classification.md", "amd.md", "amd-grad-cam.md", "start.md", "reading-maps.md")
    return "amd" if where.startswith(pages) else "brats"


def overrides_of(words: list[str]) -> list[str]:
    """Overrides of a command line: flags dropped, the first value of each sweep."""
    kept, skip = [], False
    for word in words:
        if not skip and not word.startswith("-"):
            kept.append(word)
        skip = word in ("--config-dir", "--cfg")
    parsed = OverridesParser.create().parse_overrides(kept)
    return [
        f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"
        if override.is_sweep_override()
        else override.input_line
        for override in parsed
    ]


GROUPS = ("phantom", "data", "model", "callbacks", "explain", "trainer", "logger", "volume", "evaluate", "cases")


def check_possible(config: DictConfig) -> None:
    """Check that every option is possible, as the commands do, and that the model can be built.

    The model is built without memory for its weights: drawing those of a full-size network takes seconds.
    """
    check_config(config, *(group for group in GROUPS if group in config))
    with torch.device("meta"):
        build_model(config)


def compose_saved(name: str, overrides: list[str], folder: Path) -> DictConfig:
    register_run([f"run={folder}"])
    store_schemas()
    words = [word for word in overrides if not word.startswith("run=")]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return compose(name, overrides=[*expand_overrides(words), f"run={folder}"])


@pytest.mark.parametrize(("where", "words"), [pytest.param(*found, id=found[0]) for found in commands()])
def test_every_command_is_possible(where, words, my, runs):
    program, rest = words[0], words[1:]
    if program == "python":
        program, rest = rest[0], rest[1:]
        if program == "-m":
            program, rest = rest[0], rest[1:]
    if program == "seewhy" and rest[0] in HYDRA:
        program, rest = rest[0], rest[1:]
    program = program.removesuffix(".py").removeprefix("seewhy-")
    if program == "train":
        if any(word.startswith("hparams_search=optuna") for word in rest):
            pytest.importorskip("optuna")
        defaults = ["hydra.searchpath=[file://" + str(my) + "]", "++paths.output_dir=here"]
        overrides = overrides_of(rest)
        config = compose_train(*defaults, *overrides)
        if overrides and "--cfg" not in rest:  # which shows a configuration that may be incomplete
            check_possible(config)
    elif program in HYDRA:
        run = next((word for word in rest if word.startswith("run=")), None)
        if run is None:  # an experiment's configuration in place of a run's, for other models and without a data set
            config = compose_experiment(program, None, *overrides_of(rest))
            assert find_node_problems(config.trainer, "trainer") == []
        else:
            config = compose_saved(program, overrides_of(rest), runs[experiment_of(where, run)])
            check_possible(config)
        if program == "explain":
            explainers.build_explainers(explainers.load_explainer_nodes(config.explain))
    elif program == "seewhy":
        assert callable(make_parser().parse_args(rest).run)
    elif program.startswith("benchmarks/"):
        assert (ROOT / f"{program}.py").is_file()
    else:
        assert program in OTHER_TOOLS, f"{program} is not a command of seewhy"
        assert all((ROOT / word).exists() for word in rest if word.startswith("tests/"))


def test_there_are_commands_to_check():
    pages = {where.split(":")[0] for where, _ in commands()}
    assert {"README.md", "adding.md", "weakly-supervised.md", "explaining.md", "classification.md"} <= pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_linked_file_exists(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose(page))
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_linked_heading_exists(page):
    wrong = []
    for file, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)]+)\)", prose(page)):
        headings = re.findall(r"^#+ (.+)$", prose(page.parent / file if file else page), flags=re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        wrong += [f"{file}#{anchor}"] * (anchor not in anchors)
    assert wrong == []


def known_keys() -> set[str]:
    """Dotted names of every option of every choice of data, model, callbacks, trainer, logger and phantom."""
    keys: set[str] = set()
    for words in (
        ["experiment=demo/brats"],
        ["experiment=demo/lasc", "model=afa", "trainer=ddp", "logger=wandb"],
        ["experiment=brats", "logger=[tensorboard,mlflow]"],
        ["experiment=brats", "callbacks=predict"],
        ["experiment=demo/amd", "callbacks=[classification,ema]"],
        ["experiment=demo/mri"],
    ):
        keys |= set(dotted(compose_train(*words, "++paths.output_dir=here", "++data.root=here"), ""))
    for name in ("experiment=demo/cyclegan", "experiment=demo/cyclegan model=curve_25d", "experiment=demo/volume"):
        keys |= set(dotted(compose_train(*name.split(), "++paths.output_dir=here", "++data.root=here"), ""))
    for name in ("cases", "evaluate", "volume"):
        keys |= set(dotted(OmegaConf.load(conf_dir() / name / "default.yaml"), f"{name}."))
    for path in (conf_dir() / "explainer").glob("*.yaml"):
        keys |= set(dotted(OmegaConf.load(path), f"explain.options.{path.stem}."))
    for path in (conf_dir() / "add").glob("*.yaml"):
        keys |= set(dotted(OmegaConf.load(path), ""))
    return keys


def dotted(node: DictConfig, prefix: str):
    for key in node:
        yield f"{prefix}{key}"
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from dotted(child, f"{prefix}{key}.")


def test_every_option_named_in_the_text_exists():
    known = known_keys()
    tops = "data|model|trainer|callbacks|explain|logger|phantom|paths|cases|evaluate|volume"
    wrong = []
    for page, code in inline_code():
        for name in re.findall(rf"(?:^|\s|\+)((?:{tops})(?:\.\w+)+)(?![\w(])", code):
            parent, _, leaf = name.rpartition(".")
            factories = OPEN.get(parent, [])
            if leaf in ("py", "png", "json", "csv"):
                continue
            if name not in known and not any(leaf in inspect.signature(factory).parameters for factory in factories):
                wrong.append(f"{page}: {name}")
    assert wrong == []


def test_the_table_of_presets_is_what_the_presets_say():
    lines = (ROOT / "docs" / "weakly-supervised.md").read_text().splitlines()
    start = lines.index("| option | `model=weakly_supervised` | `model=afa` |") + 2
    presets = [compose_train("experiment=brats", f"model={name}").model for name in ("weakly_supervised", "afa")]
    rows = [re.findall(r"`([^`]+)`", line) for line in lines[start:] if line.startswith("|")]
    table = rows[: next(n for n, line in enumerate(lines[start:]) if not line.startswith("|"))]
    assert len(table) > 15
    for name, *told in table:
        for text, preset in zip(told, presets, strict=True):
            assert yaml.safe_load(text) == _plain(preset, name), f"{name}: the page says {text}"


def test_the_page_says_what_chooses_the_checkpoint():
    best = OmegaConf.load(conf_dir() / "callbacks" / "checkpoints.yaml").best
    assert f"`{best.monitor}` (`callbacks.best.monitor`)" in (ROOT / "docs" / "weakly-supervised.md").read_text()


def _plain(preset: DictConfig, name: str):
    """An option as plain data; numbers as `yaml` reads them."""
    value = OmegaConf.select(preset, name)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def test_every_choice_named_in_the_text_exists(my):
    wrong = []
    for page, code in inline_code():
        for group, choice in re.findall(rf"(?:^|\s)({'|'.join(GROUPS)})=([\w/]+)", code):
            if not any((root / group / f"{choice}.yaml").is_file() for root in (conf_dir(), my)):
                wrong.append(f"{page}: {group}={choice}")
    assert wrong == []


def test_every_file_and_name_of_ours_in_the_text_exists():
    wrong = []
    for page, code in inline_code():
        paths = re.findall(r"^(?:src|conf|tests|docs|notebooks|benchmarks)/[\w./-]+$", code)
        wrong += [f"{page}: {path}" for path in paths if not (ROOT / path).exists()]
        if re.fullmatch(r"seewhy(\.\w+)+", code) and not exists(code):
            wrong.append(f"{page}: {code}")
    assert wrong == []


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something in one, or something of a class in one."""
    found: Any = importlib.import_module("seewhy")
    done = "seewhy"
    for part in name.split(".")[1:]:
        done = f"{done}.{part}"
        with suppress(ModuleNotFoundError):  # what is no module may be an attribute of one, or of a class
            importlib.import_module(done)
        found = getattr(found, part, None)
    return found is not None


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_every_import_of_a_benchmark_exists(path):
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [f"{n.module}.{alias.name}" for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names]
    names += [alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names]
    assert [name for name in names if name.startswith("seewhy.") and not exists(name)] == []


@pytest.fixture(scope="module")
def knees(tmp_path_factory):
    """Eight patients of four slices, every second one with a bright square."""
    root = tmp_path_factory.mktemp("knees")
    rng = np.random.default_rng(0)
    for folder in ("imageSlice", "maskSlice"):
        (root / folder).mkdir()
    for patient in range(8):
        for number in range(4):
            mask = np.zeros((40, 40), np.uint8)
            mask[10:20, 10:20] = number % 2
            image = rng.normal(100, 10, (40, 40)) + 80 * mask
            image[:, :4] = 0
            name = f"knee{patient:02d}-{number}-{number % 2}.npy"
            np.save(root / "imageSlice" / name, image.astype(np.float32))
            np.save(root / "maskSlice" / name, mask)
    return root


def run_example(my: Path, knees: Path, folder: Path, *words: str) -> Path:
    config = compose_train(
        f"hydra.searchpath=[file://{my}]",
        *words,
        f"data.root={knees}",
        "data.batch_size=4",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        "trainer.enable_model_summary=false",
        "callbacks.progress=null",
        f"++paths.output_dir={folder}",
    )
    train(config)
    split_from_file([f"knee{number:02d}" for number in range(8)], folder / "split.json")
    assert read_checkpoint(folder / "checkpoints" / "best.ckpt")["state_dict"]
    assert list((folder / "cam_npy").glob("*.npy"))
    return folder


def test_the_model_of_the_example_trains(my, knees, tmp_path):
    folder = run_example(my, knees, tmp_path, "experiment=knee_classifier")
    names = {line.split(",")[1] for line in (folder / "patients.csv").read_text().splitlines()[1:]}
    assert "cam" in names
    assert "floor_otsu3" in names


def test_the_network_and_the_callback_of_the_examples_train(my, knees, tmp_path):
    folder = run_example(my, knees, tmp_path, "experiment=knee", "model=slim", "callbacks=areas")
    lines = (folder / "areas.csv").read_text().splitlines()
    tested = [path.stem for path in (knees / "imageSlice").glob("*.npy") if _is_tested(folder, path.stem)]
    assert lines[0] == "id,area"
    assert sorted(line.split(",")[0] for line in lines[1:]) == sorted(tested)


def _is_tested(folder: Path, name: str) -> bool:
    split = OmegaConf.load(folder / "split.json")
    return name.split("-")[0] in split["test"]
