"""compressible_weights chooses the encoder's matrices, nothing shared, and says what it chose."""

from __future__ import annotations

import logging
import re

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertForQuestionAnswering, BertModel

from cram_hf import compressible_weights

SIX = [
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
]


@pytest.fixture(scope="module")
def bert_base() -> BertForQuestionAnswering:
    with torch.device("meta"):
        return BertForQuestionAnswering(BertConfig())


class TestTheDefaultChoice:
    def test_of_bert_base_is_72_matrices_and_84934656_weights(self, bert_base):
        weights = compressible_weights(bert_base)
        assert len(weights) == 72
        assert sum(w.numel() for w in weights.values()) == 84_934_656
        assert sum(p.numel() for p in bert_base.parameters()) == 108_893_186

    def test_is_the_six_matrices_of_each_layer_in_the_models_order(self, qa_model):
        expected = [f"bert.encoder.layer.{layer}.{name}.weight" for layer in (0, 1) for name in SIX]
        assert list(compressible_weights(qa_model)) == expected

    def test_gives_the_models_own_parameters(self, qa_model):
        parameters = dict(qa_model.named_parameters())
        for name, w in compressible_weights(qa_model).items():
            assert w is parameters[name]

    @pytest.mark.parametrize("head", ["question_answering", "sequence_classification", "masked_lm"])
    def test_is_the_same_under_every_head(self, make_model, qa_model, head):
        assert list(compressible_weights(make_model(head))) == list(compressible_weights(qa_model))

    def test_leaves_the_tied_masked_lm_decoder_out_even_inside_a_block(self, make_model):
        model = make_model("masked_lm")
        model.bert.encoder.layer[0].decoder = model.cls.predictions.decoder
        assert model.bert.encoder.layer[0].decoder.weight is model.bert.embeddings.word_embeddings.weight
        assert not any("decoder" in name or "embeddings" in name for name in compressible_weights(model))

    def test_leaves_out_a_matrix_that_two_modules_share(self, qa_model):
        first, second = qa_model.bert.encoder.layer
        second.intermediate.dense.weight = first.intermediate.dense.weight
        names = list(compressible_weights(qa_model))
        assert len(names) == 10
        assert not any(".intermediate." in name for name in names)

    def test_without_repeated_blocks_is_every_linear_and_convolution_layer(self):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv1d(8, 4, 1), nn.Linear(4, 2))
        assert list(compressible_weights(model)) == ["0.weight", "3.weight", "4.weight"]

    def test_with_repeated_blocks_is_the_layers_inside_them(self):
        model = nn.Module()
        model.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(2)])
        model.blocks_head = nn.Linear(4, 2)
        assert list(compressible_weights(model)) == ["blocks.0.0.weight", "blocks.1.0.weight"]

    def test_of_a_compiled_model_has_the_names_of_the_model(self, qa_model):
        compiled = torch.compile(qa_model)
        assert compressible_weights(compiled).keys() == compressible_weights(qa_model).keys()


