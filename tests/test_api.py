"""The API reference: every public name is in it, with words, and the generator has nothing to complain about."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cram_hf"


def listed() -> list[str]:
    """The modules of the reference, read without importing pdoc."""
    tree = ast.parse((ROOT / "docs" / "api.py").read_text(encoding="utf-8"))
    (found,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODULES"
    ]
    return list(found)


MODULES = listed()


def public(name: str) -> list[str]:
    """`__all__` of a package; of a single file the functions and classes it defines."""
    module = importlib.import_module(name)
    if module.__file__ and Path(module.__file__).name == "__init__.py":
        return list(module.__all__)
    own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", None) == name}
    return [key for key, value in own.items() if not key.startswith("_") and callable(value)]


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_explained(name):
    module = importlib.import_module(name)
    assert public(name)
    for key in public(name):
        value = inspect.unwrap(getattr(module, key))
        if inspect.isclass(value) or inspect.isfunction(value):
            words = inspect.getdoc(value) or ""
            assert words, f"{name}.{key} has no docstring"
            assert not words.startswith(f"{key}("), f"{name}.{key} has only the docstring that dataclass gives"
        else:  # a constant or a type has no docstring of its own
            assert f"`{key}`" in (module.__doc__ or ""), f"{name} does not explain `{key}` in its docstring"


def test_every_package_with_public_names_is_in_the_reference():
    packages = [path for path in PACKAGE.rglob("__init__.py") if "\n__all__" in path.read_text(encoding="utf-8")]
    names = {".".join(path.parent.relative_to(ROOT).parts) for path in packages}
    assert names <= set(MODULES)


def test_the_page_on_the_reference_names_its_modules_and_no_others():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `cram_hf")]
    assert {name for row in rows for name in re.findall(r"`(cram_hf[\w.]*)`", row.split("|")[1])} == set(MODULES)


@pytest.mark.slow
def test_the_generator_runs_without_warnings_and_shows_every_name(tmp_path):
    pytest.importorskip("pdoc", reason='needs pip install "cram-hf[dev]"')
    command = [sys.executable, "-W", "error::UserWarning", "docs/api.py", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Warn" not in done.stderr
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'href="(?:\./)?(cram_hf[\w/]*)\.html"', index)) == {n.replace(".", "/") for n in MODULES}
    for name in MODULES:
        page = (tmp_path / f"{name.replace('.', '/')}.html").read_text(encoding="utf-8")
        for key in public(name):
            assert f'id="{key}"' in page or f"<code>{key}</code>" in page, f"{name}: {key}"
