"""Model card of a run: what its checkpoints were trained on, how well they do, and what they are not for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from seewhy.figures.report.blocks import ScoreCard
from seewhy.io.atomic import atomic_path
from seewhy.run.folder import RunFolder
from seewhy.run.pages.facts import RunFacts, make_cards, read_facts
from seewhy.run.records import find_words_of, read_results

__all__ = ["CARD", "USE", "write_model_card"]

CARD = "model_card.md"
USE = (
    "For research. It was measured on the data of its run only: see results.json and report.html there. It is no "
    "medical device; a person who can judge the images must check every result."
)
"""Intended use of every model that was trained here."""
LIMITS = (
    "Other scanners, protocols, hospitals and age groups than those of its data were not measured.",
    "A heat map shows what the network reacts to, which need not be what is medically relevant.",
)
PARTS = {"train": "training", "val": "validation", "test": "test"}
PHANTOM = "It was trained and tested on synthetic data; its scores say nothing about real patients."


def write_model_card(folder: RunFolder, model: nn.Module) -> Path:
    """Write `checkpoints/model_card.md` from the records of a run folder; before a test it has no scores.

    Args:
        folder: of the run, with `config.yaml` and `split.json`; `results.json` once it was tested.
        model: the trained model, for its description and its number of parameters.

    Returns:
        Path of the card.

    Raises:
        DataError: a record of the folder is damaged.
        ConfigError: `config.yaml` cannot be read as plain YAML.
    """
    facts = read_facts(folder.path)
    results = read_results(folder.path) if (folder.path / "results.json").is_file() else None
    name = str(facts.config.get("name") or folder.path.name)
    parts = [
        f"---\nlibrary_name: seewhy\ntags: [medical-imaging, {type(model).__name__}]\n---",
        f"# {name}",
        _describe_model(model, facts),
        f"## Intended use\n\n{USE}",
        f"## Data\n\n{_list_items(_describe_data(facts, results))}",
        f"## Scores\n\n{_describe_scores(results)}",
        f"## Limits\n\n{_list_items(_find_limits(results))}",
        f"## How it was made\n\n{_list_items(_describe_origin(facts, results))}",
        "## How to use it\n\n```python\nimport seewhy\n\n"
        'model = seewhy.load("best.ckpt")  # the folder of the run is read too\n'
        'result = model.predict("image.nii.gz")\n```',
    ]
    path = folder.checkpoints / CARD
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _describe_model(model: nn.Module, facts: RunFacts) -> str:
    """First sentence of the class, and what the network consists of."""
    about = (inspect.getdoc(type(model)) or "").split("\n\n")[0].replace("\n", " ")
    settings = facts.config.get("model")
    settings = settings if isinstance(settings, Mapping) else {}
    network = next(
        (part["name"] for key in ("encoder", "backbone", "network", "generator")
         if isinstance(part := settings.get(key), Mapping) and "name" in part), None,
    )  # fmt: skip
    count = sum(parameter.numel() for parameter in model.parameters())
    words = f"{type(model).__name__}, {count:,} parameters" + (f", network `{network}`" if network else "")
    return f"{about}\n\n{words}."


def _describe_data(facts: RunFacts, results: Mapping[str, Any] | None) -> list[str]:
    data = facts.config.get("data")
    data = data if isinstance(data, Mapping) else {}
    kind = str(data.get("_target_", "unknown")).rpartition(".")[2]
    root = Path(str(data["root"])).name if data.get("root") else ""
    items = [f"Read by `{kind}`" + (f" from the folder `{root}`" if root else "")]
    parts = [(use, facts.split.get(name)) for name, use in PARTS.items()]
    counts = [f"{len(patients)} for {use}" for use, patients in parts if isinstance(patients, list)]
    if counts:
        items.append(f"Patients: {', '.join(counts)}; no patient is in two parts")
    if facts.code.get("imported"):
        items.append(f"Imported from `{facts.code['imported']}`, which another program trained: see `imported.json`")
    items += [f"SHA-256 of the {name}: `{facts.code[name]}`" for name in ("data", "split") if facts.code.get(name)]
    if results is not None and results.get("phantom"):
        items.append(PHANTOM)
    return items


def _describe_scores(results: Mapping[str, Any] | None) -> str:
    if results is None:
        return "Not tested yet: nothing is known about how good the checkpoints of this folder are."
    cards = make_cards(results["metrics"], words=find_words_of(results))
    if not cards:
        return "Not tested: `results.json` has no scores of test patients."
    rows = ["| score on test patients | value | compared with |", "| --- | --- | --- |"]
    rows += [f"| {card.name} | {_value(card)} | {card.floor or '-'} |" for card in cards]
    checkpoint = results.get("checkpoint")
    tested = f"Tested: `best.ckpt`, SHA-256 `{checkpoint}`." if checkpoint else "Tested: the last checkpoint."
    choice = str(results.get("choice", ""))
    choice = f" {choice[0].upper()}{choice[1:]}." if choice else ""
    return "\n".join(rows) + f"\n\n{tested}{choice} All scores: `results.json`."


def _value(card: ScoreCard) -> str:
    return card.value + (f" ({card.interval})" if card.interval else "")


def _find_limits(results: Mapping[str, Any] | None) -> list[str]:
    phantom = [PHANTOM] if results is not None and results.get("phantom") else []
    return [*phantom, *LIMITS, *(results or {}).get("warnings", [])]


def _describe_origin(facts: RunFacts, results: Mapping[str, Any] | None) -> list[str]:
    versions = {"seewhy": facts.code.get("version"), **(results or {}).get("versions", {})}
    items = [", ".join(f"{name} {value}" for name, value in versions.items() if value)]
    if facts.code.get("commit"):
        items.append(f"Commit of the code: `{facts.code['commit']}`")
    if "seed" in facts.config:
        items.append(f"Seed: {facts.config['seed']}")
    return [*items, "All settings: `config.yaml` in the folder of the run"]


def _list_items(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items if item)
