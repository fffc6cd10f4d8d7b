"""What is typed after `cram-hf report`."""

from __future__ import annotations

import argparse

NAME = "report"
SPEC = "topk:0.8"


def add(parser: argparse.ArgumentParser) -> None:
    """Describes the command."""
    parser.description = (
        "Make one HTML page on a run or several: score against sparsity, losses in training, zeros by layer, all "
        "scores, sizes and times. The page is one file that loads nothing, to open, print or send."
    )
    parser.epilog = "example: cram-hf report runs/adamw runs/multi --spec topk:0.8 --out report.html"
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or its results.json")
    parser.add_argument("--out", default="report.html", metavar="FILE", help="the page (default: %(default)s)")
    parser.add_argument(
        "--label", nargs="+", metavar="LABEL", help="what each run is called; by default as in its file"
    )
    parser.add_argument(
        "--spec", default=SPEC, help="compression of the map of layers, for runs with a model (default: %(default)s)"
    )
    parser.add_argument(
        "--log", nargs="+", metavar="FILE", help="training log of each run, if not trainer_state.json in its folder"
    )
    parser.add_argument("--size", nargs="+", default=[], metavar="FILE", help="what cram-hf size --json printed")
    parser.add_argument("--bench", nargs="+", default=[], metavar="FILE", help="what cram-hf bench --out wrote")
