"""Seconds to post-process and score a whole SQuAD set in one thread.

python benchmarks/squad_scoring.py dev-v1.1.json models/minilm-l6
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from transformers import AutoTokenizer, EvalPrediction, TrainingArguments

from cram_hf.tasks.squad import Squad


def main(path: str, tokenizer: str) -> None:
    """Writes one JSON line: questions, features, and the median and least CPU seconds of five rounds."""
    args = TrainingArguments(output_dir="unused", do_eval=True, report_to=[], use_cpu=True)
    task_args = Squad.Arguments(validation_file=path)
    found = Squad().prepare(task_args, AutoTokenizer.from_pretrained(tokenizer), args).evaluation
    assert found is not None
    labels = tuple(np.array(found.features[name]) for name in ("start_positions", "end_positions"))
    shape = (2, len(found.features), max(found.features["length"]))
    logits = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for side, positions in enumerate(labels):
        logits[side, np.arange(shape[1]), positions] += 6
    seconds = []
    for _ in range(5):
        begin = time.process_time()
        scores = found.compute_metrics(EvalPrediction((logits[0], logits[1]), labels))
        seconds.append(round(time.process_time() - begin, 2))
    report = {"questions": found.examples, "features": shape[1], "f1": round(scores["f1"], 2)}
    sys.stdout.write(json.dumps({**report, "median_s": sorted(seconds)[2], "least_s": min(seconds)}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
