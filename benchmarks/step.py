"""Time and memory of a CrAM update against two plain forward-backward passes of Trainer, in one run.

    python benchmarks/step.py --model models/minilm-l6 --out results/benchmarks/step.json

The floor of a CrAM update is two forward-backward passes. Both sides take turns, so that the machine's noise meets
both, and in turns the one or the other goes first. Two figures: the median over the rounds of (CrAM update / two plain
passes of the same round), and the ratio of the fastest of each, since noise of a machine only ever adds. Memory is the
peak resident set (on a GPU: the peak of allocated memory) of fresh processes: a plain update of two passes, which
like CrAM+ holds the gradient of the first during the second, and a CrAM update. The allocator of glibc is told there
to give freed memory back at once, so that the peak counts live memory and not its fragments. Allowed are one copy of
the touched weights and one byte for each compressible weight.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForQuestionAnswering, Trainer, TrainingArguments
from transformers.utils import logging as transformers_logging

from cram_hf import CrAMArguments, CrAMTrainer
from cram_hf.provenance import command_line, environment
from cram_hf.results import write_json

COMPRESSORS = ["topk:0.7", "topk:0.7:layer", "nm:2:4"]
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "1"}


def make_trainer(options: argparse.Namespace, compressor: str | None, folder: str) -> Trainer:
    transformers_logging.set_verbosity_error()
    torch.manual_seed(0)
    model = AutoModelForQuestionAnswering.from_pretrained(options.model, attn_implementation=options.attention)
    common: dict[str, Any] = {
        "output_dir": folder,
        "report_to": "none",
        "bf16": options.bf16,
        "use_cpu": options.device == "cpu",
    }
    if compressor is None:
        return Trainer(model=model, args=TrainingArguments(**common))
    return CrAMTrainer(model=model, args=CrAMArguments(compressors=[compressor], **common))


def make_batch(options: argparse.Namespace) -> dict[str, torch.Tensor]:
    shape = (options.batch, options.length)
    ids = torch.randint(1000, 20000, shape, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(options.batch) % options.length
    return {
        "input_ids": ids,
        "attention_mask": torch.ones(shape, dtype=torch.long),
        "start_positions": positions,
        "end_positions": positions,
    }


class Update:
    """The forward and backward passes of one update, without the optimizer's step, which both sides share."""

    def __init__(self, trainer: Trainer, batch: dict[str, torch.Tensor]) -> None:
        self.trainer, self.batch = trainer, batch
        trainer.current_gradient_accumulation_steps = 1
        trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.0)
        trainer.model_wrapped = trainer.accelerator.prepare_model(trainer.model)
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                parameter.mul_(1)  # a checkpoint's pages are only resident once written, as any optimizer's step does

    def __call__(self) -> None:
        window, items = self.trainer.get_batch_samples(iter([self.batch]), 1, self.trainer.args.device)
        self.trainer.training_step(self.trainer.model_wrapped, window[0], items)
        if self.trainer.args.device.type == "cuda":
            torch.cuda.synchronize()

    def clear(self) -> None:
        self.trainer.model.zero_grad()


def timed(call: Any) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure_time(options: argparse.Namespace, folder: str) -> list[dict[str, Any]]:
    batch = make_batch(options)
    plain = Update(make_trainer(options, None, folder), batch)
    found = []
    for compressor in COMPRESSORS:
        cram = Update(make_trainer(options, compressor, folder), batch)
        ours, floors = [], []
        for measured in range(-2, options.rounds):  # two rounds to warm up
            for turn in ("plain", "cram") if measured % 2 else ("cram", "plain"):
                if turn == "plain":
                    plain.clear()
                    floor = timed(lambda: (plain(), plain()))
                else:
                    cram.clear()
                    update = timed(cram)
            if measured >= 0:
                floors.append(floor)
                ours.append(update)
        wall = [a[0] / b[0] - 1 for a, b in zip(ours, floors, strict=True)]
        found.append(
            {
                "compressor": compressor,
                "two_plain_passes_seconds": round(statistics.median(f[0] for f in floors), 4),
                "update_seconds": round(statistics.median(u[0] for u in ours), 4),
                "extra_wall": round(statistics.median(wall), 4),
                "extra_wall_quartiles": [round(q, 4) for q in statistics.quantiles(wall, n=4)],
                "extra_wall_of_fastest": round(min(u[0] for u in ours) / min(f[0] for f in floors) - 1, 4),
                "extra_cpu": round(sum(u[1] for u in ours) / sum(f[1] for f in floors) - 1, 4),
            }
        )
        sys.stdout.write(json.dumps(found[-1]) + "\n")
    return found


def peak_bytes(options: argparse.Namespace) -> int:
    """Runs in a process of its own: three updates, then the peak."""
    with tempfile.TemporaryDirectory() as folder:
        update = Update(
            make_trainer(options, options.worker if options.worker != "plain" else None, folder), make_batch(options)
        )
        for _ in range(3):
            update()
            if options.worker == "plain":
                update()
            update.clear()
    if options.device != "cpu":
        return torch.cuda.max_memory_allocated()
    # Linux; getrusage's ru_maxrss would count the parent process, from before exec, too
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024


def measure_memory(options: argparse.Namespace, argv: list[str], folder: str) -> list[dict[str, Any]]:
    trainer = make_trainer(options, COMPRESSORS[0], folder)
    assert isinstance(trainer, CrAMTrainer)
    touched = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    compressible = sum(w.numel() for w in trainer.compressible.values())

    def worker(name: str) -> int:
        command = [sys.executable, __file__, *argv, "--worker", name]
        run = partial(subprocess.run, command, capture_output=True, text=True, check=True, env=os.environ | GIVE_BACK)
        return min(int(run().stdout) for _ in range(3))

    plain = worker("plain")
    return [
        {
            "compressor": name,
            "extra_bytes": worker(name) - plain,
            "allowed_bytes": touched + compressible,
            "plain_peak_bytes": plain,
        }
        for name in COMPRESSORS
    ]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/minilm-l6")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=128, help="tokens of a sequence")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--bf16", action="store_true", help="autocast to bf16; fp32 otherwise")
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--parts", nargs="+", choices=["time", "memory"], default=["time", "memory"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        sys.stdout.write(str(peak_bytes(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        report = {
            "benchmark": "step",
            "command": command_line([sys.argv[0], *argv]),
            "batch": options.batch,
            "length": options.length,
            "precision": "bf16 autocast" if options.bf16 else "fp32",
            "time": measure_time(options, folder) if "time" in options.parts else [],
            "memory": measure_memory(options, argv, folder) if "memory" in options.parts else [],
            **environment(
                threads=torch.get_num_threads(), gpu=torch.cuda.get_device_name() if options.device != "cpu" else None
            ),
        }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    if options.out:
        write_json(options.out, report)


if __name__ == "__main__":
    main(sys.argv[1:])
