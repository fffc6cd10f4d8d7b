"""What is typed after `cram-hf sweep`."""

from __future__ import annotations

import argparse

from .model import add_weights
from .task import add_task

NAME = "sweep"


def add(parser: argparse.ArgumentParser) -> None:
    """Describes the command."""
    parser.description = (
        "Score trained models dense and after each of several one-shot compressions. Nothing is trained. Each row is "
        "written as soon as it is measured; the same command goes on where it was stopped. Ends in one table and one "
        "picture of all the models."
    )
    parser.epilog = (
        "example: cram-hf sweep runs/adamw runs/multi --task squad --validation_file dev.json "
        "--to topk:0.5 topk:0.7 nm:2:4 --out sweeps/squad"
    )
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="model folders, packed folders, or names on the Hub"
    )
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with a model")
    parser.add_argument("--to", nargs="+", required=True, metavar="SPEC", help="compressions, e.g. topk:0.7 nm:2:4")
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="gets a folder with results.json for each model"
    )
    parser.add_argument(
        "--label", nargs="+", metavar="LABEL", help="what each model is called; by default as its folder"
    )
    add_task(parser)
    add_weights(parser)
