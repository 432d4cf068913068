"""Verdicts of a run on its explanation methods, as a reader of one map needs them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seewhy.figures.labels import method_label
from seewhy.reporting.page import read_explanations

__all__ = ["MethodVerdict", "read_verdict"]


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
