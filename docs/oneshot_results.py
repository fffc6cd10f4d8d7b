"""The sections of docs/results.md on pruning after training: methods compared, and other implementations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LEVELS = ("0.5", "0.7", "0.8", "0.9", "2:4")
METHODS = """
## Which one-shot method keeps most

`benchmarks/oneshot.py`: the SQuAD models above, pruned once in different ways ([oneshot.md](oneshot.md) says what each
does), F1. {questions}; data-driven methods see {samples} training texts without answers, and only
rows with `tune` see labels ({tune_steps} updates of biases and layer normalisation). The best of each column without
labels is bold, if it is ahead of plain magnitude; a dash was not run.
"""
PEERS = """
## The one-shot methods beside other implementations

`benchmarks/peers/compare.py`: the same trained model, the same inputs of each layer ({tokens:,} tokens), layer by
layer. Where a method is deterministic the masks are compared; error is the squared change of a layer's output relative
to it, the mean over the layers, and a layer is not worse if ours is at most a thousandth above theirs.
"""


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def ruler(words: int, numbers: int) -> str:
    return line(["---"] * words + ["---:"] * numbers)


def origin(path: Path, run: dict[str, Any], packages: str = "") -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    changed = " with changes" if run["dirty"] else ""
    machine = f"{run['machine']['gpu'] or run['machine']['cpu']}, {run['machine']['threads']} thread(s)"
    file = path.relative_to(ROOT)
    return f"\nFile: `{file}`, `{run['command']}`; {machine}; {versions}{packages}; commit {run['commit']}{changed}.\n"


def oneshot_section() -> str:
    """One table for each file of `results/oneshot/`: methods down, levels across."""
    text = ""
    for path in sorted((ROOT / "results" / "oneshot").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        settings = content["settings"]
        asked = f"A fixed sample of {settings['questions']:,} questions" if settings["questions"] else "All questions"
        text = text or METHODS.format(**settings | {"questions": asked})
        text += f"\n### {content['label']}\n\n{methods_table(content['rows'])}"
        runs = {row["run"]["command"]: row["run"] for row in content["rows"]}
        text += "".join(origin(path, run) for run in runs.values())
    return text


def methods_table(rows: list[dict[str, Any]]) -> str:
    scores = {(row["method"], row["level"]): row["metrics"]["f1"] for row in rows}
    best = {
        level: max(score for (method, at), score in scores.items() if at == level and "tune" not in method)
        for level in LEVELS
    }
    model = {row["level"]: row["model_sparsity"] for row in rows if row["method"] == "magnitude"}
    names = [level if ":" in level else f"{100 * float(level):.0f} %" for level in LEVELS]
    heads = [f"{name} / {100 * model[level]:.0f} %" for name, level in zip(names, LEVELS, strict=True)]
    text = f"Dense {scores['dense', 'dense']:.1f}.\n\n" + line(["method", *heads]) + ruler(1, len(heads))
    for method in dict.fromkeys(row["method"] for row in rows if row["method"] != "dense"):
        cells = [method]
        for level in LEVELS:
            score = scores.get((method, level))
            ahead = score == best[level] and score > scores["magnitude", level]
            cells.append("-" if score is None else f"**{score:.1f}**" if ahead else f"{score:.1f}")
        text += line(cells)
    return text


def peers_section() -> str:
    """The table of `results/benchmarks/peers.json`."""
    path = ROOT / "results" / "benchmarks" / "peers.json"
    if not path.exists():
        return ""
    content = json.loads(path.read_text(encoding="utf-8"))
    heads = ["peer", "method", "mask entries that differ", "error, ours", "error, theirs", "layers not worse"]
    text = PEERS.format(tokens=content["tokens"]) + "\n" + line(heads) + ruler(2, 4)
    for peer, found in content["peers"].items():
        for method, row in found.get("rows", {}).items():
            ties = ", all of equal magnitude" if row["differ"] and row["ties_only"] else ""
            cells = [f"{peer} {found['version']}", method, f"{row['differ']:,} of {row['weights']:,}{ties}"]
            if "layers" in row:
                cells += [f"{row['error_ours']:.5f}", f"{row['error_theirs']:.5f}"]
                cells += [f"{row['layers_not_worse']} of {row['layers']}"]
            text += line(cells + [""] * (len(heads) - len(cells)))
        if "not run" in found:
            text += line([peer, f"not run: {found['not run']}", "", "", "", ""])
    return text + origin(path, content)
