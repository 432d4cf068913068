"""Public packages list their names for editors, and import them only when they are used."""

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
STUBS = sorted((SOURCE / "seewhy").rglob("__init__.pyi"))
PACKAGES = [".".join(path.parent.relative_to(SOURCE).parts) for path in STUBS]
HEAVY = ("torch", "captum", "lightning", "monai", "timm", "matplotlib", "zarr", "pandas")


def stub_names(path):
    """Name → module of every import in a stub."""
    nodes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
    return {alias.asname: (node.module, alias.name) for node in nodes for alias in node.names}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_listed_name_exists_and_is_in_dir(package):
    module = import_module(package)
    names = stub_names(SOURCE.joinpath(*package.split("."), "__init__.pyi"))
    assert set(names) <= set(dir(module))
    for alias, (home, name) in names.items():
        assert alias == name, "an alias without `as` is not exported to type checkers"
        value = getattr(module, name)
        if home is None:
            assert value is import_module(f"{package}.{name}")
        else:
            assert value is getattr(import_module(f"{package}.{home}"), name)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_function_is_not_hidden_by_the_module_of_its_name(package):
    """`from package import name` must give the function also after `package.name` was imported as a module."""
    clashes = [name for name, (home, _) in stub_names(SOURCE.joinpath(*package.split("."), "__init__.pyi")).items()
               if home == name]  # fmt: skip
    assert not clashes


def test_importing_a_package_imports_no_library():
    code = "import sys\n" + "".join(f"import {package}; dir({package})\n" for package in PACKAGES)
    code += f"print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=SOURCE)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.split()


def test_every_explainer_of_the_conf_is_listed():
    listed = dir(import_module("seewhy.explain"))
    for path in (ROOT / "conf" / "explainer").glob("*.yaml"):
        target = re.search(r"^_target_: (\S+)", path.read_text(), re.MULTILINE)
        assert target
        assert target[1].split(".")[-1] in listed, path.name


@pytest.mark.parametrize("module", ["faithfulness", "input_effects", "localization", "randomization", "stability"])
def test_every_judging_function_is_listed(module):
    module = import_module(f"seewhy.explain.judging.{module}")
    classes_and_functions = [name for name in module.__all__ if inspect.isroutine(getattr(module, name))
                             or inspect.isclass(getattr(module, name))]  # fmt: skip
    assert set(classes_and_functions) <= set(dir(import_module("seewhy.explain")))


def test_an_explainer_that_is_not_in_the_stub_is_found_by_its_file(tmp_path):
    """A new file in the package is enough."""
    code = """
import sys, shutil
from pathlib import Path
shutil.copytree(sys.argv[1], "seewhy")
text = Path("seewhy/explain/cam/grad_cam.py").read_text().replace("GradCAM", "MyNewCAM")
Path("seewhy/explain/cam/my_new_cam.py").write_text(text)
sys.path.insert(0, ".")
import seewhy.explain
assert Path(seewhy.__file__).resolve().is_relative_to(Path.cwd())
assert "MyNewCAM" in dir(seewhy.explain)
from seewhy.explain import MyNewCAM
print(MyNewCAM.__module__)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(SOURCE / "seewhy")], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["seewhy.explain.cam.my_new_cam"]
