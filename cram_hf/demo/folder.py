"""Put a folder in place whole or not at all, known by the sha256 of its files."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path


def sha256(path: Path) -> str:
    """Return the sha256 of a file as 64 hex digits, read in pieces."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def damage(folder: Path, hashes: Mapping[str, str]) -> list[str]:
    """Return one line for each file of `hashes` that `folder` lacks or holds with other contents; none if all fit."""
    lines = []
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            lines.append(f"{path} is missing (expected sha256 {expected})")
        elif (found := sha256(path)) != expected:
            lines.append(f"{path} has sha256 {found}, expected {expected}")
    return lines


def place_folder(out: Path, hashes: Mapping[str, str], fill: Callable[[Path], None]) -> bool:
    """Make `out` a folder with the files of `hashes`; return whether there was anything to do.

    A folder that already holds them all is left alone, whatever else it holds. The files are written to a temporary
    folder beside `out`, checked, and moved there in one step.

    Args:
        out (`Path`): The folder to make; parents are made too.
        hashes (`Mapping[str, str]`): sha256 by file name.
        fill (`Callable[[Path], None]`): Writes the files into the empty folder it is given.

    Raises:
        `ValueError`: If `out` is a file or a folder with other contents, or a written file does not have its hash.
    """
    if out.is_file():
        raise ValueError(f"{out} is a file; a folder is needed. Choose another with --out.")
    if out.is_dir() and any(out.iterdir()):
        if not (lines := damage(out, hashes)):
            return False
        problems = "\n  ".join(lines)
        raise ValueError(
            f"{out} already exists with other contents:\n  {problems}\n"
            "Only a new or empty folder is filled. Remove it, or choose another with --out."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp makes it private, and the folder keeps what it has here
        fill(temporary)
        if lines := damage(temporary, hashes):
            raise ValueError("Writing went wrong, is the disk full?\n  " + "\n  ".join(lines))
        os.replace(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return True
