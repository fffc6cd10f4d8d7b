"""What is typed after `cram-hf size`."""

from __future__ import annotations

import argparse

from .model import add_model, add_weights

NAME = "size"


def add(parser: argparse.ArgumentParser) -> None:
    """Describes the command."""
    parser.description = (
        "Bytes of a model on disk, as it is and after each compression: dense safetensors, an archive of them, and "
        "the packed form of cram-hf pack. Nothing is written."
    )
    parser.epilog = "example: cram-hf size runs/squad --spec topk:0.8 nm:2:4"
    add_model(parser)
    parser.add_argument("--spec", nargs="+", default=[], metavar="SPEC", help="compressions, e.g. topk:0.8 nm:2:4")
    parser.add_argument("--no_archive", action="store_true", help="leave out the archives, which take longest")
    add_weights(parser)
