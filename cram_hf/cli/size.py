"""`cram-hf size`: what a model weighs on disk, as it is and after one-shot compression."""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

from torch import nn
from tqdm import tqdm

from ..compressors import Compressor, parse_compressor
from ..packed import dense_pieces, dense_size, packed_size
from ..sparsity import measure
from ..swap import compressed
from ..table import aligned, percent
from .models import load_checkpoint, weights_of

AS_IS = "as it is"
ZLIB_LEVEL, ZSTD_LEVEL = 1, 3
BLOCK = 1 << 20


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the model's counts and one row for the model as it is and for each spec; sizes are in bytes.

    `fp32` and `fp16` name the widest floating-point type of a file: narrower tensors stay as they are. Beside int8
    matrices everything else is fp16.

    Raises:
        ValueError: the model cannot be loaded, a spec is unknown or does not fit the weights, or a value does not
            fit into fp16.
    """
    compressors = [parse_compressor(spec) for spec in args.spec]
    model, _ = load_checkpoint(args.model, args.trust_remote_code)
    weights = weights_of(model, args)
    for compressor in compressors:
        compressor.check(weights)
    rows = []
    quiet, total = args.no_archive or None, _total(model, args, compressors)
    with tqdm(total=total, unit="B", unit_scale=True, disable=quiet, desc="archive") as bar:
        for chosen in [None, *compressors]:
            with compressed(weights, chosen) if chosen else nullcontext():
                rows.append(_row(model, weights, chosen, None if args.no_archive else bar))
    return {
        "model": args.model,
        "parameters": sum(p.numel() for p in model.parameters()),
        "compressible_parameters": sum(w.numel() for w in weights.values()),
        "archive": None if args.no_archive else _archiver()[0],
        "rows": rows,
    }


def text(result: dict[str, Any]) -> str:
    """Returns the table in megabytes of 1,000,000 bytes, and what its columns mean."""
    kinds = list(result["rows"][0]["bytes"])
    header = ["compression", "sparsity (compressible)", *(kind.replace("_", " ") for kind in kinds)]
    lines = [
        [row["spec"], percent(row["sparsity"]), *(megabytes(row["bytes"][kind]) for kind in kinds)]
        for row in result["rows"]
    ]
    return "\n".join([aligned(header, lines), "", *_legend(result)])


def megabytes(count: int) -> str:
    """Returns bytes in megabytes of 1,000,000, with one digit, or three below one megabyte."""
    return f"{count / 1e6:,.{1 if count >= 1e6 else 3}f}"


def _legend(result: dict[str, Any]) -> list[str]:
    parameters, compressible = result["parameters"], result["compressible_parameters"]
    lines = [
        f"Megabytes (1,000,000 bytes) of {result['model']}: {parameters:,} parameters, {compressible:,} compressible.",
        "safetensors  what from_pretrained loads; a zero takes as much room as any number",
    ]
    if result["archive"]:
        lines.append(f"archive      that file compressed by {result['archive']}; to be unpacked before it is loaded")
    return [
        *lines,
        "packed       what cram-hf pack writes; int8: the compressible weights, beside them everything is fp16",
    ]


def _row(
    model: nn.Module, weights: dict[str, nn.Parameter], compressor: Compressor | None, bar: Any | None
) -> dict[str, Any]:
    sparsity = measure(model, weights)
    sizes = {"safetensors_fp32": dense_size(model), "safetensors_fp16": dense_size(model, "fp16")}
    if bar is not None:
        sizes["archive_fp32"] = _archived(dense_pieces(model), bar)
        sizes["archive_fp16"] = _archived(dense_pieces(model, "fp16"), bar)
    sizes["packed_fp32"] = packed_size(model)
    sizes["packed_fp16"] = packed_size(model, dtype="fp16")
    sizes["packed_int8"] = packed_size(model, dtype="int8", compressible=weights)
    return {
        "spec": compressor.spec if compressor else AS_IS,
        "sparsity": sparsity.compressible,
        "model_sparsity": sparsity.model,
        "bytes": sizes,
    }


def _archiver() -> tuple[str, Callable[[], Any]]:
    """Returns the name of the archive's method and what makes its compressor: zstd from Python 3.14 on, else zlib."""
    if sys.version_info >= (3, 14):
        from compression import zstd

        return f"zstd -{ZSTD_LEVEL}", lambda: zstd.ZstdCompressor(level=ZSTD_LEVEL)
    return f"zlib -{ZLIB_LEVEL}", lambda: zlib.compressobj(level=ZLIB_LEVEL)


def _archived(pieces: Iterable[memoryview], bar: Any) -> int:
    """Returns the bytes that the pieces make together when they are compressed."""
    stream, count = _archiver()[1](), 0
    for piece in pieces:
        data = memoryview(piece).cast("B") if piece.nbytes else b""
        for start in range(0, len(data), BLOCK):
            block = data[start : start + BLOCK]
            count += len(stream.compress(block))
            bar.update(len(block))
    return count + len(stream.flush())


def _total(model: nn.Module, args: argparse.Namespace, compressors: list[Compressor]) -> int:
    """Bytes that will go through the archive: what the progress bar counts to."""
    return 0 if args.no_archive else (1 + len(compressors)) * (dense_size(model) + dense_size(model, "fp16"))
