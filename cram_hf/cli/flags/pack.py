"""What is typed after `cram-hf pack`."""

from __future__ import annotations

import argparse

from .model import add_model, add_weights

NAME = "pack"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


def add(parser: argparse.ArgumentParser) -> None:
    """Describes the command."""
    parser.description = (
        "Write a folder with the configuration, the tokenizer and model.packed.safetensors, which holds a bit mask "
        "and the values that are not zero for each sparse matrix. cram-hf unpack makes an ordinary checkpoint of it "
        "again."
    )
    parser.epilog = "example: cram-hf pack runs/squad/topk_0.8 --dtype fp16 --out squad-packed"
    add_model(parser)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="new or empty folder")
    parser.add_argument(
        "--dtype",
        choices=PRECISIONS,
        default="fp32",
        help="widest type of the stored values; int8 rounds the compressible weights, and the rest to fp16 "
        "(default: %(default)s, which keeps every bit of an fp32 model)",
    )
    add_weights(parser)
