"""What `import cram_hf` gives, and when: names are there as if imported, slow libraries come with the first one."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cram_hf


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_every_public_name_comes_from_where_type_checkers_see_it():
    tree = ast.parse(Path(cram_hf.__file__).read_text(encoding="utf-8"))
    (branch,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in branch.body for alias in node.names}
    assert sorted(seen) == sorted(cram_hf.__all__)
    assert {name: home for home, names in cram_hf._HOMES.items() for name in names} == seen
    for name, home in seen.items():
        value = getattr(cram_hf, name)
        assert value.__name__ == name
        assert value.__module__.startswith(f"cram_hf.{home}")


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'cram_hf' has no attribute 'Trainer'$"):
        cram_hf.Trainer  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Trainer' from 'cram_hf'"):
        from cram_hf import Trainer  # noqa: F401


def test_names_are_listed_before_they_are_imported():
    code = "import cram_hf, sys; print(set(cram_hf.__all__) <= set(dir(cram_hf)), 'torch' in sys.modules)"
    assert run(code) == "True False"


def test_the_method_brings_torch_and_leaves_transformers():
    code = "from cram_hf import TopK, cram_step; import sys; print({'torch', 'transformers'} & set(sys.modules))"
    assert run(code) == "{'torch'}"


def test_a_star_import_brings_all():
    assert run("from cram_hf import *; print(CrAMTrainer.__name__, TopK(0.5).spec)") == "CrAMTrainer topk:0.5"


def test_modules_are_there_too():
    assert run("import cram_hf; print(cram_hf.core.__name__, cram_hf.compressors.__name__)") == (
        "cram_hf.core cram_hf.compressors"
    )
