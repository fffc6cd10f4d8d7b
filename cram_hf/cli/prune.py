"""`cram-hf prune`: prunes a trained model once, with data or without, and writes it as an ordinary checkpoint."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..arguments import CrAMArguments
from ..card_bare import TUNING, read_record
from ..compressors import Compressor, TopK
from ..compressors.base import prune_ as mask_
from ..export import appearing, check_free, export
from ..oneshot import (
    batches,
    output_moments,
    permute_channels_,
    prune_with_data_,
    read_calibration,
    recalibrate_batchnorm_,
    repair_,
)
from ..oneshot import sample as draw_texts
from ..provenance import command_line, environment
from ..results import Results, write_json
from ..table import percent
from .models import load_checkpoint, weights_of
from .prune_flags import checked, pattern_of
from .prune_mask import read_masks

RECORD = "pruning.json"
# Of how a model was trained: what it was trained for, and the method's own numbers.
METHOD = (
    *("compressors", "compressor_weights", "rho", "plus", "masked", "perturb", "normalize_grad"),
    *("compress_include", "compress_exclude"),
)
ALWAYS_TOLD = ("rho", "plus")  # by today's results files, also where they are the defaults; not by older ones

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the pruned model, whole or not at all, and returns what was done and how sparse it is.

    The folder also gets `pruning.json`, which is what is returned, with the command, versions and machine.

    Raises:
        FileExistsError: `--out` exists and is not an empty folder.
        ValueError: the flags contradict each other, or the model, the spec, the mask or the data do not fit.
    """
    compressor = checked(args)
    check_free(args.out)
    how = trained(Path(args.model))
    began = time.perf_counter()
    model, tokenizer = load_checkpoint(args.model, args.trust_remote_code)
    weights = weights_of(model, args)
    compressor.check(weights)
    masks = read_masks(args, model, weights) if args.mask_from else None
    texts = _texts(args, model, tokenizer) if args.data else []
    details = prune_(model, weights, compressor, texts, args, masks)
    with appearing(Path(args.out)) as folder:
        sparsity = export(model, tokenizer, TopK(0), folder, weights=weights).sparsity
        result = {
            "model": args.model,
            "trained": how,
            "tuned": tuned_before(Path(args.model)),
            "out": args.out,
            "spec": None if masks else compressor.spec,
            "mask_from": args.mask_from,
            "method": None if masks and args.method == "magnitude" else args.method,
            **{name: getattr(args, name) for name in ("permute", "refit", "repair", "data", "seed")},
            "texts": sum(len(batch["input_ids"]) for batch in texts),
            "tokens": sum(int(batch["attention_mask"].sum()) for batch in texts),
            "parameters": sum(p.numel() for p in model.parameters()),
            "compressible_parameters": sum(w.numel() for w in weights.values()),
            "sparsity": sparsity.compressible,
            "model_sparsity": sparsity.model,
            "layers": sparsity.layers,
            **details,
            "seconds": round(time.perf_counter() - began, 1),
            "command": command_line(sys.argv),
            **environment(threads=torch.get_num_threads(), gpu=_gpu(model)),
        }
        write_json(folder / RECORD, result)
    return result


def trained(folder: Path) -> dict[str, Any] | None:
    """Returns how the model of a folder was trained, as far as the `results.json` of its run tells.

    `None` where it does not tell, `{"compressors": []}` where it was without CrAM, else the values of `METHOD`;
    one of them is `None` where an older file does not tell it.
    """
    file = folder / "results.json"
    if not file.exists():
        return None
    try:
        results = Results.load(file)
    except (ValueError, OSError) as error:
        logger.warning("How the model was trained is left out of %s: %s", RECORD, error)
        return None
    if results.training is None:
        return None
    if not results.config.get("compressors"):
        return {"compressors": []}
    defaults = {field.name: field.default for field in fields(CrAMArguments)}
    return {name: results.config.get(name, None if name in ALWAYS_TOLD else defaults[name]) for name in METHOD}


