"""cram_hf: train one BERT that can be pruned in one shot when it is deployed (CrAM, ICLR 2023)."""

from .arguments import CrAMArguments
from .compressors import NM, Chain, Compressor, Quantize, TopK, parse_compressor
from .core import compressed, cram_point, cram_step, swapped
from .rng import draw
from .trainer import CrAMTrainer
from .weights import compressible_weights

__version__ = "0.1.0"

__all__ = [
    "NM",
    "Chain",
    "Compressor",
    "CrAMArguments",
    "CrAMTrainer",
    "Quantize",
    "TopK",
    "compressed",
    "compressible_weights",
    "cram_point",
    "cram_step",
    "draw",
    "parse_compressor",
    "swapped",
]
