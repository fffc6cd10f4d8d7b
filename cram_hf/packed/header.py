"""Reads the head of a packed file and believes none of it: each number is checked before memory is taken for it."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, BinaryIO

from .layout import FLOATS, FORMAT, MAX_RANK, NO_DIGEST, TORCH, VERSION, Entry, PackedError, Stored

MAX_HEADER = 1 << 24  # 16 MiB, some 50,000 tensors
MAX_DIMENSION = 1 << 40
KEYS = {"format", "version", "sha256", "tensors", "tied"}


@dataclass(frozen=True)
class Head:
    """What the head of a packed file says, checked against itself and the size of the file.

    Args:
        stored: name -> how the tensor is stored.
        tied: name -> name of the tensor it shares its values with, a key of `stored`.
        places: name of an entry -> first byte in the file and the entry.
    """

    stored: dict[str, Stored]
    tied: dict[str, str]
    places: dict[str, tuple[int, Entry]]


def read_head(file: BinaryIO, size: int) -> Head:
    """Returns the head of an open packed file of `size` bytes; the digest is compared as well.

    Raises:
        PackedError: anything is not as the format wants it.
    """
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > size - 8:
        raise PackedError("it is too short for the header it announces: no safetensors file, or cut off")
    if length > MAX_HEADER:
        raise PackedError(f"its header has {length:,} bytes; {MAX_HEADER:,} are allowed")
    text = file.read(length)
    document = _object(text, "the header")
    metadata = _metadata(document.pop("__metadata__", {}))
    _check_digest(file, start + text, metadata["sha256"])
    stored = {name: _stored(name, item) for name, item in _object(metadata["tensors"], "'tensors'").items()}
    tied = _object(metadata["tied"], "'tied'")
    for name, other in tied.items():
        if name in stored or not isinstance(other, str) or other not in stored:
            raise PackedError(f"{_short(name)} is tied to what is not there, or stored besides")
    return Head(stored, tied, _places(document, stored, 8 + length, size))


def _metadata(found: Any) -> dict[str, str]:
    """The metadata, of a format and version that this release reads."""
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise PackedError(f"it is no packed model: its metadata does not say format {FORMAT!r}")
    if found.get("version") != VERSION:
        raise PackedError(
            f"it has version {_short(found.get('version'))}; this release reads {VERSION!r}: update cram_hf"
        )
    if found.keys() != KEYS or not all(isinstance(value, str) for value in found.values()):
        raise PackedError(f"its metadata must be the texts {', '.join(sorted(KEYS))}")
    return found


def _check_digest(file: BinaryIO, head: bytes, digest: str) -> None:
    """Raises unless `digest` is the SHA-256 of the file, with zeros in the digest's place; reads it to its end."""
    if len(digest) != len(NO_DIGEST) or head.count(digest.encode()) != 1:
        raise PackedError("its metadata holds no SHA-256 digest")
    found = hashlib.sha256(head.replace(digest.encode(), NO_DIGEST.encode()))
    while block := file.read(1 << 20):
        found.update(block)
    if found.hexdigest() != digest:
        raise PackedError("its SHA-256 digest does not fit: the file is damaged; fetch or write it again")


def _stored(name: str, item: Any) -> Stored:
    """One value of `tensors`, every field of the right type and within bounds."""
    if not isinstance(item, dict) or item.keys() != {"kind", "shape", "dtype", "stored", "kept"}:
        raise PackedError(f"{_short(name)} must have kind, shape, dtype, stored and kept")
    kind, shape, dtype, values, kept = (item[key] for key in ("kind", "shape", "dtype", "stored", "kept"))
    if kind not in ("dense", "mask"):
        raise PackedError(f"{_short(name)} is of the unknown kind {_short(kind)}")
    allowed = [dtype, "I8", *FLOATS] if dtype in FLOATS else [dtype]
    if dtype not in list(TORCH) or values not in allowed or (kind == "mask" and dtype not in FLOATS):
        raise PackedError(f"{_short(name)} cannot be {_short(dtype)} stored as {_short(values)} ({kind})")
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(_is_count(d, MAX_DIMENSION) for d in shape):
        raise PackedError(f"{_short(name)} has the impossible shape {_short(shape)}")
    numel = math.prod(shape)
    if not _is_count(kept, numel) or (kind == "dense" and kept != numel):
        raise PackedError(f"{_short(name)} keeps {_short(kept)} of {numel} values")
    if math.prod(d or 1 for d in shape) >= 1 << 62:  # with a zero among them, say
        raise PackedError(f"{_short(name)} has the impossible shape {_short(shape)}")
    return Stored(kind, tuple(shape), dtype, values, kept)


def _places(
    document: dict[str, Any], stored: dict[str, Stored], start: int, size: int
) -> dict[str, tuple[int, Entry]]:
    """Where each entry lies: exactly those that `stored` asks for, side by side from `start` to the file's end."""
    pairs = [pair for name, item in stored.items() for pair in item.entries(name).items()]
    wanted = dict(pairs)
    if wanted.keys() != document.keys() or len(wanted) != len(pairs):
        odd = sorted(wanted.keys() ^ document.keys())
        raise PackedError(f"its entries are not those that its metadata names, such as {_short(odd[:3])}")
    places, spans = {}, []
    for name, entry in wanted.items():
        found = document[name]
        begin, end = _offsets(found)
        if found != {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [begin, end]}:
            raise PackedError(f"the entry {_short(name)} is not {entry.dtype} of shape {_short(entry.shape)}")
        if end - begin != entry.nbytes:
            raise PackedError(f"the entry {_short(name)} has {end - begin} bytes and needs {entry.nbytes}")
        places[name] = (start + begin, entry)
        spans.append((begin, end))
    reached = 0
    for begin, end in sorted(spans):
        if begin != reached:
            raise PackedError("its entries overlap or leave gaps")
        reached = end
    if reached != size - start:
        raise PackedError(f"it holds {size - start} bytes of tensors and its header speaks of {reached}: cut off?")
    return places


def _offsets(found: Any) -> tuple[int, int]:
    offsets = found.get("data_offsets") if isinstance(found, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(o, 1 << 62) for o in offsets):
        raise PackedError(f"an entry has the data_offsets {_short(offsets)}")
    return offsets[0], offsets[1]


def _is_count(value: Any, most: int) -> bool:
    return type(value) is int and 0 <= value <= most  # not a bool


def _object(text: bytes | str, what: str) -> dict[str, Any]:
    """The JSON object in `text`; a name that comes twice is refused."""
    try:
        found = json.loads(text.decode() if isinstance(text, bytes) else text, object_pairs_hook=_once)
    except PackedError:
        raise
    except (ValueError, RecursionError):
        raise PackedError(f"{what} is no valid JSON: no packed model, or a damaged one") from None
    if not isinstance(found, dict):
        raise PackedError(f"{what} is no JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise PackedError("a name comes twice in its header")
    return found


def _short(value: Any) -> str:
    """A value of the file in a message: quoted, and never long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
