"""What is typed after `cram-hf choose`."""

from __future__ import annotations

import argparse

from .model import add_model, add_weights
from .task import add_task

NAME = "choose"
SCOPES = ("global", "layer", "erk", "lamp")
ALLOCATED = "allocated"


def add(parser: argparse.ArgumentParser) -> None:
    """Describes the command."""
    parser.description = (
        "Find the highest sparsity of one-shot magnitude pruning whose score stays within a budget of the dense "
        "model's: by bisection on a fixed sample, in steps of 0.01, confirmed on the whole evaluation set. Exits with "
        "1 if nothing is within the budget."
    )
    parser.epilog = "example: cram-hf choose runs/multi --task squad --validation_file dev.json --max-drop 1.0"
    add_model(parser)
    parser.add_argument(
        "--max-drop",
        "--max_drop",
        type=float,
        required=True,
        metavar="DROP",
        help="how much worse than dense, in the metric's own units: 1.0 for points of F1, 0.01 for a share; of a "
        "perplexity or a loss how much higher",
    )
    parser.add_argument("--metric", metavar="NAME", help="e.g. f1; by default the task's main metric")
    sample = "examples of the sample (default: %(default)s)"
    parser.add_argument("--subset", type=int, default=1000, metavar="N", help=sample)
    parser.add_argument(
        "--patterns",
        nargs="+",
        default=["global", "layer", "nm:2:4"],
        metavar="PATTERN",
        help=f"{', '.join(SCOPES)}, nm:N:M (yes or no), or {ALLOCATED}: a budget spread by what each layer costs when "
        "it is pruned alone (default: global layer nm:2:4)",
    )
    parser.add_argument(
        "--calibration",
        type=int,
        default=100,
        metavar="N",
        help=f"with {ALLOCATED}: examples that layers are measured on, of --train_file if that is given, else of the "
        "evaluation set (default: %(default)s)",
    )
    parser.add_argument("--out", metavar="FOLDER", help="keeps every score, so that the same command goes on from it")
    add_task(parser)
    add_weights(parser)
