"""Files of predictions in the format that GLUE's server takes: a line `index<TAB>prediction` for each row."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cram_hf.results import write_whole
from cram_hf.tasks.glue_tasks import Target


def predictions_file(predictions: np.ndarray, target: Target) -> str:
    """
    Returns the text of a file of predictions, with a header and rows numbered from 0.

    Labels are written as the task's files write them: `entailment` for RTE, `1` for CoLA. Scores on a scale, such as
    STS-B's, are cut to it and have three decimals; others have six digits.

    >>> predictions_file(np.array([5.2, 3.14159]), Target("stsb", "spearmanr", bounds=(0, 5)))
    'index\\tprediction\\n0\\t5.000\\n1\\t3.142\\n'
    """
    lines = [f"{index}\t{_written(value, target)}\n" for index, value in enumerate(predictions.tolist())]
    return "".join(["index\tprediction\n", *lines])


def _written(value: float, target: Target) -> str:
    if target.codes:
        # A tab or a line break in a label of the user's would end the cell.
        return " ".join(target.codes[int(value)].split())
    if target.bounds:
        low, high = target.bounds
        return f"{min(max(value, low), high):.3f}"
    return f"{value:.6g}"


def write_files(folder: Path, files: dict[str, str]) -> None:
    """Writes files of these names and texts, each whole or not at all; files of the same names are replaced."""
    for name, text in files.items():
        write_whole(folder / name, text.encode())
