"""The ONNX file of a model: fp32, with batch and sequence axes that are free."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import PreTrainedModel

from .inputs import Logits, example, input_names, output_names, padded

INSTALL = 'pip install "cram-hf[onnx]"'
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
LARGEST = 2**31 - 2**20
"""Bytes of weights that fit into one file: the format ends at 2 GiB."""


def export_onnx(model: PreTrainedModel, path: str | Path, opset: int | None = None) -> int:
    """Writes `model` to `path` and returns the opset of the file; nothing is mutated.

    By `torch.onnx.export` in its newer form (`dynamo=True`), the one that PyTorch keeps up; it needs onnxscript. The
    inputs are those of `input_names`, int64 (batch, sequence), the outputs those of `output_names`. Zeros stay zeros.

    Args:
        model: an fp32 model in eval mode that passes `check_model`.
        path: the file; an existing one is replaced.
        opset (*optional*): version of the operators; that of the exporter if not given.

    Raises:
        ImportError: onnx or onnxscript is not installed.
        ValueError: the exporter cannot write this opset, or the model is too large for one file.
    """
    absent = [package for package in PACKAGES[:2] if find_spec(package) is None]
    if absent:
        raise ImportError(f"an ONNX file needs {' and '.join(absent)}, which is missing: {INSTALL}")
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    if weights > LARGEST:
        raise ValueError(f"{weights:,} bytes of weights do not fit into one ONNX file, which ends at 2 GiB.")
    names = input_names(model)
    inputs = padded(model, example(model, 2, 8, seed=0))
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            Logits(model).eval(),
            kwargs={name: inputs[name] for name in names},
            dynamo=True,
            opset_version=opset,
            input_names=names,
            output_names=list(output_names(model)),
            dynamic_shapes={name: {0: "batch", 1: "sequence"} for name in names},
            external_data=False,
            verbose=False,
        )
        assert program is not None
        written = int(program.model.opset_imports[""])
        if opset not in (None, written):
            raise ValueError(
                f"--opset {opset}: the exporter cannot write it, it wrote {written}. Leave --opset out, or type "
                f"--opset {written}."
            )
        program.save(str(path), external_data=False)
    return written


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what the exporter says about parts of PyTorch that are not ours; errors are raised, not logged."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
