"""`benchmarks/runtime_packing.py` on one layer: every precision, its time and its bytes."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

from cram_hf.runtime.layout import DTYPES


def test_each_precision_has_its_time_and_its_share_of_the_dense_bytes(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    script, before = importlib.import_module("runtime_packing"), torch.get_num_threads()
    monkeypatch.setattr(script, "SHAPES", [(256, 512), (64, 256)])
    try:
        script.main(["--sparsity", "0.75", "--layers", "2", "--rounds", "3", "--out", str(tmp_path / "out.json")])
    finally:
        torch.set_num_threads(before)
    report = json.loads((tmp_path / "out.json").read_text())
    rows = {row["precision"]: row for row in report["rows"]}
    assert list(rows) == ["copy of dense", *DTYPES]
    assert report["sparsity"] == 0.75
    assert rows["copy of dense"]["bytes_of_dense"] == 1
    # a quarter of the values and their columns of one byte each, and what every row of a tile adds
    for precision, size in {"fp32": 5, "bf16": 3, "fp16": 3, "int8": 2}.items():
        assert rows[precision]["bytes_of_dense"] == pytest.approx(size / 16, abs=0.03)
        assert 0 < rows[precision]["least_cpu_seconds"] <= rows[precision]["median_cpu_seconds"]
