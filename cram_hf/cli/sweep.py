"""`cram-hf sweep`: the scores of models, dense and after each of a list of one-shot compressions."""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..compressors import Compressor, parse_compressor
from ..plotting import plot
from ..results import Results, write_whole
from ..table import table, together
from ..tasks.base import Task
from .evaluating import as_trained, label_of, prepare, scores_of, task_of

TABLE, PICTURE = "table.md", "curve.png"

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measures what is missing in `--out`, and returns the files and every row, each as in the results file.

    Raises:
        ValueError: the flags contradict each other, a model, a spec or the data do not fit, or the folder holds the
            scores of another model, task or set of data.
        OSError: a file cannot be read or written.
    """
    compressors = [parse_compressor(spec) for spec in args.to]
    task, words = task_of(args)
    labels = _labels(args, compressors)
    task_args = {label: as_trained(name, task, words) for label, name in labels.items()}
    out = Path(args.out)
    found = {}
    try:
        for label, name in labels.items():
            found[label] = _sweep(name, label, out / _folder(label), args, task, task_args[label], compressors)
    except ValueError:
        raise  # what is in the folder is of no use to such a command
    except BaseException:
        if list(out.glob("*/results.json")):
            logger.warning("What was measured is kept in %s; the same command goes on from there.", out)
        raise
    runs = list(found.values())
    write_whole(out / TABLE, f"{_table(runs)}\n".encode())
    picture = True
    try:
        plot(runs, out / PICTURE)
    except ImportError as error:
        picture = False
        logger.warning("No picture: %s", error)
    return {
        "out": args.out,
        "results": [str(out / _folder(label) / "results.json") for label in labels],
        "table": str(out / TABLE),
        "picture": str(out / PICTURE) if picture else None,
        "models": [run.document() for run in runs],
    }


def text(result: dict[str, Any]) -> str:
    """Returns the table and the files that were written."""
    written = [*result["results"], result["table"], *([result["picture"]] if result["picture"] else [])]
    lines = Path(result["table"]).read_text(encoding="utf-8").rstrip("\n")
    return f"{lines}\n\nWritten: {', '.join(written)}"


def _table(runs: list[Results]) -> str:
    return table(runs[0]) if len(runs) == 1 else together(runs)


def _sweep(
    name: str, label: str, folder: Path, args: argparse.Namespace, task: Task, task_args: Any, specs: list[Compressor]
) -> Results:
    """Returns the rows of one model, the dense one first, all others that were asked for ever in this folder too."""
    logging.getLogger("cram_hf.evaluation").setLevel(logging.INFO)  # a line on stderr for each row
    ready = prepare(name, args, task, task_args)
    for compressor in specs:
        compressor.check(ready.trainer.compressible)
    scores = scores_of(ready, ready.evaluation, folder / "results.json", label=label)
    for compressor in tqdm([None, *specs], desc=label, unit="row", disable=None):
        scores.row(compressor)
    return scores.results()


def _labels(args: argparse.Namespace, compressors: list[Compressor]) -> dict[str, str]:
    """Returns label -> model. Raises `ValueError` with all problems of the words that were typed."""
    labels, problems = args.label or [label_of(name) for name in args.models], []
    if len(labels) != len(args.models):
        problems.append(f"--label: {len(labels)} were given for {len(args.models)} models. Give one for each.")
    elif len({_folder(label).lower() for label in labels}) < len(labels):
        problems.append(f"The models are called {', '.join(labels)}: give each a name of its own, --label NAME NAME.")
    problems += [f"--label {label!r}: a name has letters or digits." for label in labels if not _folder(label)]
    if len({compressor.spec for compressor in compressors}) < len(compressors):
        problems.append(f"--to {' '.join(args.to)}: a compression is named twice; name each once.")
    if problems:
        raise ValueError("\n".join(problems))
    return dict(zip(labels, args.models, strict=True))


def _folder(label: str) -> str:
    """The label as the name of a folder: letters, digits and `+-._` stay, all else becomes `-`."""
    return re.sub(r"[^\w.+-]+", "-", label).strip("-.")
