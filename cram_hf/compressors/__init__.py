"""Compression operators, and the words that name them."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TypeVar

from .base import Chain, Compressor
from .layer_zeros import LayerZeros, read_layer_zeros
from .nm import NM
from .quantize import Quantize
from .topk import TopK

__all__ = ["NM", "Chain", "Compressor", "LayerZeros", "Quantize", "TopK", "parse_compressor"]

Number = TypeVar("Number", int, float)

FORMS = (
    "topk:SPARSITY, topk:SPARSITY:layer (or :erk, :lamp), nm:N:M, quantize:BITS, layers:FILE, or several "
    "joined by '+', e.g. nm:2:4+quantize:8"
)


def parse_compressor(spec: str) -> Compressor:
    """Returns the compressor that a word names; the inverse of `Compressor.spec`.

    >>> parse_compressor("nm:2:4+quantize:8")
    Chain(members=(NM(n=2, m=4), Quantize(bits=8)))

    Raises:
        ValueError: the word is not one of the forms `topk:0.7`, `topk:0.7:layer` (or `:erk`, `:lamp`), `nm:2:4`,
            `quantize:8`, `layers:FILE`, or a chain of them; the message shows the word, the forms and, for a typo,
            the nearest kind.
    """
    members = tuple(_parse_member(word.strip(), spec) for word in str(spec).split("+"))
    return members[0] if len(members) == 1 else Chain(members)


def _parse_member(word: str, spec: str) -> Compressor:
    kind, *values = word.split(":")
    try:
        match kind, values:
            case "topk", [sparsity]:
                return TopK(_number(float, sparsity))
            case "topk", [sparsity, scope]:
                return TopK(_number(float, sparsity), scope)  # type: ignore[arg-type]  # checked by TopK
            case "nm", [n, m]:
                return NM(_number(int, n), _number(int, m))
            case "quantize", [bits]:
                return Quantize(_number(int, bits))
            case "layers", [path]:
                return read_layer_zeros(path)
    except ValueError as error:
        raise ValueError(f"compressor {spec!r}: {error} Allowed are {FORMS}.") from None
    near = difflib.get_close_matches(kind.lower(), ["topk", "nm", "quantize", "layers"], n=1)
    hint = f" Did you mean {near[0]!r}?" if near and near[0] != kind else ""
    raise ValueError(f"{spec!r} is no compressor.{hint} Allowed are {FORMS}.")


def _number(kind: Callable[[str], Number], word: str) -> Number:
    try:
        return kind(word)
    except ValueError:
        raise ValueError(f"{word!r} is no {'whole ' if kind is int else ''}number.") from None
