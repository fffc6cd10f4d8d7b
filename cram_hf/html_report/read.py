"""Reads what the page is made from: results files, training logs, and what `cram-hf size` and `bench` wrote."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cram_hf.card import public, public_command
from cram_hf.results import TOKEN, Results

STATE = "trainer_state.json"
COMPRESSED = "loss_compressed"


@dataclass(frozen=True)
class Loss:
    """What the trainer logged after an update: means since its last line.

    Args:
        update (`int`): the number of updates made.
        dense (`float`): loss of the dense model.
        compressed (`float`, *optional*): loss at the compressed point; only CrAM has one.
        each (`dict[str, float]`): the same by compressor, under the names of the log, e.g. `topk_0.5`.
    """

    update: int
    dense: float
    compressed: float | None
    each: dict[str, float]


@dataclass(frozen=True)
class Run:
    """A run as it may be shown to anyone: no absolute path and no access token.

    Args:
        results (`Results`): its scores.
        losses (`tuple[Loss, ...]`): its training log in the order of updates; empty where there is none.
        folder (`Path`, *optional*): its folder, which may hold a model.
    """

    results: Results
    losses: tuple[Loss, ...]
    folder: Path | None


def read_run(path: str, label: str | None = None, log: str | None = None) -> Run:
    """Returns the run of a folder with a `results.json`, or of a results file.

    Args:
        path (`str`): the folder or the file. A file of this name stands for its folder.
        label (`str`, *optional*): what the run is called, instead of its own label.
        log (`str`, *optional*): `trainer_state.json`, or its `log_history` alone. By default the folder's own.

    Raises:
        ValueError: there is no results file, or a file is damaged.
    """
    file = Path(path) / "results.json" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        near = sorted(str(found.parent) for found in Path(path).glob("*/results.json"))
        hint = f" Near it: {', '.join(near[:5])}." if near else ""
        raise ValueError(f"{path}: no results.json there. Give the folder of a run, or its results file.{hint}")
    folder = file.parent if file.name == "results.json" else None
    own = folder / STATE if folder and (folder / STATE).is_file() else None
    results = _public_results(Results.load(file))
    return Run(
        replace(results, label=public(label)) if label else results,
        _losses(Path(log) if log else own),
        folder,
    )


def check_together(runs: Sequence[Run]) -> None:
    """Raises `ValueError` unless the runs have labels of their own and scores that can stand side by side."""
    problems = []
    kinds = {(run.results.task, run.results.main_metric) for run in runs}
    if len(kinds) > 1:
        words = ", ".join(sorted(f"{task} ({metric})" for task, metric in kinds))
        problems.append(f"The runs are of {words}: a page compares runs of one task. Make one page for each.")
    twice = [label for label, count in Counter(run.results.label for run in runs).items() if count > 1]
    if twice:
        problems.append(f"Several runs are called {', '.join(twice)}: give each a name of its own, --label NAME NAME.")
    if problems:
        raise ValueError("\n".join(problems))


def read_size(path: str) -> dict[str, Any]:
    """Returns what `cram-hf size --json` printed. Raises `ValueError` for anything else."""
    document = _json(path)
    found = document.get("result", document) if isinstance(document, dict) else {}
    rows = found.get("rows") if isinstance(found, dict) else None
    if not _all_have(rows, {"spec": str, "sparsity": (int, float), "bytes": dict}):
        raise ValueError(f"--size {path}: not the output of cram-hf size. Type cram-hf size MODEL --json > {path}")
    return _public({"model": found.get("model", ""), "rows": rows})


def read_bench(path: str) -> dict[str, Any]:
    """Returns what `cram-hf bench --out` wrote. Raises `ValueError` for anything else."""
    document = _json(path)
    rows = document.get("rows") if isinstance(document, dict) else None
    if not _all_have(rows, {"engine": str, "spec": str, "batch_size": int, "seq_length": int, "threads": int}):
        raise ValueError(f"--bench {path}: not a result of cram-hf bench. Type cram-hf bench MODEL --out {path}")
    machine = document.get("machine") or {}
    return _public(
        {
            "model": document.get("model", ""),
            "rows": rows,
            "findings": document.get("findings") or [],
            "machine": machine.get("gpu") or machine.get("cpu") or "",
            "complete": document.get("complete", True),
        }
    )


def _all_have(rows: Any, kinds: dict[str, Any]) -> bool:
    return (
        isinstance(rows, list)
        and bool(rows)
        and all(isinstance(row, dict) and all(isinstance(row.get(k), t) for k, t in kinds.items()) for row in rows)
    )


def _public_results(results: Results) -> Results:
    try:
        command = public_command(results.command)
    except ValueError:  # a quote without its end
        command = public(results.command)
    names = ("task", "label", "model", "config", "data", "versions", "machine", "training")
    return replace(results, command=command, **{name: public(getattr(results, name)) for name in names})


def _public(value: Any) -> Any:
    """Returns `value` without absolute paths and access tokens, as results files are already."""
    text = TOKEN.sub("TOKEN_REMOVED", json.dumps(value))
    return public(json.loads(text))


def _json(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error


def _losses(path: Path | None) -> tuple[Loss, ...]:
    """The logged losses by update; of two lines for one update, as a resumed run may write, the later."""
    if path is None:
        return ()
    document = _json(path)
    history = document.get("log_history") if isinstance(document, dict) else document
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        raise ValueError(f"{path}: no training log. Give a {STATE}, or its log_history as a list.")
    found = [loss for entry in history if (loss := _loss(entry))]
    return tuple(sorted({loss.update: loss for loss in found}.values(), key=lambda loss: loss.update))


def _loss(entry: dict[str, Any]) -> Loss | None:
    """The losses of one line of the log, or `None` for a line about something else."""
    update, dense = entry.get("step"), _finite(entry.get("loss"))
    if not isinstance(update, int) or dense is None:
        return None
    prefix = f"{COMPRESSED}_"
    each = {key.removeprefix(prefix): _finite(value) for key, value in entry.items() if key.startswith(prefix)}
    known = {public(key): value for key, value in each.items() if value is not None}
    return Loss(update, dense, _finite(entry.get(COMPRESSED)), known)


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
