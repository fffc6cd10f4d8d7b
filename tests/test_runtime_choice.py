"""From which share of zeros on a layer is replaced: the measured numbers, and the script that measures them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from cram_hf import parse_compressor
from cram_hf.runtime import accelerate, break_even, kernel
from cram_hf.runtime.break_even import LEAST_ZEROS, NEAR, Measured, least_zeros
from cram_hf.runtime.library import LEVELS

ROOT = Path(__file__).parents[1]
SCRIPT, RESULTS = ROOT / "benchmarks" / "runtime_layers.py", ROOT / "results" / "benchmarks"
ROWS = (
    Measured(torch.float32, "fp32", 100 * 100, 0.6),
    Measured(torch.float32, "fp32", 1000 * 1000, 0.3),
    Measured(torch.bfloat16, "fp32", 100 * 100, 0.9),
)


def test_the_thresholds_are_those_of_the_results_files():
    reports = [json.loads(path.read_text()) for path in RESULTS.glob("runtime_layers*.json")]
    types = {torch.float32: "fp32", torch.bfloat16: "bf16"}
    found = {report["instructions"]: report["break_even"] for report in reports}
    assert found == {
        level: [{**row._asdict(), "dense": types[row.dense]} for row in rows]
        for level, rows in break_even.MEASURED.items()
    }
    assert len(reports) == len(found)


@pytest.mark.parametrize(
    ("dtype", "precision", "weights", "zeros"),
    [
        (torch.float32, "fp32", 1, 0.6),
        (torch.float32, "fp32", 99_000, 0.6),
        (torch.float32, "fp32", 101_000, 0.3),
        (torch.bfloat16, "fp32", 10**9, 0.9),
        (torch.float32, "bf16", 10_000, LEAST_ZEROS),
        (torch.float32, "fp32", 0, LEAST_ZEROS),
    ],
)
def test_the_measured_layer_of_the_same_types_nearest_in_size_decides(monkeypatch, dtype, precision, weights, zeros):
    monkeypatch.setattr(break_even, "MEASURED", {"avx2": ROWS, "plain": (Measured(dtype, precision, 1, 0.99),)})
    assert least_zeros("avx2", dtype, precision, weights) == (zeros if zeros == LEAST_ZEROS else zeros - NEAR)


def test_instructions_that_were_not_measured_get_the_most_cautious_answer(monkeypatch):
    lines = [(Measured(torch.float32, "fp32", 10, zeros),) for zeros in (0.4, 0.8, 0.6)]
    monkeypatch.setattr(break_even, "MEASURED", dict(zip(LEVELS, lines, strict=False)))
    assert [least_zeros(level, torch.float32, "fp32", 10) for level in LEVELS] == [0.39, 0.79, 0.59, 0.79, 0.79, 0.79]


@pytest.mark.skipif(kernel() is None, reason="the package was installed without a C++ compiler")
def test_each_layer_has_its_own_share_unless_one_is_given(monkeypatch):
    monkeypatch.setattr(break_even, "MEASURED", dict.fromkeys(LEVELS, ROWS))
    small, large = nn.Linear(150, 150), nn.Linear(800, 800)
    for layer in (small, large):
        with torch.no_grad():
            layer.weight *= torch.arange(layer.weight.numel()).view_as(layer.weight) % 2  # 50 % zeros
    model = nn.Sequential(small, large)
    report = accelerate(model)
    assert [layer.reason for layer in report.layers] == ["fewer than 59% are zero", "29% or more are zero"]
    assert accelerate(model, min_sparsity=0.4).replaced == ["0", "1"]


@pytest.mark.skipif(kernel() is None, reason="the package was installed without a C++ compiler")
@pytest.mark.parametrize("share", [0.7, 0.8, 0.9])
def test_what_is_pruned_to_a_share_of_zeros_has_that_share_though_it_is_no_whole_number_of_weights(share):
    model = nn.Sequential(nn.Linear(384, 383))
    parse_compressor(f"topk:{share}:layer").apply_({"weight": model[0].weight})
    assert accelerate(model, min_sparsity=share).replaced == ["0"]
    model = nn.Sequential(nn.Linear(384, 383))
    parse_compressor(f"topk:{share - 0.001}:layer").apply_({"weight": model[0].weight})
    assert accelerate(model, min_sparsity=share).replaced == []


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("runtime_layers", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(zeros: float, tokens: int, speed_up: float, by_medians: float = 2.0) -> dict[str, object]:
    place = {"shape": [4, 8], "dense": "fp32", "precision": "fp32"}
    times = {"dense_ms": by_medians, "sparse_ms": 1.0, "speed_up_of_least": speed_up}
    return {**place, "zeros": zeros, "tokens": tokens, **times}


@pytest.mark.parametrize(
    ("speed_ups", "zeros"),
    [
        ({0.3: 0.7, 0.5: 1.1, 0.8: 3.0}, 0.5),
        ({0.3: 1.2, 0.5: 1.4, 0.8: 3.0}, 0.3),
        ({0.3: 1.2, 0.5: 0.9, 0.8: 3.0}, 0.8),
        ({0.3: 0.2, 0.5: 0.4, 0.8: 0.9}, 1.0),
    ],
)
def test_the_break_even_is_where_no_number_of_tokens_is_slower_any_more(script, speed_ups, zeros):
    rows = [row(share, 128, 9.0) for share in speed_ups] + [row(share, 1, 0.1) for share in speed_ups]
    rows += [row(share, 16, speed_up) for share, speed_up in speed_ups.items()]
    assert script.break_even(rows) == [{"dense": "fp32", "precision": "fp32", "weights": 32, "zeros": zeros}]


def test_what_is_slower_by_the_medians_alone_is_slower(script):
    rows = [row(0.3, 128, 1.1, by_medians=0.9), row(0.5, 128, 1.1, by_medians=1.2)]
    assert [line["zeros"] for line in script.break_even(rows)] == [0.5]


def test_the_script_measures_and_prints_lines_that_python_reads(script, tmp_path, capsys):
    threads = torch.get_num_threads()
    out = tmp_path / "layers.json"
    grid = "--shapes 16x8 --tokens 1 16 --zeros 0.5 0.9 --rounds 2 --threads 1"
    try:
        script.main([*grid.split(), "--out", str(out)])
    finally:
        torch.set_num_threads(threads)
    report = json.loads(out.read_text())
    engine = kernel()
    precisions = ["fp32", "bf16", *(["fp16"] if engine is not None and engine.fp16 else []), "int8"]
    assert {row["precision"] for row in report["rows"]} == set(precisions)
    assert len(report["rows"]) == 2 * 2 * 2 * len(precisions)
    printed = eval(f"{{{capsys.readouterr().out}}}", {"torch": torch, "Measured": Measured})
    assert list(printed) == ["pytorch" if engine is None else engine.level]
    (lines,) = printed.values()
    assert [(line.dense, line.precision, line.weights) for line in lines] == [
        (dense, precision, 128) for dense in (torch.bfloat16, torch.float32) for precision in sorted(precisions)
    ]
    with pytest.raises(SystemExit):
        script.main([*grid.split(), "--out", str(out)])
    assert "results are never overwritten" in capsys.readouterr().err
    assert json.loads(out.read_text()) == report


@pytest.mark.skipif(kernel() is None, reason="the package was installed without a C++ compiler")
def test_a_model_pruned_as_a_whole_has_layers_a_little_below_its_share_and_they_count(monkeypatch):
    rows = (Measured(torch.float32, "fp32", 1, 0.8),)
    monkeypatch.setattr(break_even, "MEASURED", dict.fromkeys(LEVELS, rows))
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(160, 160, bias=False) for _ in range(4)))
    weights = dict(model.named_parameters())
    parse_compressor("topk:0.8").apply_(weights)
    shares = [float(weight.eq(0).float().mean()) for weight in weights.values()]
    assert 0.79 < min(shares) < 0.8 < max(shares)
    assert len(accelerate(model).replaced) == 4
