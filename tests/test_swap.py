"""Weights come back bit for bit, in place, whatever happens."""

from __future__ import annotations

import pytest
import torch
from conftest import assert_same, snapshot

from cram_hf import NM, Quantize, TopK, compressed, compressible_weights, swapped


@pytest.mark.parametrize("compressor", [TopK(0.8), TopK(0.5, "layer"), NM(2, 4), Quantize(4)])
def test_bit_for_bit_after_a_compressed_block(qa_model, compressor):
    before, weights = snapshot(qa_model), compressible_weights(qa_model)
    pointers = [w.data_ptr() for w in weights.values()]
    expected = compressor(weights)
    with compressed(weights, compressor):
        for name, w in weights.items():
            assert torch.equal(w, expected[name])
    assert_same(qa_model, before)
    assert [w.data_ptr() for w in weights.values()] == pointers


def test_when_the_block_raises(qa_model):
    before, weights = snapshot(qa_model), compressible_weights(qa_model)
    with pytest.raises(RuntimeError, match="in the block"), compressed(weights, TopK(0.9)):
        raise RuntimeError("in the block")
    assert_same(qa_model, before)


class Failing(torch.Tensor):
    def split(self, rows):
        raise RuntimeError("out of memory")


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        (torch.zeros(4, 4).as_subclass(Failing), None),
        (torch.zeros(1).expand(4, 4), None),  # cannot be written
        (torch.zeros(2, 4), torch.tensor([1, 4])),  # no such row
    ],
)
def test_when_the_exchange_itself_fails_half_way(value, rows):
    weights = {"a": torch.ones(4, 4), "b": torch.ones(4, 4)}
    with (
        pytest.raises((RuntimeError, IndexError)),
        swapped(weights, {"a": torch.zeros(4, 4), "b": value}, {} if rows is None else {"b": rows}),
    ):
        pass
    assert all((w == 1).all() for w in weights.values())


def test_swapped_refuses_other_shapes_and_changes_nothing():
    weights = {"a": torch.ones(2), "b": torch.ones(2)}
    with (
        pytest.raises(ValueError, match="shape and dtype must be the same"),
        swapped(weights, {"a": torch.zeros(2), "b": torch.zeros(3)}),
    ):
        pass
    assert (weights["a"] == 1).all()


def test_swapped_never_rebinds_storage_and_handles_odd_shapes():
    weights = {
        "scalar": torch.tensor(3.0),
        "empty": torch.empty(0, 4),
        "strided": torch.arange(12.0).view(3, 4).t(),
    }
    values = {name: torch.zeros_like(w) for name, w in weights.items()}
    pointers, before = [w.data_ptr() for w in weights.values()], {n: w.clone() for n, w in weights.items()}
    with swapped(weights, values):
        assert all((w == 0).all() for w in weights.values())
    assert all(torch.equal(w, before[name]) for name, w in weights.items())
    assert [w.data_ptr() for w in weights.values()] == pointers


def test_rows_of_a_table_are_exchanged_and_come_back():
    table = torch.arange(12.0).view(6, 2)
    before, rows = table.clone(), torch.tensor([1, 4])
    with pytest.raises(RuntimeError) as error, swapped({"t": table}, {"t": -torch.ones(2, 2)}, {"t": rows}):
        raise RuntimeError(table.tolist())
    assert error.value.args[0] == [[0, 1], [-1, -1], [4, 5], [6, 7], [-1, -1], [10, 11]]
    assert torch.equal(table, before)


def test_a_value_of_other_rows_than_told_is_refused():
    table = torch.zeros(6, 2)
    with (
        pytest.raises(ValueError, match=r"t is \(2, 2\) torch.float32, its new value \(6, 2\)"),
        swapped({"t": table}, {"t": torch.ones(6, 2)}, {"t": torch.tensor([1, 4])}),
    ):
        pass
    assert (table == 0).all()