class TestPatterns:
    def names(self, model, **patterns) -> list[str]:
        return [name.removesuffix(".weight") for name in compressible_weights(model, **patterns)]

    def test_a_word_matches_whole_parts_of_a_name(self, qa_model):
        assert self.names(qa_model, include=["query"]) == [
            "bert.encoder.layer.0.attention.self.query",
            "bert.encoder.layer.1.attention.self.query",
        ]
        assert self.names(qa_model, include=["encoder.layer.1", "layer.0.output"], exclude=["attention"]) == [
            "bert.encoder.layer.0.output.dense",
            "bert.encoder.layer.1.intermediate.dense",
            "bert.encoder.layer.1.output.dense",
        ]

    def test_layer_1_is_not_layer_10_or_11(self, bert_base):
        assert len(self.names(bert_base, include=["layer.1"])) == 6
        assert len(self.names(bert_base, include=["*layer.1*"])) == 18

    def test_a_glob_matches_the_whole_parameter_name(self, qa_model):
        assert len(self.names(qa_model, include=["*.attention.*.weight"])) == 8
        assert len(self.names(qa_model, exclude=["*.layer.[0]*"])) == 6
        with pytest.raises(ValueError, match=re.escape("'attention.*' matches no weight")):
            compressible_weights(qa_model, include=["attention.*"])

    def test_exclude_takes_away_from_the_default(self, qa_model):
        names = self.names(qa_model, exclude=["query", "key"])
        assert len(names) == 8
        assert not any("query" in name or "key" in name for name in names)

    def test_include_can_ask_for_pooler_embeddings_and_head(self, make_model):
        assert self.names(make_model("sequence_classification"), include=["pooler", "classifier", "embeddings"]) == [
            "bert.embeddings.word_embeddings",
            "bert.embeddings.position_embeddings",
            "bert.embeddings.token_type_embeddings",
            "bert.pooler.dense",
            "classifier",
        ]

    def test_include_gives_a_tied_matrix_once(self):
        config = BertConfig(
            vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
        )
        assert self.names(BertForMaskedLM(config), include=["*word_embeddings*"]) == [
            "bert.embeddings.word_embeddings"
        ]

    def test_no_pattern_ever_chooses_a_bias_or_a_norm(self, qa_model):
        assert all(w.dim() == 2 for w in compressible_weights(qa_model, include=["*"]).values())
        with pytest.raises(ValueError, match="'LayerNorm' matches no weight"):
            compressible_weights(qa_model, include=["LayerNorm"])

    def test_a_pattern_that_matches_nothing_is_an_error_with_near_names(self, qa_model):
        with pytest.raises(ValueError, match=r"^--compress_include 'qurey' matches no weight\. Near names: query"):
            compressible_weights(qa_model, include=["qurey"])
        with pytest.raises(ValueError, match=r"^--compress_exclude 'layr' matches no weight\. Near names: layer"):
            compressible_weights(qa_model, exclude=["layr"])

    def test_a_pattern_that_resembles_nothing_gets_the_list_of_parts(self, qa_model):
        with pytest.raises(ValueError, match="Near names: attention, bert, dense, encoder, intermediate, key, layer"):
            compressible_weights(qa_model, exclude=["zzz"])

    def test_all_bad_patterns_are_told_at_once(self, qa_model):
        with pytest.raises(ValueError, match=r"'qurey' matches.*'keey' matches.*--compress_exclude 'valeu' matches"):
            compressible_weights(qa_model, include=["qurey", "query", "keey"], exclude=["valeu"])

    def test_nothing_left_is_an_error_that_lists_the_matrices(self, qa_model):
        with pytest.raises(ValueError, match=r"BertForQuestionAnswering has no weights left .*qa_outputs\.weight"):
            compressible_weights(qa_model, exclude=["encoder"])
        with pytest.raises(ValueError, match=r"LayerNorm has no weights left to compress\..*its matrices are: none"):
            compressible_weights(nn.LayerNorm(4))


def test_what_was_chosen_is_logged_at_info(qa_model, caplog):
    caplog.set_level(logging.INFO, logger="cram_hf")
    compressible_weights(qa_model)
    total = sum(p.numel() for p in qa_model.parameters())
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.INFO] == [
        f"12 compressible weights, 4,096 of {total:,} parameters ({4096 / total:.1%}): "
        "bert.encoder.layer.0.attention.self.query.weight ... bert.encoder.layer.1.output.dense.weight"
    ]


def test_nothing_of_the_model_is_changed(qa_model):
    before = {name: (p.data_ptr(), p.clone()) for name, p in qa_model.named_parameters()}
    compressible_weights(qa_model, include=["*"], exclude=["query"])
    for name, p in qa_model.named_parameters():
        pointer, value = before[name]
        assert p.data_ptr() == pointer
        assert torch.equal(p, value)


def test_a_bare_encoder_without_head_gives_the_same_matrices():
    with torch.device("meta"):
        model = BertModel(BertConfig(num_hidden_layers=3))
    assert len(compressible_weights(model)) == 18
