"""Writes the API reference, HTML pages made by pdoc from the docstrings, into docs/api.

python docs/api.py [FOLDER]
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pdoc

MODULES = (
    "cram_hf",
    "cram_hf.compressors",
    "cram_hf.sparsity",
    "cram_hf.export",
    "cram_hf.results",
    "cram_hf.table",
    "cram_hf.plotting",
    "cram_hf.oneshot",
    "cram_hf.choosing",
    "cram_hf.packed",
    "cram_hf.runtime",
    "cram_hf.bench",
    "cram_hf.html_report",
    "cram_hf.publish",
    "cram_hf.tasks.base",
)


def resolve() -> None:
    """Imports every name of every `__all__`: pdoc sees only what is there already."""
    for module in map(import_module, MODULES):
        for name in getattr(module, "__all__", ()):
            getattr(module, name)


def write(folder: Path) -> None:
    resolve()
    templates = Path(__file__).parent / "pdoc"
    pdoc.render.configure(
        docformat="google", include_undocumented=False, show_source=False, template_directory=templates
    )
    files = [rf"!{name}\..+" for name in MODULES[1:]]  # runtime/accelerate.py has the name of a function in __all__
    pdoc.pdoc(*MODULES, *files, output_directory=folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "api")
