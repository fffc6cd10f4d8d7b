"""What is typed after `cram-hf unpack`."""

from __future__ import annotations

import argparse

from .model import add_model

NAME = "unpack"


def add(parser: argparse.ArgumentParser) -> None:
    """Describes the command."""
    parser.description = "Turn the folder that cram-hf pack wrote into one that from_pretrained loads: dense weights."
    parser.epilog = "example: cram-hf unpack squad-packed --out squad"
    add_model(parser)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="new or empty folder")
