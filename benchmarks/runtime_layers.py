"""Seconds of single linear layers, dense against cram_hf.runtime, to see from which share of zeros on a layer gains.

    python benchmarks/runtime_layers.py --out layers.json

Under three minutes on an idle machine. Weights are random, so are their zeros. For one layer, share of zeros and
number of tokens the dense layer and the sparse ones take turns. At its end the script prints, for each layer, the
least share of zeros from which on no number of tokens (`RULE_TOKENS` or more) was slower than dense, neither by the
least times nor by the medians: the lines of `MEASURED` in cram_hf/runtime/break_even.py, under the instructions that
were used. Run it twice: what differs was noise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cram_hf.provenance import command_line, environment
from cram_hf.results import write_json
from cram_hf.runtime import SparseLinear, kernel
from cram_hf.runtime.layout import DTYPES

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SHAPES = ["768x768", "3072x768", "768x3072", "384x384", "1536x384", "384x1536"]
ZEROS = [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9, 0.95]
LEAST_SECONDS = 0.001  # of what is timed at once: short calls are repeated
RULE_TOKENS = 16  # a batch of one sentence has more; only a pooler sees fewer


def layer(shape: tuple[int, int], zeros: float, dtype: torch.dtype) -> nn.Linear:
    made = nn.Linear(shape[1], shape[0]).to(dtype)
    with torch.no_grad():
        made.weight *= torch.rand(shape) >= zeros
    return made


def seconds(module: nn.Module, x: Tensor, calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        module(x)
    return (time.perf_counter() - begin) / calls


def measured(modules: dict[str, nn.Module], x: Tensor, rounds: int) -> dict[str, list[float]]:
    """Name -> seconds of a call in each round, in turns, after a round to warm up."""
    for module in modules.values():
        seconds(module, x, 1)
    calls = {name: 1 + int(LEAST_SECONDS / seconds(module, x, 1)) for name, module in modules.items()}
    times: dict[str, list[float]] = {name: [] for name in modules}
    order = list(modules)
    for number in range(rounds):
        first = number % len(order)
        for name in order[first:] + order[:first]:
            times[name].append(seconds(modules[name], x, calls[name]))
    return times


def rows_of(place: dict[str, Any], tokens: list[int], precisions: list[str], rounds: int) -> list[dict[str, Any]]:
    shape, rows = tuple(place["shape"]), []
    dense = layer(shape, place["zeros"], TYPES[place["dense"]])  # type: ignore[arg-type]
    sparse = {name: SparseLinear.from_linear(dense, name) for name in precisions}  # type: ignore[arg-type]
    for count in tokens:
        x = torch.randn(count, shape[1], dtype=dense.weight.dtype)
        times = measured({"dense": dense, **sparse}, x, rounds)
        for name in precisions:
            rows.append(
                {
                    **place,
                    "tokens": count,
                    "precision": name,
                    "dense_ms": round(1000 * statistics.median(times["dense"]), 4),
                    "sparse_ms": round(1000 * statistics.median(times[name]), 4),
                    "least_dense_ms": round(1000 * min(times["dense"]), 4),
                    "least_sparse_ms": round(1000 * min(times[name]), 4),
                    "speed_up_of_least": round(min(times["dense"]) / min(times[name]), 3),
                }
            )
    return rows


def break_even(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each layer and precision the least measured share of zeros from which on nothing is slower than dense."""
    slower: dict[tuple[str, str, int], float] = {}
    grid = sorted({row["zeros"] for row in rows})
    for row in rows:
        key = (row["dense"], row["precision"], row["shape"][0] * row["shape"][1])
        was_slower = min(row["speed_up_of_least"], row["dense_ms"] / row["sparse_ms"]) < 1
        worst = row["zeros"] if was_slower and row["tokens"] >= RULE_TOKENS else -1.0
        slower[key] = max(slower.get(key, -1.0), worst)
    return [
        {
            "dense": dense,
            "precision": precision,
            "weights": weights,
            "zeros": min([*(z for z in grid if z > zeros), 1.0]),
        }
        for (dense, precision, weights), zeros in sorted(slower.items())
    ]


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=SHAPES, help="rows x columns (default: %(default)s)")
    parser.add_argument("--tokens", nargs="+", type=int, default=[1, 16, 128, 1024])
    parser.add_argument("--zeros", nargs="+", type=float, default=ZEROS)
    parser.add_argument("--dense", nargs="+", choices=TYPES, default=list(TYPES))
    engine = kernel()
    used = [name for name in DTYPES if name != "fp16" or (engine is not None and engine.fp16)]
    parser.add_argument("--precisions", nargs="+", choices=DTYPES, default=used)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    if options.out and options.out.exists():
        parser.error(f"--out {options.out} exists and results are never overwritten: type another name")
    return options


def main(argv: list[str]) -> None:
    options = arguments(argv)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = []
    for shape, dense, zeros in product(options.shapes, options.dense, options.zeros):
        place = {"shape": [int(size) for size in shape.split("x")], "dense": dense, "zeros": zeros}
        with torch.inference_mode():
            found = rows_of(place, options.tokens, options.precisions, options.rounds)
        sys.stderr.write("".join(f"{json.dumps(row)}\n" for row in found))
        rows += found
    engine, least = kernel(), break_even(rows)
    report = {
        "benchmark": "runtime_layers",
        "command": command_line([sys.argv[0], *argv]),
        "instructions": engine.level if engine else "pytorch",
        "rounds": options.rounds,
        "break_even": least,
        "rows": rows,
        **environment(threads=options.threads),
    }
    if options.out:
        write_json(options.out, report)
    sys.stdout.write(f'    "{report["instructions"]}": (\n')
    for row in least:
        dtype = str(TYPES[row["dense"]])
        sys.stdout.write(f'        Measured({dtype}, "{row["precision"]}", {row["weights"]}, {row["zeros"]}),\n')
    sys.stdout.write("    ),\n")


if __name__ == "__main__":
    main(sys.argv[1:])
