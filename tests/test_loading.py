"""Where a model and a tokenizer come from: a folder, or nothing but an architecture."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_config
from squad_fixtures import tiny_tokenizer
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, BertForSequenceClassification

from cram_hf.loading import ModelArguments, ScratchArguments, load_model, load_tokenizer

CLASSIFY = SimpleNamespace(auto_class=AutoModelForSequenceClassification)
FILL = SimpleNamespace(auto_class=AutoModelForMaskedLM)
SHAPE = "hidden_size=16,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny classifier of three classes with its tokenizer."""
    path = tmp_path_factory.mktemp("model")
    BertForSequenceClassification(tiny_config(3)).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return str(path)


class TestATrainedModel:
    def test_takes_what_the_data_ask_of_its_configuration(self, folder):
        names = {0: "no", 1: "yes", 2: "maybe"}
        model = load_model(CLASSIFY, ModelArguments(folder), {"id2label": names})
        assert model.config.id2label == names
        assert model.classifier.out_features == 3

    def test_gets_a_new_head_of_another_shape_only_if_asked(self, folder):
        with pytest.raises(ValueError, match=r"(?s)--model_name_or_path.*ignore_mismatched_sizes"):
            load_model(CLASSIFY, ModelArguments(folder), {"num_labels": 5})
        model = load_model(CLASSIFY, ModelArguments(folder, ignore_mismatched_sizes=True), {"num_labels": 5})
        assert model.classifier.out_features == 5

    def test_says_which_weights_of_its_head_start_anew(self, folder, caplog):
        with caplog.at_level("INFO", logger="cram_hf"):
            load_model(FILL, ModelArguments(folder), {})
        assert "these start anew: cls.predictions." in caplog.text

    def test_is_refused_where_it_knows_the_labels_in_another_order(self, folder, tmp_path):
        names = {"no": 0, "yes": 1, "maybe": 2}
        config = {"num_labels": 3, "label2id": names, "id2label": {i: name for name, i in names.items()}}
        load_model(CLASSIFY, ModelArguments(folder), config).save_pretrained(tmp_path)
        load_model(CLASSIFY, ModelArguments(str(tmp_path)), config)
        swapped = {"yes": 0, "no": 1, "maybe": 2}
        other = {**config, "label2id": swapped, "id2label": {i: name for name, i in swapped.items()}}
        with pytest.raises(ValueError, match="no, yes, maybe in this order, those of the data yes, no, maybe"):
            load_model(CLASSIFY, ModelArguments(str(tmp_path)), other)
        load_model(CLASSIFY, ModelArguments(str(tmp_path), ignore_mismatched_sizes=True), other)

    def test_trains_with_the_dropout_that_was_asked_for(self, folder):
        model = load_model(CLASSIFY, ModelArguments(folder, dropout=0.25), {})
        assert {m.p for m in model.bert.modules() if isinstance(m, torch.nn.Dropout)} == {0.25}

    def test_is_loaded_in_single_precision_unless_another_is_asked_for(self, folder, tmp_path):
        BertForSequenceClassification.from_pretrained(folder, dtype="bfloat16").save_pretrained(tmp_path)
        for asked, given in {None: torch.float32, "auto": torch.bfloat16, "float16": torch.float16}.items():
            args = ModelArguments(str(tmp_path), **({"dtype": asked} if asked else {}))
            model = load_model(CLASSIFY, args, {})
            assert {p.dtype for p in model.parameters()} == {given}
            assert model.config.dtype == given

    def test_refuses_files_that_only_pickle_can_read(self, folder, tmp_path):
        for file in Path(folder).iterdir():
            if file.suffix != ".safetensors":
                (tmp_path / file.name).write_bytes(file.read_bytes())
        torch.save({}, tmp_path / "pytorch_model.bin")
        with pytest.raises(ValueError, match=f"--model_name_or_path {tmp_path}: .*safetensors"):
            load_model(CLASSIFY, ModelArguments(str(tmp_path)), {})

    def test_names_the_flag_of_a_tokenizer_that_is_not_there(self, folder, tmp_path):
        with pytest.raises(ValueError, match="--tokenizer_name"):
            load_tokenizer(ModelArguments(folder, tokenizer_name=str(tmp_path / "none")))


class TestAModelFromScratch:
    def test_has_the_architecture_and_the_shape_that_were_asked_for(self):
        args = ScratchArguments(model_type="bert", config_overrides=SHAPE)
        model = load_model(FILL, args, {"vocab_size": 40, "pad_token_id": 3})
        assert model.config.model_type == "bert"
        assert model.bert.embeddings.word_embeddings.weight.shape == (40, 16)
        assert model.bert.embeddings.word_embeddings.padding_idx == 3
        assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight

    @pytest.mark.parametrize(("dtype", "given"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
    def test_has_the_type_of_weights_that_was_asked_for(self, dtype, given):
        args = ScratchArguments(model_type="bert", config_overrides=SHAPE, dtype=dtype)
        assert {p.dtype for p in load_model(FILL, args, {"vocab_size": 40}).parameters()} == {given}

    def test_gets_the_vocabulary_of_its_tokenizer(self):
        tokenizer = tiny_tokenizer()
        model = load_model(FILL, ScratchArguments(model_type="bert", config_overrides=SHAPE), {}, tokenizer)
        assert model.config.vocab_size == len(tokenizer)
        assert model.config.pad_token_id == tokenizer.pad_token_id

    def test_can_take_the_configuration_of_another(self, folder):
        model = load_model(FILL, ScratchArguments(config_name=folder), {})
        assert model.config.hidden_size == 16

    def test_needs_a_tokenizer(self):
        with pytest.raises(ValueError, match="give --tokenizer_name FOLDER, or --train_tokenizer"):
            load_tokenizer(ScratchArguments(model_type="bert"))

    @pytest.mark.parametrize(
        ("flags", "sentence"),
        [
            ({}, "Start either from a model"),
            ({"model_name_or_path": "x", "model_type": "bert"}, "Start either from a model"),
            ({"model_type": "brt"}, "no such architecture; did you mean bert"),
            ({"model_name_or_path": "x", "config_overrides": SHAPE}, "a trained one keeps its shape"),
        ],
    )
    def test_refuses_flags_that_contradict_each_other(self, flags, sentence):
        with pytest.raises(ValueError, match=sentence):
            ScratchArguments(**flags)

    @pytest.mark.parametrize("change", ["hiden_size=16", "classifier_dropout=0.1"])
    def test_names_an_override_that_the_configuration_does_not_have_or_cannot_take(self, change):
        args = ScratchArguments(model_type="bert", config_overrides=change)
        with pytest.raises(ValueError, match=rf"A model from scratch: .*{change.split('=')[0]}"):
            load_model(FILL, args, {})
