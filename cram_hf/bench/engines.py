"""The engines: each is a function that takes a model and example inputs and returns what runs such inputs.

What it returns takes a dictionary of int64 tensors of the same shape as the example and gives back the logits, on
the CPU. An engine uses as many threads as PyTorch is set to when it is made. A new one is a function and an entry in
`ENGINES`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..runtime import accelerate, kernel
from .inputs import Inputs, Logits
from .onnx_file import INSTALL, PACKAGES, export_onnx
from .sparse_layers import UnsuitableError, semi_structured_layers, with_csr_, with_semi_structured_

Run = Callable[[Inputs], tuple[Tensor, ...]]
EXACT, FP16, BF16, INT8 = 1e-3, 2e-2, 5e-2, 0.25
"""Difference of logits that is allowed, times the largest logit where that is above 1."""


@dataclass(frozen=True)
class Subject:
    """A model under one compression.

    Args:
        spec (`str`): the compression in a word.
        model (`PreTrainedModel`): fp32, in eval mode; engines leave it as it is.
        folder (`Path`): where its ONNX file goes, if an engine asks for it.
    """

    spec: str
    model: PreTrainedModel
    folder: Path

    @cached_property
    def onnx_file(self) -> Path:
        """Its ONNX file, written when it is first asked for."""
        path = self.folder / f"{self.spec.replace(':', '_')}.onnx"
        export_onnx(self.model, path)
        return path


def eager(subject: Subject, inputs: Inputs) -> Run:
    """PyTorch as it is."""
    return runner(Logits(subject.model))


def compiled(subject: Subject, inputs: Inputs) -> Run:
    """`torch.compile` for this one shape. Compilation takes place in the first call."""
    return runner(torch.compile(Logits(subject.model), dynamic=False))


def onnxruntime(subject: Subject, inputs: Inputs, file: Path | None = None) -> Run:
    """ONNX Runtime on the CPU, with all its graph optimisations; of another file than the model's, if one is given."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 3
    # Its idle threads spin for a while by default, and would take the cores of whatever has the next turn.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(file or subject.onnx_file), options, providers=["CPUExecutionProvider"])
    return lambda given: _tensors(session.run(None, {name: tensor.numpy() for name, tensor in given.items()}))


def openvino(subject: Subject, inputs: Inputs, precision: Literal["f32", "bf16"] = "f32") -> Run:
    """OpenVINO on the CPU, in fp32 (it would take bf16 by itself where the processor has it) unless told otherwise."""
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_MMAP": False,
    }
    core = openvino.Core()
    model = core.compile_model(core.read_model(subject.onnx_file), "CPU", settings)
    return lambda given: _tensors(model({name: tensor.numpy() for name, tensor in given.items()}).values())


def csr(subject: Subject, inputs: Inputs) -> Run:
    """PyTorch with compressed-sparse-row matrices."""
    return runner(Logits(with_csr_(copy.deepcopy(subject.model))))


def sparse(subject: Subject, inputs: Inputs, dtype: Literal["fp32", "bf16", "fp16", "int8"] = "fp32") -> Run:
    """`cram_hf.runtime`: linear layers without their zeros; in all but fp32 weights and what they multiply rounded."""
    report = accelerate(model := copy.deepcopy(subject.model), dtype, keep_dense=False)
    if not report.replaced:
        raise UnsuitableError(
            "no linear layer is large and has enough zeros to gain (topk:0.8:layer spreads them evenly, topk:0.8 not)"
        )
    if dtype not in {layer.precision for layer in report.layers}:
        raise UnsuitableError(f"{dtype} is computed in fp32 here: it would be sparse fp32 once more")
    return runner(Logits(model))


def bf16(subject: Subject, inputs: Inputs) -> Run:
    """PyTorch in bf16 on the CPU: what `sparse-bf16` is compared with."""
    return runner(Logits(copy.deepcopy(subject.model).bfloat16()))


def half_on_gpu(subject: Subject, inputs: Inputs) -> Run:
    """PyTorch in fp16 on the GPU: what 2:4 is compared with."""
    return _on_gpu(copy.deepcopy(subject.model).half().cuda())


def semi_structured(subject: Subject, inputs: Inputs) -> Run:
    """PyTorch in fp16 on the GPU, with `to_sparse_semi_structured` for the linear layers that are 2:4."""
    chosen = semi_structured_layers(subject.model)
    return _on_gpu(with_semi_structured_(copy.deepcopy(subject.model).half().cuda(), chosen))


