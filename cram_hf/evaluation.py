"""One evaluation of a model under one compression: what training's end, `cram-hf sweep` and `cram-hf choose` share."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from torch import Tensor

from .compressors import Compressor
from .history import TIMES
from .results import DENSE, Row
from .sparsity import measure
from .swap import compressed
from .tasks.base import EvalSet
from .trainer import CrAMTrainer

logger = logging.getLogger(__name__)


def score(
    trainer: CrAMTrainer,
    sets: EvalSet,
    compressor: Compressor | None,
    weights: Mapping[str, Tensor] | None = None,
    spec: str | None = None,
) -> tuple[Row, Any]:
    """Returns the scores on a set under one compression, and the predictions; the model is as before afterwards.

    Args:
        trainer (`CrAMTrainer`): holds the model; its `compute_metrics` becomes that of the set.
        sets (`EvalSet`): what is scored.
        compressor (`Compressor`, *optional*): `None` for the dense model.
        weights (`Mapping[str, Tensor]`, *optional*): what is compressed; by default all that the trainer compresses.
        spec (`str`, *optional*): the name of the row, if not the compressor's.
    """
    began = time.perf_counter()
    trainer.compute_metrics = sets.compute_metrics
    chosen = trainer.compressible if weights is None else weights
    with compressed(chosen, compressor) if compressor else nullcontext():
        outcome = trainer.predict(sets.features, metric_key_prefix="final")
        sparsity = measure(trainer.model, trainer.compressible)
    metrics = {name.removeprefix("final_"): value for name, value in (outcome.metrics or {}).items()}
    row = Row(
        spec=spec or (compressor.spec if compressor else DENSE),
        metrics={name: value for name, value in metrics.items() if not name.endswith(TIMES)},
        sparsity=sparsity.compressible,
        model_sparsity=sparsity.model,
        seconds=round(time.perf_counter() - began, 1),
        examples=sets.examples,
    )
    known = [f"{name} {value:.4g}" for name, value in row.metrics.items() if value is not None]
    logger.info("%s on %d examples: %s", row.spec, row.examples, ", ".join(known))
    return row, outcome.predictions
