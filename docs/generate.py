"""Writes docs/results.md and the pictures from the results files: python docs/generate.py [--check]"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from cram_hf.plotting import plot
from cram_hf.results import Results
from cram_hf.table import table

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "results"

HEAD = """# Results

Written by `python docs/generate.py` from the files under `results/`; do not edit. Every number comes from a run of ours whose
file holds its command, seed, versions and machine. Sparsities are shares of zeros, of the compressible weights (the encoder's
linear layers) and of the whole model. All compressions are one-shot: no retraining, no data, the same trained model each time.
"""

SECTIONS = {
    "squad": ("SQuAD v1.1", "MiniLM-L6 (22.6 M parameters, 10.6 M compressible), trained on 11,877 questions of 44 articles of the "
              "SQuAD v1.1 training set, scored on the complete official development set."),
    "demo": ("The demo", "`make demo`: MiniLM-L6 on the project's own synthetic reading-comprehension set. Synthetic text is far "
             "easier than SQuAD; these numbers show the contrast and nothing else."),
}
BASELINES = {"squad": "minilm_adamw", "demo": "adamw"}


def section(name: str, title: str, text: str) -> str:
    runs = {path.stem: Results.load(path) for path in sorted((RUNS / name).glob("*.json"))}
    if not runs:
        return ""
    baseline = runs.get(BASELINES[name])
    parts = [f"\n## {title}\n\n{text}\n"]
    if baseline and len(runs) > 1:
        parts.append(f"\n![F1 against one-shot sparsity]({name}.png)\n")
    for stem, run in runs.items():
        parts.append(f"\n### {run.label}\n\n{table(run, baseline if run is not baseline else None)}\n\n{facts(run, stem, name)}\n")
    return "".join(parts)


def facts(run: Results, stem: str, name: str) -> str:
    training = run.training or {}
    machine = run.machine["gpu"] or run.machine["cpu"]
    versions = ", ".join(f"{package} {version}" for package, version in run.versions.items())
    return (
        f"- Training: {training.get('updates')} updates, {training.get('epochs', 0):.2f} epochs, "
        f"{training.get('seconds', 0) / 60:.0f} minutes; seed {run.seed}; {machine}, {run.machine['threads']} thread(s).\n"
        f"- Command: `{run.command}`\n- Versions: {versions}; commit {run.commit}. File: `results/{name}/{stem}.json`."
    )


def step_section() -> str:
    rows = []
    for path in sorted((RUNS / "benchmarks").glob("step*.json")):
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        memory = {row["compressor"]: row for row in report["memory"]}
        for row in report["time"]:
            extra = memory[row["compressor"]]
            rows.append(
                f"| {report['precision']} | {row['compressor']} | {row['two_plain_passes_seconds']:.2f} s | {row['update_seconds']:.2f} s "
                f"| {row['extra_wall']:+.1%} | {row['extra_cpu']:+.1%} | {extra['extra_bytes'] / 1e6:.0f} MB | {extra['allowed_bytes'] / 1e6:.0f} MB |"
            )
    if not rows:
        return ""
    return (
        "\n## Cost of an update\n\n`benchmarks/step.py`: MiniLM-L6, batch 16 x 128, against two plain forward-backward passes of "
        "Trainer, taking turns in one run. Extra memory is the difference of the peaks; allowed are one copy of the touched weights "
        "and one byte for each compressible weight.\n\n"
        "| precision | compressor | two plain passes | CrAM update | extra (wall) | extra (CPU) | extra memory | allowed |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n" + "\n".join(rows) + "\n"
    )


def document() -> str:
    """The whole of docs/results.md."""
    parts = [HEAD, *(section(name, *words) for name, words in SECTIONS.items()), step_section(), (RUNS / "notes.md").read_text("utf-8")]
    return "".join(parts)


def readme() -> str:
    """README.md with its table brought up to date."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    begin, end = "<!-- results: python docs/generate.py -->\n", "<!-- end of results -->"
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    runs = {name: {path.stem: Results.load(path) for path in sorted((RUNS / name).glob("*.json"))} for name in SECTIONS}
    rows = []
    for name, (title, _) in SECTIONS.items():
        for run in runs[name].values():
            scores = [run.score(spec) for spec in ("dense", "topk:0.5", "topk:0.7", "topk:0.8", "topk:0.9", "nm:2:4")]
            cells = " | ".join("not run" if score is None else f"{score:.1f}" for score in scores)
            rows.append(f"| {title} | {run.label} | {cells} |")
    header = "| F1, MiniLM-L6 | trained with | dense | 50 % | 70 % | 80 % | 90 % | 2:4 |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    table_text = header + "\n".join(rows) + "\n" if rows else ""
    return before + begin + table_text + end + after


def pictures() -> None:
    for name in SECTIONS:
        runs = {path.stem: Results.load(path) for path in sorted((RUNS / name).glob("*.json"))}
        baseline = runs.pop(BASELINES[name], None)
        if runs and baseline:
            plot(list(runs.values()), ROOT / "docs" / f"{name}.png", baseline=baseline)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether docs/results.md is up to date")
    target = ROOT / "docs" / "results.md"
    if parser.parse_args().check:
        current = target.read_text(encoding="utf-8") == document() and (ROOT / "README.md").read_text("utf-8") == readme()
        sys.stdout.write("up to date\n" if current else "The docs are not what results/ gives. Type: python docs/generate.py\n")
        return 0 if current else 1
    target.write_text(document(), encoding="utf-8")
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
    pictures()
    return 0


if __name__ == "__main__":
    sys.exit(main())
