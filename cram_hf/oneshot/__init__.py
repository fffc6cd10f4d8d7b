"""Pruning a trained model in one shot: with data or without, and repairing it without labels.

A `Method` is what chooses the weights: `magnitude`, `wanda` or `sparsegpt`.
"""

from .batchnorm import recalibrate_batchnorm_
from .calibration import batches, read_calibration, sample
from .layerwise import Method, prune_with_data_
from .permute import permute_channels_
from .refit import refit
from .repair import output_moments, repair_
from .sparsegpt import sparsegpt
from .tune import tune_
from .wanda import wanda_mask

__all__ = [
    "Method",
    "batches",
    "output_moments",
    "permute_channels_",
    "prune_with_data_",
    "read_calibration",
    "recalibrate_batchnorm_",
    "refit",
    "repair_",
    "sample",
    "sparsegpt",
    "tune_",
    "wanda_mask",
]
