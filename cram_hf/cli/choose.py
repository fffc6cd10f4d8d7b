"""`cram-hf choose`: the highest sparsity that a trained model bears within an accuracy budget."""

from __future__ import annotations

import argparse
import difflib
import logging
import math
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..choosing import (
    ALL,
    STEPS,
    SUBSET,
    Answer,
    Budget,
    Point,
    Search,
    allocation,
    sensitivities,
)
from ..compressors import TopK, parse_compressor
from ..provenance import command_line, environment
from ..results import write_json
from ..tasks.base import Task
from .choose_text import text
from .evaluating import Ready, as_trained, calibration, prepare, scores_of, task_of
from .flags.choose import ALLOCATED, SCOPES

RECORD = "choice.json"

__all__ = ["run", "text"]

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the answer for each pattern, every point that was tried, and where it all comes from.

    With `--out` the folder gets the scores as results files, the layers' counts and `choice.json`, which is what is
    returned.

    Raises:
        ValueError: the flags contradict each other, the model or the data do not fit, or the folder holds the scores
            of another model, task or set of data.
        OSError: a file cannot be read or written.
    """
    _check(args)
    task, words = task_of(args)
    task_args = as_trained(args.model, task, words)
    out = Path(args.out) if args.out else None
    try:
        result = _choose(args, task, task_args, out)
    except ValueError:
        raise  # what is in the folder is of no use to such a command
    except BaseException:
        if out and list(out.glob("*/results.json")):
            logger.warning("What was measured is kept in %s; the same command goes on from there.", out)
        raise
    if out:
        write_json(out / RECORD, result)
    return result


def _choose(args: argparse.Namespace, task: Task, task_args: Any, out: Path | None) -> dict[str, Any]:
    ready = prepare(args.model, args, task, task_args, args.subset)
    full = scores_of(ready, ready.evaluation, out and out / "all" / "results.json")
    subset = full
    if ready.sample is not ready.evaluation:
        subset = scores_of(ready, ready.sample, out and out / SUBSET / "results.json", config={SUBSET: args.subset})
    search = Search(subset, full, Budget(args.metric or ready.data.main_metric, args.max_drop))
    for scores in (subset, full):
        search.budget.check(scores.row())
    layers = _layers(ready, task, out) if out and ALLOCATED in args.patterns else None
    logging.getLogger("cram_hf.evaluation").setLevel(logging.INFO)  # from here on a line on stderr for each row
    answers = [_answer(search, pattern, layers) for pattern in args.patterns]
    dense = {ALL: full.row(), SUBSET: subset.row()}
    return {
        "ok": any(answer.spec for answer in answers),
        "model": args.model,
        "task": ready.data.task,
        "metric": search.budget.metric,
        "max_drop": args.max_drop,
        "step": 1 / STEPS,
        "examples": {name: row.examples for name, row in dense.items()},
        "dense": {name: row.metrics[search.budget.metric] for name, row in dense.items()},
        "answers": [asdict(answer) for answer in answers],
        "comparison": _comparison(search, answers),
        "calibration": layers and layers.facts,
        "tried": search.tried,
        "command": command_line(sys.argv),
        **environment(threads=torch.get_num_threads(), gpu=full.facts["machine"]["gpu"]),
    }


class Layers(NamedTuple):
    """What the layers cost alone, where their counts are written, and what they were measured on."""

    curves: dict[str, list[Point]]
    folder: Path
    facts: dict[str, Any]


def _layers(ready: Ready, task: Task, out: Path) -> Layers:
    sets, source = calibration(ready, task, ready.args.calibration)
    scores = scores_of(ready, sets, out / "layers_alone" / "results.json", config={"calibration": source})
    curves = sensitivities(scores)
    return Layers(
        curves, out / "layers", {"source": source, "examples": sets.examples, "evaluations": len(scores.rows)}
    )


def _answer(search: Search, pattern: str, layers: Layers | None) -> Answer:
    if pattern == ALLOCATED and layers:
        return search.ladder(pattern, lambda k: allocation(layers.curves, k / STEPS, layers.folder))
    if pattern in SCOPES:
        return search.ladder(pattern, lambda k: TopK(k / STEPS, pattern))  # type: ignore[arg-type]  # one of SCOPES
    return search.yes_or_no(pattern, parse_compressor(pattern))


def _comparison(search: Search, answers: list[Answer]) -> dict[str, Any] | None:
    """The allocated answer beside one global threshold: both scores at its sparsity on the whole set, both answers.

    It beats global if its score is better there and, where global was asked for, its sparsity is not below global's.
    """
    ours = next((answer for answer in answers if answer.pattern == ALLOCATED and answer.spec), None)
    if ours is None or ours.target is None:
        return None
    plain = TopK(ours.target)
    search.within(search.full, plain, "global")  # measured and among what was tried
    dense, row = search.full.row(), search.full.row(plain)
    drop = search.budget.drop(dense, row)
    gain = None if drop is None or ours.drop is None else drop - ours.drop
    theirs = next((answer.target or 0.0 for answer in answers if answer.pattern == "global"), None)
    return {
        "sparsity": ours.target,
        ALLOCATED: ours.score,
        "global": row.metrics[search.budget.metric],
        "gain": gain,
        "global_highest": theirs,
        "beats": gain is not None and gain > 0 and ours.target >= (theirs or 0.0),
    }


def _check(args: argparse.Namespace) -> None:
    """Raises `ValueError` with all problems of the flags; a pattern `2:4` becomes `nm:2:4`."""
    args.patterns = [re.sub(r"^(\d+:\d+)$", r"nm:\1", pattern) for pattern in args.patterns]
    problems = []
    if not (math.isfinite(args.max_drop) and args.max_drop >= 0):
        problems.append(f"--max-drop {args.max_drop}: a number, 0 or more. Type e.g. --max-drop 1.0.")
    for flag in ("subset", "calibration"):
        if getattr(args, flag) < 1:
            problems.append(f"--{flag} {getattr(args, flag)}: a whole number from 1 on.")
    for pattern in args.patterns:
        if pattern not in (*SCOPES, ALLOCATED) and not re.fullmatch(r"nm:\d+:\d+", pattern):
            near = difflib.get_close_matches(pattern, [*SCOPES, ALLOCATED, "nm:2:4"], n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            problems.append(f"--patterns {pattern}: there are {', '.join(SCOPES)}, nm:N:M and {ALLOCATED}.{hint}")
        elif pattern.startswith("nm:"):
            parse_compressor(pattern)
    if len(set(args.patterns)) < len(args.patterns):
        problems.append(f"--patterns {' '.join(args.patterns)}: a pattern is named twice; name each once.")
    if ALLOCATED in args.patterns and (not args.out or set(args.out) & set(":+")):
        problems.append(f"--patterns {ALLOCATED}: needs --out FOLDER for the layers' counts, without ':' and '+'.")
    if problems:
        raise ValueError("\n".join(problems))
