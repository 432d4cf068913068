"""Facts of a run for its page, read as data: choices, hashes, versions, the command that repeats it, main scores."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from seewhy.errors import ConfigError, DataError
from seewhy.figures.labels import (
    Score,
    is_floor,
    label_of,
    lower_is_better,
    scores_by_method,
)
from seewhy.figures.report.blocks import Block, Code, Facts, ScoreCard, Section, Text
from seewhy.io.documents import read_json
from seewhy.run.records import read_overrides
from seewhy.run.saved_config import load_plain_yaml
from seewhy.wording import LESION, TargetWords

__all__ = ["RunFacts", "describe_run", "find_main_method", "make_cards", "read_facts"]

HIGHLIGHTS = {
    "data": "data._target_",
    "data folder": "data.root",
    "fold": "data.fold",
    "batch size": "data.batch_size",
    "model": "model._target_",
    "encoder": "model.encoder.name",
    "network": "model.network.name",
    "pretrained": "model.pretrained",
    "weights": "weights",
    "loss": "model.loss.name",
    "optimizer": "model.optimizer.name",
    "learning rate": "model.optimizer.lr",
    "epochs": "trainer.max_epochs",
    "steps": "trainer.max_steps",
    "precision": "trainer.precision",
    "devices": "trainer.devices",
    "seed": "seed",
}
"""Name on the page → option; options that are missing, null or -1 are left out."""
HASH = 16
"""Digits of a hash on the page."""
MAIN = ("dice", "auprc", "lesion_dice", "fp_slices", "auroc", "balanced_accuracy", "kappa", "mae", "ece")
"""Measures of the cards, in order."""
MOST = 4
PREFERRED = ("classifier", "prediction", "refined", "segmentation")
"""Methods that are a model's final answer."""
ASIDE = ("uncalibrated", "ideal")


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a run folder records about how the run was made.

    Attributes:
        config: the resolved configuration; empty if the folder has none.
        code: version, commit, and hashes of split and data, as recorded.
        split: `split.json`; empty if the folder has none.
        command: words after `train.py`; empty if they were not recorded.
    """

    config: Mapping[str, Any]
    code: Mapping[str, Any]
    split: Mapping[str, Any]
    command: Mapping[str, str]


def read_facts(folder: Path) -> RunFacts:
    """Read configuration, split and overrides of a run folder; nothing that they name is imported or built.

    Raises:
        ConfigError: the configuration cannot be read as plain YAML.
        DataError: another record is damaged.
    """
    record: Any = load_plain_yaml(folder / "config.yaml") if (folder / "config.yaml").is_file() else {}
    record = record if isinstance(record, dict) else {}
    split = read_json(folder / "split.json") if (folder / "split.json").is_file() else {}
    try:
        command = read_overrides(folder)
    except (ConfigError, DataError):
        command = {}
    config, code = record.get("config"), record.get("seewhy")
    return RunFacts(
        config=config if isinstance(config, dict) else {}, code=code if isinstance(code, dict) else {}, split=split,
        command=command,
    )  # fmt: skip


def describe_run(facts: RunFacts, results: Mapping[str, Any]) -> Section:
    """The section "What ran" of a page.

    Args:
        facts: of the run folder.
        results: of `results.json`.
    """
    blocks: list[Block] = []
    if facts.command:
        words = [f"{name}={value}" for name, value in facts.command.items()]
        blocks += [Text("The command that repeats this run:"), Code(f"python train.py {shlex.join(words)}")]
    values = {name: value for name, option in HIGHLIGHTS.items() if (value := _find(facts.config, option)) is not None}
    values |= _describe_split(facts.split)
    values |= {f"hash of the {name}": _shorten(facts.code.get(name)) for name in ("split", "data")}
    values["hash of the tested checkpoint"] = _shorten(results.get("checkpoint"))
    versions = {"seewhy": facts.code.get("version"), "commit": facts.code.get("commit"), **results.get("versions", {})}
    values["versions"] = ", ".join(f"{name} {value}" for name, value in versions.items() if value)
    shown = {name: value for name, value in values.items() if value}
    if shown:
        blocks.append(Facts(shown))
    if facts.config:
        text = yaml.safe_dump(dict(facts.config), sort_keys=False, allow_unicode=True)
        blocks.append(Code(text, "the whole configuration (config.yaml)"))
    return Section("What ran", blocks or [Text("The folder has no configuration.")])


def _find(config: Mapping[str, Any], option: str) -> str | None:
    """Value of a dotted option as text; of a class, its last name."""
    value: Any = config
    for key in option.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    if value is None or value in (-1, "") or isinstance(value, Mapping):
        return None
    return str(value).rpartition(".")[2] if option.endswith("_target_") else str(value)


def _describe_split(split: Mapping[str, Any]) -> dict[str, str]:
    parts = {name: split[name] for name in ("train", "val", "test") if isinstance(split.get(name), list)}
    counts = ", ".join(f"{len(names)} {name}" for name, names in parts.items())
    made = split.get("made")
    by = f", made by {made['by']}" if isinstance(made, dict) and "by" in made else ""
    return {"split by patient": counts + by} if counts else {}


def _shorten(value: object) -> str:
    return str(value)[:HASH] if value else ""


# -- main scores ----------------------------------------------------------------------------------------------


def find_main_method(scores: Mapping[str, Mapping[str, Score]], measure: str) -> str | None:
    """Find the method whose value of a measure is the model's final answer; None if only floors have it.

    Example:
        >>> find_main_method({"cam": {"dice": Score(0.5)}, "refined": {"dice": Score(0.6)}}, "dice")
        'refined'
    """
    names = [name for name, own in scores.items() if measure in own and not is_floor(name) and name not in ASIDE]
    return next((name for name in PREFERRED if name in names), names[-1] if names else None)


def make_cards(metrics: Mapping[str, float], *, prefix: str = "test/", words: TargetWords = LESION) -> list[ScoreCard]:
    """Choose the main scores of a test, at most four.

    Args:
        metrics: flat names to values, see `seewhy.figures.labels.scores_by_method`.
        prefix: prefix of the names.
        words: of the data set.

    Example:
        >>> [card] = make_cards({"test/refined/dice": 0.8, "test/refined/dice_low": 0.7, "test/refined/dice_high": 0.9,
        ...                      "test/floor_otsu/dice": 0.3})
        >>> card.value, card.interval, card.floor, card.clear
        ('0.800', '95 % interval [0.70, 0.90]', 'best floor: 0.300 (Otsu)', True)
    """
    scores = scores_by_method(metrics, prefix=prefix)
    cards = [card for measure in MAIN if (card := _make_card(scores, measure, words)) is not None]
    return (cards or _translation_cards(metrics, prefix))[:MOST]


def _make_card(scores: Mapping[str, Mapping[str, Score]], measure: str, words: TargetWords) -> ScoreCard | None:
    method = find_main_method(scores, measure)
    if method is None:
        return None
    score = scores[method][measure]
    lower = lower_is_better(measure)
    direction = "lower is better" if lower else "higher is better"
    # A floor of a single class is none of the mean over classes.
    classes = tuple(name.removeprefix(method) for name in scores if name.startswith(f"{method}_"))
    named = {name: own for name, own in scores.items() if is_floor(name) and not (classes and name.endswith(classes))}
    floors = {name: own[measure].value for name, own in named.items() if measure in own}
    if measure == "fp_slices":
        floors = {}  # painting nothing is perfect there, so a floor would mean nothing
    name = label_of(measure, words) + ("" if method == "classifier" else f", {label_of(method)}")
    ideal = scores.get("ideal", {}).get(measure)
    if not floors:
        note = f"a perfectly calibrated model of as many cases: {ideal.text(measure)}" if ideal else direction
        return ScoreCard(name, score.text(measure, interval=False), _interval(score, measure), note)
    best = (min if lower else max)(floors, key=lambda key: floors[key])
    end = score.high if lower else score.low
    limit = score.value if end is None else end
    clear = limit < floors[best] if lower else limit > floors[best]
    floor = f"{Score(floors[best]).text(measure)} ({label_of(best).removeprefix('floor: ')})"
    text = f"best floor: {floor}" if clear else f"not clearly better than the best floor: {floor}"
    return ScoreCard(name, score.text(measure, interval=False), _interval(score, measure), text, clear)


def _interval(score: Score, measure: str) -> str:
    return "" if score.low is None else f"95 % interval [{score.bounds(measure)}]"


def _translation_cards(metrics: Mapping[str, float], prefix: str) -> list[ScoreCard]:
    """Similarity of translations to the truth, with that of the untranslated scan as the floor."""
    cards = []
    for direction, title in (("a2b", "A → B"), ("b2a", "B → A")):
        value, floor = (metrics.get(f"{prefix}{direction}/{kind}/ssim") for kind in ("translation", "identity"))
        if value is not None and floor is not None:
            clear = value > floor
            text = f"{'floor' if clear else 'not better than the floor'}: {floor:.3f} (not translated)"
            cards.append(ScoreCard(f"SSIM against the truth, {title}", f"{value:.3f}", "", text, clear))
    return cards
