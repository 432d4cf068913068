"""Page about the explanations of many samples, written when they are made and again from their folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from seewhy.errors import DataError
from seewhy.figures.labels import method_label
from seewhy.figures.report.blocks import NoteList, Section
from seewhy.figures.report.page import PHANTOM, CaseBrowser, write_report
from seewhy.io.documents import read_json
from seewhy.reporting.cases.explained import read_explained_cases
from seewhy.reporting.pictures import find_main_picture, has_picture

__all__ = ["read_explanations", "report_section", "write_explanation_page"]

Record = dict[str, Any]
PICTURES = 4
"""Pictures of samples on the page, besides those of the case browser, which has all."""
NOTE = "Colours are on one scale for all maps of a method."


class ManifestEntry(TypedDict):
    """A map in `explanations.json`."""

    id: str
    patient: str
    method: str
    target_name: str
    pictures: list[str]


class Manifest(TypedDict):
    """The entries of `explanations.json` that the page shows."""

    checkpoint: str | None
    sha256: str | None
    phantom: bool
    refused: list[str]
    verdicts: dict[str, dict[str, Any] | None]
    ranking: list[dict[str, Any]]
    by_class: list[dict[str, Any]]
    regions: NotRequired[list[dict[str, Any]]]
    doubtful_scores: NotRequired[list[str]]
    figures: dict[str, str]
    explanations: list[ManifestEntry]


def read_explanations(folder: Path) -> dict[str, Any]:
    """Read the results of a finished session for its page; pictures outside the folder are refused.

    Args:
        folder: of explanations.

    Returns:
        As `write_session_results` without what only the terminal shows; empty if the folder has no `explanations.json`.

    Raises:
        DataError: the file is damaged, or names a file outside the folder.
    """
    path = folder / "explanations.json"
    if not path.is_file():
        return {}
    manifest: Record = read_json(path, Manifest)
    files = [*manifest["figures"].values(), *(name for item in manifest["explanations"] for name in item["pictures"])]
    home = folder.resolve()
    for name in files:
        if home not in (folder / name).resolve().parents or not name.endswith(".png"):
            raise DataError(f"{path} names the picture {name!r}, which is not a PNG file in its folder")
    common = {name: manifest[name] for name in ("checkpoint", "sha256", "phantom")}
    return {
        "folder": folder,
        "refused": manifest["refused"],
        "records": [{**item, **common} for item in manifest["explanations"]],
        "ranking": manifest["ranking"],
        "by_class": manifest["by_class"],
        "regions": manifest.get("regions", []),
        "doubtful_scores": manifest.get("doubtful_scores", []),
        "verdicts": manifest["verdicts"],
        "failures": {title: list((own or {}).get("doubts", [])) for title, own in manifest["verdicts"].items()},
        "figures": {text: folder / name for text, name in manifest["figures"].items() if (folder / name).is_file()},
    }


def report_section(results: Mapping[str, Any]) -> Section:
    """The section of a report about explanations.

    Args:
        results: of `read_explanations`, with at least one record.
    """
    from seewhy.figures.explanations.tables import explanation_section
    from seewhy.figures.labels import describe_intervals

    folder: Path = results["folder"]
    figures = dict(results["figures"])
    if (folder / "ranking.png").is_file() and results["ranking"]:
        figures = {"Comparison of the methods": folder / "ranking.png", **figures}
    patients = len({record["patient"] for record in results["records"]})
    section = explanation_section(
        rows=results["ranking"],
        by_class=results.get("by_class", ()),
        regions=results.get("regions", ()),
        failures=results["failures"],
        figures=figures,
        pictures=_choose_pictures(results),
        limit=PICTURES,
        note=f"{patients} patients, {describe_intervals(patients)}" if results["ranking"] else "",
        phantom=bool(results["records"][0]["phantom"]),
    )
    lines = [
        *_describe_verdicts(results),
        *(f"{line[0].upper()}{line[1:]}." for line in results.get("doubtful_scores", ())),
    ]
    return Section(section.heading, [*([NoteList(lines)] if lines else []), *section.blocks])


def write_explanation_page(folder: Path) -> Path | None:
    """Write `report.html` into a folder of explanations, from its files alone; None without any explanation.

    Raises:
        DataError: `explanations.json` is damaged, or names a file outside the folder.
    """
    results = read_explanations(folder)
    if not results.get("records"):
        return None
    first = results["records"][0]
    warnings = [f"No map, because the method refused: {line}" for line in results["refused"]]
    if first["phantom"]:
        warnings.insert(0, PHANTOM)
    sections = [report_section(results)]
    if cases := read_explained_cases(folder):
        browser = CaseBrowser(cases, note=NOTE, noun="samples")
        sections.insert(0, Section("Case browser", [browser], menu="Cases"))
    facts = {"checkpoint": str(first["checkpoint"]), "sha256": str(first["sha256"])[:16]}
    return write_report(folder / "report.html", title="Explanations", sections=sections, facts=facts, warnings=warnings)


def _describe_verdicts(results: Mapping[str, Any]) -> list[str]:
    """One line per method that has passed its tests, or was not tested; failures have their own text."""
    lines = []
    for title, verdict in results["verdicts"].items():
        if (verdict or {}).get("doubts"):
            continue
        passes = (verdict or {}).get("passes")
        result = "its maps change with the weights of the network, as they must" if passes else (
            "whether its maps depend on the weights was not tested, or remained open"
        )  # fmt: skip
        lines.append(f"{method_label(title)}: {result}.")
    return lines


def _choose_pictures(results: Mapping[str, Any]) -> dict[str, Path]:
    """Caption → picture, alternating between methods, so that the first few show all of them."""
    by_method: dict[str, list[tuple[str, Path]]] = {}
    for record in filter(has_picture, results["records"]):
        caption = f"{record['id']}, {method_label(record['method'])}, explained: {record['target_name']}"
        picture = results["folder"] / find_main_picture(record)
        if picture.is_file():
            by_method.setdefault(record["method"], []).append((caption, picture))
    longest = max(map(len, by_method.values()), default=0)
    return dict(items[i] for i in range(longest) for items in by_method.values() if i < len(items))
