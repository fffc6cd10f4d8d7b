"""`cram-hf bench`: latency and throughput of a model, dense against pruned, in the engines that are there."""

from __future__ import annotations

import argparse
import copy
import difflib
import logging
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from ..bench import (
    ENGINES,
    LEAST_ROUNDS,
    Cell,
    Engine,
    Subject,
    check_model,
    longest,
    measure_cell,
    missing,
    sentences,
    verdict,
)
from ..compressors import Compressor, parse_compressor
from ..provenance import command_line, environment
from ..results import write_json
from ..sparsity import measure
from ..table import NO_VALUE, aligned, percent
from . import Unsaved
from .flags.bench import NAME
from .models import load_checkpoint, weights_of

logger = logging.getLogger(__name__)

AS_IS = "as it is"


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the rows of the grid, a sentence for each engine, and where they came from.

    `ok` is false where an engine failed or its logits were wrong. With `--out` the file is replaced after each shape,
    so that Ctrl-C leaves what was measured until then, with `"complete": false`.

    Raises:
        FileExistsError: `--out` exists.
        ValueError: a flag, a spec or the model does not fit.
        ImportError: an engine asked for by name is not installed.
        Unsaved: `--out` cannot be written; it holds what was measured so far.
    """
    compressors = [parse_compressor(spec) for spec in dict.fromkeys(args.to)]
    engines = _engines(args.engine)
    args.threads = args.threads or [torch.get_num_threads()]
    _check(args)
    model, _ = load_checkpoint(args.model, args.trust_remote_code)
    model.float()  # in place: everything is measured in fp32
    _check_fit(args, model, compressors)
    with tempfile.TemporaryDirectory() as folder:
        subjects, specs = _subjects(args, model, compressors, Path(folder))
        result = _beginning(args, model, engines, specs)
        try:
            for rows in _measured(args, engines, subjects):
                result["rows"] += rows
                _finish(args, result, complete=False)
        except KeyboardInterrupt:
            kept = f"are in {args.out}" if args.out and result["rows"] else "are lost, there is no --out"
            logger.warning("Stopped: the %d rows measured so far %s.", len(result["rows"]), kept)
            raise
    _finish(args, result, complete=True)
    return result


def text(result: dict[str, Any]) -> str:
    """Returns the table, a sentence for each engine, and which engines are not there."""
    header = ["engine", "compression", "batch", "tokens", "threads", "ms a batch (quartiles)", "sequences/s"]
    header += ["of dense (quartiles)", "", "off by"]
    lines = [_line(row) for row in result["rows"]]
    if len(result["specs"]) == 1:  # nothing is compared with dense
        header, *lines = ([*line[:-3], line[-1]] for line in [header, *lines])
    parts = [aligned(header, lines)] if lines else []
    parts += [f"{row['engine']}, {row['spec']}: {row['error']}." for row in result["rows"] if "error" in row]
    zeros = ", ".join(f"{spec['spec']} {percent(spec['sparsity'])}" for spec in result["specs"])
    parts += ["", f"Zeros among {result['compressible_parameters']:,} compressible weights: {zeros}.", ""]
    parts += result["findings"]
    absent = [engine for engine in result["engines"] if engine["missing"]]
    parts += ["", "Not there:", *(f"  {engine['name']}: {engine['missing']}" for engine in absent)] if absent else []
    parts += [
        f"{engine['name']}: {engine['note']}." for engine in result["engines"] if engine["version"] and engine["note"]
    ]
    return "\n".join(parts)


def _line(row: dict[str, Any]) -> list[str]:
    line = [row["engine"], row["spec"], *(str(row[name]) for name in Cell._fields)]
    off = NO_VALUE if row.get("max_difference") is None else f"{row['max_difference']:.1e}"
    if "milliseconds" not in row:
        return [*line, "failed" if "error" in row else "not for it", NO_VALUE, NO_VALUE, "", off]
    ratio = row.get("ratio")
    words = [_spread(ratio, ".2f"), verdict(ratio)] if ratio else [NO_VALUE, ""]
    return [*line, _spread(row["milliseconds"], ".2f"), f"{row['sequences_per_second']:.1f}", *words, off]


def _spread(values: dict[str, float], form: str) -> str:
    return f"{values['median']:{form}} ({values['q1']:{form}}-{values['q3']:{form}})"


def _engines(asked: list[str] | None) -> list[Engine]:
    """The engines asked for, or all. Raises for an unknown name, and for one asked for that is not there."""
    names = [engine.name for engine in ENGINES]
    unknown = [name for name in asked or [] if name not in names]
    if unknown:
        near = {name: difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.4) for name in unknown}
        hints = [f"{name}{f' (did you mean {found[0]}?)' if found else ''}" for name, found in near.items()]
        raise ValueError(f"--engine {', '.join(hints)}: there are {', '.join(names)}.")
    chosen = [engine for engine in ENGINES if not asked or engine.name in asked]
    problems = [f"--engine {engine.name}: {reason}." for engine in chosen if asked and (reason := missing(engine))]
    if problems:
        raise ImportError("\n".join(problems))
    return chosen


def _check(args: argparse.Namespace) -> None:
    """Raises with all problems of the numbers, and where `--out` exists."""
    problems = [
        f"--{name} {number}: a whole number from 1 on."
        for name in Cell._fields
        for number in getattr(args, name)
        if number < 1
    ]
    if args.rounds < LEAST_ROUNDS:
        problems.append(f"--rounds {args.rounds}: {LEAST_ROUNDS} or more; fewer cannot tell a difference from noise.")
    if problems:
        raise ValueError("\n".join(problems))
    if args.out and Path(args.out).exists():
        raise FileExistsError(f"--out {args.out} exists and results are never overwritten: type another name.")


def _check_fit(args: argparse.Namespace, model: PreTrainedModel, compressors: list[Compressor]) -> None:
    """Raises `ValueError` where the model cannot be measured, a spec does not fit it, or a sequence is too long."""
    check_model(model)
    weights = weights_of(model, args)
    for compressor in compressors:
        compressor.check(weights)
    limit = longest(model)
    if limit and max(args.seq_length) > limit:
        raise ValueError(f"--seq_length {max(args.seq_length)}: the model takes up to {limit} tokens.")


def _subjects(
    args: argparse.Namespace, model: PreTrainedModel, compressors: list[Compressor], folder: Path
) -> tuple[list[Subject], list[dict[str, Any]]]:
    """The model as it is and a compressed copy for each spec, and their measured sparsities."""
    subjects, specs = [], []
    for compressor in [None, *compressors]:
        own = copy.deepcopy(model).requires_grad_(False)
        weights = weights_of(own, args)
        if compressor:
            compressor.apply_(weights)
        spec, sparsity = compressor.spec if compressor else AS_IS, measure(own, weights)
        subjects.append(Subject(spec, own, folder))
        specs.append({"spec": spec, "sparsity": sparsity.compressible, "model_sparsity": sparsity.model})
    return subjects, specs


def _beginning(
    args: argparse.Namespace, model: PreTrainedModel, engines: list[Engine], specs: list[dict[str, Any]]
) -> dict[str, Any]:
    """What is known before anything is measured."""
    return {
        "benchmark": NAME,
        "model": args.model,
        "head": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "compressible_parameters": sum(w.numel() for w in weights_of(model, args).values()),
        **{name: getattr(args, name) for name in (*Cell._fields, "rounds", "seed")},
        "specs": specs,
        "engines": [{"name": e.name, "version": _version(e), "missing": missing(e), "note": e.note} for e in engines],
        "rows": [],
        "findings": [],
        "command": command_line(sys.argv),
        **environment(threads=max(args.threads), gpu=_gpu()),
    }


def _measured(
    args: argparse.Namespace, engines: list[Engine], subjects: list[Subject]
) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows of one engine at one shape at a time, the smallest shape first."""
    cells = [Cell(*numbers) for numbers in product(args.batch_size, args.seq_length, args.threads)]
    there = [engine for engine in engines if missing(engine) is None]
    with tqdm(total=len(there) * len(cells), disable=None, unit="shape") as bar:
        for engine, cell in product(there, cells):
            bar.set_description(engine.name)
            yield measure_cell(engine, subjects, cell, args.rounds, args.seed)
            bar.update()


def _finish(args: argparse.Namespace, result: dict[str, Any], complete: bool) -> None:
    """Brings the findings up to date with the rows, and writes the file if one was asked for."""
    result["findings"] = sentences(result["rows"], {engine.name: engine.skips_zeros for engine in ENGINES})
    result["complete"] = complete
    result["ok"] = not any("error" in row for row in result["rows"])
    if args.out:
        try:
            write_json(args.out, result)
        except OSError as error:
            raise Unsaved(f"{error}. What was measured so far is on stdout.", result) from error


def _version(engine: Engine) -> str | None:
    """The version of what runs the model, or `None` where the engine is not there."""
    if missing(engine):
        return None
    return metadata.version("cram-hf" if engine.needs_kernel else (engine.packages or ("torch",))[-1])


def _gpu() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
