"""Loads one of GLUE's tasks from a folder in the official layout."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from cram_hf.tasks.glue_examples import Loaded, Part, make_part
from cram_hf.tasks.glue_tables import read_tsv
from cram_hf.tasks.glue_tasks import DIAGNOSTIC, DIAGNOSTIC_FOLDERS, GLUE_TASKS, File, GlueTask

logger = logging.getLogger(__name__)


def load_folder(task_name: str, glue_dir: str, wanted: Sequence[str]) -> Loaded:
    """
    Returns a task's examples from its official tab-separated files, which have no quoting.

    CoLA's labelled files have no header; everywhere else the columns are found by their names, so that others may be
    missing. For MNLI, GLUE's diagnostic set is predicted too where there is one. Rows of QQP with a wrong number of
    columns, which its official files hold, are left out, as everybody does.

    Args:
        task_name (`str`): one of `GLUE_TASKS`.
        glue_dir (`str`): the folder that holds the task's folder, or that folder itself.
        wanted (`Sequence[str]`): some of `train`, `evaluation` and `predict`.

    Raises:
        FileNotFoundError: if there is no such folder, or files are missing from it; all are named.
        ValueError: if a file is malformed; names the lines.
    """
    task = GLUE_TASKS[task_name]
    folder = _folder(task, Path(glue_dir), wanted)
    parts = {part: [_read(task, file, folder, part) for file in task.files(part)] for part in wanted}
    if task.name == "mnli" and "predict" in parts:
        parts["predict"] += [_read(task, DIAGNOSTIC, place, "predict") for place in _diagnostic(folder)]
    return Loaded(task.target, parts)


def _folder(task: GlueTask, top: Path, wanted: Sequence[str]) -> Path:
    """Returns the task's own folder, in which every wanted file is."""
    if not top.is_dir():
        raise FileNotFoundError(f"--glue_dir {top}: no such folder; check the path")
    names = [file.name for part in wanted for file in task.files(part)]
    inner = top / task.folder
    folder = inner if inner.is_dir() or not any((top / name).is_file() for name in names) else top
    there = sorted(entry.name for entry in (folder if folder.is_dir() else top).iterdir())
    if not folder.is_dir():
        raise FileNotFoundError(
            f"--glue_dir {top}: it has neither the folder {task.folder} nor {' and '.join(names)}, only "
            f"{', '.join(there) or 'nothing'}; give the folder that holds {task.folder}/{names[0]}"
        )
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"--glue_dir {top}: there is no {' and no '.join(missing)} in {folder}, only {', '.join(there)}"
        )
    return folder


def _diagnostic(folder: Path) -> list[Path]:
    """Returns the folder with the diagnostic set, beside MNLI's or in it; none if there is no such set."""
    places = [folder.parent / name for name in DIAGNOSTIC_FOLDERS]
    return [place for place in places if (place / DIAGNOSTIC.name).is_file()][:1]


def _read(task: GlueTask, file: File, folder: Path, part: str) -> Part:
    """Returns the examples of one file."""
    labelled = part != "predict"
    table = read_tsv(
        folder / file.name,
        header=task.header if labelled else (),
        only=[*task.texts, *([task.label] if labelled else [])],
        # A test file is never cut: its predictions are numbered by row.
        skip_broken=task.broken_rows and labelled,
    )
    if table.skipped:
        logger.warning("%s: %d rows with a wrong number of columns are left out", table.source, table.skipped)
    return make_part(file.predictions, table, task.texts, task.label if labelled else None, task.target)
