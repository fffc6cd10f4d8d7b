"""`cram-hf unpack`: the ordinary checkpoint that a packed folder stands for."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from ..export import appearing, check_free
from ..packed import FILE_NAME
from .models import load_checkpoint
from .size import megabytes


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the folder, whole or not at all; files that came along in the packed one are copied.

    Raises:
        FileExistsError: `--out` exists and is not an empty folder.
        PackedError: the packed file is damaged or forged.
        ValueError: MODEL is no packed folder.
    """
    source = Path(args.model)
    if not (source / FILE_NAME).exists():
        raise ValueError(f"{args.model} holds no {FILE_NAME}: give a folder that cram-hf pack wrote.")
    check_free(args.out)
    model, _ = load_checkpoint(args.model, args.trust_remote_code)
    with appearing(Path(args.out)) as folder:
        model.save_pretrained(folder)
        for path in source.iterdir():
            if path.name != FILE_NAME and path.is_file() and not (folder / path.name).exists():
                shutil.copyfile(path, folder / path.name)
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return {"model": args.model, "out": args.out, "bytes": size}


def text(result: dict[str, Any]) -> str:
    """Returns one line: the folder, and the size of its weights."""
    return f"{result['out']}: {megabytes(result['bytes'])} MB of dense weights, for from_pretrained."
