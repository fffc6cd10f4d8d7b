"""Size, time and memory of packed files of a pruned BERT-base against the dense safetensors file, in one run.

    python benchmarks/packing.py --out results/benchmarks/packing.json

The model is made from its configuration with random weights and pruned: sizes depend on the shapes and the sparsity,
not on what was learned. Both sides take turns, so that the machine's noise meets both; times are CPU seconds of the
process (user and system; files stay in the page cache), and the figures are medians over the rounds of the ratio to
the dense file of the same round. Memory is the peak resident set of fresh processes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForQuestionAnswering

from cram_hf import compressible_weights, parse_compressor
from cram_hf.packed import load_packed, save_packed
from cram_hf.provenance import command_line, environment
from cram_hf.results import write_json, write_whole

KINDS = ["fp32", "fp16", "bf16", "int8"]


def seconds(call: Callable[[], Any]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


def make_model(options: argparse.Namespace) -> dict[str, Any]:
    """Writes the dense file of a pruned model and returns its shape in words and numbers."""
    torch.manual_seed(0)
    config = BertConfig(num_hidden_layers=options.layers)
    model = BertForQuestionAnswering(config)
    weights = compressible_weights(model)
    parse_compressor(options.spec).apply_(weights)
    save_file(model.state_dict(), options.folder / "dense", metadata={"format": "pt"})
    write_whole(options.folder / "names", json.dumps(list(weights)).encode())
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "compressible_parameters": sum(w.numel() for w in weights.values()),
        "matrices": len(weights),
    }


def load_dense(path: Path) -> dict[str, torch.Tensor]:
    """The dense file in memory: what load_file returns is read from the disk only when it is used."""
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def pack(folder: Path, state: dict[str, torch.Tensor], kind: str) -> None:
    names = json.loads((folder / "names").read_text(encoding="utf-8"))
    save_packed(state, folder / kind, dtype=kind, compressible=names, overwrite=True)  # type: ignore[arg-type]


def measure_time(options: argparse.Namespace) -> list[dict[str, Any]]:
    folder = options.folder
    state = load_dense(folder / "dense")
    written: dict[str, list[float]] = {kind: [] for kind in ["dense", *KINDS]}
    read: dict[str, list[float]] = {kind: [] for kind in ["dense", *KINDS]}
    for measured in range(-1, options.rounds):  # one round to warm up
        for kind in written:
            if kind == "dense":
                times = (
                    seconds(lambda: save_file(state, folder / "again")),
                    seconds(lambda: load_dense(folder / "again")),
                )
            else:
                times = (
                    seconds(lambda kind=kind: pack(folder, state, kind)),
                    seconds(lambda kind=kind: load_packed(folder / kind)),
                )
            if measured >= 0:
                written[kind].append(times[0])
                read[kind].append(times[1])

    def ratio(times: dict[str, list[float]], kind: str) -> float:
        return round(statistics.median(a / b for a, b in zip(times[kind], times["dense"], strict=True)), 2)

    return [
        {
            "file": kind,
            "bytes": (folder / kind).stat().st_size,
            "write_cpu_seconds": round(statistics.median(written[kind]), 2),
            "write_of_dense": ratio(written, kind),
            "read_cpu_seconds": round(statistics.median(read[kind]), 2),
            "read_of_dense": ratio(read, kind),
        }
        for kind in written
    ]


def peak_bytes(options: argparse.Namespace) -> int:
    """Runs in a process of its own: one thing done, then the peak."""
    what, _, kind = options.worker.partition(" ")
    if what == "load":
        load_packed(options.folder / kind)
    else:
        state = load_file(options.folder / "dense")
        for tensor in state.values():
            tensor.count_nonzero()  # its pages are read now
        if kind:
            pack(options.folder, state, kind)
    # Linux; getrusage's ru_maxrss would count the parent process, from before exec, too
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024


def measure_memory(options: argparse.Namespace) -> dict[str, Any]:
    def worker(name: str) -> int:
        command = [sys.executable, __file__, "--folder", str(options.folder), "--worker", name]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    base = worker("save")
    found = {"dense state dict": base}
    found |= {f"write {kind}, beyond the dense state dict": worker(f"save {kind}") - base for kind in KINDS}
    return found | {f"read {kind}, beyond the dense state dict": worker(f"load {kind}") - base for kind in KINDS}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", default="topk:0.8", help="compression (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=12, help="encoder layers (default: 12, BERT-base)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        sys.stdout.write(str(peak_bytes(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        report = {
            "benchmark": "packing",
            "command": command_line([sys.argv[0], *argv]),
            "spec": options.spec,
            **make_model(options),
            "files": measure_time(options),
            "peak_bytes": measure_memory(options),
            **environment(threads=torch.get_num_threads()),
        }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    if options.out:
        write_json(options.out, report)


if __name__ == "__main__":
    main(sys.argv[1:])
