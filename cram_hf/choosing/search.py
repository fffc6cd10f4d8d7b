"""The highest sparsity within an accuracy budget: found on a sample, confirmed on the whole set."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ..compressors import Compressor
from ..results import LOWER_IS_BETTER, Row
from ..scoring import Scores
from .bisection import highest, step_down

STEPS = 100  # a sparsity is a whole number of hundredths: what is tried and answered
SUBSET, ALL = "subset", "all"
ROUNDING = 1e-9  # 0.62 - 0.61 is a little more than 0.01

Ladder = Callable[[int], Compressor]
"""Returns the compressor of so many hundredths of sparsity."""


def is_lower_better(metric: str) -> bool:
    """Whether a lower value of a metric is the better one."""
    return metric in LOWER_IS_BETTER or metric == "loss"


@dataclass(frozen=True)
class Budget:
    """How much worse than the dense model a pruned one may be, in the metric's own units."""

    metric: str
    max_drop: float

    def drop(self, dense: Row, row: Row) -> float | None:
        """Returns how much worse a row is than the dense one (negative if better), `None` if it has no score."""
        before, after = dense.metrics[self.metric], row.metrics[self.metric]
        if before is None or after is None:
            return None
        return after - before if is_lower_better(self.metric) else before - after

    def check(self, dense: Row) -> None:
        """Raises `ValueError` if there is no such metric, or if the budget would allow anything at all."""
        if self.metric not in dense.metrics:
            near = difflib.get_close_matches(self.metric, dense.metrics, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(f"--metric {self.metric}: the task has {', '.join(dense.metrics)}.{hint}")
        score = dense.metrics[self.metric]
        if score is None:
            raise ValueError(f"--metric {self.metric}: the dense model's is not finite, so nothing can be compared.")
        if not is_lower_better(self.metric) and self.max_drop >= score:
            raise ValueError(
                f"--max-drop {self.max_drop:g}: the dense model has {self.metric} {score:.4g}, so this would allow "
                "anything. A drop is in the metric's own units; where scores are fractions, type e.g. --max-drop 0.01."
            )


@dataclass(frozen=True)
class Answer:
    """What was found for one pattern.

    Args:
        pattern (`str`): the word that was asked for.
        spec (`str`, *optional*): the compression within the budget on the whole set, `None` if there is none.
        target (`float`, *optional*): the sparsity that was asked of a ladder.
        sparsity (`float`, *optional*): measured share of zeros among the compressible weights.
        score, drop (`float`, *optional*): of the metric, on the whole set; of a pattern that is no ladder, also where
            it is not within the budget.
        subset_spec (`str`, *optional*): what the sample had found, where one was asked.
        note (`str`): why there is none, or that the whole set refuted the sample; else empty.
    """

    pattern: str
    spec: str | None = None
    target: float | None = None
    sparsity: float | None = None
    score: float | None = None
    drop: float | None = None
    subset_spec: str | None = None
    note: str = ""


@dataclass
class Search:
    """Asks whether compressions are within a budget, and remembers every answer in `tried`.

    Args:
        subset (`Scores`): on the sample; the same object as `full` where there is none.
        full (`Scores`): on the whole evaluation set.
        budget (`Budget`): what is asked, relative to the dense score on the same set.
    """

    subset: Scores
    full: Scores
    budget: Budget
    tried: list[dict[str, Any]] = field(default_factory=list)

    def within(self, scores: Scores, compressor: Compressor, pattern: str) -> bool:
        """Returns whether a compression is within the budget on a set; a score that is not finite never is."""
        row, dense = scores.row(compressor), scores.row()
        drop = self.budget.drop(dense, row)
        passed = drop is not None and drop <= self.budget.max_drop + ROUNDING
        point = {
            "pattern": pattern,
            "on": ALL if scores is self.full else SUBSET,
            "spec": row.spec,
            "sparsity": row.sparsity,
            "score": row.metrics[self.budget.metric],
            "drop": drop,
            "within": passed,
            "seconds": row.seconds,
        }
        if point not in self.tried:
            self.tried.append(point)
        return passed

    def ladder(self, pattern: str, compressor_at: Ladder) -> Answer:
        """Returns the highest of the sparsities 0.01, 0.02, ... 0.99 within the budget.

        Bisection on the sample, then the whole set is asked; where it refutes the sample, lower ones are, until it
        agrees. See `highest` for scores that do not only fall.
        """
        found = highest(lambda k: self.within(self.subset, compressor_at(k), pattern), 0, STEPS)
        if not found:
            return Answer(pattern, note=f"not even {compressor_at(1).spec} is within the budget{self._on_subset()}")
        kept = step_down(lambda k: self.within(self.full, compressor_at(k), pattern), found)
        wanted = compressor_at(found).spec
        if not kept:
            return Answer(pattern, subset_spec=wanted, note=f"the whole set refutes {wanted} and all below it")
        note = "" if kept == found else f"the whole set refutes {wanted}, which the sample had found: stepped down"
        return replace(self._answer(pattern, compressor_at(kept), wanted, note), target=kept / STEPS)

    def yes_or_no(self, pattern: str, compressor: Compressor) -> Answer:
        """Returns whether one compression is within the budget on the whole set; one that does not fit is not."""
        try:
            compressor.check(self.full.trainer.compressible)
        except ValueError as error:
            return Answer(pattern, note=f"does not fit the model: {error}")
        passed = self.within(self.full, compressor, pattern)
        found = self._answer(pattern, compressor, None, "")
        return found if passed else replace(found, spec=None, sparsity=None)

    def _answer(self, pattern: str, compressor: Compressor, wanted: str | None, note: str) -> Answer:
        row = self.full.row(compressor)
        score, drop = row.metrics[self.budget.metric], self.budget.drop(self.full.row(), row)
        asked = wanted if self.subset is not self.full else None
        return Answer(pattern, row.spec, None, row.sparsity, score, drop, asked, note)

    def _on_subset(self) -> str:
        return "" if self.subset is self.full else " on the sample"
