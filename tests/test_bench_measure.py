"""Turns, quartiles and verdicts; a wrong output or a broken engine fails its row and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bench_fixtures import make_subject

from cram_hf.bench import Cell, Engine, measure_cell, sentences, verdict
from cram_hf.bench.engines import eager
from cram_hf.bench.measure import compared, difference, interleaved, quartiles, thread_count
from cram_hf.bench.sparse_layers import UnsuitableError

CELL = Cell(batch_size=2, seq_length=6, threads=1)


@pytest.fixture(scope="module")
def subjects():
    return [make_subject(spec, Path()) for spec in ("as it is", "topk:0.9")]


@pytest.fixture(autouse=True)
def short_turns(monkeypatch):
    monkeypatch.setattr("cram_hf.bench.measure.TURN_SECONDS", 0)


def only_pruned(act):
    """An engine that is eager for the dense model and does `act` for the pruned one."""
    return Engine("odd", lambda subject, inputs: (eager if subject.spec == "as it is" else act)(subject, inputs))


class TestMeasure:
    def test_rows_have_times_a_ratio_and_the_difference(self, subjects):
        dense, pruned = measure_cell(Engine("eager", eager), subjects, CELL, rounds=8, seed=0)
        assert (dense["engine"], dense["spec"], dense["batch_size"]) == ("eager", "as it is", 2)
        assert "ratio" not in dense
        assert dense["sequences_per_second"] == pytest.approx(2000 / dense["milliseconds"]["median"])
        assert pruned["ratio"]["rounds"] == 8
        assert pruned["max_difference"] == 0
        assert dense["prepare_seconds"] >= 0

    def test_a_lost_mask_is_a_wrong_output(self, subjects):
        def blind(subject, inputs):
            run = eager(subject, inputs)
            return lambda given: run({**given, "attention_mask": torch.ones_like(given["attention_mask"])})

        dense, pruned = measure_cell(only_pruned(blind), subjects, CELL, rounds=2, seed=0)
        assert "milliseconds" in dense
        assert "milliseconds" not in pruned
        assert pruned["error"].startswith("wrong output: differs by ")
        assert pruned["max_difference"] > 0.01

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_logits_that_are_no_numbers_are_wrong(self, value, subjects):
        def broken(subject, inputs):
            run = eager(subject, inputs)
            return lambda given: tuple(tensor * value for tensor in run(given))

        _, pruned = measure_cell(only_pruned(broken), subjects, CELL, rounds=2, seed=0)
        assert pruned["max_difference"] is None
        assert "wrong output" in pruned["error"]

    def test_an_engine_that_breaks_fails_its_row_alone(self, subjects):
        def broken(subject, inputs):
            raise RuntimeError("no such\noperator")

        dense, pruned = measure_cell(only_pruned(broken), subjects, CELL, rounds=2, seed=0)
        assert pruned["error"] == "RuntimeError: no such operator"
        assert "milliseconds" in dense
        (alone,) = measure_cell(Engine("odd", broken), subjects[:1], CELL, rounds=2, seed=0)
        assert alone["error"] == "RuntimeError: no such operator"

    def test_a_model_that_an_engine_is_not_for_is_no_error(self, subjects):
        def picky(subject, inputs):
            raise UnsuitableError("no layer is 2:4")

        _, pruned = measure_cell(only_pruned(picky), subjects, CELL, rounds=2, seed=0)
        assert pruned["skipped"] == "no layer is 2:4"
        assert "error" not in pruned

    def test_the_dense_model_may_be_run_by_another_engine(self, subjects):
        seen = []

        def sparse(subject, inputs):
            seen.append(subject.spec)
            return eager(subject, inputs)

        measure_cell(Engine("sparse", sparse, dense=eager), subjects, CELL, rounds=1, seed=0)
        assert seen == ["topk:0.9"]

    def test_ctrl_c_goes_through_and_the_threads_are_put_back(self, subjects):
        seen = []

        def stopped(subject, inputs):
            seen.append(torch.get_num_threads())
            raise KeyboardInterrupt

        before = torch.get_num_threads()
        with pytest.raises(KeyboardInterrupt):
            measure_cell(Engine("odd", stopped), subjects, Cell(1, 4, before + 1), rounds=1, seed=0)
        assert seen == [before + 1]
        assert torch.get_num_threads() == before


class TestTurns:
    def test_each_has_a_turn_a_round_and_the_first_changes(self):
        calls = []
        times = interleaved({key: lambda key=key: calls.append(key) for key in (0, 1, 2)}, rounds=3)
        assert calls[3:] == [0, 1, 2, 1, 2, 0, 2, 0, 1]  # the first three say how many calls fill a turn
        assert [len(values) for values in times.values()] == [3, 3, 3]

    def test_short_calls_are_repeated_until_the_turn_is_full(self, monkeypatch):
        monkeypatch.setattr("cram_hf.bench.measure.TURN_SECONDS", 1.0)
        clock = iter([0.0, 0.3, 1.0, 2.0])  # one call takes 0.3 s, so four fill a turn, which took 1 s
        monkeypatch.setattr("cram_hf.bench.measure.time.perf_counter", lambda: next(clock))
        calls = []
        assert interleaved({0: lambda: calls.append(0)}, rounds=1) == {0: [0.25]}
        assert len(calls) == 5

    def test_nothing_to_call_takes_no_turns(self):
        assert interleaved({}, rounds=3) == {}

    def test_threads_are_put_back(self):
        before = torch.get_num_threads()
        with thread_count(before + 1):
            assert torch.get_num_threads() == before + 1
        assert torch.get_num_threads() == before


class TestNumbers:
    def test_quartiles_include_the_ends(self):
        assert quartiles([5, 1, 2, 4, 3]) == {"median": 3, "q1": 2, "q3": 4}
        assert quartiles([7]) == {"median": 7, "q1": 7, "q3": 7}

    def test_ratios_are_taken_round_by_round(self):
        assert compared([1, 4, 3], [2, 2, 6]) == {
            "median": 0.5,
            "q1": 0.5,
            "q3": 1.25,
            "rounds": 3,
            "faster_rounds": 2,
        }

    def test_the_difference_is_the_largest_of_all_outputs(self):
        a, b = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5])
        assert difference((a, a), (a, b)) == 0.5
        assert difference((a,), (a, b)) == float("inf")
        assert difference((a[:1],), (a,)) == float("inf")
        assert str(difference((a * float("nan"), a), (a, b))) == "nan"


def ratio(median: float, faster: int, rounds: int = 15) -> dict[str, float]:
    return {"median": median, "q1": median, "q3": median, "rounds": rounds, "faster_rounds": faster}


class TestVerdicts:
    @pytest.mark.parametrize(
        ("found", "word"),
        [
            (ratio(0.8, 15), "faster"),
            (ratio(0.8, 13), "faster"),  # chance 0.0074
            (ratio(0.8, 12), "same"),  # chance 0.035
            (ratio(1.3, 0), "slower"),
            (ratio(1.3, 3), "same"),
            (ratio(0.98, 15), "same"),  # too near to 1
            (ratio(0.5, 8, rounds=8), "faster"),
            (ratio(0.5, 7, rounds=7), "same"),  # seven of seven are chance in 1.6 % of cases
        ],
    )
    def test_a_difference_is_one_when_the_rounds_agree(self, found, word):
        assert verdict(found) == word

    def row(self, engine, spec, median, found=None, **more):
        shape = {"batch_size": 1, "seq_length": 16, "threads": 1}
        times = {"milliseconds": {"median": median}}
        return {"engine": engine, "spec": spec, **shape, **times, **({"ratio": found} if found else {}), **more}

    def test_sparsity_that_brings_nothing_is_said(self):
        rows = [self.row("eager", "as it is", 10), self.row("eager", "topk:0.9", 10, ratio(1.01, 7))]
        assert sentences(rows, {"eager": False}) == [
            "eager: sparsity brings nothing; pruned takes 1.01 of dense's time, within the noise: this engine "
            "multiplies zeros like other numbers."
        ]

    def test_sparsity_that_costs_time_is_said(self):
        rows = [self.row("csr", "as it is", 10)]
        rows += [self.row("csr", spec, 10 * m, ratio(m, 0)) for spec, m in (("topk:0.5", 3.0), ("topk:0.9", 1.2))]
        assert sentences(rows, {"csr": True}) == [
            "csr: sparsity costs time in 2 of 2 comparisons; pruned takes 1.20 to 3.00 of dense's."
        ]

    def test_a_gain_is_set_against_the_fastest_dense_engine(self):
        rows = [self.row("csr", "as it is", 10), self.row("csr", "topk:0.9", 6, ratio(0.6, 15))]
        rows += [self.row("csr", "topk:0.5", 30, ratio(3.0, 0)), self.row("onnxruntime", "as it is", 5)]
        assert sentences(rows, {"csr": True, "onnxruntime": False}) == [
            "csr: pruned is faster in 1 of 2 comparisons, slower in 1, at best 0.60 of dense's time (topk:0.9, batch "
            "1, 16 tokens, 1 thread).",
            "onnxruntime: nothing to compare with; give compressions with --to.",
            "Against the fastest of these engines for the dense model, a pruned one is faster in 0 of the 1 "
            "shapes where pruning helps an engine.",
        ]

    def test_a_win_over_the_fastest_dense_engine_is_of_an_engine_that_gained_and_beyond_noise(self):
        def won(sparse: float, compiled: float, by: float) -> str:
            rows = [self.row("sparse", "as it is", 10), self.row("sparse", "topk:0.9", sparse, ratio(sparse / 10, 15))]
            rows += [self.row("compile", "as it is", 7), self.row("compile", "topk:0.9", compiled, ratio(by, 9))]
            return sentences(rows, {"sparse": True, "compile": False})[-1]

        assert "is faster in 0 of the 1 shapes" in won(sparse=8, compiled=6, by=0.99)
        assert "is faster in 0 of the 1 shapes" in won(sparse=6.9, compiled=7, by=1.0)
        assert "is faster in 1 of the 1 shapes" in won(sparse=6, compiled=7, by=1.0)

    def test_a_compression_that_an_engine_is_not_for_is_named_with_the_reason(self):
        rows = [self.row("sparse", "as it is", 10), self.row("sparse", "topk:0.9", 5, ratio(0.5, 15))]
        rows.append({**self.row("sparse", "nm:2:4", 0), "skipped": "no layer gains"})
        told = sentences([*rows, rows[-1]], {"sparse": True})
        assert told[0].endswith("1 thread). Not for nm:2:4: no layer gains.")

    def test_a_gain_without_a_reason_is_doubted(self):
        rows = [self.row("eager", "as it is", 10), self.row("eager", "topk:0.9", 9, ratio(0.9, 15))]
        told = sentences(rows, {"eager": False})
        assert told[0].endswith("; it does not skip zeros, so look for noise first: more --rounds.")
        assert "is faster in 1 of the 1 shapes" in told[1]

    def test_rows_that_were_not_measured_say_why(self):
        rows = [{"engine": "openvino", "spec": "as it is", "error": "RuntimeError: no"}]
        assert sentences(rows, {"openvino": False}) == ["openvino: not compared; RuntimeError: no."]
