"""cram_hf: train one BERT that can be pruned in one shot when it is deployed (CrAM, ICLR 2023)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .arguments import CrAMArguments
    from .compressors import NM, Chain, Compressor, Quantize, TopK, parse_compressor
    from .core import cram_point, cram_step
    from .rng import draw
    from .swap import compressed, swapped
    from .trainer import CrAMTrainer
    from .weights import compressible_weights
else:  # imported when they are asked for: PyTorch and transformers take seconds, and `cram-hf --help` needs neither
    from importlib import import_module as _import

    _HOMES = {
        "arguments": ("CrAMArguments",),
        "compressors": ("NM", "Chain", "Compressor", "Quantize", "TopK", "parse_compressor"),
        "core": ("cram_point", "cram_step"),
        "swap": ("compressed", "swapped"),
        "rng": ("draw",),
        "trainer": ("CrAMTrainer",),
        "weights": ("compressible_weights",),
    }

    def __getattr__(name: str) -> object:
        if name in _HOMES:  # the module itself, as after an import of all
            return _import(f".{name}", __name__)
        home = next((home for home, names in _HOMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(_import(f".{home}", __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__} - {"TYPE_CHECKING"})


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
