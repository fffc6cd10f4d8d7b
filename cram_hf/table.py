"""The one table at the end of a run: both sparsities, the scores, the share of the own dense score."""

from __future__ import annotations

from collections.abc import Sequence

from cram_hf.results import DENSE, LOWER_IS_BETTER, Results, Row

NO_VALUE = "-"
NOT_SCORES = ("total", "_thresh")


def table(results: Results, baseline: Results | None = None, metrics: Sequence[str] | None = None) -> str:
    """Returns the rows of `results` as aligned plain text that is valid Markdown too, one line a compression.

    Sparsities and shares are in percent with one digit; scores have two digits, four where all are within [-1, 1].
    A summary of several seeds shows means and standard deviations.
    Ends in a line of words where the baseline was scored on other data, and has no final newline.

    Args:
        results (`Results`): the run to show.
        baseline (`Results`, *optional*): another run; adds the difference of the main metric at the same compression.
        metrics (`Sequence[str]`, *optional*): columns to show. Defaults to the main metric and then the others as they
            were scored, without counts, thresholds and `best_...` values, which the results file keeps.

    Raises:
        ValueError: the baseline has no such main metric.
    """
    if baseline is not None:
        _check_comparable(results, baseline)
    names = list(metrics) if metrics else shown_metrics(results)
    digits = {name: digits_of(results, name) for name in names}
    header = [
        "compression",
        "sparsity (compressible)",
        "sparsity (whole model)",
        *names,
        f"{results.main_metric} of dense",
    ]
    header += [f"{results.main_metric} vs {baseline.label}"] if baseline else []
    lines = [
        [*cells_of(results, row, names, digits), *([_difference(results, baseline, row)] if baseline else [])]
        for row in results.rows
    ]
    return aligned(header, lines) + (_remarks(results, baseline) if baseline else "")


def together(runs: Sequence[Results]) -> str:
    """Returns the rows of several runs of one task in one table, a run below the other, with its label in front.

    Metrics are those that `table` shows of the first run; what another run did not score is a dash.
    """
    names = shown_metrics(runs[0])
    digits = {name: max(digits_of(run, name) for run in runs) for name in names}
    header = ["run", "compression", "sparsity (compressible)", "sparsity (whole model)", *names]
    lines = [[run.label, *cells_of(run, row, names, digits)] for run in runs for row in run.rows]
    return aligned([*header, f"{runs[0].main_metric} of dense"], lines, left=2)


def cells_of(results: Results, row: Row, names: Sequence[str], digits: dict[str, int]) -> list[str]:
    """Returns a row's cells: compression, both sparsities, the scores, the share of the own dense score."""
    scores = [_spread(row, name, digits[name]) for name in names]
    return [row.spec, percent(row.sparsity), percent(row.model_sparsity), *scores, share_of_dense(results, row)]


def shown_metrics(results: Results) -> list[str]:
    """Returns the main metric, then the other scores of the first row in their order."""
    main = results.main_metric
    others = [name for name in results.rows[0].metrics if name != main and not name.startswith("best_")]
    return [main] + [name for name in others if not name.endswith(NOT_SCORES)]


def percent(share: float) -> str:
    """Returns a share in [0, 1] as text in percent: `0.8` is `80.0 %`."""
    return f"{100 * share:.1f} %"


def number(value: float | None, digits: int) -> str:
    """Returns `value` with so many digits, or a dash where there is none."""
    return NO_VALUE if value is None else f"{value:.{digits}f}"


def _spread(row: Row, metric: str, digits: int) -> str:
    """Returns a score, with its standard deviation where there are several runs: `0.6134 ± 0.0121`."""
    score = number(row.metrics.get(metric), digits)
    deviation = (row.std or {}).get(metric)
    return score if deviation is None else f"{score} ± {deviation:.{digits}f}"


def share_of_dense(results: Results, row: Row) -> str:
    """Returns the row's main score in percent of the run's own dense score, or a dash where there is no such share.

    A perplexity, which starts at 1 and is better when lower, is told as a multiple of the dense one: `1.50 x`.
    """
    dense, score = results.score(DENSE), row.metrics[results.main_metric]
    if not dense or score is None:
        return NO_VALUE
    return f"{score / dense:.2f} x" if results.main_metric in LOWER_IS_BETTER else percent(score / dense)


def digits_of(results: Results, metric: str) -> int:
    """Returns how many digits a metric is shown with: four where all its scores are within [-1, 1], else two."""
    values = [abs(value) for row in results.rows if (value := row.metrics.get(metric)) is not None]
    return 4 if max(values, default=0) <= 1 else 2


def _difference(results: Results, baseline: Results, row: Row) -> str:
    score, other = row.metrics[results.main_metric], baseline.score(row.spec, results.main_metric)
    if score is None or other is None:
        return NO_VALUE
    return f"{score - other:+.{digits_of(results, results.main_metric)}f}"


def _check_comparable(results: Results, baseline: Results) -> None:
    if results.main_metric not in baseline.rows[0].metrics:
        raise ValueError(
            f"baseline {baseline.label!r} ({baseline.task}) has no {results.main_metric!r}, it has "
            f"{', '.join(baseline.rows[0].metrics)}: give --baseline a results file of the task {results.task!r}"
        )


def _remarks(results: Results, baseline: Results) -> str:
    ours, theirs = ({row.examples for row in run.rows} for run in (results, baseline))
    if ours == theirs:
        return ""
    counts = [" and ".join(f"{count:,}" for count in sorted(side)) for side in (ours, theirs)]
    return (
        f"\n\nNot the same data: {results.label} was scored on {counts[0]} examples, {baseline.label} on {counts[1]}."
    )


def aligned(header: list[str], lines: list[list[str]], left: int = 1) -> str:
    """Returns a Markdown table whose first `left` columns are flush left and the others flush right."""
    cells = [[cell.replace("|", r"\|") for cell in line] for line in [header, *lines]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = ["-" * width for width in widths[:left]] + ["-" * (width - 1) + ":" for width in widths[left:]]
    rows = [
        [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in [cells[0], rule, *cells[1:]]
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
