"""Write one Markdown page per folder of `conf/`: every option with its default and its meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator

from conf_files import ConfFile, find_meaning, is_agent_file, read_conf

__all__ = ["list_groups", "page_of", "write_pages"]

AGENT = "`wandb sweep`, see [trackers](../../tracking.md#sweeps-of-wb)"
PAGES = "reference/options"
PIPE = "\\|"
GROUPS = {
    "": ("Commands", "Options of the commands themselves. Each file is the root of one command's configuration."),
    "experiment": ("Experiments", "One file per system: which data, model and callbacks belong together."),
    "data": ("Data sets", "What is read, how it is split, normalised and augmented. Chosen by `data=…`."),
    "model": ("Models", "Networks, losses, optimiser and schedule. Chosen by `model=…`."),
    "trainer": ("Trainer", "Lightning's Trainer: device, precision, epochs. Chosen by `trainer=…`."),
    "callbacks": ("Callbacks", "What runs during and after a training. Chosen by `callbacks=…`, several in a list."),
    "add": ("Parts to add", "One word each, on top of what an experiment has: `add=swa`, `add=[swa,gradient_norm]`."),
    "explain": ("Explaining", "Which samples are explained, by which methods, and where the files go."),
    "explainer": ("Methods", "One file per method, under its name in `explain.methods`. Options go below its name."),
    "volume": ("Volumes", "Prediction of volumes of any size: input, output, patches, memory, processes."),
    "cases": ("Cases", "Choice and figures of cases of a translation run (`python -m seewhy cases`)."),
    "evaluate": ("Evaluation", "Evaluation of a translation run (`python -m seewhy evaluate`)."),
    "logger": ("Loggers", "Experiment trackers. Chosen by `logger=…`, several in a list."),
    "phantom": ("Phantoms", "Synthetic data that the demos write. Chosen by the experiments `demo/…`."),
    "hparams_search": ("Searches", "Searches with Optuna, and sweep files for `wandb agent`."),
    "cluster": ("Clusters", "How the members of a sweep are started. Chosen by `cluster=…`."),
    "job": ("Jobs", "Several processes that explain together."),
    "debug": ("Debugging", "Short runs that find mistakes. Chosen by `debug=…`."),
    "paths": ("Folders", "Where runs and data go."),
    "hydra": ("Hydra", "Settings of Hydra itself: names of run folders, log format, sweepers."),
}  # fmt: skip
"""Folder of `conf/` → title and introduction of its page, in the order of the navigation."""


def page_of(group: str) -> str:
    """Path of the page of a folder of `conf/`, relative to `docs/`."""
    return f"{PAGES}/{group or 'commands'}.md"


def list_groups() -> dict[str, tuple[str, str]]:
    """Folders of `conf/` → title and introduction; those without an entry in `GROUPS` come last."""
    others = sorted({file.group for file in read_conf()} - set(GROUPS))
    return GROUPS | {group: (group.capitalize(), f"Chosen by `{group}=…`.") for group in others}


def write_pages() -> dict[str, str]:
    """Path of each page relative to `docs/` → its Markdown."""
    files = read_conf()
    return {page_of(group): "\n".join(_page(*about, group, files)) for group, about in list_groups().items()}


def _page(title: str, about: str, group: str, files: tuple[ConfFile, ...]) -> Iterator[str]:
    yield f"# {title}\n"
    yield f"{about}\n"
    for file in files:
        if file.group == group and not is_agent_file(file):
            yield from _section(file)
    for file in filter(is_agent_file, files):
        if file.group == group:
            yield f"- `conf/{file.path.as_posix()}`: a sweep file for {AGENT}"


def _section(file: ConfFile) -> Iterator[str]:
    yield f"## {_choice(file)} {{ #{file.anchor} }}\n"
    if file.about:
        yield f"{_escape(file.about)}\n"
    yield f"- File: `conf/{file.path.as_posix()}`"
    if file.builds:
        yield f"- Builds: `{file.builds}`"
    if file.parents:
        yield "- Takes in: " + ", ".join(_link(name, file) for name in file.parents)
    rows = [option for option in file.options if option.name != "_target_" and (option.default or option.comment)]
    if rows:
        yield '\n<div class="options" markdown>\n\n| option | default | meaning |\n| --- | --- | --- |'
        for option in rows:
            default = f"`{option.default.replace('|', PIPE)}`" if option.default else ""
            yield f"| `{file.prefix}{option.name}` | {default} | {_escape(find_meaning(option, file))} |"
        yield "\n</div>"
    yield ""


def _link(name: str, file: ConfFile) -> str:
    """Link to the section of a file that another one takes in, where there is one."""
    group, _, choice = name.rpartition("=")
    group, choice = (group, choice) if group else (file.group, name)
    if not group or choice.startswith(f"{group}/") or choice.partition("/")[0] in list_groups():
        group, _, choice = choice.partition("/")
    for other in read_conf():
        if other.group == group and other.choice == choice:
            return f"[`{name}`]({page_of(group).rpartition('/')[2]}#{other.anchor})"
    return f"`{name}`"


def _choice(file: ConfFile) -> str:
    if file.group == "hydra" and "/" in file.choice:
        return f"`hydra/{file.choice.replace('/', '=')}`"
    if not file.group or file.group in ("explainer", "hydra") or "shared/" in file.choice:
        return f"`{file.choice}`"
    return f"`{file.group}={file.choice}`"


def _escape(text: str) -> str:
    """Keep a cell in its column, and what is no Markdown from being read as such."""
    parts = re.split(r"(`[^`]*`)", text.replace("|", PIPE))
    return "".join(part if part.startswith("`") else _escape_words(part) for part in parts)


def _escape_words(text: str) -> str:
    text = text.replace("<", "&lt;").replace("{", "&#123;")  # `{…}` at the end of a cell would be its attributes
    return re.sub(r"([*_])", r"\\\1", text)
