"""The right weights of every encoder are chosen with no flag, and training works on all of them."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from conftest import rows
from torch import nn
from trainer_fixtures import distance, train

from cram_hf import TopK, compressible_weights, cram_step

GENERATOR = Path(__file__).parents[1] / "docs" / "encoders.py"

# Matrices and weights in full size, by hand: layers * (4 hidden^2 + 2 hidden * intermediate) and its like.
EXPECTED = {
    "BERT-base": (72, 12 * (4 * 768**2 + 2 * 768 * 3072)),
    "RoBERTa-base": (72, 84_934_656),
    "XLM-R-base": (72, 84_934_656),
    "DistilBERT": (36, 42_467_328),
    "ELECTRA-small": (72, 12 * (4 * 256**2 + 2 * 256 * 1024)),
    "ELECTRA-base": (72, 84_934_656),
    "DeBERTa-v3-base": (72, 84_934_656),
    "DeBERTa-v2-xlarge": (144, 24 * (4 * 1536**2 + 2 * 1536 * 6144)),
    "ALBERT-base": (6, 4 * 768**2 + 2 * 768 * 3072),
    "MobileBERT": (360, 24 * (2 * 512 * 128 + 2 * 128**2 + 512 * 128 + 128**2 + 4 * 2 * 128 * 512 + 128 * 512)),
    "ModernBERT-base": (88, 22 * (4 * 768**2 + 3 * 768 * 1152)),
    "T5-small": (96, 6 * (4 * 512**2 + 2 * 512 * 2048) + 6 * (8 * 512**2 + 2 * 512 * 2048)),
    "BART-base": (96, 6 * (4 * 768**2 + 2 * 768 * 3072) + 6 * (8 * 768**2 + 2 * 768 * 3072)),
    "Llama-2-7B": (224, 32 * (4 * 4096**2 + 3 * 4096 * 11008)),
}

SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 32, "max_position_embeddings": 32, "pad_token_id": 0}
RELATIVE = {"relative_attention": True, "position_buckets": 4, "norm_rel_ebd": "layer_norm", "type_vocab_size": 0}
RELATIVE |= {"share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
NO_DROPOUT = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "attention_dropout",
    "dropout",
    "classifier_dropout",
)
NO_DROPOUT += ("dropout_rate", "activation_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout_prob")

# Class, settings beside SIZES, the linear layers that stay dense.
ENCODERS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("RobertaForSequenceClassification", {}, ["classifier.dense", "classifier.out_proj"]),
    ("XLMRobertaForTokenClassification", {}, ["classifier"]),
    (
        "DistilBertForSequenceClassification",
        {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2},
        ["pre_classifier", "classifier"],
    ),
    (
        "ElectraForSequenceClassification",
        {"embedding_size": 8},
        ["electra.embeddings_project", "classifier.dense", "classifier.out_proj"],
    ),
    ("DebertaV2ForSequenceClassification", RELATIVE, ["pooler.dense", "classifier"]),
    (
        "AlbertForSequenceClassification",
        {"embedding_size": 8},
        ["albert.encoder.embedding_hidden_mapping_in", "albert.pooler", "classifier"],
    ),
    (
        "MobileBertForSequenceClassification",
        {"embedding_size": 8, "intra_bottleneck_size": 8, "true_hidden_size": 8},
        ["mobilebert.embeddings.embedding_transformation", "mobilebert.pooler.dense", "classifier"],
    ),
    ("ModernBertForSequenceClassification", {}, ["head.dense", "classifier"]),
    ("BertForTokenClassification", {}, ["classifier"]),
    ("BertForMultipleChoice", {}, ["bert.pooler.dense", "classifier"]),
    ("BertForNextSentencePrediction", {}, ["bert.pooler.dense", "cls.seq_relationship"]),
]
DECODERS: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "T5ForConditionalGeneration",
        {"decoder_start_token_id": 0, "d_model": 16, "d_ff": 32, "d_kv": 8, "num_layers": 2, "num_heads": 2},
        ["lm_head"],
    ),
    (
        "BartForConditionalGeneration",
        {"d_model": 16, "forced_eos_token_id": None}
        | {f"{side}_{key}": n for side in ("encoder", "decoder") for key, n in (("layers", 2), ("ffn_dim", 32))}
        | {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
        ["lm_head"],
    ),
    ("LlamaForCausalLM", {"num_key_value_heads": 1}, ["lm_head"]),
]
each_model = pytest.mark.parametrize(("kind", "settings", "dense"), [*ENCODERS, *DECODERS], ids=lambda v: str(v)[:30])


def tiny(kind: str, settings: dict[str, Any]) -> nn.Module:
    cls = getattr(transformers, kind)
    accepted = cls.config_class().to_dict()
    wanted = SIZES | {"bos_token_id": 1, "eos_token_id": 2} | dict.fromkeys(NO_DROPOUT, 0.0)
    config = cls.config_class(**{key: value for key, value in wanted.items() if key in accepted} | settings)
    torch.manual_seed(0)
    return cls(config)


def examples(kind: str, count: int) -> list[dict[str, object]]:
    found = rows("sequence_classification", count)
    for i, row in enumerate(found):
        ids = row["input_ids"]
        if "Token" in kind or "LM" in kind or "Conditional" in kind:
            row["labels"] = ids % 2 if "Token" in kind else ids.clone()
            row["labels"][: i % 3] = -100  # label counts differ, so that a mean of means would differ
        elif "Choice" in kind:
            row |= {key: torch.stack([row[key], row[key].flip(0)]) for key in ("input_ids", "attention_mask")}
            row["labels"] = i % 2
        else:
            row["labels"] = i % 2
    return found


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("encoders", GENERATOR)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestTheTable:
    def test_is_what_the_selection_gives(self, generator):
        assert generator.document() == generator.DOCUMENT.read_text(encoding="utf-8")

    def test_has_the_numbers_worked_by_hand(self, generator):
        lines = generator.DOCUMENT.read_text(encoding="utf-8").split(generator.BEGIN)[1].splitlines()[2:]
        cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
        found = [(name, (int(n), int(w.replace(",", "")))) for name, _, n, w, *_ in cells]
        assert found == [(name, EXPECTED[name]) for name, *_ in cells]
        assert dict(found).keys() == EXPECTED.keys()
        assert {f"`{kind}`" for _, kind, _ in generator.MODELS} == {kind for _, kind, *_ in cells}


class TestTheDefaultChoice:
    @each_model
    def test_is_every_linear_layer_but_these(self, kind, settings, dense):
        model = tiny(kind, settings)
        linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        assert sorted({*linear} - set(dense)) == sorted(n.removesuffix(".weight") for n in compressible_weights(model))
        assert set(dense) <= set(linear)

    @pytest.mark.parametrize(
        "kind", ["Roberta", "DistilBert", "Electra", "DebertaV2", "Albert", "MobileBert", "ModernBert"]
    )
    def test_is_the_same_under_a_masked_lm_head(self, kind):
        settings = next(settings for name, settings, _ in ENCODERS if name.startswith(kind))
        heads = [tiny(f"{kind}For{head}", settings) for head in ("SequenceClassification", "MaskedLM")]
        assert len({tuple(compressible_weights(model)) for model in heads}) == 1

    def test_of_albert_counts_a_matrix_that_all_layers_share_once(self):
        settings = {"embedding_size": 8, "num_hidden_layers": 6}
        assert len(compressible_weights(tiny("AlbertForMaskedLM", settings))) == 6
        assert len(compressible_weights(tiny("AlbertForMaskedLM", settings | {"num_hidden_groups": 2}))) == 12

    def test_leaves_relative_positions_alone_where_an_unshared_key_projects_them(self):
        names = list(compressible_weights(tiny("DebertaV2ForMaskedLM", RELATIVE | {"share_att_key": False})))
        assert len(names) == 2 * 8
        assert not any("rel_embeddings" in name or "conv" in name for name in names)

    def test_of_gpt2_is_refused_by_the_name_of_its_layers(self):
        model = tiny("GPT2LMHeadModel", {"n_embd": 16, "n_layer": 2, "n_head": 2})
        for include in (None, ["c_attn", "wte"]):
            with pytest.raises(
                ValueError, match=r"chosen weights belong to Conv1D layers of transformers, first .*c_attn"
            ):
                compressible_weights(model, include)
        assert list(compressible_weights(model, ["wte"])) == ["transformer.wte.weight"]


@each_model
class TestCrAM:
    def test_update_does_not_depend_on_how_the_batch_is_cut(self, tmp_path, kind, settings, dense):
        common = {"compressors": ["topk:0.7"], "max_steps": 1, "train_dataset": examples(kind, 8), "rho": 0.01}
        _, whole = train(tmp_path, tiny(kind, settings), **common)
        _, cut = train(
            tmp_path, tiny(kind, settings), per_device_train_batch_size=2, gradient_accumulation_steps=4, **common
        )
        assert distance(whole.gradients[0], cut.gradients[0]) < 1e-4

    def test_trains_under_every_compressor(self, tmp_path, kind, settings, dense):
        model = tiny(kind, settings)
        before = {name: w.detach().clone() for name, w in compressible_weights(model).items()}
        compressors = ["topk:0.5", "nm:2:4", "nm:2:4+quantize:8"]
        built, _ = train(tmp_path, model, train_dataset=examples(kind, 24), compressors=compressors)
        assert all(math.isfinite(log["loss_compressed"]) for log in built.state.log_history if "loss" in log)
        assert all(not torch.equal(w, before[name]) for name, w in built.compressible.items())


@pytest.mark.parametrize(
    ("kind", "include", "count"),
    [
        ("T5ForConditionalGeneration", ["encoder.block.*.layer.*.q.weight", "DenseReluDense"], 10),
        ("BartForConditionalGeneration", ["decoder.layers"], 20),
        ("LlamaForCausalLM", ["mlp"], 6),
    ],
)
def test_cram_step_of_an_encoder_decoder_or_decoder_with_chosen_weights(kind, include, count):
    settings = next(settings for name, settings, _ in DECODERS if name == kind)
    model = tiny(kind, settings)
    weights = compressible_weights(model, include)
    assert len(weights) == count
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = examples(kind, 8)
    batch = {key: torch.stack([row[key] for row in found]) for key in found[0]}

    def closure() -> torch.Tensor:
        loss = model(**batch).loss
        loss.backward()
        return loss

    losses = [cram_step(model, optimizer, closure, weights, TopK(0.5), rho=0.01).item() for _ in range(10)]
    assert losses[-1] < losses[0]
