"""Which one-shot method, and which repair, keeps most of a trained SQuAD model: one row a method and sparsity.

    python benchmarks/oneshot.py run --model runs/minilm_adamw --label AdamW --train_file train-v1.1.json \
        --validation_file dev-v1.1.json --out results/oneshot/minilm_adamw.json
    python benchmarks/oneshot.py table results/oneshot/*.json

Each row is written as it is done; the same command goes on where it was stopped. Texts to calibrate on are drawn
from the training file, without answers; only rows that end in `+tune` see labels. `--questions 500` scores a fixed
sample of the questions, the default all of them.

A method is a word, or several joined by `+`, done from left to right:
    magnitude, magnitude:layer, :erk, :lamp    mask by magnitude, in that scope
    wanda, sparsegpt, wanda:global, ...        mask by data; the scope says how many weights a layer loses
    surgeon                                    SparseGPT's update for the magnitude mask (global), which is kept
    refit        least squares for the mask of the word before
    permute      channels reordered first (2:4 only; the first word)
    repair       mean and variance of each linear layer's output channels; repair-norms: of layer normalisation too
    tune         biases and layer normalisation trained with labels (--tune_steps)
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, Trainer, TrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

from cram_hf import compressible_weights, parse_compressor
from cram_hf.oneshot import (
    batches,
    output_moments,
    permute_channels_,
    prune_with_data_,
    read_calibration,
    repair_,
    sample,
    tune_,
)
from cram_hf.oneshot.patterns import masks_of
from cram_hf.provenance import command_line, environment
from cram_hf.results import write_json
from cram_hf.sparsity import measure
from cram_hf.table import aligned
from cram_hf.tasks.base import TaskData
from cram_hf.tasks.squad import Squad, fixed_sample
from cram_hf.tasks.squad_arguments import SquadArguments
from cram_hf.tasks.squad_files import read_squad

LEVELS = ("0.5", "0.7", "0.8", "0.9", "2:4")
MASKS = (
    "magnitude",
    "magnitude:layer",
    "magnitude:erk",
    "magnitude:lamp",
    "wanda:layer",
    "wanda:global",
    "sparsegpt:layer",
    "sparsegpt:global",
    "surgeon",
    "magnitude+refit",
    "sparsegpt:layer+refit",
    "sparsegpt:global+refit",
    "permute+magnitude",
    "permute+sparsegpt",
)
METHODS = (*(word + mend for mend in ("", "+repair") for word in MASKS), "magnitude+refit+repair-norms")
SETTINGS = ("model", "questions", "samples", "max_length", "seed", "tune_steps", "learning_rate")


def spec_of(mask: str, level: str) -> str:
    """`topk:0.8:erk` for `magnitude:erk` and 0.8; `nm:2:4` whatever the scope."""
    if level == "2:4":
        return "nm:2:4"
    scope = mask.partition(":")[2]
    return f"topk:{level}" + (f":{scope}" if scope and scope != "global" else "")


def wanted(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Method and level of each row; with 2:4 there are no scopes, so each method comes once."""
    seen = set()
    for method in options.methods:
        for level in options.levels:
            if method.startswith("permute") and level != "2:4":
                continue
            words = [word.partition(":")[0] if level == "2:4" else word for word in method.split("+")]
            key = ("+".join(words), level)
            if key not in seen:
                seen.add(key)
                yield key


