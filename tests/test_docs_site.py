"""The site of the documentation: generated references are complete, answers are near, tables say what `conf/` says."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from seewhy.cli.compose import compose_train
from seewhy.cli.main import HYDRA, make_parser

pytest.importorskip("griffe", reason="pip install 'seewhy[docs]'")
ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "generate"))

import api  # noqa: E402
import commands  # noqa: E402
import conf_files  # noqa: E402
import configuration  # noqa: E402

QUESTIONS = {
    "How do I start on my own CSV of NIfTI files?": "experiment=mri",
    "Which option is the patch size?": "data.patch",
    "What does `doubts.csv` mean?": "plausible",
    "How do I resume a training?": "ckpt_path=last",
    "How do I run on SLURM?": "cluster=slurm",
    "Why is my map hatched?": "failed a check",
    "How do I cite?": "CITATION.cff",
    "Can I open a run folder from a stranger?": "trust=true",
    "How do I explain my own `nn.Module`?": "GradCAM(",
    "What do the floors mean?": "without learning",
}
"""Questions of a new user, and what the answer must say."""


@pytest.fixture(scope="module")
def pages():
    return configuration.write_pages()


def section_of(file, pages):
    """Rows of the table of a file: name → [default, meaning]; and the text of its section."""
    page = pages[configuration.page_of(file.group)]
    text = page.split(f"{{ #{file.anchor} }}\n", 1)[1].split("\n## ", 1)[0]
    rows = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in text.splitlines() if line.startswith("| `")]
    return {name.strip("`"): rest for name, *rest in rows}, text


def leaves(node, prefix=""):
    """Dotted name of every key that is no mapping."""
    for key, value in node.items():
        yield from leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]


@pytest.mark.parametrize("path", sorted((ROOT / "conf").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_key_of_the_configuration_is_in_the_reference(path, pages):
    file = next(file for file in conf_files.read_conf() if ROOT / "conf" / file.path == path)
    if conf_files.is_agent_file(file):
        assert f"`conf/{file.path.as_posix()}`" in pages[configuration.page_of(file.group)]
        return
    rows, text = section_of(file, pages)
    content = yaml.safe_load(path.read_text()) or {}
    content.pop("defaults", None)
    target = content.pop("_target_", None)
    assert target is None or f"- Builds: `{target}`" in text
    for name in leaves(content):
        above = [".".join(name.split(".")[:count]) for count in range(1, name.count(".") + 2)]
        assert any(file.prefix + part in rows for part in above), f"{path.name}: {name}"
    assert [name for name, cells in rows.items() if not cells[-1].strip()] == []


def test_names_in_the_reference_are_options(pages):
    config = compose_train("experiment=brats", "++data.root=here", "++paths.output_dir=here")
    chosen = ["data/brats", "data/shared/base", "model/weakly_supervised", "callbacks/default", "callbacks/maps"]
    chosen += ["callbacks/checkpoints", "trainer/default", "explain/default", "explain/weakly_supervised", "logger/csv"]
    for file in conf_files.read_conf():
        if file.path.with_suffix("").as_posix() in chosen:
            chosen.remove(file.path.with_suffix("").as_posix())
            for name in section_of(file, pages)[0]:
                parent, _, key = name.rpartition(".")
                assert key in OmegaConf.select(config, parent), name
    assert chosen == []


def test_a_new_folder_of_the_configuration_gets_a_page(tmp_path, monkeypatch):
    (tmp_path / "sound").mkdir()
    (tmp_path / "sound" / "loud.yaml").write_text(
        "# Loud.\nvolume: 11 # of 10 | 'or' \"so\" *_<b>_* {a: 1}\nlist: [a, # first\n  b]\n"
    )
    [file] = conf_files.read_conf.__wrapped__(tmp_path)
    monkeypatch.setattr(configuration, "read_conf", lambda: (file,))
    assert configuration.list_groups()["sound"][0] == "Sound"
    page = configuration.write_pages()["reference/options/sound.md"]
    assert "## `sound=loud` { #loud }" in page
    assert "| `sound.volume` | `11` | of 10 \\| 'or' \"so\" \\*\\_&lt;b>\\_\\* &#123;a: 1} |" in page
    assert "| `sound.list` | `[a, b]` |" in page


def test_meanings_come_from_the_docstring_of_the_class():
    said = conf_files.read_arguments("seewhy.callbacks.ema.StochasticWeightAveraging")
    assert "start" in said
    assert conf_files.read_arguments("lightning.pytorch.Trainer") == {}


def test_every_public_name_is_in_the_reference():
    written = api.write_pages()
    for stub in (ROOT / "src" / "seewhy").rglob("__init__.pyi"):
        package = ".".join(stub.parent.relative_to(ROOT / "src").parts)
        page = written[api.page_of(package)]
        for name, home in api.list_names(package):
            assert f"::: {home}.{name}\n" in page or f"- [`{name}`](" in page, f"{package}.{name}"


def test_every_command_is_in_the_reference():
    page = commands.write_page()
    names = [name for name, _ in commands._subparsers(make_parser())]
    assert len(names) > 10
    for name in names:
        assert f"`seewhy {name}`" in page if name in HYDRA else f"\n### seewhy {name}\n" in page, name
    assert "--slice-split V0 V1" in page


def test_every_page_is_in_the_navigation():
    hook = pytest.importorskip("hook", reason="pip install 'seewhy[docs]'")
    [written] = re.findall(r"^nav:\n(.*)", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE | re.DOTALL)
    pages = list(hook._list_pages(hook.expand_navigation(yaml.safe_load(written))))
    assert sorted(set(pages)) == sorted(pages)
    generated = {configuration.page_of(group) for group in configuration.list_groups()}
    generated |= {api.page_of(package) for package in api.PACKAGES} | {commands.PAGE} | set(hook.COPIED.values())
    notebooks = {f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert set(pages) == generated | notebooks | {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}


def test_every_question_is_answered_two_clicks_from_the_start():
    assert "](faq.md)" in (DOCS / "index.md").read_text()
    assert "docs/faq.md" in (ROOT / "README.md").read_text()
    sections = dict(part.split("\n", 1) for part in (DOCS / "faq.md").read_text().split("\n## ")[1:])
    for question, fact in QUESTIONS.items():
        assert fact in sections[question], question


@pytest.mark.parametrize("name", ["amd", "mri"])
def test_defaults_on_the_page_are_those_of_the_configuration(name):
    config = compose_train(f"experiment={name}", "++data.root=here", "++paths.output_dir=here")
    lines = (DOCS / f"{name}.md").read_text().split("## Options\n", 1)[1].split("\n## ", 1)[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]
    assert len(rows) > 8
    for options, defaults, _ in rows:
        keys = re.findall(r"`([^`]+)`", options)
        values = re.findall(r"`([^`]+)`", defaults)
        for key, value in zip(keys, values * (len(keys) // len(values)), strict=True):
            found = OmegaConf.select(config, key)
            found = OmegaConf.to_container(found) if OmegaConf.is_config(found) else found
            assert yaml.safe_load(value) == found, key


def test_figures_of_the_readme_are_those_of_the_results():
    table = (ROOT / "README.md").read_text().split("## Five systems\n", 1)[1].split("\n\nThe command", 1)[0]
    measured = [line.strip("| ").split(" | ")[-1] for line in table.splitlines() if line.startswith("| [")]
    results = (DOCS / "results.md").read_text()
    assert len(measured) == 5
    for text in measured:
        figures = re.findall(r"(?<![\d.])\d*\.\d+", text)
        assert len(figures) >= 3
        assert [figure for figure in figures if not re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", results)] == []
