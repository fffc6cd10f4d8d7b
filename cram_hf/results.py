"""The results file: what a training run, or several seeds of it, scored dense and after each one-shot compression."""

from __future__ import annotations

import errno
import json
import math
import numbers
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from cram_hf.results_schema import SCHEMA, VERSION, problems

DENSE = "dense"
LOWER_IS_BETTER = {"perplexity"}  # everything else we score is better when higher
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, the user's share of it, the largest file allowed
TOKEN = re.compile(r"hf_[A-Za-z0-9]{30,}")


@dataclass(frozen=True)
class Row:
    """The scores under one compression; the row `dense` is the model without any.

    Args:
        spec (`str`): the compression as the user types it, e.g. `topk:0.7`, or `dense`.
        metrics (`dict[str, float | None]`): score by metric name, without prefix; `None` where not finite.
        sparsity (`float`): measured share of zeros among the compressible weights, in [0, 1].
        model_sparsity (`float`): measured share of zeros among all parameters, in [0, 1].
        seconds (`float`): wall time of this evaluation.
        examples (`int`): examples that were scored.
        std (`dict[str, float | None]`, *optional*): in the summary of several seeds, where `metrics` holds means, the
            standard deviation of each metric (of a sample: divided by the number of runs minus one).
    """

    spec: str
    metrics: dict[str, float | None]
    sparsity: float
    model_sparsity: float
    seconds: float
    examples: int
    std: dict[str, float | None] | None = None


@dataclass(frozen=True)
class Results:
    """One run: what was trained, on what, with which versions, and its rows. `docs/results-schema.md` has every key.

    When the object is made, values become plain JSON types and access tokens are taken out; what `save` writes,
    `load` gives back equal. Raises `ValueError` when a value does not fit the schema.
    """

    task: str
    label: str
    model: str
    model_parameters: int
    compressible_parameters: int
    created: str
    command: str
    seed: int
    config: dict[str, Any]
    data: dict[str, Any]
    versions: dict[str, str]
    commit: str | None
    dirty: bool
    machine: dict[str, Any]
    training: dict[str, Any] | None
    main_metric: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        document = self.document()
        _raise_any(problems(document), "results")
        for name, value in _fields(document).items():
            object.__setattr__(self, name, value)  # frozen, but made of plain values and without tokens from the start

    def row(self, spec: str) -> Row | None:
        """Returns the row of `spec`, or `None` when that compression was not scored."""
        return next((row for row in self.rows if row.spec == spec), None)

    def score(self, spec: str, metric: str | None = None) -> float | None:
        """Returns the score of `spec` (the main metric unless `metric` names another), or `None` if there is none."""
        row = self.row(spec)
        return None if row is None else row.metrics.get(metric or self.main_metric)

    def document(self) -> dict[str, Any]:
        """Returns the JSON document, in plain types; a number that is not finite is `None`."""
        rows = [{key: value for key, value in asdict(row).items() if key != "std" or value} for row in self.rows]
        fields = {key: value for key, value in asdict(self).items() if key != "seeds" or value}
        document = _plain({"schema": SCHEMA, "schema_version": VERSION, **fields, "rows": rows})
        assert isinstance(document, dict)
        return document

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes the file whole or not at all; missing parent folders are made.

        Raises:
            FileExistsError: `path` exists and `overwrite` is false.
        """
        if not overwrite and Path(path).exists():
            raise FileExistsError(
                f"{path} exists and results are never overwritten: choose another --output_dir, or move it away"
            )
        write_json(path, self.document())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Results:
        """Returns the run stored at `path`.

        Raises:
            ValueError: not a results file of this schema; names the file and every problem in it at once.
            OSError: the file cannot be read.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: not a results file, it is not valid JSON ({error})") from error
        _raise_any(problems(document), str(path))
        return cls(**_fields(document))


def _fields(document: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of `Results` from a document that was checked."""
    values = {name: value for name, value in document.items() if name not in {"schema", "schema_version"}}
    if "seeds" in values:
        values["seeds"] = tuple(values["seeds"])
    return values | {"rows": tuple(Row(**row) for row in document["rows"])}


def write_json(path: str | os.PathLike[str], document: Any) -> None:
    """Replaces `path` by `document` as JSON, whole or not at all; a number that is not finite is a `ValueError`."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(path, (text + "\n").encode())


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Replaces `path` by `content` in one step: a reader sees the old file or the new one, never half of one."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a new name beside `path`; what is written there takes its place after the block, or goes on an error."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with named(target):
            yield temporary
            os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def named(target: Path) -> Iterator[None]:
    """Names `target` where the disk is full inside the block, in an `OSError` where safetensors raises its own too."""
    try:
        yield
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if not code:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(target)) from error
    except OSError as error:
        if error.errno in FULL:
            error.filename = str(target)
        raise


def _plain(value: Any) -> Any:
    """Returns `value` in JSON types: tuples as lists, anything unknown as text, a token nowhere."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items() if not is_token_name(str(key))}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):  # NumPy's scalars too
        return float(value) if math.isfinite(value) else None
    return TOKEN.sub("TOKEN_REMOVED", str(value))


def is_token_name(name: str) -> bool:
    """Whether a flag or configuration key holds an access token, such as `--hub_token`, `--hub-tok`, `token`."""
    word = name.lstrip("-").replace("-", "_").lower()
    return word == "token" or word.endswith("_token") or word.startswith("hub_t")


def _raise_any(found: list[str], where: str) -> None:
    """Raises one `ValueError` that lists every problem, if there is any."""
    if found:
        lines = "".join(f"\n- {problem}" for problem in found)
        raise ValueError(f"{where}: {len(found)} problem{'s' * (len(found) > 1)}{lines}")