class Bench:
    """A trained model with what prunes and scores it."""

    def __init__(self, options: argparse.Namespace, folder: str) -> None:
        self.options = options
        self.model = AutoModelForQuestionAnswering.from_pretrained(options.model, attn_implementation="eager").eval()
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        self.dense = copy.deepcopy(self.model.state_dict())
        self.weights = compressible_weights(self.model)
        texts = sample(read_calibration(options.train_file), options.samples, options.seed)
        self.texts = batches(texts, tokenizer, max_length=options.max_length)
        questions = read_squad(options.validation_file)
        if options.questions:
            questions = fixed_sample(questions, options.questions)
        questions.to_parquet(file := f"{folder}/questions.parquet")
        self.arguments = TrainingArguments(
            output_dir=folder,
            report_to="none",
            use_cpu=not torch.cuda.is_available(),
            bf16=True,  # as in the training runs whose results these rows stand beside
            per_device_eval_batch_size=16,
            per_device_train_batch_size=16,
            disable_tqdm=True,
            do_train=any("tune" in method for method in options.methods),
            do_eval=True,
            max_steps=options.tune_steps,
            learning_rate=options.learning_rate,
            lr_scheduler_type="linear",
            seed=options.seed,
            save_strategy="no",
        )
        data_flags = SquadArguments(
            train_file=options.train_file, validation_file=file, max_seq_length=options.max_length, doc_stride=96
        )
        self.data: TaskData = Squad().prepare(data_flags, tokenizer, self.arguments)

    def moments(self, norms: bool) -> Any:
        return output_moments(self.model, self.weights, self.texts, norms=norms)

    def row(self, method: str, level: str) -> dict[str, Any]:
        """Prunes the dense model by `method`, scores it and returns the row."""
        set_seed(self.options.seed)
        self.model.load_state_dict(self.dense)
        began, errors = time.perf_counter(), {}
        words = method.split("+")
        if words[0] == "permute":
            permute_channels_(self.model, self.weights, parse_compressor("nm:2:4"))
            words = words[1:]
        dense = self.moments("repair-norms" in words) if {"repair", "repair-norms"} & set(words) else {}
        spec = "dense" if level == "dense" else spec_of(words[0], level)
        if spec != "dense":
            errors = self.prune(words[0].partition(":")[0], spec, "refit" in words)
        if dense:
            repair_(self.model, self.weights, self.texts, dense)
        if "tune" in words:
            data = {"train_dataset": self.data.train, "data_collator": self.data.collator}
            tune_(self.model, self.weights, args=self.arguments, **data)
        pruned = time.perf_counter()
        scores = self.score()
        found = measure(self.model, self.weights)
        return {
            "method": method,
            "level": level,
            "spec": spec,
            "metrics": scores,
            "sparsity": found.compressible,
            "model_sparsity": found.model,
            "layer_error": sum(errors.values()) / len(errors) if errors else None,
            "prune_seconds": round(pruned - began, 1),
            "score_seconds": round(time.perf_counter() - pruned, 1),
        }

    def prune(self, method: str, spec: str, refit: bool) -> dict[str, float]:
        compressor = parse_compressor(spec)
        if method == "magnitude" and not refit:
            compressor.apply_(self.weights)
            return {}
        masks: dict[str, Tensor] | None = None
        if method == "surgeon":
            method, masks = "sparsegpt", masks_of(compressor, self.weights)
        return prune_with_data_(
            self.model, self.weights, compressor, self.texts, method=method, refit=refit, masks=masks
        )

    def score(self) -> dict[str, float]:
        sets = self.data.evaluation
        trainer = Trainer(
            model=self.model,
            args=self.arguments,
            data_collator=self.data.collator,
            compute_metrics=sets.compute_metrics,
        )
        metrics = trainer.predict(sets.features, metric_key_prefix="final").metrics
        # Or the next row would be calibrated in bf16: accelerate leaves autocast wrapped around the model.
        trainer.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        return {name: metrics[f"final_{name}"] for name in ("f1", "exact_match")}


def run(options: argparse.Namespace, argv: list[str]) -> None:
    transformers_logging.set_verbosity_error()
    settings = {name: getattr(options, name) for name in SETTINGS}
    document: dict[str, Any] = {"benchmark": "oneshot", "label": options.label, "settings": settings, "rows": []}
    if options.out.exists():
        document = json.loads(options.out.read_text(encoding="utf-8"))
        if document["settings"] != settings:
            sys.exit(f"error: {options.out} was made with {document['settings']}; choose another --out.")
    done = {(row["method"], row["level"]) for row in document["rows"]}
    rows = [("dense", "dense"), *wanted(options)]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, folder)
        for number, (method, level) in enumerate(rows, 1):
            if (method, level) in done:
                continue
            row = bench.row(method, level)
            gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
            row["run"] = {
                "command": command_line([sys.argv[0], *argv]),
                **environment(threads=torch.get_num_threads(), gpu=gpu),
            }
            document["rows"].append(row)
            write_json(options.out, document)
            sys.stderr.write(f"{number}/{len(rows)} {method} {level}: F1 {row['metrics']['f1']:.2f}\n")


def table(options: argparse.Namespace) -> None:
    for path in options.files:
        document = json.loads(path.read_text(encoding="utf-8"))
        cells: dict[str, dict[str, str]] = {}
        for row in document["rows"]:
            cells.setdefault(row["method"], {})[row["level"]] = f"{row['metrics']['f1']:.2f}"
        dense = cells.pop("dense", {}).get("dense", "-")
        lines = [[method, *(found.get(level, "-") for level in LEVELS)] for method, found in cells.items()]
        heads = [f"{float(level):.0%}" if level != "2:4" else level for level in LEVELS]
        sys.stdout.write(f"{document['label']}: F1, dense {dense}\n\n{aligned(['method', *heads], lines)}\n\n")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("run")
    make.add_argument("--model", required=True)
    make.add_argument("--label", required=True, help="how the model was trained, for the table")
    make.add_argument("--train_file", required=True)
    make.add_argument("--validation_file", required=True)
    make.add_argument("--out", type=Path, required=True)
    make.add_argument("--questions", type=int, default=0, help="score a fixed sample; 0: all")
    make.add_argument("--samples", type=int, default=256, help="texts to calibrate on")
    make.add_argument("--max_length", type=int, default=256)
    make.add_argument("--seed", type=int, default=42)
    make.add_argument("--tune_steps", type=int, default=100)
    make.add_argument("--learning_rate", type=float, default=1e-3, help="of tune")
    make.add_argument("--methods", nargs="+", default=METHODS)
    make.add_argument("--levels", nargs="+", default=LEVELS, choices=LEVELS)
    show = commands.add_parser("table")
    show.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args(argv)
    if options.command == "run":
        run(options, argv)
    else:
        table(options)


if __name__ == "__main__":
    main(sys.argv[1:])
