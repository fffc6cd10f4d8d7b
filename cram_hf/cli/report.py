"""`cram-hf report`: one HTML page on a run or several, with nothing to load: curve, losses, layers, scores."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..compressors import Compressor, parse_compressor
from ..html_report import Heat, Run, check_together, page, read_bench, read_run, read_size
from ..html_report.page import drawing
from ..results import write_whole
from ..sparsity import measure
from ..swap import compressed
from ..weights import compressible_weights
from .models import load_checkpoint


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the page and returns where it is, its size in bytes and what is in it.

    Raises:
        FileExistsError: `--out` exists.
        ValueError: a file cannot be used, the runs do not go together, or the spec does not fit a model.
        ImportError: the extra `report` is not installed.
    """
    _check_free(args.out)
    drawing()
    runs = _runs(args)
    sizes, benches = list(map(read_size, args.size)), list(map(read_bench, args.bench))
    compressor = parse_compressor(args.spec)
    found = [_heat(each, compressor) for each in tqdm(runs, desc="layers", unit="run", disable=None)]
    heats = [heat for heat in found if isinstance(heat, Heat)]
    remarks = [sentence for sentence in found if isinstance(sentence, str)]
    content = page(runs, heats, sizes=sizes, benches=benches, remarks=remarks).encode()
    _check_free(args.out)
    write_whole(args.out, content)
    return {
        "out": args.out,
        "bytes": len(content),
        "runs": [each.results.label for each in runs],
        "losses": [each.results.label for each in runs if each.losses],
        "layers": [heat.label for heat in heats],
        "left_out": remarks,
    }


def text(result: dict[str, Any]) -> str:
    """Returns where the page is and what is in it."""
    parts = [f"curve and scores of {', '.join(result['runs'])}"]
    parts += [f"{name} of {', '.join(result[name])}" for name in ("losses", "layers") if result[name]]
    written = f"Written: {result['out']} ({result['bytes'] / 1000:.0f} kB): {'; '.join(parts)}."
    return "\n".join([written, *result["left_out"]])


def _check_free(out: str) -> None:
    if Path(out).exists():
        raise FileExistsError(f"--out {out} exists and reports are never overwritten: type another name, or move it.")


def _runs(args: argparse.Namespace) -> list[Run]:
    """Reads the runs. Raises `ValueError` with all problems of the flags, or those of the files."""
    count = len(args.runs)
    problems = [
        f"--{name}: {len(given)} were given for {count} runs. Give one for each."
        for name in ("label", "log")
        if (given := getattr(args, name)) and len(given) != count
    ]
    if problems:
        raise ValueError("\n".join(problems))
    labels, logs = args.label or [None] * count, args.log or [None] * count
    runs = [read_run(*found) for found in zip(args.runs, labels, logs, strict=True)]
    check_together(runs)
    return runs


def _heat(run: Run, compressor: Compressor) -> Heat | str:
    """Compresses the model in the run's folder, or returns a sentence on why there is no map of its layers."""
    label = run.results.label
    if not run.folder or not (run.folder / "config.json").exists() or not list(run.folder.glob("*.safetensors")):
        return f"No map of layers for {label}: there is no model in its folder."
    model, _ = load_checkpoint(str(run.folder))
    chosen = [run.results.config.get(f"compress_{word}") for word in ("include", "exclude")]
    weights = compressible_weights(model, *chosen)
    compressor.check(weights)
    with compressed(weights, compressor):
        return Heat(label, compressor.spec, measure(model, weights).layers)
