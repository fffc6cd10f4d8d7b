"""A packed file taken apart and put together again, with a digest that fits, to forge what lies between."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def taken_apart(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header, with the texts of its metadata read as JSON too, and the bytes after it."""
    end = 8 + int.from_bytes(data[:8], "little")
    document = json.loads(data[8:end])
    for key in ("tensors", "tied"):
        document["__metadata__"][key] = json.loads(document["__metadata__"][key])
    return document, data[end:]


def put_together(document: dict[str, Any], payload: bytes) -> bytes:
    """A file with the digest that fits, so that the other checks are all that is left."""
    meta = document.get("__metadata__", {})
    if isinstance(meta, dict):
        meta |= {k: json.dumps(meta[k]) for k in ("tensors", "tied") if k in meta and not isinstance(meta[k], str)}
        meta["sha256"] = "0" * 64
    return with_digest(json.dumps(document).encode(), payload)


def with_digest(text: bytes, payload: bytes) -> bytes:
    head = len(text).to_bytes(8, "little") + text
    digest = hashlib.sha256(head + payload).hexdigest().encode()
    return head.replace(b"0" * 64, digest, 1) + payload


def put_at(document: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Replaces what stands at a place of the header."""
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value
