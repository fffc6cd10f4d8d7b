"""F1 and questions per second of a trained model on SQuAD, dense and pruned, in every engine on a CPU.

    python benchmarks/answers.py --model runs/squad --validation_file dev-v1.1.json --out answers.json

For one compression, the engines take turns on each batch of windows, in an order that moves on by one each batch, so
that the machine's noise meets all of them; PyTorch in fp32 is always among them. Windows are sorted by length, so
that a batch has hardly any padding. What a compression gave is written as soon as it is known; a repeated command
measures only what is not there. ONNX Runtime and OpenVINO need their extras:
pip install "cram-hf[onnx,openvino]".
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cpu_engines import ENGINES, peers
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

DENSE = "dense"
SPECS = [DENSE, "topk:0.7", "topk:0.8", "topk:0.9"]
SETTINGS = ("model", "validation_file", "questions", "batch_size", "threads", "max_length")


def prepared(options: argparse.Namespace, folder: str) -> TaskData:
    questions = read_squad(options.validation_file)
    if options.questions:
        questions = fixed_sample(questions, options.questions)
    questions.to_parquet(file := f"{folder}/questions.parquet")
    flags = SquadArguments(validation_file=file, max_seq_length=options.max_length, doc_stride=96)
    arguments = TrainingArguments(output_dir=folder, report_to="none", use_cpu=True, do_eval=True)
    return Squad().prepare(flags, AutoTokenizer.from_pretrained(options.model), arguments)


def answered(runs: dict[str, Run], batches: list[dict[str, torch.Tensor]], names: list[str]) -> dict[str, Any]:
    """Engine -> its logits, padded with the least float, and the seconds that it took for all batches."""
    length = max(batch["input_ids"].shape[1] for batch in batches)
    rows = sum(len(batch["input_ids"]) for batch in batches)
    logits = {name: np.full((2, rows, length), np.finfo(np.float32).min, np.float32) for name in runs}
    taken, order, first = dict.fromkeys(runs, 0.0), list(runs), 0
    for run in runs.values():
        run({name: batches[0][name] for name in names})  # to warm up
    for number, batch in enumerate(tqdm(batches)):
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


def rows_at(
    spec: str, engines: list[str], options: argparse.Namespace, data: TaskData, folder: Path
) -> list[dict[str, Any]]:
    model = AutoModelForQuestionAnswering.from_pretrained(options.model).eval()
    weights = compressible_weights(model)
    if spec != DENSE:
        parse_compressor(spec).apply_(weights)
    zeros = sum(int(w.eq(0).sum()) for w in weights.values()) / sum(w.numel() for w in weights.values())
    sets, names = data.evaluation, input_names(model)
    batches = list(DataLoader(sets.features, options.batch_size, collate_fn=data.collator))
    subject = Subject(spec, model, folder)
    runs = {name: ENGINES[name](subject, {key: batches[0][key] for key in names}) for name in engines}
    labels = tuple(torch.cat([batch[f"{end}_positions"] for batch in batches]).numpy() for end in ("start", "end"))
    rows = []
    for name, (logits, taken) in answered(runs, batches, names).items():
        found = sets.compute_metrics(EvalPrediction(predictions=tuple(logits), label_ids=labels))
        rows.append(
            {
                "spec": spec,
                "engine": name,
                "f1": found["f1"],
                "exact_match": found["exact_match"],
                "zeros": zeros,
                "questions": sets.examples,
                "windows": len(sets.features),
                "seconds": round(taken, 2),
                "ms_per_question": round(1000 * taken / sets.examples, 3),
                "questions_per_second": round(sets.examples / taken, 2),
            }
        )
    dense = next(row["seconds"] for row in rows if row["engine"] == "dense-fp32")
    return [row | {"speed_up": round(dense / row["seconds"], 2)} for row in rows]


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder with a trained model for question answering")
    parser.add_argument("--validation_file", required=True, help="SQuAD's official development set")
    parser.add_argument("--specs", nargs="+", default=SPECS, help="compressions (default: %(default)s)")
    engines = [
        name for name in ENGINES if name != "deepsparse"
    ]  # it would be compiled for every length, within the time
    parser.add_argument("--engines", nargs="+", choices=engines, default=engines)
    parser.add_argument("--questions", type=int, help="score a fixed sample of the questions instead of all")
    parser.add_argument("--batch_size", type=int, default=1, help="windows of a call (default: %(default)s)")
    parser.add_argument("--max_length", type=int, default=256, help="tokens of a window (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    options.engines = list(dict.fromkeys(["dense-fp32", *options.engines]))
    return options


def main(argv: list[str]) -> None:
    options, engine = arguments(argv), kernel()
    torch.set_num_threads(options.threads)
    settings = {name: getattr(options, name) for name in SETTINGS}
    report: dict[str, Any] = {"benchmark": "answers", "settings": settings, "rows": []}
    if options.out.exists():
        report = json.loads(options.out.read_text(encoding="utf-8"))
        if report["settings"] != settings:
            sys.exit(f"error: {options.out} was made with {report['settings']}; choose another --out.")
    known = {(row["spec"], row["engine"]) for row in report["rows"]}
    with tempfile.TemporaryDirectory() as folder:
        data = prepared(options, folder)
        for spec in options.specs:
            engines = [name for name in options.engines if fits(name, spec) and (spec, name) not in known]
            if not engines:
                continue
            run = {
                "command": command_line([sys.argv[0], *argv]),
                "instructions": engine.level if engine else "pytorch",
                "peers": peers(options.engines),
                **environment(threads=options.threads),
            }
            rows = rows_at(spec, ["dense-fp32", *engines], options, data, Path(folder))
            report["rows"] += [row | {"run": run} for row in rows if row["engine"] in engines]
            write_json(options.out, report)
    for row in report["rows"]:
        sys.stdout.write(
            f"{row['spec']:12} {row['engine']:16} F1 {row['f1']:.2f}, {row['questions_per_second']:.1f} questions a "
            f"second, {row['speed_up']:.2f} x dense fp32\n"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
