"""Bakes a compression into a folder that transformers loads with no extra code: dense safetensors, zeros included."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .compressors import Compressor
from .results import Results, named, write_whole
from .sparsity import Sparsity, measure
from .swap import compressed


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Args:
        directory (`Path`): the folder that `from_pretrained` takes.
        sparsity (`Sparsity`): shares of zeros among the tensors that were read back.
    """

    directory: Path
    sparsity: Sparsity


def export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    compressor: Compressor,
    directory: str | os.PathLike[str],
    *,
    weights: Mapping[str, Tensor],
    results: Results | None = None,
    card: str | None = None,
) -> Exported:
    """Writes the compressed model, whole or not at all, and returns where it lies and how sparse the file is.

    The folder gets the safetensors (dense, in the model's dtype), the configuration, the tokenizer and, where given,
    `results.json` and the card as `README.md`. It is loaded again and every tensor compared bit for bit. The model in
    memory is compressed meanwhile and as before afterwards, bit for bit, also on an error.

    Args:
        model: the dense model, not wrapped by DDP or `torch.compile`.
        tokenizer (*optional*): what is saved beside it.
        compressor (`Compressor`): what is baked in.
        directory (`str` or `os.PathLike`): new or empty; missing parents are made.
        weights (`Mapping[str, Tensor]`): what may be compressed, e.g. `compressible_weights(model)`.
        results (`Results`, *optional*): the run's results.
        card (`str`, *optional*): text of the model card, see `cram_hf.card.card`.

    Raises:
        FileExistsError: `directory` exists and is not an empty folder.
        RuntimeError: the files do not load as the compressed model; nothing is left behind.
    """
    check_free(directory)
    with appearing(target := Path(directory)) as folder:
        with compressed(weights, compressor):
            model.save_pretrained(folder)
            _check_saved(model, weights, folder)
            sparsity = measure(model, weights)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        if results:
            results.save(folder / "results.json")
        if card:
            write_whole(folder / "README.md", card.encode())
    return Exported(target, sparsity)


def check_free(directory: str | os.PathLike[str]) -> None:
    """Raises `FileExistsError` unless `directory` is absent or an empty folder."""
    target = Path(directory)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(
            f"{directory} exists and is not empty; an export needs a new or empty folder: choose another one, or move "
            "it away"
        )


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Yields a new folder beside `target`; it becomes `target` after the block, or vanishes when the block raises."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with named(target):
            unfinished.mkdir()
            yield unfinished
            with suppress(FileNotFoundError):
                target.rmdir()
            unfinished.rename(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _check_saved(model: PreTrainedModel, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Raises unless the folder loads as the model, all its tensors the same bit for bit, and `weights` are its own."""
    # By from_pretrained, since a model read from an old checkpoint is saved under its old names (LayerNorm.gamma).
    read = type(model).from_pretrained(folder, use_safetensors=True, dtype="auto").state_dict()
    state = model.state_dict()
    storages = {tensor.data_ptr() for tensor in state.values()}
    wrong = [name for name, tensor in state.items() if name not in read or not same_bits(tensor, read[name])]
    wrong += [name for name, weight in weights.items() if weight.data_ptr() not in storages]
    if wrong:
        raise RuntimeError(
            f"export: {', '.join(wrong[:5])} ({len(wrong)} in all) cannot be read back as the model holds them; "
            "nothing was written. The weights given must be the model's own: weights=compressible_weights(model)"
        )


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors agree in dtype, shape and every bit, wherever they lie."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(*(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for tensor in (a, b)))
