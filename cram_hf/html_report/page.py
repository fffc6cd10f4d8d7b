"""The page: what stands in it and in which order; `page.html` says how, and every text in it is escaped there."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from cram_hf.results import DENSE, Results
from cram_hf.table import percent, share_of_dense

from . import series, tables
from .read import Run
from .tables import Table

INSTALL = 'pip install "cram-hf[report]"'
PARTS = ("page.html", "page.css", "page.js")


@dataclass(frozen=True)
class Heat:
    """The zeros of a run's model under one compression: the name of each weight -> its share of zeros."""

    label: str
    spec: str
    shares: dict[str, float]


@dataclass(frozen=True)
class Figure:
    """A figure: what is seen (wide and narrow), the words for who does not see it, and its numbers."""

    caption: str
    words: str
    svgs: list[str]
    numbers: Table | None = None


def page(
    runs: Sequence[Run],
    heats: Sequence[Heat] = (),
    *,
    sizes: Sequence[dict[str, Any]] = (),
    benches: Sequence[dict[str, Any]] = (),
    remarks: Sequence[str] = (),
) -> str:
    """Returns the whole page as text; the same files give the same page.

    Args:
        runs (`Sequence[Run]`): at least one, see `read_run` and `check_together`.
        heats (`Sequence[Heat]`): one heat map each.
        sizes, benches: see `read_size` and `read_bench`; one table each.
        remarks (`Sequence[str]`): sentences on what is not in the page, and why.

    Raises:
        ImportError: Altair or its converter is not installed; says what to type.
    """
    figures = drawing()
    template, css, script = (resources.files(__package__).joinpath(part).read_text("utf-8") for part in PARTS)
    results = [run.results for run in runs]
    logged = [run for run in runs if run.losses]
    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return made.from_string(template).render(
        title=_title(results),
        css=css,
        script=script,
        script_hash=_hash(script),
        runs_table=tables.runs_table(runs),
        curve=[_curve(results, figures)] if any(map(series.curve_points, results)) else [],
        scores_table=tables.scores_table(results),
        losses=[_losses(logged, figures)] if logged else [],
        heats=[_heat(heat, figures) for heat in heats],
        size_tables=list(map(tables.size_table, sizes)),
        benches=[(tables.bench_table(bench), bench) for bench in benches],
        remarks=[*_remarks(runs), *remarks],
        origins=list(map(_origin, results)),
    )


def drawing() -> Any:
    """Returns the module that draws. Raises `ImportError` with what to type where its libraries are missing."""
    try:
        from . import figures
    except ImportError as error:
        raise ImportError(f"the report needs Altair and vl-convert ({error}): {INSTALL}") from error
    return figures


def _hash(script: str) -> str:
    """The script's digest as a content security policy names it: no other script in the page can run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _title(runs: Sequence[Results]) -> str:
    models = list(dict.fromkeys(run.model.rstrip("/").rpartition("/")[2] for run in runs))
    return f"{', '.join(models) if len(models) < 3 else f'{len(models)} models'} on {runs[0].task}"


def _curve(runs: Sequence[Results], figures: Any) -> Figure:
    return Figure(_curve_caption(runs), _curve_words(runs), figures.curve(runs))


def _curve_caption(runs: Sequence[Results]) -> str:
    lines = [
        f"{series.metric_name(runs[0].main_metric)} against the measured share of zeros among the compressible "
        "weights, each point one compression in one shot, without retraining. Lines: top-k."
    ]
    if any(row.std for run in runs for row in run.rows):
        lines.append("Bars: one standard deviation over the seeds.")
    return " ".join([*lines, "Dotted: the dense score."])


def _curve_words(runs: Sequence[Results]) -> str:
    words = []
    for run in runs:
        scores = [f"{row.spec} {share_of_dense(run, row)}" for row in run.rows if row.spec != DENSE]
        words.append(f"{run.label}: {series.metric_name(run.main_metric)} of dense: {', '.join(scores) or 'none'}.")
    return " ".join([f"{len(runs)} run{'s' * (len(runs) > 1)}.", *words, "All scores are in the table below."])


def _losses(runs: Sequence[Run], figures: Any) -> Figure:
    ends = []
    for run in runs:
        first, last = run.losses[0], run.losses[-1]
        compressed = "" if last.compressed is None else f", compressed at the end {last.compressed:.3f}"
        ends.append(f"{run.results.label}: dense from {first.dense:.3f} to {last.dense:.3f}{compressed}.")
    caption = "Training loss, as it was logged: means over the updates since the last point."
    if any(run.losses[-1].compressed is not None for run in runs):
        caption += " Compressed: at the point where the weights are pruned, means over the compressors drawn."
    return Figure(caption, " ".join(ends), figures.losses(runs), tables.losses_table(runs))


def _heat(heat: Heat, figures: Any) -> Figure:
    cells = series.layer_cells(heat.shares)
    least, most = (pick(cells, key=lambda cell: cell["share"]) for pick in (min, max))
    words = f"{len(cells)} matrices. Fewest zeros: {least['text']}. Most: {most['text']}."
    caption = f"{heat.label} at {heat.spec}: percent of zeros in each matrix."
    return Figure(caption, words, figures.heat_map(cells), tables.layers_table(heat.label, heat.spec, cells))


def _remarks(runs: Sequence[Run]) -> list[str]:
    """What a reader who compares the runs must know."""
    found = []
    counts = {run.results.rows[0].examples for run in runs}
    if len(counts) > 1:
        words = ", ".join(f"{run.results.label} on {run.results.rows[0].examples:,}" for run in runs)
        found.append(f"Not the same data: {words} examples.")
    if silent := [run.results.label for run in runs if not run.losses]:
        found.append(f"No training log for {', '.join(silent)}: no loss curve.")
    return found


def _origin(run: Results) -> dict[str, Any]:
    machine = run.machine
    facts = {
        "Versions": ", ".join(f"{name} {version}" for name, version in run.versions.items()),
        "Commit of cram_hf": f"{run.commit}{', changed' * run.dirty}" if run.commit else "not known",
        "Machine": f"{machine['gpu'] or machine['cpu']}, {machine['threads']} of {machine['cores']} cores used",
        "Date": run.created[:10],
        "Parameters": f"{run.model_parameters:,}, of which {run.compressible_parameters:,} are compressible "
        f"({percent(run.compressible_parameters / max(1, run.model_parameters))})",
    }
    settings = json.dumps(run.config, indent=1, ensure_ascii=False)
    return {"label": run.label, "command": run.command, "facts": facts, "settings": settings}
