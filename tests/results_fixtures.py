"""Made-up runs, shared by the tests of results, tables, pictures, cards and exports."""

from __future__ import annotations

from typing import Any

from cram_hf.results import Results, Row

SCORES = {"dense": 80.0, "topk:0.5": 76.0, "topk:0.8": 40.0, "topk:0.5:layer": 72.0, "nm:2:4": 70.0}
SPARSITY = {"dense": 0.0, "topk:0.5": 0.5, "topk:0.8": 0.8, "topk:0.5:layer": 0.5, "nm:2:4": 0.5}
TOKEN = "hf_" + "aB3" * 12


def row(spec: str, f1: float | None, sparsity: float, **changes: Any) -> Row:
    exact = None if f1 is None else f1 - 10
    values: dict[str, Any] = {"spec": spec, "metrics": {"exact_match": exact, "f1": f1}, "sparsity": sparsity}
    return Row(**values | {"model_sparsity": sparsity / 2, "seconds": 1.5, "examples": 100} | changes)


def make_results(scores: dict[str, float] | None = None, **changes: Any) -> Results:
    """A run with these F1 scores by compression; other fields as given."""
    found = SCORES if scores is None else scores
    values: dict[str, Any] = {
        "task": "squad",
        "label": "CrAM+",
        "model": "models/tiny-bert",
        "model_parameters": 2000,
        "compressible_parameters": 1000,
        "created": "2026-01-31T12:00:00+00:00",
        "command": "python run_squad.py configs/squad/tiny.yaml --rho 0.01",
        "seed": 7,
        "config": {"compressors": ["topk:0.5", "nm:2:4"], "rho": 0.01},
        "data": {
            "train": {"source": "data/train.json", "examples": 300, "features": 310},
            "evaluation": {"source": "data/dev.json", "examples": 100, "features": 101},
        },
        "versions": {"cram_hf": "0.1.0", "torch": "2.13.0"},
        "commit": "0123456789ab",
        "dirty": True,
        "machine": {"cpu": "AMD EPYC", "cores": 2, "threads": 1, "gpu": None, "platform": "Linux"},
        "training": {"updates": 20, "epochs": 2.0, "seconds": 12.5, "loss": 1.25},
        "main_metric": "f1",
        "rows": tuple(row(spec, f1, SPARSITY.get(spec, 0.25)) for spec, f1 in found.items()),
    }
    return Results(**values | changes)
