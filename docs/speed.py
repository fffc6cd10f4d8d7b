"""Writes docs/speed.md and its pictures from the results files of the speed benchmarks.

python docs/speed.py [--check]
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from cram_hf.cli.bench import text as bench_text

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "speed.md"
RUNS = ROOT / "results" / "benchmarks"
Row = dict[str, Any]
ENGINES = {
    "dense-fp32": "PyTorch fp32",
    "dense-bf16": "PyTorch bf16",
    "dense-int8": "PyTorch int8",
    "onnxruntime": "ONNX Runtime fp32",
    "onnxruntime-int8": "ONNX Runtime int8",
    "openvino": "OpenVINO fp32",
    "openvino-bf16": "OpenVINO bf16",
    "csr": "PyTorch CSR",
    "deepsparse": "DeepSparse",
    "ours-fp32": "ours fp32",
    "ours-bf16": "ours bf16",
    "ours-fp16": "ours fp16",
    "ours-int8": "ours int8",
}
PLACE = itemgetter("shape", "threads")
COLOURS = {"PyTorch": "#8C8C8C", "ONNX Runtime": "#E69F00", "OpenVINO": "#009E73", "ours": "#0072B2"}
MARKERS = {"fp32": "o", "bf16": "s", "fp16": "^", "int8": "D", "CSR": "X"}
HEAD = """# Speed on a CPU

Written by `python docs/speed.py` from the files under `results/benchmarks/`; do not edit. How the sparse engine works
and when to use it stands in [runtime.md](runtime.md). int8 of PyTorch and ONNX Runtime is their dynamic quantization,
which needs no data.
"""
ANSWERS = """
## F1 and questions per second

`benchmarks/answers.py`: a trained model, dense and pruned once. The engines of one compression take turns on each
batch; the speed-up is over PyTorch fp32 in the same run. A machine is not always equally fast: compare speed-ups, and
milliseconds within one command alone. In the picture a time is that of dense PyTorch fp32 divided by the speed-up. The
fastest engine of a compression stands in bold; with a dash no answers were scored.
"""
ANSWERED = """
### {cpu}, {instructions}: `{model}`

{batch} window(s) a call; F1 over {questions:,} questions of SQuAD's development set, the time of a fixed sample of
{timed:,}, {threads} thread(s).
"""
BENCH = """
## What `cram-hf bench` prints

The first model above, one thread, {rounds} rounds ([bench.md](bench.md) says how to read it).

```
$ {command}
{text}
```
"""
GRID = """
## Whole models

