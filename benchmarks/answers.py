"""F1 and questions per second of a trained model on SQuAD, dense and pruned, in every engine on a CPU.

    python benchmarks/answers.py score --model runs/squad --validation_file dev-v1.1.json --out answers.json
    python benchmarks/answers.py time --model runs/squad --validation_file dev-v1.1.json --out answers.json

`score` answers all questions with each engine, which takes hours. `time` answers a fixed sample of them, on a machine
that does nothing else: for one compression, the engines take turns on each batch of windows, in an order that moves on
by one each batch, so that the machine's noise meets all of them; PyTorch in fp32 is always among them. Windows are
sorted by length, so that a batch has hardly any padding. What an engine gave is written as soon as it is known; a
repeated command measures only what is not there. ONNX Runtime and OpenVINO need their extras:
pip install "cram-hf[onnx,openvino]".
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cpu_engines import ENGINES, chosen, peers, suitable
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, EvalPrediction, TrainingArguments

from cram_hf import compressible_weights, parse_compressor
from cram_hf.bench.engines import Run, Subject
from cram_hf.bench.inputs import Inputs, input_names
from cram_hf.provenance import command_line, environment
from cram_hf.results import write_json
from cram_hf.runtime import kernel
from cram_hf.tasks.base import TaskData
from cram_hf.tasks.squad import Squad, fixed_sample
from cram_hf.tasks.squad_arguments import SquadArguments
from cram_hf.tasks.squad_files import read_squad

DENSE, BASE = "dense", "dense-fp32"
SPECS = [DENSE, "topk:0.7", "topk:0.8", "topk:0.9"]
SETTINGS = ("model", "validation_file", "batch_size", "max_length")  # one file, one of each
Row = dict[str, Any]
Found = dict[str, tuple[np.ndarray, float]]


def prepared(options: argparse.Namespace, folder: str) -> TaskData:
    questions = read_squad(options.validation_file)
    if options.questions:
        questions = fixed_sample(questions, options.questions)
    questions.to_parquet(file := f"{folder}/questions.parquet")
    flags = SquadArguments(validation_file=file, max_seq_length=options.max_length, doc_stride=96)
    arguments = TrainingArguments(output_dir=folder, report_to="none", use_cpu=True, do_eval=True)
    return Squad().prepare(flags, AutoTokenizer.from_pretrained(options.model), arguments)


def answered(runs: dict[str, Run], batches: list[dict[str, torch.Tensor]], names: list[str]) -> Found:
    """Engine -> its logits, padded with the least float, and the seconds that it took for all batches."""
    length = max(batch["input_ids"].shape[1] for batch in batches)
    rows = sum(len(batch["input_ids"]) for batch in batches)
    logits = {name: np.full((2, rows, length), np.finfo(np.float32).min, np.float32) for name in runs}
    taken, order, first = dict.fromkeys(runs, 0.0), list(runs), 0
    for run in runs.values():
        run({name: batches[0][name] for name in names})  # to warm up
    for number, batch in enumerate(tqdm(batches, desc=", ".join(runs), mininterval=10)):
        inputs: Inputs = {name: batch[name] for name in names}
        last = first + len(batch["input_ids"])
        for turn in range(len(order)):
            name = order[(number + turn) % len(order)]
            begin = time.perf_counter()
            found = runs[name](inputs)
            taken[name] += time.perf_counter() - begin
            for place, values in zip(logits[name], found, strict=True):
                place[first:last, : values.shape[1]] = values
        first = last
    return {name: (logits[name], taken[name]) for name in runs}


def fits(engine: str, spec: str) -> bool:
    return spec != DENSE or not engine.startswith(("ours", "csr"))


class Pruned:
    """The model at one compression, and the batches of the questions."""

    def __init__(self, spec: str, options: argparse.Namespace, data: TaskData, folder: Path) -> None:
        model = AutoModelForQuestionAnswering.from_pretrained(options.model).eval()
        weights = compressible_weights(model)
        if spec != DENSE:
            parse_compressor(spec).apply_(weights)
        self.zeros = sum(int(w.eq(0).sum()) for w in weights.values()) / sum(w.numel() for w in weights.values())
        self.sets, self.names = data.evaluation, input_names(model)
        self.batches = list(DataLoader(self.sets.features, options.batch_size, collate_fn=data.collator))
        self.subject = Subject(spec, model, folder)
        self.counts = {"questions": self.sets.examples, "windows": len(self.sets.features)}

    def answered(self, engines: list[str]) -> Found:
        first = {key: self.batches[0][key] for key in self.names}
        return answered(suitable(self.subject, first, engines), self.batches, self.names)

    def scores(self, logits: np.ndarray) -> Row:
        labels = [torch.cat([b[f"{end}_positions"] for b in self.batches]).numpy() for end in ("start", "end")]
        found = self.sets.compute_metrics(EvalPrediction(predictions=tuple(logits), label_ids=tuple(labels)))
        return {"f1": found["f1"], "exact_match": found["exact_match"], "zeros": self.zeros, **self.counts}

    def speed(self, seconds: float, dense: float) -> Row:
        return {
            "seconds": round(seconds, 2),
            "ms_per_question": round(1000 * seconds / self.sets.examples, 3),
            "questions_per_second": round(self.sets.examples / seconds, 2),
            "speed_up": round(dense / seconds, 2),
            **self.counts,
        }


def score(pruned: Pruned, engines: list[str]) -> Iterator[tuple[str, Row]]:
    for engine in engines:
        for logits, _ in pruned.answered([engine]).values():  # none where the engine has nothing to do
            yield engine, pruned.scores(logits)


def clock(pruned: Pruned, engines: list[str]) -> Iterator[tuple[str, Row]]:
    taken = {name: seconds for name, (_, seconds) in pruned.answered(list(dict.fromkeys([BASE, *engines]))).items()}
    for engine in engines:
        if engine in taken:
            yield engine, pruned.speed(taken[engine], taken[BASE])


STEPS: dict[str, tuple[str, Any]] = {"score": ("scores", score), "time": ("speeds", clock)}


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--model", required=True, help="a folder with a trained model for question answering")
    parser.add_argument("--validation_file", required=True, help="SQuAD's official development set")
    parser.add_argument("--specs", nargs="+", default=SPECS, help="compressions (default: %(default)s)")
    engines = [name for name in ENGINES if name != "deepsparse"]  # would be compiled for every length, within the time
    parser.add_argument("--engines", nargs="+", choices=engines, help="default: all that are installed")
    parser.add_argument("--questions", type=int, help="a fixed sample (default: all for score, 500 for time)")
    parser.add_argument("--batch_size", type=int, default=1, help="windows of a call (default: %(default)s)")
    parser.add_argument("--max_length", type=int, default=256, help="tokens of a window (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    options.engines = chosen(parser, options.engines, engines)
    if options.step == "time" and options.questions is None:
        options.questions = 500
    return options


def begun(options: argparse.Namespace, part: str) -> dict[str, Any]:
    """The report so far. Ends with a message where the file holds other settings, threads or samples."""
    settings = {name: getattr(options, name) for name in SETTINGS}
    if not options.out.exists():
        return {"benchmark": "answers", "settings": settings, "scores": [], "speeds": []}
    report: dict[str, Any] = json.loads(options.out.read_text(encoding="utf-8"))
    if report["settings"] != settings:
        sys.exit(f"error: {options.out} was made with {report['settings']}; choose another --out.")
    for row in report[part]:
        asked, threads = row["asked"], row["run"]["machine"]["threads"]
        if asked != options.questions or (part == "speeds" and threads != options.threads):
            sys.exit(f"error: {options.out} has --questions {asked}, --threads {threads}; choose another --out.")
    return report


def main(argv: list[str]) -> None:
    options, engine = arguments(argv), kernel()
    torch.set_num_threads(options.threads)
    part, step = STEPS[options.step]
    report = begun(options, part)
    known = {(row["spec"], row["engine"]) for row in report[part]}
    run = {
        "command": command_line([sys.argv[0], *argv]),
        "instructions": engine.level if engine else "pytorch",
        "peers": peers(options.engines),
        **environment(threads=options.threads),
    }
    with tempfile.TemporaryDirectory() as folder:
        data = prepared(options, folder)
        for spec in options.specs:
            engines = [name for name in options.engines if fits(name, spec) and (spec, name) not in known]
            for name, row in step(Pruned(spec, options, data, Path(folder)), engines) if engines else []:
                report[part].append({"spec": spec, "engine": name, "asked": options.questions, **row, "run": run})
                write_json(options.out, report)
                numbers = {
                    key: value for key, value in row.items() if key in ("f1", "questions_per_second", "speed_up")
                }
                sys.stdout.write(f"{spec:12} {name:16} {numbers}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
