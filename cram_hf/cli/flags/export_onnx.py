"""What is typed after `cram-hf export-onnx`."""

from __future__ import annotations

import argparse

from .model import add_model, add_weights

NAME = "export-onnx"


def add(parser: argparse.ArgumentParser) -> None:
    """Describes the command."""
    parser.description = (
        "Write a model as one ONNX file in fp32 whose batch and sequence axes are free, pruned first if --to says so. "
        "The file is run by ONNX Runtime and compared with PyTorch before it appears."
    )
    parser.epilog = "example: cram-hf export-onnx runs/squad --to topk:0.9 --out squad-90.onnx"
    add_model(parser)
    parser.add_argument("--out", required=True, metavar="FILE.onnx", help="new file")
    parser.add_argument("--to", metavar="SPEC", help="compression that is baked in, e.g. topk:0.9")
    parser.add_argument("--opset", type=int, help="version of the ONNX operators (default: the exporter's own)")
    add_weights(parser)
