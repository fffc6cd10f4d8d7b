"""`layers:FILE`: a count for each layer, from a file that may be anything."""

from __future__ import annotations

import json
import math

import pytest
import torch
from compressor_fixtures import copies, same_bits

from cram_hf import TopK, parse_compressor
from cram_hf.compressors import LayerZeros

LAYERS = (("query", 8, 6), ("value", 4, 0), ("dense", 6, 6))


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"query": torch.randn(2, 4), "value": torch.randn(2, 2), "dense": torch.randn(3, 2)}


@pytest.fixture
def word(tmp_path, monkeypatch):
    """The word of a file in the folder that the command runs in."""
    monkeypatch.chdir(tmp_path)
    found = LayerZeros("spread.json", LAYERS)
    (tmp_path / "spread.json").write_text(json.dumps(found.document()))
    return found.spec


def test_each_layer_loses_its_smallest_magnitudes_as_top_k_on_it_alone(word):
    out = parse_compressor(word)(weights())
    assert same_bits({"query": out["query"]}, TopK(0.75)({"query": weights()["query"]}))
    assert torch.equal(out["value"], weights()["value"])
    assert not out["dense"].any()


def test_it_is_pure_and_idempotent_and_has_masks_where_it_prunes(word):
    compressor, given = parse_compressor(word), weights()
    once = compressor(given)
    assert same_bits(given, weights())
    assert same_bits(compressor(once), once)
    masks = compressor.apply_(copies(given))
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"query": 2, "dense": 0}


def test_the_word_is_the_file_and_the_key_its_name(word):
    compressor = parse_compressor(word)
    assert (compressor.spec, compressor.key) == ("layers:spread.json", "layers_spread")
    assert compressor == LayerZeros("spread.json", LAYERS)
    chain = parse_compressor(f"{word}+quantize:8")
    assert (chain.spec, chain.key) == ("layers:spread.json+quantize:8", "layers_spread+quantize_8")
    assert LayerZeros("runs/a/0.73.json", LAYERS).key == "layers_0.73"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"extra": torch.ones(1)}, r"\(1 differ\): extra has 1 numbers here and no in the file"),
        ({"query": torch.ones(3)}, "query has 3 numbers here and 8 in the file. Give the model it was made for"),
    ],
)
def test_other_weights_are_refused_and_stay_as_they_are(change, sentence, word):
    given = {**weights(), **change}
    before = copies(given)
    with pytest.raises(ValueError, match=sentence):
        parse_compressor(word).apply_(given)
    assert same_bits(given, before)


def test_nan_is_refused_by_name(word):
    with pytest.raises(ValueError, match="1 of 3 weights hold NaN, first 'dense'"):
        parse_compressor(word)({**weights(), "dense": torch.full((3, 2), math.nan)})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "layers: spread.json cannot be read: .*No such file"),
        ("{", "layers: spread.json cannot be read: "),
        ("[]", "layers: spread.json is no file of layers"),
        ('{"schema": "cram_hf/layer_zeros", "schema_version": 2, "layers": {}}', r".*\(version 1\) as cram-hf choose"),
        ('{"schema": "cram_hf/layer_zeros", "schema_version": 1, "layers": {"w": {"size": 4}}}', ".*is no file of"),
        (
            '{"schema": "cram_hf/layer_zeros", "schema_version": 1, "layers": {"w": {"size": 4, "zeros": 5}}}',
            "layers: spread.json: w cannot lose that many of its weights; from 0 to all",
        ),
    ],
)
def test_a_file_that_is_none_of_these_is_refused(content, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "spread.json").write_text(content)
    with pytest.raises(ValueError, match=f"compressor 'layers:spread.json': {sentence}"):
        parse_compressor("layers:spread.json")


def test_a_path_with_signs_that_join_words_is_refused():
    with pytest.raises(ValueError, match="holds ':' or '\\+', which join words"):
        LayerZeros("CrAM+/spread.json", LAYERS)
