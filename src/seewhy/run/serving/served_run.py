"""The run that is served: what its cases consist of, what it offers, and what a reader must know about it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from seewhy.batch import MODALITIES
from seewhy.data.domains.store import DOMAINS
from seewhy.errors import ConfigError, DataError, nearest
from seewhy.explain import list_explainers
from seewhy.figures.labels import method_label
from seewhy.io.scans.scan import WRITTEN_SUFFIXES, is_scan
from seewhy.models.protocols import DescribesItself, SegmentsVolumes, TranslatesScans
from seewhy.reporting.page import read_explanations
from seewhy.run.loaded.model import LoadedModel
from seewhy.run.model_card import USE
from seewhy.run.pages.facts import read_facts
from seewhy.run.records import read_results
from seewhy.run.serving.options import ServingOptions
from seewhy.run.serving.uploads import NO_METHOD, STORE, CaseRules

__all__ = ["MethodVerdict", "ServedRun", "describe_run", "read_verdict"]

PHANTOM = "Phantom: this model was trained on synthetic data, so its answers say nothing about real patients."
USUAL = "grad_cam"
"""Method of a run without methods."""


@dataclass(frozen=True, kw_only=True)
class ServedRun:
    """Facts of a run for its page and its answers.

    Attributes:
        name: of the experiment.
        model: name of the model's class.
        checkpoint: name of the weights' file.
        sha256: hash of the weights.
        classes: names of the classes.
        rules: what a case consists of.
        verdicts: method → what is known about its maps.
        warnings: what must be read before any answer.
    """

    name: str
    model: str
    checkpoint: str
    sha256: str
    classes: tuple[str, ...]
    rules: CaseRules
    verdicts: dict[str, MethodVerdict]
    warnings: tuple[str, ...]

    def to_record(self) -> dict[str, Any]:
        """Plain data."""
        methods = [{"name": name, "title": method_label(name), "verdict": asdict(verdict)}
                   for name, verdict in self.verdicts.items()]  # fmt: skip
        return {
            "name": self.name, "model": self.model, "checkpoint": self.checkpoint, "sha256": self.sha256,
            "classes": list(self.classes), "inputs": list(self.rules.inputs), "suffixes": list(self.rules.suffixes),
            "several_files": self.rules.several, "domains": list(self.rules.domains), "methods": methods,
            "usual_method": self.rules.usual,
            "targets": list(self.rules.targets), "warnings": list(self.warnings),
        }  # fmt: skip


def describe_run(model: LoadedModel, options: ServingOptions) -> ServedRun:
    """Describe a loaded run.

    Args:
        model: the run.
        options: of the server; `methods` replaces the methods of the run.

    Raises:
        ConfigError: a run whose data set reads no single cases, or an unknown method.
        DataError: records of the run that are damaged.
    """
    folder = Path(str(model.config.run))
    suffixes = _list_suffixes(model)
    methods = _choose_methods(model, options.methods)
    translates = isinstance(model.model, TranslatesScans)
    rules = CaseRules(
        inputs=model.inputs,
        suffixes=suffixes,
        several=model.datamodule.has_slice_files,
        domains=tuple(name for name in DOMAINS if model.model.translates(name)) if translates else (),  # type: ignore[operator]
        methods=methods,
        usual=methods[0] if options.methods or _list_saved(model) else NO_METHOD,
        targets=_list_targets(model),
        of_volumes=isinstance(model.model, SegmentsVolumes),
    )
    return ServedRun(
        name=str(model.config.get("name") or folder.name),
        model=type(model.model).__name__,
        checkpoint=model.checkpoint.name,
        sha256=model.sha256,
        classes=model.classes,
        rules=rules,
        verdicts={name: read_verdict(folder, name, model.sha256) for name in methods},
        warnings=(USE, *([PHANTOM] if _is_phantom(model, folder) else [])),
    )


def _list_suffixes(model: LoadedModel) -> tuple[str, ...]:
    """Endings of files that one upload can hold; a store of several files is sent as a zip file."""
    known = model.datamodule.case_suffixes
    if not known:
        raise ConfigError(
            f"{type(model.datamodule).__name__} reads no cases from outside its data set with these options, so this "
            "run cannot be served; predict its data set with predict.py"
        )
    single = [suffix for suffix in known if not is_scan(f"x{suffix}") or suffix in WRITTEN_SUFFIXES]
    return tuple(dict.fromkeys(STORE if suffix.endswith(".zarr") else suffix for suffix in single))


def _choose_methods(model: LoadedModel, asked: Sequence[str]) -> tuple[str, ...]:
    known = list_explainers()
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise ConfigError(f"--methods {unknown[0]}: unknown method; {nearest(unknown[0], known)}")
    return tuple(dict.fromkeys(asked or _list_saved(model) or [USUAL]))


def _list_saved(model: LoadedModel) -> list[str]:
    """Methods that the run explains with; none for models whose own maps are shown."""
    saved = (model.config.get("explain") or {}).get("methods") or []
    return [str(name) for name in saved if name in list_explainers()]


def _list_targets(model: LoadedModel) -> tuple[str, ...]:
    if isinstance(model.model, TranslatesScans):
        return tuple(MODALITIES)
    if isinstance(model.model, DescribesItself) and not isinstance(model.model, SegmentsVolumes):
        return tuple(model.model.explainable().classes)
    return model.classes


def _is_phantom(model: LoadedModel, folder: Path) -> bool:
    """Whether the run was trained on synthetic data, as its configuration, its results or its data say."""
    if read_facts(folder).config.get("phantom"):
        return True
    if (folder / "results.json").is_file() and read_results(folder).get("phantom"):
        return True
    with suppress(DataError, ConfigError, OSError):
        return model.datamodule.is_phantom
    return False


# -- verdicts on methods --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MethodVerdict:
    """What the test with re-initialised networks found about a method.

    Attributes:
        state: result of the test.
        text: the result as a sentence.
    """

    state: Literal["passed", "failed", "open", "not judged"]
    text: str


def read_verdict(run: Path, method: str, sha256: str) -> MethodVerdict:
    """Read the verdict on a method from the explanations of a run.

    Args:
        run: the run folder.
        method: name of the explainer.
        sha256: hash of the weights that are served; a verdict on others does not count.

    Raises:
        DataError: `explanations.json` is damaged.
    """
    name = method_label(method)
    remedy = f"explain.py run=… explain.methods=[{method}] judges them"
    results = read_explanations(run / "explanations")
    found = [own for title, own in results.get("verdicts", {}).items() if title.split("/")[0] == method and own]
    if not found:
        return MethodVerdict(state="not judged", text=f"Maps by {name} were not judged in this run: {remedy}.")
    if {record["sha256"] for record in results["records"]} != {sha256}:
        return MethodVerdict(state="not judged", text=f"Maps by {name} were judged with other weights: {remedy}.")
    return _describe(name, found)


def _describe(name: str, found: list[dict[str, Any]]) -> MethodVerdict:
    doubts = list(dict.fromkeys(str(line) for own in found for line in own.get("doubts") or ()))
    samples = max((own["samples"] for own in found if isinstance(own.get("samples"), int)), default=None)
    judged = "" if samples is None else f" (judged on {samples} samples of the run)"
    if doubts:
        text = f"Maps by {name} failed a test, so they must not be read as findings: {'; '.join(doubts)}{judged}."
        return MethodVerdict(state="failed", text=text)
    if all(own.get("passes") is True for own in found):
        text = f"Maps by {name} change with the weights of the network, as they must{judged}."
        return MethodVerdict(state="passed", text=text)
    text = f"Whether maps by {name} depend on the weights was not tested, or remained open{judged}."
    return MethodVerdict(state="open", text=text)
