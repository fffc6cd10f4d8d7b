"""Seconds of a pruned BERT on a CPU: dense fp32 and bf16, PyTorch's CSR, and cram_hf.runtime in its three types.

    python benchmarks/inference.py --out results/benchmarks/inference.json

The models have random weights, pruned by size in each matrix: times depend on shapes and zeros, not on what was
learned. For one place of the grid the engines take turns, a call each, in an order that moves on by one each round,
so that the machine's noise meets all of them. A speed-up is the median over the rounds of dense fp32's time by the
engine's in the same round, and beside it the ratio of the minima. Each engine's output is compared with dense fp32's
first.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from cram_hf import compressible_weights, parse_compressor
from cram_hf.bench.sparse_layers import with_csr_
from cram_hf.provenance import command_line, environment
from cram_hf.results import write_json
from cram_hf.runtime import accelerate, kernel

SHAPES = {
    "bert-base": BertConfig(),
    "minilm-l6": BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536),
}
SPECS = ["topk:0:layer", "topk:0.5:layer", "topk:0.7:layer", "topk:0.8:layer", "topk:0.9:layer", "topk:0.95:layer"]


def dense_fp32(model: nn.Module) -> nn.Module:
    return model


def dense_bf16(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).bfloat16()


def csr(model: nn.Module) -> nn.Module:
    return with_csr_(copy.deepcopy(model))


def ours_fp32(model: nn.Module) -> nn.Module:
    accelerate(model := copy.deepcopy(model), "fp32", keep_dense=False)
    return model


def ours_bf16(model: nn.Module) -> nn.Module:
    accelerate(model := copy.deepcopy(model), "bf16", keep_dense=False)
    return model


def ours_int8(model: nn.Module) -> nn.Module:
    accelerate(model := copy.deepcopy(model), "int8", keep_dense=False)
    return model


ENGINES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "dense-fp32": dense_fp32,
    "dense-bf16": dense_bf16,
    "csr": csr,
    "ours-fp32": ours_fp32,
    "ours-bf16": ours_bf16,
    "ours-int8": ours_int8,
}


def output(model: nn.Module, ids: Tensor) -> Tensor:
    return model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state


def seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def measured(models: dict[str, nn.Module], ids: Tensor, rounds: int) -> dict[str, list[float]]:
    """Engine -> seconds of its call in each round, after two calls to warm up."""
    times: dict[str, list[float]] = {name: [] for name in models}
    order = list(models)
    for number in range(-2, rounds):
        first = number % len(order)
        for name in order[first:] + order[:first]:
            taken = seconds(lambda name=name: output(models[name], ids))
            if number >= 0:
                times[name].append(taken)
    return times


def rows_of(models: dict[str, nn.Module], place: dict[str, Any], rounds: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 30000, (place["batch_size"], place["seq_length"]), generator=generator)
    expected = output(models["dense-fp32"], ids).double()
    off = {name: float((output(m, ids).double() - expected).norm() / expected.norm()) for name, m in models.items()}
    times = measured(models, ids, rounds)
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


def pruned(shape: str, spec: str) -> nn.Module:
    torch.manual_seed(0)
    model = BertModel(SHAPES[shape]).eval()
    parse_compressor(spec).apply_(compressible_weights(model))
    return model


def models_of(shape: str, spec: str, engines: list[str]) -> dict[str, nn.Module]:
    model = pruned(shape, spec)
    without_zeros = (
        float(compressible_weights(model)["encoder.layer.0.output.dense.weight"].eq(0).float().mean()) < 0.1
    )
    chosen = [name for name in ENGINES if name in engines and not (name == "csr" and without_zeros)]
    return {name: ENGINES[name](model) for name in chosen}


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--specs", nargs="+", default=[*SPECS, "nm:2:4"], help="compressions (default: %(default)s)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--seq_lengths", nargs="+", type=int, default=[16, 128, 384])
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    options.engines = list(dict.fromkeys(["dense-fp32", *options.engines]))
    return options


def main(argv: list[str]) -> None:
    options, rows = arguments(argv), []
    for shape in options.shapes:
        for spec in options.specs:
            models = models_of(shape, spec, options.engines)
            for threads in options.threads:
                torch.set_num_threads(threads)
                for batch in options.batch_sizes:
                    for length in options.seq_lengths:
                        place = {"shape": shape, "spec": spec, "threads": threads}
                        place |= {"batch_size": batch, "seq_length": length}
                        with torch.inference_mode():
                            rows += rows_of(models, place, options.rounds)
                        sys.stderr.write("".join(f"{json.dumps(row)}\n" for row in rows[-len(models) :]))
    engine = kernel()
    report = {
        "benchmark": "inference",
        "command": command_line([sys.argv[0], *argv]),
        "instructions": engine.level if engine else "pytorch",
        "rounds": options.rounds,
        "rows": rows,
        **environment(threads=max(options.threads)),
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    if options.out:
        write_json(options.out, report)


if __name__ == "__main__":
    main(sys.argv[1:])
