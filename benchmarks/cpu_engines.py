"""The engines that `inference.py` and `answers.py` compare on a CPU: those of `cram-hf bench`, and int8 and bf16 ones.

Each is a function of a `Subject`; what it returns takes int64 tensors of any batch and length and gives the logits.
"""

from __future__ import annotations

import argparse
import copy
import sys
import warnings
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from importlib import metadata
from importlib.util import find_spec

import torch
from torch import nn

from cram_hf.bench.engines import ENGINES as INSTALLABLE
from cram_hf.bench.engines import (
    Run,
    Subject,
    bf16,
    csr,
    deepsparse,
    eager,
    missing,
    onnxruntime,
    openvino,
    runner,
    sparse,
)
from cram_hf.bench.inputs import Inputs, Logits
from cram_hf.bench.sparse_layers import UnsuitableError


def dynamic_int8(subject: Subject, inputs: Inputs) -> Run:
    """PyTorch's dynamic quantization of all linear layers: weights int8, activations int8 with a scale a call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its successor, torchao, is another package
        model = torch.ao.quantization.quantize_dynamic(copy.deepcopy(subject.model), {nn.Linear}, torch.qint8)
    return runner(Logits(model))


def onnxruntime_int8(subject: Subject, inputs: Inputs) -> Run:
    """ONNX Runtime's dynamic quantization: a scale for each output of a layer, and one a call for activations."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = subject.onnx_file.with_suffix(".int8.onnx")
    if not path.exists():
        quantize_dynamic(subject.onnx_file, path, weight_type=QuantType.QInt8, per_channel=True)
    return onnxruntime(subject, inputs, path)


def deepsparse_at_each_shape(subject: Subject, inputs: Inputs) -> Run:
    """DeepSparse, compiled in the first call of each shape: it takes no other than the one it was compiled for."""
    made: dict[tuple[int, ...], Run] = {}

    def run(given: Inputs) -> tuple[torch.Tensor, ...]:
        shape = tuple(given["input_ids"].shape)
        if shape not in made:
            made[shape] = deepsparse(subject, given)
        return made[shape](given)

    return run


ENGINES: dict[str, Callable[[Subject, Inputs], Run]] = {
    "dense-fp32": eager,
    "dense-bf16": bf16,
    "dense-int8": dynamic_int8,
    "onnxruntime": onnxruntime,
    "onnxruntime-int8": onnxruntime_int8,
    "openvino": openvino,
    "openvino-bf16": partial(openvino, precision="bf16"),
    "csr": csr,
    "ours-fp32": sparse,
    "ours-bf16": partial(sparse, dtype="bf16"),
    "ours-fp16": partial(sparse, dtype="fp16"),
    "ours-int8": partial(sparse, dtype="int8"),
}
if find_spec("deepsparse"):  # by hand: its licence covers evaluation alone, and it is not maintained
    ENGINES["deepsparse"] = deepsparse_at_each_shape


def absent(engines: Collection[str]) -> dict[str, str]:
    """Those of the engines whose packages are not installed, and what to type."""
    packages = {engine.name: engine for engine in INSTALLABLE if engine.packages}
    found = {name: packages[base] for name in engines if (base := name.partition("-")[0]) in packages}
    return {name: reason for name, engine in found.items() if (reason := missing(engine))}


def chosen(parser: argparse.ArgumentParser, asked: Sequence[str] | None, default: Collection[str]) -> list[str]:
    """The engines that were asked for, or those of `default` that are installed; the others are named.

    Ends the script with a message where one that was asked for is not installed.
    """
    names = list(dict.fromkeys(default if asked is None else asked))
    reasons = absent(names)
    told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    if asked is not None and reasons:
        parser.error(f"--engines {told}")
    sys.stderr.write(f"Left out: {told}\n" if told else "")
    return [name for name in names if name not in reasons]


def suitable(subject: Subject, inputs: Inputs, engines: Collection[str]) -> dict[str, Run]:
    """Those of the engines that have something to do with this model, made."""
    runs = {}
    for name in engines:
        with suppress(UnsuitableError):
            runs[name] = ENGINES[name](subject, inputs)
    return runs


def peers(engines: Collection[str]) -> dict[str, str]:
    """Versions of the other packages that these engines are of."""
    names = {engine.partition("-")[0] for engine in engines} & {"onnxruntime", "openvino", "deepsparse"}
    return {name: metadata.version(name) for name in sorted(names)}
