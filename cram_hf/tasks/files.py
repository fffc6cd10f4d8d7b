"""What files and flags of data have in common, whatever the task: names, JSON, JSON lines, parquet, counts."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SQUAD_FILES = (".json", ".jsonl", ".csv", ".parquet")
GLUE_FILES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
MLM_FILES = (".txt", ".json", ".jsonl", ".csv", ".parquet")


def no_such_file(path: Path, extensions: Sequence[str]) -> FileNotFoundError:
    """Returns the error for a path that is no file; a near name of its folder is offered."""
    if path.is_dir():
        return FileNotFoundError(f"{path}: is a folder; give one file of {', '.join(extensions)}")
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f"; did you mean {path.parent / near[0]}?" if near else "; check the path"
    return FileNotFoundError(f"{path}: no such file{hint}")


def holds_lines(error: json.JSONDecodeError) -> bool:
    """Whether a text that is no JSON document may be JSON lines: its first line is a whole document."""
    return error.msg == "Extra data" and error.lineno > 1


def not_json(path: Path, error: json.JSONDecodeError) -> ValueError:
    """Returns the error for a text that is no JSON document."""
    return ValueError(
        f"{path}: not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}; "
        "the file may be cut off or edited by hand"
    )


def json_lines(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    """Yields line number (from 1) and record of each line; blank lines are skipped but counted.

    Only a line feed ends a record, so split a text by it: `str.splitlines` would also cut at the Unicode separators
    that JSON strings may hold.

    Raises:
        ValueError: a line is no JSON document.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}: line {number}: not valid JSON: {error.msg} at column {error.colno}; "
                "JSON lines hold one whole record a line"
            ) from error
        yield number, record


def not_parquet(path: Path, error: Exception) -> ValueError:
    """Returns the error for a file that pyarrow cannot read."""
    return ValueError(f"{path}: not a readable parquet file: {str(error).splitlines()[0]}")


def count_problems(counts: Mapping[str, int | None]) -> list[str]:
    """Returns a sentence for each flag, by name, whose number is given and below 1."""
    return [
        f"--{name} {count}: must be at least 1" for name, count in counts.items() if count is not None and count < 1
    ]


def extension_problems(files: Mapping[str, str], extensions: Sequence[str]) -> list[str]:
    """Returns a sentence for each flag, by name, whose file has an extension that no reader is for."""
    return [
        f"--{name} {path}: unknown extension; must be one of {', '.join(extensions)}"
        for name, path in files.items()
        if Path(path).suffix.lower() not in extensions
    ]


def source_problems(
    files: Mapping[str, str], extensions: Sequence[str], dataset: str | None, config: str | None, what: str
) -> list[str]:
    """Returns a sentence for each contradiction about where data come from: files, or a data set of the Hub.

    Args:
        files: flag name -> path, those given.
        extensions: of the files that can be read.
        dataset, config: `--dataset_name` and `--dataset_config_name`.
        what: the data in a word, such as `questions`.
    """
    problems = extension_problems(files, extensions)
    if dataset and files:
        name, path = next(iter(files.items()))
        problems.append(
            f"--dataset_name {dataset} and --{name} {path} are both given; "
            f"take the {what} either from the Hub or from files"
        )
    if config and not dataset:
        problems.append(f"--dataset_config_name {config} needs --dataset_name")
    return problems
