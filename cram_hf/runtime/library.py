"""The compiled kernel: where it is, what the processor has for it, and how it is called."""

from __future__ import annotations

import ctypes
import logging
import os
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor

from .layout import TILES, Packed

logger = logging.getLogger(__name__)

VERSION = 6
LEVELS = ("plain", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "avx512_fp16")
"""Instruction sets that the library has code for: a processor with one of them has those before it."""
KINDS = (torch.float32, torch.bfloat16, torch.int8, torch.float16)
"""Types of values, in the order in which the library counts them."""
SWITCH = "CRAM_HF_RUNTIME"
"""Environment variable: `off`, or the one of `LEVELS` to use, the processor's highest if it lacks that."""
ALONE = 2**19
"""Multiplications (kept weights times tokens) below which one thread is as fast as several."""


class Kernel:
    """The library, at one of `LEVELS`: by default the fastest one, which need not be the highest."""

    def __init__(self, library: ctypes.CDLL, wanted: str | None = None) -> None:
        self.levels = LEVELS[: library.cram_hf_level() + 1]
        """Those that this processor has."""
        chosen = library.cram_hf_choice() if wanted is None else LEVELS.index(wanted)
        self.level = LEVELS[min(chosen, len(self.levels) - 1)]
        self._linear = library.cram_hf_linear
        pointer, whole, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
        self._linear.argtypes = [pointer] * 3 + [long] * 3 + [pointer] * 6 + [long] + [whole] * 4 + [pointer]
        self._team = _openmp()

    @property
    def dots(self) -> bool:
        """Whether it multiplies in bf16; elsewhere rounded operands are multiplied in fp32."""
        return self.level == "avx512_bf16"

    @property
    def fp16(self) -> bool:
        """Whether it computes in fp16; no other level takes a matrix of it."""
        return self.level == "avx512_fp16"

    def linear(self, x: Tensor, packed: Packed, bias: Tensor | None, *, gelu: bool = False) -> Tensor:
        """Returns `x @ W.T + bias` as fp32 (tokens, rows), with as many threads as PyTorch is set to.

        Args:
            x: fp32 (tokens, width), contiguous.
            packed: W.
            bias: fp32 (rows,), contiguous, or `None`.
            gelu: whether the result is GELU of it, y Phi(y) for the normal distribution Phi, to 1e-6.

        Raises:
            ValueError: `x` or `bias` does not fit to `packed`, or `packed` is of fp16 and the level is another one.
            MemoryError: no room for its temporaries.
        """
        if x.shape[1] != packed.shape[1] or (bias is not None and bias.shape != packed.shape[:1]):
            given = [tuple(x.shape), *([] if bias is None else [tuple(bias.shape)])]
            raise ValueError(f"operands of shapes {given} do not fit to a matrix of {packed.shape}")
        if packed.values.dtype == torch.float16 and not self.fp16:
            raise ValueError(f"a matrix of fp16 needs avx512_fp16; this is {self.level}")
        y = x.new_empty(x.shape[0], packed.shape[0])  # not of the default type or device, which may be others
        kept = packed.values.numel()
        failed = self._linear(
            x.data_ptr(),
            _address(bias),
            y.data_ptr(),
            x.shape[0],
            *packed.shape,
            packed.ends.data_ptr(),
            packed.order.data_ptr(),
            packed.columns.data_ptr(),
            packed.values.data_ptr(),
            _address(packed.peaks),
            _address(packed.totals),
            TILES[packed.values.dtype],
            KINDS.index(packed.values.dtype),
            gelu,
            LEVELS.index(self.level),
            torch.get_num_threads() if kept * x.shape[0] >= ALONE else 1,
            self._team,
        )
        if failed:
            raise MemoryError(f"no memory for a sparse layer of shape {packed.shape} and {x.shape[0]} tokens")
        return y


@cache
def kernel() -> Kernel | None:
    """Returns the kernel, or `None` where there is none; the reason is then logged, once. The first answer stays.

    Raises:
        ValueError: the environment variable `CRAM_HF_RUNTIME` has an unknown value.
    """
    wanted = os.environ.get(SWITCH) or None
    if wanted not in (None, "off", *LEVELS):
        raise ValueError(
            f"{SWITCH} is {wanted!r}; it must be off or one of {', '.join(LEVELS)}. Unset it for the best."
        )
    if wanted == "off":
        logger.warning("%s is off: sparse layers run in plain PyTorch.", SWITCH)
        return None
    try:
        library = ctypes.CDLL(str(_path()))
        found = int(library.cram_hf_version())
        if found != VERSION:
            raise OSError(f"it is version {found} of the kernel, not {VERSION}")
    except OSError as error:
        logger.warning(
            "No compiled kernel (%s): sparse layers run in plain PyTorch. Install a C++ compiler (g++ or clang++) and "
            "this package again.",
            error,
        )
        return None
    return Kernel(library, wanted)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _path() -> Path:
    folder = Path(__file__).parent
    paths = [folder / f"_kernel{suffix}" for suffix in EXTENSION_SUFFIXES]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise FileNotFoundError("it was not built when the package was installed")
    return found


def _openmp() -> int | None:
    """The address of `GOMP_parallel` in the OpenMP library that PyTorch uses, or `None`.

    Threads of another library would compete for the cores with PyTorch's, which keep looking for work for
    milliseconds after each operation. Where it is not found the kernel starts threads of its own.
    """
    libraries = (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*")
    for path in libraries:
        try:
            return ctypes.cast(ctypes.CDLL(str(path)).GOMP_parallel, ctypes.c_void_p).value
        except (OSError, AttributeError):
            continue
    return None