def tuned_before(folder: Path) -> dict[str, Any] | None:
    """Returns the record of `cram-hf tune` in a model's folder, `None` where there is none."""
    return read_record(folder / TUNING) if (folder / TUNING).exists() else None


def _told(how: dict[str, Any]) -> str:
    specs = ", ".join(spec for spec in how["compressors"] if spec != "topk:0")
    if not specs:
        return f"It was trained without {'a compression (SAM)' if how['compressors'] else 'CrAM'}."
    return f"It was trained for {specs}." if how["rho"] is None else f"It was trained for {specs} (rho {how['rho']})."


def text(result: dict[str, Any]) -> str:
    """Returns a few lines: the sparsity, how it was reached, and what it does not do."""
    names = [result["method"], *(name for name in ("permute", "refit", "repair") if result[name])]
    steps = ", ".join(filter(None, names)) or "no other change"
    which = f"{result['spec']} by" if result["spec"] else f"The zeros of {result['mask_from']} with"
    used = f", {result['texts']} texts ({result['tokens']:,} tokens)" if result["texts"] else ""
    lines = [
        f"{result['out']}: {percent(result['sparsity'])} of {result['compressible_parameters']:,} compressible "
        f"weights are zero, {percent(result['model_sparsity'])} of the whole model.",
        f"{which} {steps}{used}; {result['seconds']} s.",
    ]
    if how := result["trained"]:
        lines.append(_told(how))
    if result["errors"]:
        worst = max(result["errors"], key=result["errors"].__getitem__)
        mean = sum(result["errors"].values()) / len(result["errors"])
        lines.append(
            f"Squared error of the layers' outputs, relative to the outputs: mean {mean:.3g}, most "
            f"{result['errors'][worst]:.3g} in {worst}."
        )
    if result["gains"]:
        before, after = (sum(gain[i] for gain in result["gains"].values()) for i in (0, 1))
        lines.append(f"Reordering keeps {after / before - 1:.2%} more magnitude in {len(result['gains'])} layers.")
    lines.append(
        f"The file is no smaller and the model no faster by that: zeros are stored and multiplied like other numbers. "
        f"cram-hf pack {result['out']} --out FOLDER makes a small file."
    )
    return "\n".join(lines)


def prune_(
    model: nn.Module,
    weights: dict[str, nn.Parameter],
    compressor: Compressor,
    texts: Sequence[dict[str, Tensor]],
    args: argparse.Namespace,
    masks: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Does what the flags `--permute`, `--method`, `--refit` and `--repair` ask, in this order; `model` is mutated.

    With `masks`, name -> bool, True where a weight stays, they say which weights go, and `compressor` is not asked.

    Returns:
        `errors`: each layer's relative output error, where it is known. `gains`: the magnitude that N:M keeps before
        and after reordering, for each layer whose inputs were reordered.
    """
    errors: dict[str, float] = {}
    gains: dict[str, list[float]] = {}
    if args.permute:
        found = permute_channels_(model, weights, pattern_of(compressor))
        gains = {name: [gain.before, gain.after] for name, gain in found.items()}
    dense = output_moments(model, weights, texts) if args.repair else {}
    if args.method != "magnitude" or args.refit:
        errors = prune_with_data_(model, weights, compressor, texts, method=args.method, refit=args.refit, masks=masks)
    elif masks:
        for name, mask in masks.items():
            mask_(weights[name], mask)
    else:
        compressor.apply_(weights)
    if args.repair:
        repair_(model, weights, texts, dense)
        recalibrate_batchnorm_(model, texts)  # of few models, of the others nothing
    return {"errors": errors, "gains": gains}


def _texts(
    args: argparse.Namespace, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None
) -> list[dict[str, Tensor]]:
    if tokenizer is None:
        raise ValueError(f"{args.model} has no tokenizer, so --data cannot be read for it. Save one beside the model.")
    texts = draw_texts(read_calibration(args.data, args.text_columns), args.samples, args.seed)
    return batches(texts, tokenizer, max_length=args.max_length)


def _gpu(model: nn.Module) -> str | None:
    device = next(model.parameters()).device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None
