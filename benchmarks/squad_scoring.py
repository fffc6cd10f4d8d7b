"""Time to post-process and score a whole SQuAD set, against the model's forward passes over it, in one process.

    python benchmarks/squad_scoring.py dev-v1.1.json models/minilm-l6 --out results/benchmarks/squad_scoring.json

The logits are random with a peak at the right answer. The forward passes are those of an evaluation with the default
flags, in fp32, batches of 32 windows; a number of batches spread over the set is timed and scaled up to all.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, EvalPrediction, TrainingArguments

from cram_hf.provenance import command_line, environment
from cram_hf.results import write_json
from cram_hf.tasks.squad import Squad

BATCH = 32


def cpu_seconds(call: Callable[[], Any], rounds: int) -> list[float]:
    """CPU seconds of all threads of the process, ascending."""
    found = []
    for _ in range(rounds):
        begin = time.process_time()
        call()
        found.append(time.process_time() - begin)
    return sorted(found)


def forward_seconds(features: Any, folder: str, tokenizer: Any, data: Any, batches: int) -> float:
    """CPU seconds of the forward passes over all features, from the median of `batches` batches."""
    model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    total = -(-len(features) // BATCH)
    names = tokenizer.model_input_names
    taken = [features[int(i) * BATCH : (int(i) + 1) * BATCH] for i in np.linspace(0, total - 2, batches)]
    padded = [tokenizer.pad({n: part[n] for n in names}, return_tensors="pt") for part in taken]
    with torch.inference_mode():
        seconds = [cpu_seconds(lambda batch=batch: model(**batch), 1)[0] for batch in padded]
    return total * float(np.median(seconds))


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="SQuAD's file")
    parser.add_argument("model", help="a folder or a name on the Hub")
    parser.add_argument("--rounds", type=int, default=5, help="of scoring")
    parser.add_argument("--batches", type=int, default=12, help="of forward passes")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    args = TrainingArguments(output_dir="unused", do_eval=True, report_to=[], use_cpu=True)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    data = Squad().prepare(Squad.Arguments(validation_file=options.data), tokenizer, args)
    found = data.evaluation
    assert found is not None
    labels = tuple(np.array(found.features[name]) for name in ("start_positions", "end_positions"))
    shape = (2, len(found.features), max(found.features["length"]))
    logits = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for side, positions in enumerate(labels):
        logits[side, np.arange(shape[1]), positions] += 6
    scoring = cpu_seconds(
        lambda: found.compute_metrics(EvalPrediction((logits[0], logits[1]), labels)), options.rounds
    )
    forward = forward_seconds(found.features, options.model, tokenizer, data, options.batches)
    report = {
        "benchmark": "squad_scoring",
        "command": command_line([sys.argv[0], *argv]),
        "questions": found.examples,
        "features": shape[1],
        "scoring_cpu_seconds": round(float(np.median(scoring)), 2),
        "forward_cpu_seconds": round(forward, 1),
        "share": round(float(np.median(scoring)) / (float(np.median(scoring)) + forward), 4),
        **environment(threads=torch.get_num_threads(), gpu=None),
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    if options.out:
        write_json(options.out, report)


if __name__ == "__main__":
    main(sys.argv[1:])
