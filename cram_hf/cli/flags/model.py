"""The flags that say which model and which of its weights."""

from __future__ import annotations

import argparse


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the argument MODEL and `--trust_remote_code`."""
    parser.add_argument("model", metavar="MODEL", help="model folder, packed folder, or name on the Hub")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Adds `--compress_include` and `--compress_exclude`, the patterns of `compressible_weights`."""
    parser.add_argument(
        "--compress_include", nargs="+", metavar="PATTERN", help="weights to compress, e.g. query or *.attention.*"
    )
    parser.add_argument("--compress_exclude", nargs="+", metavar="PATTERN", help="weights that stay dense")
