"""Writes docs/results.md, README's table and the pictures from the results files.

python docs/generate.py [--check]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from oneshot_results import oneshot_section, peers_section

from cram_hf.plotting import plot
from cram_hf.results import Results, Row
from cram_hf.table import percent, table

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "results"
BASELINES = {"squad": "minilm_adamw", "mlm": "minilm_adamw", "demo": "adamw"}
VARIANTS = ("_lr_2e-4", "_1.25_epochs")  # in the tables, not in the picture
TITLES = {"squad": "SQuAD v1.1", "mlm": "Masked language model", "demo": "The demo"}
WORDS = {
    "squad": "MiniLM-L6 (22.6 M parameters, 10.6 M compressible), trained on 11,877 questions of 44 articles of the "
    "SQuAD v1.1 training set, scored on the complete official development set.",
    "mlm": "MiniLM-L6 with a fresh head tied to its word embeddings, trained on 4,800 blocks of 128 "
    "tokens from six books, scored on another one, the same masked positions every time. Lower is better.",
    "demo": "`make demo`: MiniLM-L6 on the project's own synthetic reading-comprehension set. Synthetic text is far "
    "easier than SQuAD; these numbers show the contrast and nothing else.",
}
HEAD = """# Results

Written by `python docs/generate.py` from the files under `results/`; do not edit. Every number comes from a run of
ours whose file holds its command, seed, versions and machine. Sparsities are shares of zeros, of the compressible
weights (the encoder's linear layers) and of the whole model. All compressions are one-shot: no retraining, no data,
the same trained model each time.
"""
STEP = """
## Cost of an update

`benchmarks/step.py`: MiniLM-L6, batch 16 x 128, against two plain forward-backward passes of Trainer, taking turns in
one run: wall time (median of the ratios, and ratio of the fastest, since a machine's noise only adds) and CPU time
above those. Extra memory is the difference of the peaks; allowed are one copy of the touched weights and one byte for
each compressible weight.

| precision | compressor | two plain passes | CrAM update | wall | fastest | CPU | extra memory | allowed | file |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |
"""
TUNING = """
## Tried on a quarter of the data

CrAM+-Multi (50, 70 and 80 %), MiniLM-L6, the first 2,969 training questions of SQuAD, one epoch (223 updates of 16
windows), F1 on the first 1,000 questions of the development set. Files: `results/tuning/`.

"""
GLUE = """
## GLUE

MiniLM-L6, one model a task and seed, scored on the official development set: each task's main metric (Matthews
correlation, accuracy, F1 or Spearman correlation), times 100; with several seeds, mean ± standard deviation.
CrAM+-Multi trains with 50, 70 and 80 %. Both methods make the same number of forward-backward passes.

"""
TRANSFER = """
## Sparse transfer

Pruned first, fine-tuned with AdamW afterwards, the zeros fixed (`--keep_sparsity`): plain MiniLM-L6, and MiniLM-L6
after training as a masked language model with CrAM+-Multi (above), each pruned once to the same global sparsity. How
many examples were trained on and scored is in the files; one seed.

| task | metric | sparsity kept: encoder / whole model | from plain MiniLM | from CrAM+-Multi | files |
| --- | --- | ---: | ---: | ---: | --- |
"""
SPECS = ("dense", "topk:0.5", "topk:0.7", "topk:0.8", "topk:0.9", "nm:2:4")
BEGIN, END = "<!-- results: python docs/generate.py -->\n", "<!-- end of results -->"


def runs_of(name: str) -> dict[str, Results]:
    """The runs of a folder by file name; rows of the same model scored later, in `NAME.more.json`, are added."""
    runs = {path.stem: Results.load(path) for path in sorted((RUNS / name).glob("*.json"))}
    for stem in [stem for stem in runs if stem.endswith(".more")]:
        first, later = runs[stem.removesuffix(".more")], runs.pop(stem)
        if first.score("dense") != later.score("dense"):
            raise ValueError(f"{name}/{stem}.json does not score the same dense model as the file it belongs to.")
        known = {row.spec for row in first.rows}
        rows = (*first.rows, *(row for row in later.rows if row.spec not in known))
        runs[stem.removesuffix(".more")] = replace(first, rows=tuple(sorted(rows, key=_order)))
    return runs


def _order(row: Row) -> tuple[bool, bool, bool, float]:
    """Dense first, then global top-k, per layer, and all others."""
    top = row.spec.startswith("topk:")
    return row.spec != "dense", not top, row.spec.endswith(":layer"), row.sparsity


def section(name: str) -> str:
    runs = runs_of(name)
    if not runs:
        return ""
    baseline = runs.get(BASELINES[name])
    parts = [f"\n## {TITLES[name]}\n\n{WORDS[name]}\n"]
    if baseline and len(runs) > 1:
        parts.append(f"\n![Score against one-shot sparsity]({name}.png)\n")
    for stem, run in runs.items():
        against = table(run, baseline if run is not baseline else None)
        parts.append(f"\n### {run.label}\n\n{against}\n\n{facts(run, f'results/{name}/{stem}.json')}\n")
    return "".join(parts)


def facts(run: Results, file: str) -> str:
    training = run.training or {}
    machine = run.machine["gpu"] or run.machine["cpu"]
    versions = ", ".join(f"{package} {version}" for package, version in run.versions.items())
    more = ROOT / file.replace(".json", ".more.json")
    later = f" Rows scored later: `{more.relative_to(ROOT)}`, `{Results.load(more).command}`." if more.exists() else ""
    minutes = "resumed" if training.get("resumed") else f"{training.get('seconds', 0) / 60:.0f} minutes"
    return (
        f"- Training: {training.get('updates')} updates, {training.get('epochs', 0):.2f} epochs, "
        f"{minutes}; seed {run.seed}; {machine}, "
        f"{run.machine['threads']} thread(s).\n"
        f"- Command: `{run.command}`\n- Versions: {versions}; commit {run.commit}. File: `{file}`.{later}"
    )


def step_section() -> str:
    """Times of `step*.json`, and the memory of the same precision, which a later file of memory alone may hold."""
    rows, memory = [], {}
    paths = sorted((RUNS / "benchmarks").glob("step*.json"))
    found: list[dict[str, Any]] = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    for report in found:
        memory |= {(report["precision"], row["compressor"]): row for row in report["memory"]}
    for path, report in zip(paths, found, strict=True):
        for row in report["time"]:
            extra = memory[report["precision"], row["compressor"]]
            cells = (
                *(report["precision"], row["compressor"]),
                *(f"{row['two_plain_passes_seconds']:.2f} s", f"{row['update_seconds']:.2f} s"),
                *(f"{row[key]:+.1%}" for key in ("extra_wall", "extra_wall_of_fastest", "extra_cpu")),
                *(f"{extra['extra_bytes'] / 1e6:.0f} MB", f"{extra['allowed_bytes'] / 1e6:.0f} MB"),
                f"`{path.name}`",
            )
            rows.append(f"| {' | '.join(cells)} |\n")
    return STEP + "".join(rows) if rows else ""


def head(first: list[str], specs: Sequence[str], run: Results, last: Sequence[str] = ()) -> str:
    """The first two lines of a table: `first`, a column for each of `specs` with both its sparsities, and `last`."""
    cells = [*first, *(_both_sparsities(run.row(spec)) for spec in specs), *last]
    rules = ["---"] * len(first) + ["---:"] * len(specs) + ["---"] * len(last)
    return f"| {' | '.join(cells)} |\n| {' | '.join(rules)} |\n"


def _both_sparsities(row: Row | None) -> str:
    """`80 % / 38 %`: of the compressible weights and of the whole model, after the pattern, if it has one."""
    if row is None or row.spec == "dense":
        return "dense"
    pattern = f"{row.spec.removeprefix('nm:')}: " if row.spec.startswith("nm:") else ""
    return f"{pattern}{100 * row.sparsity:.0f} % / {100 * row.model_sparsity:.0f} %"


def glue_section() -> str:
    rows, first = [], ""
    for path in sorted((RUNS / "glue").glob("*.json")):
        run = Results.load(path)
        first = first or head(["task", "metric", "training rows", "seeds", "trained with"], SPECS, run, ["file"])
        cells = [run.task, run.main_metric, f"{run.data['train']['examples']:,}"]
        cells += [str(len(run.seeds or [run.seed])), run.label]
        cells += [_times_100(run.row(spec), run.main_metric) for spec in SPECS]
        rows.append(f"| {' | '.join([*cells, f'`{path.relative_to(ROOT)}`'])} |\n")
    return GLUE + first + "".join(rows) if rows else ""


def _times_100(row: Row | None, metric: str) -> str:
    if row is None or (mean := row.metrics[metric]) is None:
        return "-"
    deviation = (row.std or {}).get(metric)
    return f"{100 * mean:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")


def transfer_section() -> str:
    """Pairs of `results/transfer/TASK_plain_S.json` and `TASK_mlm_S.json`."""
    rows = []
    for path in sorted((RUNS / "transfer").glob("*_plain_*.json")):
        other = path.with_name(path.name.replace("_plain_", "_mlm_"))
        plain, ours = Results.load(path), Results.load(other)
        scores = [run.score("dense") or 0.0 for run in (plain, ours)]
        scale = 100 if max(map(abs, scores)) <= 1 else 1
        kept = [f"{percent(run.rows[0].sparsity)} / {percent(run.rows[0].model_sparsity)}" for run in (plain, ours)]
        cells = [plain.task, plain.main_metric, kept[0] if kept[0] == kept[1] else " and ".join(kept)]
        cells += [*(f"{scale * score:.1f}" for score in scores), f"`{path.relative_to(ROOT)}`, `{other.name}`"]
        rows.append(f"| {' | '.join(cells)} |\n")
    return TRANSFER + "".join(rows) if rows else ""


def tuning_section() -> str:
    rows, first, specs = [], "", ("dense", "topk:0.5", "topk:0.7", "topk:0.8", "nm:2:4")
    for path in sorted((RUNS / "tuning").glob("squad_*.json")):
        run = Results.load(path)
        first = first or head(["changed"], specs, run)
        scores = [run.score(spec) for spec in specs]
        cells = " | ".join("-" if score is None else f"{score:.1f}" for score in scores)
        rows.append(f"| {run.label} | {cells} |\n")
    return TUNING + first + "".join(rows) if rows else ""


def document() -> str:
    """The whole of docs/results.md."""
    notes = (RUNS / "notes.md").read_text(encoding="utf-8")
    later = (glue_section, transfer_section, oneshot_section, peers_section, tuning_section, step_section)
    return "".join([HEAD, *map(section, TITLES), *(make() for make in later), notes])


def readme() -> str:
    """README.md with its table brought up to date."""
    before, rest = (ROOT / "README.md").read_text(encoding="utf-8").split(BEGIN)
    rows, first = [], ""
    for name in ("squad", "demo"):
        for run in runs_of(name).values():
            first = first or head(["F1, MiniLM-L6", "trained with"], SPECS, run)
            scores = [run.score(spec) for spec in SPECS]
            cells = " | ".join("not run" if score is None else f"{score:.1f}" for score in scores)
            rows.append(f"| {TITLES[name]} | {run.label} | {cells} |\n")
    return before + BEGIN + (first + "".join(rows) if rows else "") + END + rest.split(END)[1]


def pictures() -> None:
    for name in TITLES:
        runs = {stem: run for stem, run in runs_of(name).items() if not stem.endswith(VARIANTS)}
        baseline = runs.pop(BASELINES[name], None)
        if runs and baseline:
            plot(list(runs.values()), ROOT / "docs" / f"{name}.png", baseline=baseline)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the documents are up to date")
    wanted = {ROOT / "docs" / "results.md": document(), ROOT / "README.md": readme()}
    if parser.parse_args().check:
        stale = [path.name for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
        sys.stdout.write(
            f"{', '.join(stale)}: not what results/ gives. Type: python docs/generate.py\n" if stale else ""
        )
        return 1 if stale else 0
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    pictures()
    return 0


if __name__ == "__main__":
    sys.exit(main())
