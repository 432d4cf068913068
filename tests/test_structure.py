"""The import floors of the package, read from its source."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "seewhy"

FLOORS = [
    {"types", "errors", "progress", "termination", "__init__"},
    {"option_types", "probability", "wording"},
    {"options"},
    {"io"},
    {"batch", "sharing"},
    {"explain", "nets", "losses", "metrics", "data", "phantoms", "figures"},
    {"volumes"},  # below models, which validate on whole volumes with its engine
    {"models", "interop", "tracking"},
    {"reporting"},
    {"callbacks"},
    {"run"},
    {"cli"},
    {"__main__"},
]
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names}

FORBIDDEN = {
    "figures": {"torch", "lightning", "monai"},
    "nets": {"lightning", "hydra", "omegaconf"},
    "losses": {"lightning", "hydra", "omegaconf"},
    "explain": {"lightning", "hydra", "omegaconf"},
    "io": {"torch", "lightning"},
}


def imports(path: Path) -> set[str]:
    """Absolute names of every module that a file imports, also inside functions and for type checking only."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
    return names


def group(path: Path) -> str:
    """The floor's name of a file: its top folder, or its own name at the top."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_downwards(path):
    own = group(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "seewhy" and len(parts) > 1 and parts[1] != own:
            assert FLOOR[parts[1]] < FLOOR[own], f"{own} may not import {name}"
        assert parts[0] not in FORBIDDEN.get(own, set()), f"{own} may not import {name}"


def test_every_folder_has_a_floor():
    assert {group(path) for path in FILES} <= set(FLOOR)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 400


def test_no_import_cycle():
    graph = {}
    for path in FILES:
        module = ".".join(("seewhy", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        graph[module] = {name for name in imports(path) if name.startswith("seewhy.")}
    done, active = set(), []

    def visit(module):
        if module in active:
            pytest.fail(" → ".join([*active[active.index(module) :], module]))
        if module in done or module not in graph:
            return
        active.append(module)
        for name in graph[module]:
            visit(name)
        active.pop()
        done.add(module)

    for module in graph:
        visit(module)
