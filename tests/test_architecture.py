"""Who may import whom, and the size of a module: read from the source, nothing is run."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cram_hf"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each part may import from outside the standard library; its own part is always allowed.
ALLOWED = {
    "compressors": {"torch"},
    "weights": {"torch"},
    "sparsity": {"torch"},
    "rng": {"torch", "cram_hf.compressors"},
    "swap": {"torch", "cram_hf.compressors"},
    "core": {"torch", "cram_hf.compressors", "cram_hf.rng", "cram_hf.swap"},
    "keep": {"torch", "transformers", "cram_hf.compressors"},
    "bench": {
        "deepsparse",
        "numpy",
        "onnxruntime",
        "openvino",
        "torch",
        "transformers",
        "cram_hf.sparsity",
        "cram_hf.runtime",
    },
    "oneshot": {"torch", "transformers", "tqdm", "cram_hf.compressors", "cram_hf.tasks"},
    "packed": {"numpy", "torch", "cram_hf.compressors", "cram_hf.results", "cram_hf.weights"},
    "runtime": {"numpy", "torch", "cram_hf.packed"},
    "monitor": {"torch", "accelerate", "cram_hf.compressors", "cram_hf.core"},
    "support": {"torch", "transformers"},
    "arguments": {"torch", "transformers", "cram_hf.compressors", "cram_hf.core"},
    "config": {"yaml", "transformers"},
    "results_schema": set(),
    "results": {"safetensors", "cram_hf.results_schema"},
    "table": {"cram_hf.results"},
    "provenance": {"cram_hf.results"},
    "card_text": {"cram_hf.results"},
    "card": {"huggingface_hub", "cram_hf.results", "cram_hf.table", "cram_hf.card_text"},
    "card_bare": {"huggingface_hub", "cram_hf.card", "cram_hf.card_text", "cram_hf.table"},
    "publish": {
        "huggingface_hub",
        "safetensors",
        "cram_hf.card",
        "cram_hf.card_bare",
        "cram_hf.card_text",
        "cram_hf.results",
    },
    "evaluation": {
        "torch",
        "cram_hf.compressors",
        "cram_hf.swap",
        "cram_hf.results",
        "cram_hf.sparsity",
        "cram_hf.tasks",
        "cram_hf.trainer",
        "cram_hf.history",
    },
    "scoring": {
        "torch",
        "cram_hf.compressors",
        "cram_hf.evaluation",
        "cram_hf.results",
        "cram_hf.tasks",
        "cram_hf.trainer",
    },
    "choosing": {
        "datasets",
        "numpy",
        "tqdm",
        "cram_hf.compressors",
        "cram_hf.evaluation",
        "cram_hf.results",
        "cram_hf.scoring",
    },
    "export": {
        "torch",
        "transformers",
        "cram_hf.compressors",
        "cram_hf.swap",
        "cram_hf.results",
        "cram_hf.sparsity",
    },
    "html_report": {"altair", "jinja2", "vl_convert"}
    | {"cram_hf.card", "cram_hf.plotting", "cram_hf.results", "cram_hf.table"},
    "plotting": {"matplotlib", "cram_hf.results", "cram_hf.table"},
    "metrics": {"evaluate", "datasets", "numpy", "scipy", "sklearn"},
    "tasks": {
        "datasets",
        "evaluate",
        "numpy",
        "pyarrow",
        "tokenizers",
        "torch",
        "transformers",
        "cram_hf.metrics",
        "cram_hf.results",
    },
}


def module(path: Path) -> str:
    """`compressors.topk` for cram_hf/compressors/topk.py."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> set[str]:
    """What a file imports anywhere, in a function too: `torch`, `cram_hf.core`; never the standard library."""
    package = ["cram_hf", *path.relative_to(PACKAGE).parts[:-1]]
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(filter(None, [base, node.module]))
            found |= {f"cram_hf.{alias.name}" for alias in node.names} if name == "cram_hf" else {name}
    depth = {name: 2 if name.startswith("cram_hf.") else 1 for name in found}
    parts = {".".join(name.split(".")[: depth[name]]) for name in found}
    return {part for part in parts if part not in sys.stdlib_module_names and part != "__future__"}


def test_the_reader_of_imports_sees_every_form(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "tasks").mkdir()
    source = tmp_path / "tasks" / "odd.py"
    source.write_text(
        "import os, torch.nn\nfrom ..core import draw\nfrom .. import trainer\nfrom .base import Task\n"
        "from cram_hf.weights import summary\nfrom cram_hf import card\ndef late():\n    import datasets\n"
    )
    found = {
        "torch",
        "cram_hf.core",
        "cram_hf.trainer",
        "cram_hf.tasks",
        "cram_hf.weights",
        "cram_hf.card",
        "datasets",
    }
    assert imports(source) == found


@pytest.mark.parametrize("path", [f for f in FILES if module(f).split(".")[0] in ALLOWED], ids=module)
def test_a_part_imports_only_what_it_may(path):
    part = module(path).split(".")[0]
    extra = imports(path) - ALLOWED[part] - {f"cram_hf.{part}"}
    assert not extra, f"{module(path)} imports {', '.join(sorted(extra))}"


def test_every_rule_names_a_part_that_exists():
    parts = {module(path).split(".")[0] for path in FILES}
    assert ALLOWED.keys() <= parts


def reached(start: str) -> set[str]:
    """Everything that a part imports, through other parts of the package too."""
    by_part: dict[str, set[str]] = {}
    for path in FILES:
        by_part.setdefault(f"cram_hf.{module(path).split('.')[0]}", set()).update(imports(path))
    found, waiting = set(), [start]
    while waiting:
        for name in by_part.get(waiting.pop(), set()) - found:
            found.add(name)
            waiting.append(name)
    return found


@pytest.mark.parametrize(
    "part", ["card", "card_bare", "card_text", "html_report", "plotting", "publish", "table", "results"]
)
def test_cards_tables_and_pictures_need_no_torch(part):
    assert not reached(f"cram_hf.{part}") & {"torch", "transformers", "datasets", "cram_hf.core", "cram_hf.trainer"}


@pytest.mark.parametrize("part", ["core", "swap", "weights", "sparsity", "compressors"])
def test_the_method_needs_no_transformers(part):
    assert {name for name in reached(f"cram_hf.{part}") if not name.startswith("cram_hf.")} == {"torch"}


@pytest.mark.parametrize("path", FILES, ids=module)
def test_nothing_is_printed_but_by_the_demo_command(path):
    calls = [n for n in ast.walk(tree(path)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    printed = [call.lineno for call in calls if call.func.id == "print"]
    assert not printed or module(path) == "demo.__main__", f"print( on line {printed}"


@pytest.mark.parametrize("path", [f for f in FILES if not f.name.startswith("forms_")], ids=module)
def test_a_module_has_at_most_260_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 260


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_module_says_what_it_is_in_its_first_line(path):
    assert (ast.get_docstring(tree(path)) or "").partition("\n")[0].strip(), "no docstring"