`benchmarks/inference.py`: random weights, pruned in each matrix, as speed-up over dense PyTorch fp32 in the same run
(its milliseconds in brackets). The fastest engine of a line stands in bold. With a dash of ours no layer would have
gained, so that all stay dense: that is PyTorch fp32. The files hold minima and the difference of the outputs too.
"""


def reports(names: str) -> list[tuple[Path, Any]]:
    return [(path, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(RUNS.glob(f"{names}.json"))]


def words(spec: str) -> str:
    """`80 %` for `topk:0.8`, also in another scope, `2:4` for `nm:2:4`; other words as they are."""
    kind, _, rest = spec.partition(":")
    if kind == "topk" and "+" not in spec:
        return f"{100 * float(rest.partition(':')[0]):.4g} %"
    return spec.removeprefix("nm:")


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def table(columns: list[str], rows: list[list[str]], words_before: int) -> str:
    ruler = ["---"] * words_before + ["---:"] * (len(columns) - words_before)
    return "\n" + line(columns) + line(ruler) + "".join(map(line, rows))


def surroundings(run: Any) -> str:
    changed = " with changes" if run["dirty"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in (run["versions"] | run.get("peers", {})).items())
    instructions = f" ({run['instructions']})" if "instructions" in run else ""
    return f"{run['machine']['cpu']}{instructions}; {versions}; commit {run['commit']}{changed}"


def origin(path: Path, run: Any) -> str:
    return f"\nFile: `{path.relative_to(ROOT)}`, `{run['command']}`; {surroundings(run)}.\n"


def origins(path: Path, rows: list[Row]) -> str:
    """Several commands that wrote one file, and once what is the same for them."""
    runs = {row["run"]["command"] + row["run"]["created"]: row["run"] for row in rows}
    peers = {name: version for run in runs.values() for name, version in run["peers"].items()}
    groups: dict[str, list[str]] = {}
    for run in runs.values():
        groups.setdefault(surroundings(run | {"peers": peers}), []).append(run["command"])
    parts = (f"\n{place}:\n\n```bash\n" + "\n".join(own) + "\n```\n" for place, own in groups.items())
    return f"\nFile: `{path.relative_to(ROOT)}`.\n" + "".join(parts)


def answered(content: Any) -> list[Row]:
    """The speeds, those of a compression together, each with its F1: `None` where it was not scored."""
    scores = {(row["spec"], row["engine"]): row["f1"] for row in content["scores"]}
    specs = list(dict.fromkeys(row["spec"] for row in content["speeds"]))
    rows = sorted(content["speeds"], key=lambda row: specs.index(row["spec"]))
    return [{**row, "f1": scores.get((row["spec"], row["engine"]))} for row in rows]


def answers(path: Path, content: Any) -> str:
    settings, found, cells = content["settings"], answered(content), []
    for _, group in groupby(found, key=lambda row: row["spec"]):
        rows = list(group)
        best = max(row["speed_up"] for row in rows)
        for row in rows:
            score = "-" if row["f1"] is None else f"{row['f1']:.2f}"
            numbers = [score, f"{row['questions_per_second']:.1f}", f"{row['ms_per_question']:.1f}"]
            cells.append([words(row["spec"]), ENGINES[row["engine"]], *numbers, bold(row["speed_up"], best)])
    columns = ["zeros", "engine", "F1", "questions a second", "ms a question", "speed-up"]
    picture, run = f"\n![F1 against milliseconds a question]({path.stem}.png)\n", found[0]["run"]
    text = ANSWERED.format(
        cpu=run["machine"]["cpu"],
        instructions=run["instructions"],
        model=Path(settings["model"]).name,
        batch=settings["batch_size"],
        questions=content["scores"][0]["questions"],
        timed=found[0]["questions"],
        threads=run["machine"]["threads"],
    )
    return text + picture + table(columns, cells, 2) + origins(path, content["scores"] + content["speeds"])


def bench(path: Path, content: Any) -> str:
    printed = bench_text(content).strip("\n")
    return BENCH.format(**content | {"text": printed}) + origin(path, content)


def grids() -> str:
    """The tables of each `inference*.json`, those of one processor together."""
    text, last = "", ""
    for path, content in reports("inference*"):
        processor = f"\n### {content['machine']['cpu']}, {content['instructions']}\n"
        text = (text or GRID) + processor * (processor != last)
        text += grid(content) + f"\nMedians of {content['rounds']} rounds.\n" + origin(path, content)
        last = processor
    return text


def grid(content: Any) -> str:
    text, ordered = "", sorted(content["rows"], key=PLACE)
    engines = [name for name in ENGINES if any(row["engine"] == name for row in content["rows"])]
    for (shape, threads), group in groupby(ordered, key=PLACE):
        cells = []
        for (spec, batch, length), rows in groupby(group, key=lambda r: (r["spec"], r["batch_size"], r["seq_length"])):
            found = {row["engine"]: row for row in rows}
            best = max(row["speed_up"] for row in found.values())
            cells.append([words(spec), str(batch), str(length), *(speed(found.get(name), best) for name in engines)])
        text += f"\n{shape}, {threads} thread{'s' if threads > 1 else ''}:\n"
        text += table(["zeros", "batch", "tokens", *(ENGINES[name] for name in engines)], cells, 1)
    return text


def speed(row: Row | None, best: float) -> str:
    if row is None:
        return "-"
    if row["engine"] == "dense-fp32":
        return f"{'**1**' if best == 1 else '1'} ({row['median_ms']:.4g})"
    return bold(row["speed_up"], best)


def bold(ratio: float, best: float) -> str:
    return f"**{ratio:.2f}**" if ratio == best else f"{ratio:.2f}"


def draw(picture: Path, content: Any) -> None:
    """F1 against milliseconds a question: a colour for each maker, a shape for each type, lines through one engine.

    The milliseconds are those of the dense model in PyTorch fp32 divided by the speed-up in the same run.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure((9.0, 5.0), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08), facecolor="white")
    axes = figure.add_subplot()
    speeds = answered(content)
    dense = next(row["ms_per_question"] for row in speeds if (row["spec"], row["engine"]) == ("dense", "dense-fp32"))
    scored = [{**row, "ms": dense / row["speed_up"]} for row in speeds if row["f1"] is not None]
    rows = sorted(scored, key=lambda row: (list(ENGINES).index(row["engine"]), -row["f1"]))
    for engine, group in groupby(rows, key=lambda row: row["engine"]):
        maker, kind = ENGINES[engine].rsplit(" ", 1)
        points = list(group)
        look: Row = {"color": COLOURS[maker], "marker": MARKERS[kind], "ms": 8, "lw": 1, "mec": "white"}
        x, y = [row["ms"] for row in points], [row["f1"] for row in points]
        axes.plot(x, y, label=ENGINES[engine], ls="-" if maker == "ours" else "", zorder=3 + (maker == "ours"), **look)
        if engine in ("dense-fp32", "ours-int8"):
            for row in points:
                at = (row["ms"], row["f1"])
                where: Row = {"xy": at, "xytext": (-8, 4), "textcoords": "offset points", "ha": "right"}
                axes.annotate(words(row["spec"]), **where, fontsize=9, color="#333333")
    axes.margins(x=0.1)
    axes.set_xlabel("milliseconds a question: PyTorch fp32's, divided by the speed-up (left is faster)")
    axes.set_ylabel("F1")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    figure.savefig(picture, dpi=150)


def document() -> str:
    """The whole of docs/speed.md."""
    parts = [answers(*found) for found in reports("answers*")] + [bench(*found) for found in reports("bench_minilm")]
    return HEAD + ANSWERS + "".join(parts) + grids()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the document is up to date")
    text = document()
    if parser.parse_args().check:
        stale = not DOCUMENT.exists() or DOCUMENT.read_text(encoding="utf-8") != text
        sys.stdout.write("speed.md: not what results/ gives. Type: python docs/speed.py\n" if stale else "")
        return int(stale)
    DOCUMENT.write_text(text, encoding="utf-8")
    for path, content in reports("answers*"):
        draw(ROOT / "docs" / f"{path.stem}.png", content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
