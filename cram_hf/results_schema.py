"""Checks a results document against schema version 1 and says everything that is wrong with it at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

SCHEMA = "cram_hf/results"
VERSION = 1

Check = tuple[Callable[[Any], bool], str]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


TEXT: Check = (_is_text, "a non-empty text")
COUNT: Check = (_is_count, "a whole number, 0 or more")
WHOLE: Check = (lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number")
SECONDS: Check = (lambda value: _is_number(value) and value >= 0, "a number of seconds")
SHARE: Check = (lambda value: _is_number(value) and 0 <= value <= 1, "a number in [0, 1]")
OBJECT: Check = (lambda value: isinstance(value, dict), "an object")
TEXT_OR_NULL: Check = (lambda value: value is None or _is_text(value), "a non-empty text or null")
SCORES: Check = (
    lambda value: isinstance(value, dict) and value != {} and all(s is None or _is_number(s) for s in value.values()),
    "an object of numbers (null where a score is not finite)",
)

DOCUMENT: dict[str, Check] = {
    "schema": (lambda value: value == SCHEMA, f'"{SCHEMA}"'),
    "schema_version": (lambda value: value == VERSION and _is_count(value), f"{VERSION}"),
    "task": TEXT,
    "label": TEXT,
    "model": TEXT,
    "model_parameters": COUNT,
    "compressible_parameters": COUNT,
    "created": TEXT,
    "command": TEXT,
    "seed": WHOLE,
    "config": OBJECT,
    "data": OBJECT,
    "versions": (lambda value: isinstance(value, dict) and all(map(_is_text, value.values())), "an object of texts"),
    "commit": TEXT_OR_NULL,
    "dirty": (lambda value: isinstance(value, bool), "true or false"),
    "machine": OBJECT,
    "training": (lambda value: value is None or isinstance(value, dict), "an object or null"),
    "main_metric": TEXT,
    "rows": (lambda value: isinstance(value, list) and value != [], "a list of at least one row"),
}
ROW: dict[str, Check] = {
    "spec": TEXT,
    "metrics": SCORES,
    "sparsity": SHARE,
    "model_sparsity": SHARE,
    "seconds": SECONDS,
    "examples": COUNT,
}
SEEDS: Check = (
    lambda value: isinstance(value, list) and len(value) > 1 and all(WHOLE[0](seed) for seed in value),
    "a list of two or more whole numbers",
)
# Only in the summary of several runs that differ in their seed.
OPTIONAL: dict[str, Check] = {"seeds": SEEDS}
ROW_OPTIONAL: dict[str, Check] = {"std": SCORES}
MACHINE: dict[str, Check] = {
    "cpu": TEXT,
    "cores": COUNT,
    "threads": COUNT,
    "gpu": TEXT_OR_NULL,
    "platform": TEXT,
}
NUMBER_OR_NULL: Check = (lambda value: value is None or _is_number(value), "a number or null")
TRAINING: dict[str, Check] = {"updates": COUNT, "epochs": NUMBER_OR_NULL, "seconds": SECONDS, "loss": NUMBER_OR_NULL}


def problems(document: object) -> list[str]:
    """Returns one sentence for each thing in `document` that does not fit schema version 1; empty when it fits."""
    if not isinstance(document, dict):
        return [f"the file holds a {type(document).__name__}; a results file holds one JSON object"]
    if document.get("schema") != SCHEMA:
        return [f'"schema" is {document.get("schema")!r}; a results file of cram_hf says "{SCHEMA}"']
    if document.get("schema_version") != VERSION:
        return [
            f'"schema_version" is {document.get("schema_version")!r}; this release reads version {VERSION}. '
            "For a newer file type: pip install -U cram-hf"
        ]
    found = _check(document, DOCUMENT, "", OPTIONAL)
    found += _check_part(document.get("machine"), MACHINE, "machine: ")
    found += _check_part(document.get("training"), TRAINING, "training: ", others_allowed=True)
    rows = document.get("rows")
    return found + (_check_rows(rows, document.get("main_metric")) if isinstance(rows, list) else [])


def _check_rows(rows: list[Any], main_metric: object) -> list[str]:
    found: list[str] = []
    specs: list[object] = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            found.append(f"row {number} is {row!r}; a row is an object with {_names(ROW)}")
            continue
        where = f"row {number} ({row.get('spec')}): "
        found += _check(row, ROW, where, ROW_OPTIONAL)
        metrics = row.get("metrics")
        if isinstance(metrics, dict) and main_metric not in metrics:
            found.append(
                f'{where}the main metric "{main_metric}" is missing from "metrics", which has {_names(metrics)}'
            )
        if row.get("spec") in specs:
            found.append(f"{where}the spec appears twice; one row a spec")
        specs.append(row.get("spec"))
    return found


def _check_part(part: object, fields: dict[str, Check], where: str, *, others_allowed: bool = False) -> list[str]:
    return _check(part, fields, where, others_allowed=others_allowed) if isinstance(part, dict) else []


def _check(
    part: dict[str, Any],
    required: dict[str, Check],
    where: str,
    optional: dict[str, Check] | None = None,
    *,
    others_allowed: bool = False,
) -> list[str]:
    found = [f'{where}"{name}" is missing' for name in required if name not in part]
    fields = required | (optional or {})
    for name, value in part.items():
        if name in fields:
            fits, words = fields[name]
            if not fits(value):
                found.append(f'{where}"{name}" is {_short(value)}; it must be {words}')
        elif not others_allowed:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"allowed are {_names(fields)}"
            found.append(f'{where}unknown key "{name}"; {hint}')
    return found


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
