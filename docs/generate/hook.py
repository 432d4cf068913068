"""Hook of mkdocs: add the generated pages, and let links of the repository work in the site."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))

import api
import commands
import conf_files
import configuration
import notebook
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
COPIED = {
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "license.md",
}
"""Files of the repository that are pages of the site, too."""
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put pages into the navigation where `mkdocs.yml` has `OPTIONS`, `API`, `NOTEBOOKS` and `OTHERS`.

    `OTHERS` are pages of `docs/` that the navigation does not name.
    """
    config.nav = expand_navigation(config.nav)
    return config


def expand_navigation(nav: list[Any]) -> list[Any]:
    """Replace the words in a navigation by lists of pages."""
    named = set(_list_pages(nav))
    written = sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))
    options = {about[0]: configuration.page_of(group) for group, about in configuration.list_groups().items()}
    lists: dict[str, list[Any]] = {
        "OPTIONS": [{title: page} for title, page in options.items()],
        "API": [{package: api.page_of(package)} for package in api.PACKAGES],
        "NOTEBOOKS": [notebook.page_of(path) for path in notebook.list_notebooks()],
        "OTHERS": [page for page in written if page not in named],
    }
    return _expand(nav, lists)


def _list_pages(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from _list_pages(entry)


def _expand(nav: Any, lists: dict[str, list[Any]]) -> Any:
    if isinstance(nav, str):
        return lists.get(nav, nav)
    if isinstance(nav, dict):
        return {title: _expand(entry, lists) for title, entry in nav.items()}
    return [page for entry in nav for page in (lists[entry] if entry == "OTHERS" else [_expand(entry, lists)])]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and copies of files of the repository."""
    pages = configuration.write_pages() | api.write_pages() | {commands.PAGE: commands.write_page()}
    pages |= {page: _read_copied(name) for name, page in COPIED.items()}
    for path, content in (pages | notebook.write_pages(execute=config.extra["execute_notebooks"])).items():
        files.append(File.generated(config, path, content=content))
    return files


def _read_copied(name: str) -> str:
    text = (ROOT / name).read_text()
    return text if name.endswith(".md") else f"# License\n\n```text\n{text}\n```\n"


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to files outside `docs/` to the pages that show them."""
    sources = {page: name for name, page in COPIED.items()}
    sources |= {notebook.page_of(path): f"notebooks/{path.name}" for path in notebook.list_notebooks()}
    path = page.file.src_uri
    source = PurePosixPath(sources.get(path, f"docs/{path}"))

    def replace(match: re.Match[str]) -> str:
        target = _find_page(match[2], source)
        return match[0] if target is None else f"{match[1]}{_relative(target, path)}{match[3]}"

    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else LINK.sub(replace, part) for part in parts)


def _find_page(link: str, source: PurePosixPath) -> str | None:
    """Page of the site, relative to `docs/`, that shows a file of the repository; None if the link stays as it is.

    Args:
        link: as it is written, relative to `source`.
        source: file of the repository with the link, relative to the repository.
    """
    if re.match(r"[a-z]+:|#", link):
        return None
    file, _, anchor = link.partition("#")
    path = PurePosixPath(os.path.normpath(source.parent / file))
    anchor = f"#{anchor}" if anchor else ""
    if path.parts[0] == "docs":
        return f"{path.relative_to('docs')}{anchor}" if source.parts[0] != "docs" else None
    if path.as_posix() in COPIED:
        return COPIED[path.as_posix()] + anchor
    if path.as_posix() == "README.md":
        return "index.md"
    if path.as_posix() == "CITATION.cff":
        return "faq.md#how-do-i-cite"
    if path.parts[0] == "conf" and path.suffix != ".yaml":
        return configuration.page_of("".join(path.parts[1:2]))
    if path.parts[0] == "conf":
        by_path = {file.path.as_posix(): file for file in conf_files.read_conf()}
        file_of = by_path[path.relative_to("conf").as_posix()]
        return f"{configuration.page_of(file_of.group)}#{file_of.anchor}"
    if path.suffix == ".ipynb":
        return notebook.page_of(ROOT / path)
    module = ".".join(path.with_suffix("").parts[1:])
    return api.page_of(module) if module in api.PACKAGES else None


def _relative(target: str, path: str) -> str:
    file, _, anchor = target.partition("#")
    relative = os.path.relpath(file, os.path.dirname(path) or ".").replace(os.sep, "/")
    return f"{relative}#{anchor}" if anchor else relative
