"""CPU seconds to pack the layers of a pruned BERT-base for cram_hf.runtime, and what they weigh, against dense fp32.

    python benchmarks/runtime_packing.py --out results/benchmarks/runtime_packing.json

About ten seconds of one core. Weights are random, as are their zeros: the time depends on the shapes and the sparsity.
In each round all precisions take turns, and with them a copy of the dense weights, the least that any packing reads.
Times are CPU seconds of the process, so that a busy neighbour costs less; medians and least of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cram_hf.provenance import command_line, environment
from cram_hf.results import write_json
from cram_hf.runtime.layout import DTYPES, Precision, pack

SHAPES = [(768, 768)] * 4 + [(3072, 768), (768, 3072)]  # of one encoder layer


def packer(weights: list[torch.Tensor], precision: Precision) -> Callable[[], int]:
    """Its calls pack all weights, one after the other, and return their bytes."""
    return lambda: sum(pack(weight, precision).nbytes for weight in weights)


def copier(weights: list[torch.Tensor]) -> Callable[[], int]:
    return lambda: sum(weight.clone().nbytes for weight in weights)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sparsity", type=float, default=0.8, help="share of zeros (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=12, help="encoder layers (default: 12, BERT-base)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    if options.out and options.out.exists():
        parser.error(f"--out {options.out} exists and results are never overwritten: type another name")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shapes = SHAPES * options.layers
    weights = [torch.randn(shape) * (torch.rand(shape) >= options.sparsity) for shape in shapes]
    runs = {"copy of dense": copier(weights)} | {name: packer(weights, name) for name in DTYPES}
    times: dict[str, list[float]] = {name: [] for name in runs}
    nbytes = {name: run() for name, run in runs.items()}  # a round to warm up
    for _ in range(options.rounds):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            times[name].append(time.process_time() - begin)
    rows: list[dict[str, Any]] = [
        {
            "precision": name,
            "median_cpu_seconds": round(statistics.median(found), 3),
            "least_cpu_seconds": round(min(found), 3),
            "bytes_of_dense": round(nbytes[name] / nbytes["copy of dense"], 3),
        }
        for name, found in times.items()
    ]
    report = {
        "benchmark": "runtime_packing",
        "command": command_line([sys.argv[0], *argv]),
        "sparsity": options.sparsity,
        "layers": options.layers,
        "rounds": options.rounds,
        "rows": rows,
        **environment(threads=1),
    }
    for row in rows:
        sys.stdout.write(
            f"{row['precision']:14} {row['median_cpu_seconds']:6.3f} s of CPU (least {row['least_cpu_seconds']:.3f}), "
            f"{row['bytes_of_dense']:.3f} of dense fp32's bytes\n"
        )
    if options.out:
        write_json(options.out, report)


if __name__ == "__main__":
    main(sys.argv[1:])
