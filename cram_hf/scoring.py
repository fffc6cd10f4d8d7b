"""The rows of one model on one set, measured once and kept: each is in a results file as soon as it is there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .compressors import Compressor
from .evaluation import score
from .results import DENSE, Results, Row
from .tasks.base import EvalSet
from .trainer import CrAMTrainer

IDENTITY = ("task", "main_metric", "seed", "data", "config", "versions")
WORDS = {
    "config: weights_sha256": "the model has other weights",
    "config: data_sha256": "the data have another content",
}


@dataclass
class Scores:
    """The scores of one model on one set, under whatever compression is asked for.

    Args:
        trainer (`CrAMTrainer`): holds the model.
        sets (`EvalSet`): what is scored.
        facts (`dict`): the fields of `Results` but `rows`; those of a file that is gone on with stay as they are.
        path (`Path`, *optional*): the results file. One that exists is gone on with.

    Raises:
        ValueError: the file is of another model, other data or flags, or is no results file.
    """

    trainer: CrAMTrainer
    sets: EvalSet
    facts: dict[str, Any]
    path: Path | None = None
    rows: dict[str, Row] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.path and self.path.exists():
            found = Results.load(self.path)
            _refuse_another(found, self.facts, self.path)
            self.rows = {row.spec: row for row in found.rows}
            self.facts = {name: getattr(found, name) for name in self.facts}

    def row(
        self,
        compressor: Compressor | None = None,
        weights: Mapping[str, Tensor] | None = None,
        spec: str | None = None,
        extra: Callable[[Any], dict[str, float]] | None = None,
    ) -> Row:
        """Returns the row under a compression, measured unless it is known.

        Args:
            compressor, weights, spec: see `score`.
            extra (`Callable`, *optional*): maps the predictions to further metrics of the row.
        """
        name = spec or (compressor.spec if compressor else DENSE)
        if name not in self.rows:
            row, predictions = score(self.trainer, self.sets, compressor, weights, name)
            self.rows[name] = replace(row, metrics={**row.metrics, **extra(predictions)}) if extra else row
            results = self.results()
            self.rows[name] = results.rows[-1]  # in plain types: a score that is not finite is None
            if self.path:
                results.save(self.path, overwrite=True)
        return self.rows[name]

    def results(self) -> Results:
        """Returns what is known so far; at least one row must be."""
        return Results(**self.facts, rows=tuple(self.rows.values()))


def digests(trainer: CrAMTrainer, sets: EvalSet) -> dict[str, str]:
    """Returns SHA-256 sums of all the model's tensors, by name, and of the set's features in their order."""
    model, data = hashlib.sha256(), hashlib.sha256()
    for name, tensor in sorted(trainer.model.state_dict().items()):
        model.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        model.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    for rows in sets.features.with_format(None).iter(batch_size=1000):
        data.update(repr(sorted(rows.items())).encode())
    return {"weights_sha256": model.hexdigest(), "data_sha256": data.hexdigest()}


def _refuse_another(found: Results, facts: dict[str, Any], path: Path) -> None:
    """Raises `ValueError` if the file was measured on something else than what is asked for now."""
    row = Row(DENSE, {facts["main_metric"]: 0.0}, 0.0, 0.0, 0.0, 0)
    asked = Results(**facts, rows=(row,))  # in the plain types of a file
    old, new = ({name: getattr(one, name) for name in IDENTITY} for one in (found, asked))
    for name in ("data", "config", "versions"):
        old |= {f"{name}: {key}": value for key, value in old.pop(name).items()}
        new |= {f"{name}: {key}": value for key, value in new.pop(name).items()}
    wrong = [name for name in old | new if old.get(name) != new.get(name)]
    if wrong:
        lines = "".join(f"\n- {_difference(name, old, new)}" for name in wrong)
        raise ValueError(f"{path} cannot be gone on with:{lines}\nChoose another --out, or move it away.")


def _difference(name: str, old: dict[str, Any], new: dict[str, Any]) -> str:
    return WORDS.get(name) or f"{name} was {old.get(name)}, and is {new.get(name)} now"
