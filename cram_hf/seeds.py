"""Several runs that differ in their seed, as one: the mean of each score and its standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, stdev

from .results import Results, Row


def summary(runs: Sequence[Results], command: str) -> Results:
    """Returns the results of two or more runs of one recipe: means in `metrics`, standard deviations in `std`.

    The standard deviation is that of a sample, divided by the number of runs minus one. A score that is missing or not
    finite in a run is missing in the summary. Training times and losses are means, sparsities those of the first run.

    Raises:
        ValueError: there are fewer than two runs, or they did not score the same compressions.
    """
    if len(runs) < 2:
        raise ValueError(f"{len(runs)} run(s) to summarise; a mean needs two or more. Type e.g. --seeds 1 2 3.")
    first = runs[0]
    specs = [[row.spec for row in run.rows] for run in runs]
    if any(other != specs[0] for other in specs):
        raise ValueError(
            f"The runs scored different compressions: {specs}. Run them with the same --eval_compressors."
        )
    rows = [_row(same) for same in zip(*(run.rows for run in runs), strict=True)]
    training = [run.training for run in runs if run.training]
    return replace(
        first,
        command=command,
        seeds=tuple(run.seed for run in runs),
        config={key: value for key, value in first.config.items() if key not in {"seed", "output_dir"}},
        training={
            **first.training,
            "seconds": mean(part["seconds"] for part in training),
            "loss": mean(part["loss"] for part in training),
        }
        if first.training and len(training) == len(runs)
        else None,
        rows=tuple(rows),
    )


def _row(same: Sequence[Row]) -> Row:
    """One row from the rows of one compression in all runs."""
    values = {name: [row.metrics.get(name) for row in same] for name in same[0].metrics}
    known = {name: [v for v in found if v is not None] for name, found in values.items()}
    whole = {name: found if len(found) == len(same) else None for name, found in known.items()}
    return replace(
        same[0],
        metrics={name: mean(found) if found else None for name, found in whole.items()},
        std={name: stdev(found) if found else None for name, found in whole.items()},
        seconds=sum(row.seconds for row in same),
    )
