"""The masked-LM task in a Trainer: exact scores, the same masks everywhere, exact gradients, the right weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_config
from mlm_fixtures import arguments, prepare, tiny_model, write_lines
from squad_fixtures import SHARED, tiny_tokenizer
from trainer_fixtures import Gradients, distance
from transformers import AutoModelForMaskedLM, BertForMaskedLM, BertModel, EvalPrediction

from cram_hf import CrAMArguments, CrAMTrainer, compressible_weights
from cram_hf.compressors import parse_compressor
from cram_hf.export import export
from cram_hf.loading import ModelArguments, load_model
from cram_hf.tasks.base import Task, TaskData
from cram_hf.tasks.mlm import MaskedLM
from cram_hf.tasks.mlm_scoring import MaskedScorer, reduce_logits

MATRICES = (
    *("attention.self.query", "attention.self.key", "attention.self.value"),
    *("attention.output.dense", "intermediate.dense", "output.dense"),
)


@pytest.fixture
def text(tmp_path: Path) -> str:
    return write_lines(tmp_path / "text.txt", times=8)


def trainer(folder: Path, data: TaskData, model: torch.nn.Module, **changes: Any) -> CrAMTrainer:
    """A trainer as the runner builds it."""
    evaluation = data.evaluation
    callbacks = changes.pop("callbacks", [])
    data.prepare_model(model)
    built = CrAMTrainer(
        model=model,
        args=arguments(folder, **changes),
        train_dataset=data.train,
        eval_dataset=evaluation.features if evaluation else None,
        compute_metrics=evaluation.compute_metrics if evaluation else None,
        preprocess_logits_for_metrics=data.preprocess_logits,
        data_collator=data.collator,
        callbacks=callbacks,
    )
    built.exact_loss = True
    return built


def literal_scores(model: BertForMaskedLM, rows: Any) -> dict[str, float]:
    """Row by row, token by token, in double precision."""
    loss, hits, count = 0.0, 0, 0
    model = model.double().eval()
    for row in rows:
        with torch.no_grad():
            logits = model(torch.tensor([row["input_ids"]])).logits[0]
        for position, label in enumerate(row["labels"]):
            if label != -100:
                scores = [float(score) for score in logits[position]]
                loss -= scores[label] - math.log(sum(math.exp(score) for score in scores))
                hits += scores.index(max(scores)) == label
                count += 1
    model.float()
    return {"perplexity": math.exp(loss / count), "accuracy": hits / count, "loss": loss / count}


class TestScores:
    @pytest.mark.parametrize("batch", [1, 3, 64])
    def test_equal_a_slow_literal_computation_at_any_batch_size(self, tmp_path, text, batch):
        data = prepare(tmp_path, validation_file=text, train_file=text, line_by_line=True)
        model = tiny_model(len(tiny_tokenizer()))
        model.cls.predictions.bias.data[tiny_tokenizer().vocab["the"]] = 9.0  # so that it is right at times
        assert len(data.evaluation.features) == 40
        metrics = trainer(tmp_path, data, model, per_device_eval_batch_size=batch).evaluate()
        expected = literal_scores(model, data.evaluation.features)
        assert expected["perplexity"] > 90.0
        assert 0.02 < expected["accuracy"] < 0.5
        for name, value in expected.items():
            assert metrics[f"eval_{name}"] == pytest.approx(value, rel=1e-5)

    def test_are_reduced_to_three_numbers_a_row(self):
        logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], [[0.2, 0.6, 0.2], [0.2, 0.2, 0.6]]]))
        labels = torch.tensor([[1, 2], [-100, -100]])
        expected = torch.tensor([[math.log(4) + math.log(1.25), 1.0, 2.0], [0.0, 0.0, 0.0]])
        assert torch.allclose(reduce_logits(logits, labels), expected)
        assert torch.allclose(reduce_logits((logits, "hidden states"), labels), expected)

    def test_overflow_is_an_infinite_perplexity_with_a_finite_loss(self):
        scores = MaskedScorer(1, 2)(EvalPrediction(np.array([[2000.0, 0.0, 2.0]]), None))
        assert scores == {"perplexity": math.inf, "accuracy": 0.0, "loss": 1000.0}

    def test_predictions_of_other_rows_are_noticed(self):
        message = "predictions for 3 masked tokens in 1 rows, but the set has 2 in 1"
        with pytest.raises(ValueError, match=message):
            MaskedScorer(1, 2)(EvalPrediction(np.array([[1.0, 0.0, 3.0]]), None))

    def test_are_of_the_same_tokens_when_compressed(self, tmp_path, text):
        data = prepare(tmp_path, validation_file=text, train_file=text)
        model = tiny_model(len(tiny_tokenizer()))
        metrics = trainer(tmp_path, data, model, eval_compressors=["topk:0", "topk:0.8"]).evaluate()
        assert metrics["eval_topk_0_perplexity"] == metrics["eval_perplexity"]
        assert metrics["eval_topk_0.8_perplexity"] != metrics["eval_perplexity"]


class TestData:
    def test_evaluation_rows_do_not_depend_on_the_seed_and_come_longest_first(self, tmp_path, text):
        def rows(**training: Any) -> list[dict[str, Any]]:
            data = prepare(tmp_path, training=training, validation_file=text, train_file=text, line_by_line=True)
            return data.evaluation.features.to_list()

        assert rows(seed=1) == rows(seed=2) == rows(do_train=False)
        lengths = [row["length"] for row in rows()]
        assert lengths == sorted(lengths, reverse=True)
        assert len(set(lengths)) > 2

    def test_parts_are_made_when_asked_for_and_reported(self, tmp_path, text):
        data = prepare(tmp_path, training={"do_eval": False}, train_file=text)
        assert (data.interim, data.evaluation, data.predict) == (None, None, None)
        assert data.report == {
            "train": {"source": f"{text}, 95 % of the texts", "examples": 38, "features": len(data.train)}
        }
        data = prepare(tmp_path, training={"do_train": False}, validation_file=text)
        masked = sum(label != -100 for labels in data.evaluation.features["labels"] for label in labels)
        assert data.train is None
        assert data.interim is data.evaluation
        assert data.report["evaluation"] == {
            "source": text,
            "examples": 40,
            "features": data.evaluation.examples,
            "masked_tokens": masked,
        }
        assert (data.task, data.main_metric, data.model_config) == ("mlm", "perplexity", {})

    def test_sample_flags_take_the_first_rows(self, tmp_path, text):
        flags = {"train_file": text, "validation_file": text}
        few = prepare(tmp_path, max_train_samples=3, max_eval_samples=2, **flags)
        whole = prepare(tmp_path, **flags)
        assert few.train.to_list() == whole.train.to_list()[:3]
        assert few.evaluation.features.to_list() == whole.evaluation.features.to_list()[:2]

    def test_streams_the_rows_that_it_would_store(self, tmp_path, text):
        stored = prepare(tmp_path, train_file=text, validation_file=text)
        streamed = prepare(tmp_path, train_file=text, validation_file=text, streaming=True)
        rows = list(streamed.train)
        assert sorted(map(str, rows)) == sorted(map(str, stored.train))
        assert rows != list(stored.train)  # the buffer shuffles
        assert streamed.evaluation.features.to_list() == stored.evaluation.features.to_list()
        assert streamed.report["train"] == {"source": text, "streamed": True}

    def test_streams_the_first_rows_alone_where_asked_to(self, tmp_path, text):
        flags = {"train_file": text, "validation_file": text, "max_train_samples": 2}
        stored, streamed = prepare(tmp_path, **flags), prepare(tmp_path, streaming=True, **flags)
        assert sorted(map(str, streamed.train)) == sorted(map(str, stored.train))

    def test_fixed_width_batches(self, tmp_path, text):
        data = prepare(tmp_path, train_file=text, validation_file=text, line_by_line=True, pad_to_max_length=True)
        assert data.collator([data.train[0]])["input_ids"].shape == (1, 16)

    def test_batches_of_a_stream_have_one_width_in_several_processes(self, tmp_path, text, monkeypatch):
        """The first process hands them to the others in one piece."""
        monkeypatch.setattr(CrAMArguments, "world_size", 2)
        nothing = {"do_train": False, "do_eval": False}
        for streaming, width in ((True, 16), (False, 7)):
            data = prepare(tmp_path, training=nothing, train_file=text, line_by_line=True, streaming=streaming)
            assert data.collator([{"input_ids": [2, 5, 6, 7, 8, 9, 3]}])["labels"].shape == (1, width)

    def test_real_text_becomes_blocks(self, tmp_path):
        path = SHARED / "text" / "sotu_valid.txt"
        if not path.is_file():
            pytest.skip(f"needs {path}")
        data = prepare(tmp_path, training={"do_train": False}, validation_file=str(path), max_seq_length=128)
        assert data.report["evaluation"]["examples"] == 280
        assert set(data.evaluation.features["length"]) == {128}
        tokens = 126 * data.evaluation.examples
        assert data.report["evaluation"]["masked_tokens"] / tokens == pytest.approx(0.15, abs=0.01)


class TestTraining:
    @pytest.mark.parametrize("compressors", [[], ["topk:0.5"], ["topk:0.7", "nm:2:4"]])
    def test_8x1_is_2x4_on_rows_with_unequal_numbers_of_masked_tokens(self, tmp_path, text, compressors):
        data = prepare(tmp_path, train_file=text, validation_file=text, line_by_line=True)
        rows = data.evaluation.features.select(range(0, 40, 5))  # masked already: the same tokens however cut
        counts = [sum(label != -100 for label in labels) for labels in rows["labels"]]
        assert len(set(counts)) > 2
        seen = []
        for batch, accumulation in ((8, 1), (2, 4), (1, 8)):
            gradients, predicted = Gradients(), []
            model = tiny_model(len(tiny_tokenizer()))
            model.cls.predictions.decoder.register_forward_hook(
                lambda module, args, logits, found=predicted: found.append(len(logits)) if module.training else None
            )
            built = trainer(
                tmp_path,
                data,
                model,
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=accumulation,
                compressors=compressors,
                max_steps=1,
                rho=0.01,
                callbacks=[gradients],
            )
            built.train_dataset = rows
            seen.append((gradients, built.train().training_loss))
            assert sum(predicted) == sum(counts) * (2 if compressors else 1)  # no other position, in each pass
        for gradients, loss in seen[1:]:
            assert distance(seen[0][0].gradients[0], gradients.gradients[0]) < 1e-5
            assert loss == pytest.approx(seen[0][1], rel=1e-5)

    @pytest.mark.parametrize("flags", [{"streaming": True}, {"whole_word_mask": True}, {"line_by_line": True}])
    def test_runs_and_gives_finite_scores(self, tmp_path, text, flags):
        data = prepare(tmp_path, train_file=text, validation_file=text, **flags)
        how = {"max_steps": 3, "rho": 0.01, "compressors": ["topk:0.5"]}
        how["remove_unused_columns"] = "whole_word_mask" not in flags
        built = trainer(tmp_path, data, tiny_model(len(tiny_tokenizer())), **how)
        assert math.isfinite(built.train().training_loss)
        assert math.isfinite(built.evaluate()["eval_perplexity"])

    def test_whole_words_need_a_column_that_trainer_would_drop(self, tmp_path, text):
        args = arguments(tmp_path, do_train=True)
        task_args = MaskedLM.Arguments(train_file=text, max_seq_length=16, whole_word_mask=True)
        data = MaskedLM().prepare(task_args, tiny_tokenizer(), args)
        assert args.remove_unused_columns is False
        batch = data.collator([data.train[i] for i in range(4)])
        assert set(batch) == {"input_ids", "attention_mask", "labels"}

    def test_rows_by_length_run_and_the_length_does_not_reach_the_model(self, tmp_path, text):
        data = prepare(tmp_path, train_file=text, validation_file=text, line_by_line=True)
        model = tiny_model(len(tiny_tokenizer()))
        built = trainer(tmp_path, data, model, train_sampling_strategy="group_by_length")
        assert set(next(iter(built.get_train_dataloader()))) == {"input_ids", "attention_mask", "labels"}
        assert built.train().global_step == 2


class TestWeights:
    def test_only_the_encoders_matrices_are_compressed_never_the_tied_decoder(self):
        names = [f"bert.encoder.layer.{layer}.{matrix}.weight" for layer in (0, 1) for matrix in MATRICES]
        assert list(compressible_weights(BertForMaskedLM(tiny_config()))) == names

    def test_the_decoder_stays_tied_through_training_and_export(self, tmp_path, text):
        data = prepare(tmp_path, train_file=text, validation_file=text)
        model = tiny_model(len(tiny_tokenizer()))
        before = model.bert.embeddings.word_embeddings.weight.detach().clone()
        built = trainer(tmp_path, data, model, max_steps=3, rho=0.01, compressors=["topk:0.5"])
        built.train()
        assert not torch.equal(before, model.bert.embeddings.word_embeddings.weight)
        weights = compressible_weights(model)
        export(model, tiny_tokenizer(), parse_compressor("topk:0.8"), tmp_path / "export", weights=weights)
        loaded = AutoModelForMaskedLM.from_pretrained(tmp_path / "export")
        for one in (model, loaded):
            decoder, embeddings = one.cls.predictions.decoder.weight, one.bert.embeddings.word_embeddings.weight
            assert decoder.data_ptr() == embeddings.data_ptr()
        assert torch.equal(loaded.cls.predictions.decoder.weight, model.cls.predictions.decoder.weight)
        assert not (loaded.cls.predictions.decoder.weight == 0).all(1).any()
        zeros = sum(int((weight == 0).sum()) for weight in compressible_weights(loaded).values())
        assert zeros == int(0.8 * sum(weight.numel() for weight in weights.values()))

    def test_a_checkpoint_without_a_head_gets_a_fresh_tied_one(self, tmp_path, text):
        config = tiny_config()
        config.vocab_size = len(tiny_tokenizer())
        bare = BertModel(config)
        bare.save_pretrained(tmp_path / "bare")
        model = load_model(MaskedLM(), ModelArguments(str(tmp_path / "bare")), {})
        decoder = model.cls.predictions.decoder.weight
        assert decoder is model.bert.embeddings.word_embeddings.weight
        assert torch.equal(decoder, bare.embeddings.word_embeddings.weight)
        assert len(compressible_weights(model)) == 12
        data = prepare(tmp_path, training={"do_train": False}, validation_file=text)
        perplexity = trainer(tmp_path, data, model).evaluate()["eval_perplexity"]
        assert perplexity == pytest.approx(config.vocab_size, rel=0.1)  # its head knows nothing yet


class TestRefusals:
    def test_flags_that_do_not_go_together_are_named_at_once(self, tmp_path, text):
        class Slow:
            is_fast, model_max_length = False, 12

        training = {"do_predict": True, "max_steps": -1}
        with pytest.raises(ValueError, match="--do_predict: a masked language model has no predictions") as error:
            prepare(tmp_path, Slow(), training, train_file=text, streaming=True, whole_word_mask=True)
        message = str(error.value)
        assert "--streaming needs --max_steps: a stream has no length; type e.g. --max_steps 10000" in message
        assert "bound it with --max_eval_samples, or give a --validation_file" in message
        assert "--whole_word_mask: Slow is not a fast tokenizer" in message
        assert "--max_seq_length 16: the model takes at most 12 tokens; give 12 or less" in message

    @pytest.mark.parametrize("streaming", [False, True])
    def test_text_too_short_for_a_block(self, tmp_path, streaming):
        short = write_lines(tmp_path / "short.txt", ["the geese"])
        with pytest.raises(ValueError, match=r"short\.txt: the text is too short to fill one block of 64 tokens"):
            prepare(tmp_path, train_file=short, validation_file=short, max_seq_length=64, streaming=streaming)

    def test_text_with_nothing_to_predict(self, tmp_path):
        empty = write_lines(tmp_path / "empty.txt", ["\u200b"])
        with pytest.raises(ValueError, match=r"empty\.txt: no text has a token that could be masked"):
            prepare(tmp_path, train_file=empty, validation_file=empty, line_by_line=True)


def test_the_length_defaults_to_the_tokenizers_and_says_so(tmp_path, text, caplog):
    caplog.set_level("INFO", logger="cram_hf")
    training = {"do_train": False}
    data = prepare(tmp_path, tiny_tokenizer(model_max_length=20), training, validation_file=text, max_seq_length=None)
    assert data.evaluation.features[0]["length"] == 20
    assert "--max_seq_length is not given: rows have 20 tokens" in caplog.text
    with pytest.raises(ValueError, match="too short to fill one block of 1024 tokens"):
        prepare(tmp_path, tiny_tokenizer(model_max_length=10**30), training, validation_file=text, max_seq_length=None)


def test_a_model_must_take_the_longest_row_there_may_be(tmp_path, text):
    flags = {"train_file": text, "validation_file": text, "line_by_line": True, "max_seq_length": 65}
    model, training = tiny_model(len(tiny_tokenizer())), {"do_eval": False}
    prepare(tmp_path, training=training, **flags).prepare_model(model)  # no line has more than 21 tokens
    for more in ({"streaming": True}, {"pad_to_max_length": True}):
        with pytest.raises(
            ValueError, match=r"BertForMaskedLM takes at most 64 tokens, but rows have 65\. Type --max"
        ):
            prepare(tmp_path, training=training, **flags, **more).prepare_model(model)


def test_the_task_fits_the_protocol():
    task: Task = MaskedLM()
    assert (task.name, task.pipeline_tag, task.train_tokenizer(MaskedLM.Arguments(), None)) == (
        "mlm",
        "fill-mask",
        None,
    )


def test_a_made_tokenizer_sets_the_vocabulary_of_a_new_model(tmp_path, text):
    flags = {"train_file": text, "train_tokenizer": True, "vocab_size": 90, "max_seq_length": 16}
    tokenizer = MaskedLM().train_tokenizer(MaskedLM.Arguments(**flags), None)
    data = prepare(tmp_path, tokenizer, **flags)
    assert data.model_config == {"vocab_size": len(tokenizer), "pad_token_id": 0}
    assert data.report["tokenizer"] == {"trained": True, "tokens": len(tokenizer)}


def test_a_tokenizer_is_not_made_where_one_is_named(text):
    with pytest.raises(ValueError, match="--train_tokenizer makes a tokenizer, but some/model has one"):
        MaskedLM().train_tokenizer(MaskedLM.Arguments(train_file=text, train_tokenizer=True), "some/model")
