"""How fast a model runs, dense against pruned, in the engines that are there; and its ONNX file.

Nothing here is faster by itself: the engines are others' work. Each is one function in `engines.py`, and `ENGINES`
lists them. A comparison takes `LEAST_ROUNDS` or more.
"""

from .engines import ENGINES, Engine, Subject, missing
from .findings import LEAST_ROUNDS, sentences, verdict
from .inputs import check_model, example, longest
from .measure import Cell, measure_cell
from .onnx_file import export_onnx

__all__ = [
    "ENGINES",
    "LEAST_ROUNDS",
    "Cell",
    "Engine",
    "Subject",
    "check_model",
    "example",
    "export_onnx",
    "longest",
    "measure_cell",
    "missing",
    "sentences",
    "verdict",
]
