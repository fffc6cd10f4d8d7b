"""`cram-hf pack`: a model folder whose weights are one packed file, small where the model is sparse."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from ..card_bare import RECORDED
from ..export import appearing, check_free
from ..packed import FILE_NAME, dense_size, save_packed
from .models import load_checkpoint, weights_of
from .size import megabytes


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the folder, whole or not at all, and returns what it is and how many bytes.

    The records of `cram-hf prune` and `tune` in a local MODEL come along.

    Raises:
        FileExistsError: `--out` exists and is not an empty folder.
        ValueError: the model cannot be loaded or packed.
    """
    check_free(args.out)
    model, tokenizer = load_checkpoint(args.model, args.trust_remote_code)
    names = list(weights_of(model, args)) if args.dtype == "int8" else []
    with appearing(Path(args.out)) as folder:
        packed = save_packed(model, folder / FILE_NAME, dtype=args.dtype, compressible=names)
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
        if model.can_generate() and model.generation_config is not None:
            model.generation_config.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        for record in (file for name in RECORDED if (file := Path(args.model) / name).exists()):
            shutil.copyfile(record, folder / record.name)
    return {
        "model": args.model,
        "out": args.out,
        "dtype": args.dtype,
        "bytes": packed,
        "dense_bytes": dense_size(model),
    }


def text(result: dict[str, Any]) -> str:
    """Returns the folder, its size and the size of the dense file, and how to unpack it."""
    small, dense, out = megabytes(result["bytes"]), megabytes(result["dense_bytes"]), result["out"]
    return (
        f"{out}: {small} MB in {result['dtype']}, {result['bytes'] / result['dense_bytes']:.0%} of the dense file "
        f"({dense} MB).\nAn ordinary checkpoint of it: cram-hf unpack {out} --out FOLDER"
    )