def deepsparse(subject: Subject, inputs: Inputs) -> Run:
    """DeepSparse, compiled for this shape."""
    os.environ.setdefault("NM_DISABLE_ANALYTICS", "True")  # it tells its maker about its use otherwise
    import deepsparse
    import numpy

    shapes = [list(tensor.shape) for tensor in inputs.values()]
    engine = deepsparse.Engine(
        model=str(subject.onnx_file),
        batch_size=shapes[0][0],
        num_cores=torch.get_num_threads(),
        input_shapes=shapes,
    )
    return lambda given: _tensors(engine.run([numpy.ascontiguousarray(t.numpy()) for t in given.values()]))


@dataclass(frozen=True)
class Engine:
    """An engine that a user can ask for.

    Args:
        name: the word that is typed.
        make: the engine.
        packages: what must be installed beside this package.
        install: what to type to install them.
        skips_zeros: whether it has code that leaves zeros out.
        dense: what runs the uncompressed model, where that is another engine.
        needs_gpu: whether it runs on CUDA alone.
        needs_kernel: whether it is made of the compiled code of `cram_hf.runtime`.
        needs_fp16: whether the processor must have arithmetic of fp16.
        allowed: how far its logits may be from those of PyTorch in fp32, times the largest where that is above 1.
        note: what a user must know before using it.
    """

    name: str
    make: Callable[[Subject, Inputs], Run]
    packages: tuple[str, ...] = ()
    install: str = ""
    skips_zeros: bool = False
    dense: Callable[[Subject, Inputs], Run] | None = None
    needs_gpu: bool = False
    needs_kernel: bool = False
    needs_fp16: bool = False
    allowed: float = EXACT
    note: str = ""


SPARSE: dict[str, Any] = {"make": sparse, "skips_zeros": True, "dense": eager, "needs_kernel": True}
ENGINES = (
    Engine("eager", eager),
    Engine("compile", compiled),
    Engine("onnxruntime", onnxruntime, PACKAGES, INSTALL),
    Engine("openvino", openvino, ("openvino", "onnx", "onnxscript"), 'pip install "cram-hf[openvino]"'),
    Engine("csr", csr, skips_zeros=True, dense=eager),
    Engine("sparse", **SPARSE),
    Engine("sparse-bf16", **SPARSE | {"make": partial(sparse, dtype="bf16"), "dense": bf16, "allowed": BF16}),
    Engine("sparse-fp16", **SPARSE | {"make": partial(sparse, dtype="fp16"), "needs_fp16": True, "allowed": FP16}),
    Engine("sparse-int8", **SPARSE | {"make": partial(sparse, dtype="int8"), "allowed": INT8}),
    Engine("semi-structured", semi_structured, skips_zeros=True, dense=half_on_gpu, needs_gpu=True, allowed=FP16),
    Engine(
        "deepsparse",
        deepsparse,
        ("deepsparse", "onnx", "onnxscript"),
        "pip install deepsparse",
        skips_zeros=True,
        note="its community licence covers evaluation, research and non-production use; it reached its end of life on "
        "June 2, 2025 and is not maintained",
    ),
)


def missing(engine: Engine) -> str | None:
    """Returns why the engine cannot be used here and what to type, or `None` where it can."""
    absent = [package for package in engine.packages if find_spec(package) is None]
    note = f"; {engine.note}" if engine.note else ""
    if absent:
        return f"{', '.join(absent)} not installed: {engine.install}{note}"
    found = kernel() if engine.needs_kernel else None
    if engine.needs_kernel and found is None:
        return "cram_hf.runtime has no kernel: install the package where a C++ compiler is, and unset CRAM_HF_RUNTIME"
    if engine.needs_fp16 and found is not None and not found.fp16:
        return f"needs AVX512-FP16 (Intel from Sapphire Rapids on); cram_hf.runtime uses {found.level} here"
    if engine.needs_gpu and not torch.cuda.is_available():
        return "needs a CUDA GPU of compute capability 8.0 or higher; PyTorch sees no GPU here"
    if engine.needs_gpu and (capability := torch.cuda.get_device_capability()) < (8, 0):
        return f"needs a CUDA GPU of compute capability 8.0 or higher; this one has {'.'.join(map(str, capability))}"
    return None


def runner(module: Any) -> Run:
    """A model of tensors in, tensors out, as what an engine gives."""

    def run(given: Inputs) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            return tuple(tensor.float() for tensor in module(**given))

    return run


def _on_gpu(model: PreTrainedModel) -> Run:
    """Inputs travel to the GPU and logits back, which also waits for the GPU to be done."""
    run = runner(Logits(model))

    def there_and_back(given: Inputs) -> tuple[Tensor, ...]:
        return tuple(tensor.cpu() for tensor in run({name: t.cuda() for name, t in given.items()}))

    return there_and_back


def _tensors(arrays: Any) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(array) for array in arrays)
