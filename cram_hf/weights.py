"""Which weights a compressor may touch: by default the linear layers of a model's repeated blocks."""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from torch import nn

logger = logging.getLogger(__name__)

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def compressible_weights(
    model: nn.Module, include: Sequence[str] | None = None, exclude: Sequence[str] | None = None
) -> dict[str, nn.Parameter]:
    """Returns the weights that CrAM compresses, name -> parameter, in the model's order.

    By default these are the weights of the linear and convolution layers inside the model's repeated blocks (an
    `nn.ModuleList`): for BERT the six matrices of each encoder layer, 72 of them and 84,934,656 weights in BERT-base.
    A model without such blocks, say a small CNN, gives all its linear and convolution weights. Embeddings, biases,
    normalisation, pooler, task head and any matrix shared between modules (a masked-LM decoder tied to the word
    embeddings) stay dense unless a pattern asks for them. What was chosen is logged at level INFO.

    Args:
        model: any module; nothing is mutated.
        include: patterns that replace the default choice: they choose from all parameters with two or more dimensions.
            A pattern with `*`, `?` or `[` is matched against the whole parameter name (`*.attention.*`); a plain word
            matches one or more whole parts of it (`query`, `encoder.layer.0`).
        exclude: patterns of weights to leave out afterwards.

    Raises:
        ValueError: a pattern matches nothing (the message lists near names), nothing is left, or a chosen weight
            belongs to a `Conv1D` layer of transformers (GPT-2), whose weights are stored (in, out).
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile wraps the module and would prefix every name
    matrices = {name: p for name, p in model.named_parameters() if p.dim() >= 2}
    problems: list[str] = []
    chosen = dict(matrices) if include else _block_weights(model, matrices)
    if include:
        wanted = _matching(include, list(chosen), "compress_include", problems)
        chosen = {name: p for name, p in chosen.items() if name in wanted}
    if exclude:
        unwanted = _matching(exclude, list(chosen), "compress_exclude", problems)
        chosen = {name: p for name, p in chosen.items() if name not in unwanted}
    problems += _conv1d_problem(model, chosen)
    if problems:
        raise ValueError(" ".join(problems))
    if not chosen:
        raise ValueError(
            f"{type(model).__name__} has no weights left to compress. Name some with --compress_include; its matrices "
            f"are: {', '.join(matrices) or 'none'}."
        )
    logger.info(summary(model, chosen))
    return chosen


def summary(model: nn.Module, weights: dict[str, nn.Parameter]) -> str:
    """Returns one line: how many weights were chosen, their share of the model, the first and the last name."""
    chosen, total = sum(p.numel() for p in weights.values()), sum(p.numel() for p in model.parameters())
    names = list(weights)
    return (
        f"{len(names)} compressible weights, {chosen:,} of {total:,} parameters ({chosen / total:.1%}): "
        f"{names[0]} ... {names[-1]}"
    )


def _block_weights(model: nn.Module, matrices: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """The weights of linear layers inside an `nn.ModuleList`, or everywhere if the model has none; nothing shared."""
    owners = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    linear = _weights_of(model, lambda module: isinstance(module, LINEAR) or _is_conv1d(module))
    blocks = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, nn.ModuleList))
    free = {name: p for name, p in matrices.items() if name in linear and owners[id(p)] == 1}
    return {name: p for name, p in free.items() if name.startswith(blocks)} if blocks else free


def _weights_of(model: nn.Module, wanted: Callable[[nn.Module], bool]) -> set[str]:
    return {f"{name}.weight" for name, module in model.named_modules() if wanted(module)}


def _is_conv1d(module: nn.Module) -> bool:
    """Whether this is the linear layer of GPT-2, told by its name: the method needs no transformers."""
    return type(module).__name__ == "Conv1D"


def _conv1d_problem(model: nn.Module, chosen: dict[str, nn.Parameter]) -> list[str]:
    stored = _weights_of(model, _is_conv1d)
    names = [name for name in chosen if name in stored]
    if not names:
        return []
    return [
        f"{len(names)} of the {len(chosen)} chosen weights belong to Conv1D layers of transformers, first {names[0]}: "
        "they are stored (in, out), so that N:M and quantization would go the wrong way, and are not supported. Leave "
        "them out with --compress_exclude, or take a model with nn.Linear layers."
    ]


def _matching(patterns: Sequence[str], names: list[str], flag: str, problems: list[str]) -> set[str]:
    """The names that any pattern matches; a pattern without a match adds a problem."""
    matched: set[str] = set()
    for pattern in patterns:
        hits = {name for name in names if _matches(pattern, name)}
        if not hits:
            parts = sorted({part for name in names for part in name.split(".")[:-1] if not part.isdigit()})
            near = difflib.get_close_matches(pattern, parts + names, n=5, cutoff=0.5) or parts
            problems.append(f"--{flag} {pattern!r} matches no weight. Near names: {', '.join(near)}.")
        matched |= hits
    return matched


def _matches(pattern: str, name: str) -> bool:
    if any(sign in pattern for sign in "*?["):
        return fnmatchcase(name, pattern)
    return f".{pattern}." in f".{name}."
