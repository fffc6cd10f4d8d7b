"""The page's tables as plain cells: text to read, and the number to sort by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cram_hf.results import DENSE, LOWER_IS_BETTER, Results, Row
from cram_hf.table import NO_VALUE, cells_of, digits_of, number, percent, shown_metrics

from . import series
from .read import Run

NEAR = 0.05


class Cell(NamedTuple):
    """What stands in a cell. `key` is what it is sorted by: a number, or `None` for its text."""

    text: str
    key: float | None = None


@dataclass(frozen=True)
class Table:
    """A table with a caption; the first `heads` cells of a row are its heads, `numeric` columns are flush right."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    heads: int = 1

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers, or dashes, alone."""
        return [
            all(cell.text == NO_VALUE or cell.text[:1].isdigit() for cell in column)
            for column in zip(*self.rows, strict=True)
        ]


def runs_table(runs: Sequence[Run]) -> Table:
    """Returns a row for each run: what it is and the most zeros it bears."""
    metric = series.metric_name(runs[0].results.main_metric)
    columns = ["run", "model", "trained for", "seeds", "updates", "training time", "examples scored"]
    rows = [_run_row(run.results) for run in runs]
    return Table("The runs", [*columns, f"dense {metric}", f"sparsest within {NEAR:.0%} of dense"], rows)


def _run_row(run: Results) -> list[Cell]:
    training = run.training or {}
    updates = training.get("updates")
    dense, best = run.score(DENSE), _sparsest_near(run)
    examples = run.rows[0].examples
    return [
        Cell(run.label),
        Cell(run.model),
        Cell(", ".join(map(str, run.config.get("compressors") or [])) or "dense only"),
        Cell(", ".join(map(str, run.seeds or [run.seed]))),
        Cell(NO_VALUE) if updates is None else Cell(f"{updates:,}", updates),
        _time(training),
        Cell(f"{examples:,}", examples),
        Cell(number(dense, digits_of(run, run.main_metric)), dense),
        Cell(f"{best.spec} ({percent(best.sparsity)})", best.sparsity) if best else Cell("none"),
    ]


def _sparsest_near(run: Results) -> Row | None:
    """The row with most zeros whose score is at most `NEAR` worse than the dense one, as a share of it."""
    dense = run.score(DENSE)
    if not dense:
        return None
    sign = -1 if run.main_metric in LOWER_IS_BETTER else 1
    near = [
        row
        for row in run.rows
        if row.spec != DENSE
        and (score := row.metrics[run.main_metric]) is not None
        and sign * (dense - score) <= NEAR * abs(dense)
    ]
    return max(near, key=lambda row: row.sparsity, default=None)


def _time(training: dict[str, Any]) -> Cell:
    """How long a training took; of one that was resumed, only the last part is known."""
    seconds = training.get("seconds")
    if training.get("resumed"):
        return Cell("resumed")
    return Cell(NO_VALUE) if seconds is None else Cell(_duration(seconds), seconds)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{seconds / 60:.1f} min"


def scores_table(runs: Sequence[Results]) -> Table:
    """Returns a row for each run and compression, with all its scores."""
    names = shown_metrics(runs[0])
    digits = {name: max(digits_of(run, name) for run in runs) for name in names}
    main, *others = [series.metric_name(name) for name in names]
    columns = ["run", "compression", main, f"{main} of dense", *others, "zeros (compressible)", "zeros (whole model)"]
    rows = [_score_row(run, row, names, digits) for run in runs for row in run.rows]
    return Table("Scores of every run and compression", columns, rows, heads=2)


def _score_row(run: Results, row: Row, names: Sequence[str], digits: dict[str, int]) -> list[Cell]:
    """The cells of `cram_hf.table`, with the main score and its share first: a phone shows no more."""
    dense, score = run.score(DENSE), row.metrics[run.main_metric]
    keys = [row.sparsity, row.model_sparsity, *(row.metrics.get(name) for name in names)]
    keys.append(score / dense if dense and score is not None else None)
    spec, *texts = cells_of(run, row, names, digits)
    zeros, model_zeros, main, *others, share = map(Cell, texts, keys)
    return [Cell(run.label), Cell(spec), main, share, *others, zeros, model_zeros]


def layers_table(label: str, spec: str, cells: series.Points) -> Table:
    """Returns the numbers of a heat map: a row for each layer, a column for each kind of matrix."""
    kinds = list(dict.fromkeys(cell["kind"] for cell in cells))
    shares = {(cell["layer"], cell["kind"]): cell["share"] for cell in cells}
    layers = list(dict.fromkeys(cell["layer"] for cell in cells))
    rows = [[Cell(layer), *(_share_cell(shares.get((layer, kind))) for kind in kinds)] for layer in layers]
    return Table(f"Share of zeros by layer: {label} at {spec}", ["layer", *kinds], rows)


def _share_cell(share: float | None) -> Cell:
    return Cell(NO_VALUE) if share is None else Cell(percent(share), share)


def losses_table(runs: Sequence[Run]) -> Table:
    """Returns the numbers of the figure of losses: a row for each of its points in time."""
    rows = [
        [
            Cell(run.results.label),
            Cell(f"{loss.update:,}", loss.update),
            Cell(f"{loss.dense:.3f}", loss.dense),
            Cell(NO_VALUE if loss.compressed is None else f"{loss.compressed:.3f}", loss.compressed),
        ]
        for run in runs
        for loss in series.thinned(run.losses)
    ]
    return Table("Training loss", ["run", "update", "dense loss", "compressed loss"], rows, heads=2)


def size_table(size: dict[str, Any]) -> Table:
    """Returns the sizes that `cram-hf size` told, in megabytes of 1,000,000 bytes."""
    kinds = list(size["rows"][0]["bytes"])
    rows = [
        [
            Cell(row["spec"]),
            Cell(percent(row["sparsity"]), row["sparsity"]),
            *(_megabytes(row["bytes"].get(kind)) for kind in kinds),
        ]
        for row in size["rows"]
    ]
    columns = ["compression", "zeros (compressible)", *(kind.replace("_", " ") for kind in kinds)]
    return Table(f"{size['model'] or 'A model'} on disk, in megabytes (1,000,000 bytes)", columns, rows)


def _megabytes(count: Any) -> Cell:
    return Cell(f"{count / 1e6:,.1f}", count) if isinstance(count, (int, float)) else Cell(NO_VALUE)


def bench_table(bench: dict[str, Any]) -> Table:
    """Returns the times that `cram-hf bench` measured: medians, with quartiles in brackets."""
    columns = ["engine", "compression", "batch", "tokens", "threads", "ms a batch", "sequences/s", "time of dense"]
    where = f" on {bench['machine']}" if bench["machine"] else ""
    rows = [_bench_row(row) for row in bench["rows"]]
    return Table(f"{bench['model'] or 'A model'}{where}: medians, quartiles in brackets", columns, rows, heads=2)


def _bench_row(row: dict[str, Any]) -> list[Cell]:
    shape = [Cell(str(row[name]), row[name]) for name in ("batch_size", "seq_length", "threads")]
    rate = row.get("sequences_per_second")
    absent = "failed" if "error" in row else "not for it" if "skipped" in row else NO_VALUE
    return [
        Cell(row["engine"]),
        Cell(row["spec"]),
        *shape,
        _spread(row.get("milliseconds"), absent),
        Cell(f"{rate:,.1f}", rate) if isinstance(rate, (int, float)) else Cell(NO_VALUE),
        _spread(row.get("ratio"), NO_VALUE),
    ]


def _spread(found: Any, absent: str) -> Cell:
    if not isinstance(found, dict) or not isinstance(found.get("median"), (int, float)):
        return Cell(absent)
    quartiles = [found[name] for name in ("q1", "q3") if isinstance(found.get(name), (int, float))]
    brackets = f" ({'-'.join(f'{value:.2f}' for value in quartiles)})" if quartiles else ""
    return Cell(f"{found['median']:.2f}{brackets}", found["median"])
