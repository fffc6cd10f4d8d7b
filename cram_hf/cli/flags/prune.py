"""What is typed after `cram-hf prune`."""

from __future__ import annotations

import argparse

from .model import add_model, add_weights

NAME = "prune"
METHODS = ("magnitude", "wanda", "sparsegpt")


def add(parser: argparse.ArgumentParser) -> None:
    """Describes the command."""
    parser.description = (
        "Prune a trained model in one shot and write the result as a folder for from_pretrained. --to says how many "
        "weights go and how they are spread over the layers, --method which ones. With a file of texts (--data; "
        "labels are not read) Wanda and SparseGPT choose by what the layers are given, and --refit and --repair mend "
        "what is left."
    )
    parser.epilog = "example: cram-hf prune runs/squad --to topk:0.8 --out squad-80 --data train.json --repair"
    add_model(parser)
    parser.add_argument("--to", metavar="SPEC", help="e.g. topk:0.8, topk:0.8:erk, nm:2:4+quantize:8")
    parser.add_argument(
        "--mask_from",
        metavar="PRUNED_MODEL",
        help="instead of --to: a pruned model of the same architecture, whose zeros become those of MODEL; "
        "--method sparsegpt and --refit then only update what is kept",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="new or empty folder")
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="magnitude",
        help="what chooses the weights (default: %(default)s)",
    )
    parser.add_argument("--permute", action="store_true", help="first reorder hidden channels so that N:M keeps more")
    parser.add_argument("--refit", action="store_true", help="fit what is kept in each layer by least squares")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="at the end give each channel its mean and variance back, and batch normalisation its statistics",
    )
    parser.add_argument("--data", metavar="FILE", help="texts: .txt, or .json, .jsonl, .csv, .tsv, .parquet of a task")
    parser.add_argument("--text_columns", nargs="+", default=[], metavar="COLUMN", help="one or two columns of --data")
    parser.add_argument("--samples", type=int, default=256, help="texts drawn from --data (default: %(default)s)")
    parser.add_argument("--max_length", type=int, default=256, help="tokens of a text (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=42, help="of the drawing (default: %(default)s)")
    add_weights(parser)
