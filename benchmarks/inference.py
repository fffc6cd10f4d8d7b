"""Seconds of a pruned BERT on a CPU: PyTorch, ONNX Runtime and OpenVINO, dense and CSR, and cram_hf.runtime.

    python benchmarks/inference.py --out results/benchmarks/inference.json

The models have random weights, pruned by size in each matrix: times depend on shapes and zeros, not on what was
learned. For one place of the grid the engines take turns, a call each, in an order that moves on by one each round,
so that the machine's noise meets all of them. A speed-up is the median over the rounds of dense fp32's time by the
engine's in the same round, and beside it the ratio of the minima. Each engine's logits are compared with dense fp32's
first. Where our runtime leaves every layer dense there is no row of it: it is dense fp32 there. ONNX Runtime and
OpenVINO need their extras: pip install "cram-hf[onnx,openvino]". DeepSparse takes part where it is installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from cpu_engines import ENGINES, chosen, peers, suitable
from transformers import BertConfig, BertForQuestionAnswering

from cram_hf import compressible_weights, parse_compressor
from cram_hf.bench.engines import Run, Subject
from cram_hf.bench.inputs import Inputs, example
from cram_hf.provenance import command_line, environment
from cram_hf.results import write_json
from cram_hf.runtime import kernel

SHAPES = {
    "bert-base": BertConfig(),
    "minilm-l6": BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536),
}
SPECS = ["topk:0:layer", "topk:0.5:layer", "topk:0.7:layer", "topk:0.8:layer", "topk:0.9:layer", "topk:0.95:layer"]


def seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def measured(runs: dict[str, Run], inputs: Inputs, rounds: int) -> dict[str, list[float]]:
    """Engine -> seconds of its call in each round, after a round to warm up; the comparison of logits was one too."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    for number in range(-1, rounds):
        first = number % len(order)
        for name in order[first:] + order[:first]:
            taken = seconds(lambda name=name: runs[name](inputs))
            if number >= 0:
                times[name].append(taken)
    return times


def rows_of(runs: dict[str, Run], inputs: Inputs, place: dict[str, Any], rounds: int) -> list[dict[str, Any]]:
    expected = torch.cat(runs["dense-fp32"](inputs)).double()
    off = {n: float((torch.cat(r(inputs)).double() - expected).norm() / expected.norm()) for n, r in runs.items()}
    times = measured(runs, inputs, rounds)
    dense = times["dense-fp32"]
    return [
        {
            **place,
            "engine": name,
            "median_ms": round(1000 * statistics.median(own), 3),
            "least_ms": round(1000 * min(own), 3),
            "speed_up": round(statistics.median(a / b for a, b in zip(dense, own, strict=True)), 2),
            "speed_up_of_least": round(min(dense) / min(own), 2),
            "relative_error": off[name],
        }
        for name, own in times.items()
    ]


def pruned(shape: str, spec: str, folder: Path) -> Subject:
    torch.manual_seed(0)
    model = BertForQuestionAnswering(SHAPES[shape]).eval()
    parse_compressor(spec).apply_(compressible_weights(model))
    return Subject(spec, model, folder)


def runs_of(subject: Subject, inputs: Inputs, engines: list[str]) -> dict[str, Run]:
    weight = compressible_weights(subject.model)["bert.encoder.layer.0.output.dense.weight"]
    has_zeros = float(weight.eq(0).float().mean()) > 0.1
    return suitable(subject, inputs, [name for name in engines if has_zeros or name != "csr"])


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--specs", nargs="+", default=[*SPECS, "nm:2:4"], help="compressions (default: %(default)s)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, help="default: all that are installed")
    parser.add_argument("--seq_lengths", nargs="+", type=int, default=[16, 128, 384])
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    if options.out and options.out.exists():
        parser.error(f"--out {options.out} exists and results are never overwritten: type another name")
    options.engines = list(dict.fromkeys(["dense-fp32", *chosen(parser, options.engines, ENGINES)]))
    return options


def rows_at(shape: str, spec: str, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    subject, rows = pruned(shape, spec, folder), []
    for threads in options.threads:
        torch.set_num_threads(threads)  # before the engines are made: some keep the number
        runs = runs_of(subject, example(subject.model, 1, 16, seed=0), options.engines)
        for batch, length in product(options.batch_sizes, options.seq_lengths):
            place = {"shape": shape, "spec": spec, "threads": threads, "batch_size": batch, "seq_length": length}
            rows += rows_of(runs, example(subject.model, batch, length, seed=0), place, options.rounds)
            sys.stderr.write("".join(f"{json.dumps(row)}\n" for row in rows[-len(runs) :]))
    return rows


def main(argv: list[str]) -> None:
    options, engine = arguments(argv), kernel()
    report: dict[str, Any] = {
        "benchmark": "inference",
        "command": command_line([sys.argv[0], *argv]),
        "instructions": engine.level if engine else "pytorch",
        "rounds": options.rounds,
        "peers": peers(options.engines),
        "rows": [],
        **environment(threads=max(options.threads)),
    }
    for shape, spec in product(options.shapes, options.specs):
        with tempfile.TemporaryDirectory() as folder:
            report["rows"] += rows_at(shape, spec, options, Path(folder))
        if options.out:
            write_json(options.out, report)
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
