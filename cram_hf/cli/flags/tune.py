"""What is typed after `cram-hf tune`."""

from __future__ import annotations

import argparse

from .model import add_model, add_weights
from .task import add_data

NAME = "tune"


def add(parser: argparse.ArgumentParser) -> None:
    """Describes the command."""
    parser.description = (
        "Train the biases and the layer normalisation of a pruned model for a few steps, with labels, and write it as "
        "a folder for from_pretrained. The weights are frozen, so every zero stays where it is. Labels are used, so "
        "what it scores is no one-shot score."
    )
    parser.epilog = "example: cram-hf tune squad-80 --task squad --train_file train.json --out squad-80-tuned"
    add_model(parser)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="new or empty folder")
    parser.add_argument("--max_steps", type=int, default=100, metavar="N", help="updates (default: %(default)s)")
    parser.add_argument(
        "--learning_rate",
        type=float,
        default=1e-3,
        metavar="RATE",
        help="falls to 0 by the end (default: %(default)s)",
    )
    parser.add_argument(
        "--per_device_train_batch_size", type=int, default=16, metavar="N", help="rows at once (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=42, help="of the rows that are drawn (default: %(default)s)")
    add_data(parser)
    add_weights(parser)
