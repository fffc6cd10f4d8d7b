"""What is typed after `cram-hf bench`."""

from __future__ import annotations

import argparse

from .model import add_model, add_weights

NAME = "bench"
ENGINES = (
    *("eager", "compile", "onnxruntime", "openvino", "csr"),
    *("sparse", "sparse-bf16", "sparse-fp16", "sparse-int8", "semi-structured", "deepsparse"),
)


def add(parser: argparse.ArgumentParser) -> None:
    """Describes the command."""
    parser.description = (
        "Measure how fast a model runs, as it is and pruned, in the engines that are installed. Dense and pruned take "
        "turns, logits are compared with PyTorch's, and where sparsity brings nothing the result says so."
    )
    parser.epilog = "example: cram-hf bench runs/squad --to topk:0.9 nm:2:4 --batch_size 1 8 --out bench.json"
    add_model(parser)
    parser.add_argument("--to", nargs="+", default=[], metavar="SPEC", help="compressions, e.g. topk:0.9 nm:2:4")
    parser.add_argument(
        "--engine", nargs="+", metavar="ENGINE", help=f"{', '.join(ENGINES)} (default: those that are there)"
    )
    for name, default, text in (
        ("batch_size", [1, 8], "sequences a batch"),
        ("seq_length", [128], "tokens a sequence"),
        ("threads", [], "threads of the engine"),
    ):
        shown = " ".join(map(str, default)) or "PyTorch's own number"
        parser.add_argument(f"--{name}", nargs="+", type=int, default=default, help=f"{text} (default: {shown})")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=42, help="of the token ids (default: %(default)s)")
    parser.add_argument("--out", metavar="FILE", help="write the result as JSON, anew after each shape")
    add_weights(parser)
