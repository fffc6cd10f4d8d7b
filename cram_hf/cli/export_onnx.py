"""`cram-hf export-onnx`: a model as one ONNX file, pruned if asked, checked against PyTorch."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..bench import check_model, example, export_onnx
from ..bench.engines import EXACT
from ..bench.inputs import Inputs, Logits, input_names, output_names, padded
from ..bench.measure import difference
from ..bench.onnx_file import INSTALL, PACKAGES
from ..compressors import parse_compressor
from ..results import replacing
from ..sparsity import measure
from ..swap import compressed
from ..table import percent
from .flags.export_onnx import NAME
from .models import load_checkpoint, weights_of
from .size import megabytes

CHECKED = ((1, 7), (3, 24))
"""Batch sizes and sequence lengths that are compared; neither is the example that the exporter is given."""


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the file, whole or not at all, and returns what it is and how far its logits are from PyTorch's.

    Raises:
        FileExistsError: `--out` exists.
        ImportError: onnx, onnxscript or onnxruntime is not installed.
        ValueError: the model, the spec or the opset does not fit, or the file's logits are wrong.
    """
    compressor = parse_compressor(args.to) if args.to else None
    _check(args)
    model, _ = load_checkpoint(args.model, args.trust_remote_code)
    model.float()  # in place: the file is fp32
    check_model(model)
    weights = weights_of(model, args)
    if compressor:
        compressor.check(weights)
    bar = tqdm(total=1 + len(CHECKED), desc="export and check", unit="step", disable=None)
    with compressed(weights, compressor) if compressor else nullcontext(), replacing(args.out) as unfinished, bar:
        opset = export_onnx(model, unfinished, args.opset)
        bar.update()
        checked = []
        for batch, length in CHECKED:
            off = _difference(Logits(model), unfinished, padded(model, example(model, batch, length, seed=1)))
            checked.append({"batch_size": batch, "seq_length": length, "max_difference": off})
            bar.update()
        sparsity = measure(model, weights)
        size = unfinished.stat().st_size
    return {
        "model": args.model,
        "out": args.out,
        "spec": compressor.spec if compressor else None,
        "opset": opset,
        "dtype": "fp32",
        "inputs": input_names(model),
        "outputs": list(output_names(model)),
        "bytes": size,
        "sparsity": sparsity.compressible,
        "model_sparsity": sparsity.model,
        "checked": checked,
    }


def text(result: dict[str, Any]) -> str:
    """Returns the file, what goes in and out, how it was checked, and what it does not do."""
    shapes = " and ".join(f"{shape['batch_size']} x {shape['seq_length']}" for shape in result["checked"])
    off = max(shape["max_difference"] for shape in result["checked"])
    lines = [
        f"{result['out']}: {megabytes(result['bytes'])} MB, fp32, opset {result['opset']}, "
        f"{percent(result['sparsity'])} of the compressible weights are zero.",
        f"In, int64 (batch, sequence): {', '.join(result['inputs'])}. Out, fp32: {', '.join(result['outputs'])}.",
        f"ONNX Runtime and PyTorch differ by at most {off:.1e} on batches of {shapes} tokens, one row of each padded.",
    ]
    if result["sparsity"]:
        lines.append("Zeros are stored and multiplied like other numbers: cram-hf bench shows what they bring.")
    return "\n".join(lines)


def _check(args: argparse.Namespace) -> None:
    """Raises where the file cannot be written or checked, before the model is loaded."""
    if Path(args.out).exists():
        raise FileExistsError(f"--out {args.out} exists and is not overwritten: type another name.")
    if not args.out.endswith(".onnx"):
        raise ValueError(f"--out {args.out}: the name of the file must end in .onnx.")
    absent = [package for package in PACKAGES if find_spec(package) is None]
    if absent:
        raise ImportError(f"cram-hf {NAME} needs {', '.join(absent)}, not installed: {INSTALL}")


def _difference(module: Logits, path: Path, inputs: Inputs) -> float:
    """Returns how far ONNX Runtime is from PyTorch. Raises `ValueError` where it fails, or rounding is not all."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    except Exception as error:  # kinds of its own; e.g. the exporter writes opset 17 with an attribute of opset 18
        told = " ".join(str(error).replace(str(path), "it").split())
        raise ValueError(
            f"ONNX Runtime cannot run the exported model: {told}. Nothing was written. Try another --opset."
        ) from error
    with torch.inference_mode():
        expected = module(**inputs)
    off = difference([torch.from_numpy(array) for array in found], expected)
    allowed = EXACT * max(1.0, *(float(tensor.abs().max()) for tensor in expected))
    if not off <= allowed:
        shape = " x ".join(map(str, inputs["input_ids"].shape))
        raise ValueError(
            f"the exported model differs by {off:.3g} from PyTorch on a batch of {shape} tokens, {allowed:.3g} is "
            "allowed: nothing was written. Try another --opset."
        )
    return off
