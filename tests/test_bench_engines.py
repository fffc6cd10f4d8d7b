"""Every engine gives PyTorch's logits, with masks and segments; what an engine is not for is said."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch
from bench_fixtures import make_subject, needs_onnx, needs_openvino, small_model
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from cram_hf.bench import ENGINES, Cell, check_model, example, longest, measure_cell, missing
from cram_hf.bench.inputs import Logits, input_names, output_names, padded
from cram_hf.bench.measure import difference, thread_count
from cram_hf.bench.sparse_layers import CSRLinear, UnsuitableError, semi_structured_layers, with_csr_
from cram_hf.runtime import SparseLinear, kernel

BY_NAME = {engine.name: engine for engine in ENGINES}
SMALL = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """One subject for the whole module, since writing an ONNX file takes seconds."""
    return make_subject("topk:0.9", tmp_path_factory.mktemp("onnx"))


def expected(model, inputs):
    with torch.no_grad():
        return Logits(model)(**inputs)


class TestInputs:
    def test_they_are_drawn_by_the_seed_alone_and_hold_no_padding(self):
        model = small_model()
        before = torch.get_rng_state()
        inputs = example(model, 40, 32, seed=3)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(inputs["input_ids"], example(model, 40, 32, seed=3)["input_ids"])
        assert not torch.equal(inputs["input_ids"], example(model, 40, 32, seed=4)["input_ids"])
        assert set(inputs["input_ids"].unique().tolist()) == set(range(1, 50))
        assert inputs["attention_mask"].all()
        assert inputs["token_type_ids"][7].tolist() == [0] * 16 + [1] * 16

    def test_the_padding_token_may_be_any(self):
        model = RobertaForSequenceClassification(RobertaConfig(**SMALL, pad_token_id=5))
        ids = example(model, 30, 30, seed=0)["input_ids"]
        assert set(ids.unique().tolist()) == set(range(20)) - {5}
        assert padded(model, example(model, 2, 4, seed=0))["input_ids"][1, 2:].tolist() == [5, 5]

    def test_the_last_row_ends_half_way_and_the_given_one_is_left_alone(self):
        model = small_model()
        inputs = example(model, 2, 5, seed=0)
        found = padded(model, inputs)
        assert found["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
        assert torch.equal(found["input_ids"][:, :3], inputs["input_ids"][:, :3])
        assert inputs["attention_mask"].all()
        assert padded(model, example(model, 1, 1, seed=0))["attention_mask"].tolist() == [[1]]

    @pytest.mark.parametrize(
        ("model", "inputs", "outputs"),
        [
            (BertForMaskedLM(BertConfig(**SMALL)), 3, ("logits",)),
            (BertForTokenClassification(BertConfig(**SMALL)), 3, ("logits",)),
            (small_model(), 3, ("start_logits", "end_logits")),
            (RobertaForSequenceClassification(RobertaConfig(**SMALL, type_vocab_size=1)), 2, ("logits",)),
            (DistilBertForMaskedLM(DistilBertConfig(vocab_size=20, dim=8, n_layers=1, n_heads=2)), 2, ("logits",)),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_each_head_has_its_inputs_and_outputs(self, model, inputs, outputs):
        check_model(model)
        assert input_names(model) == ["input_ids", "attention_mask", "token_type_ids"][:inputs]
        assert output_names(model) == outputs
        assert len(expected(model, example(model, 1, 4, seed=0))) == len(outputs)

    def test_the_longest_row_is_one_that_the_model_takes(self):
        roberta = RobertaForSequenceClassification(RobertaConfig(**SMALL, max_position_embeddings=34))
        for model in (small_model(), roberta):
            assert longest(model) == 32
            assert expected(model, example(model, 1, 32, seed=0))
            with pytest.raises((IndexError, RuntimeError)):
                expected(model, example(model, 1, 33, seed=0))

    def test_models_without_such_a_head_are_refused(self):
        small = {"vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
        for model in (BertModel(BertConfig(**SMALL)), T5ForConditionalGeneration(T5Config(**small))):
            with pytest.raises(ValueError, match="must be an encoder whose class ends in ForQuestionAnswering, For"):
                check_model(model)


class TestEngines:
    @pytest.mark.parametrize(
        "name",
        [
            "eager",
            "csr",
            pytest.param("onnxruntime", marks=needs_onnx),
            pytest.param("openvino", marks=needs_openvino),
            pytest.param("compile", marks=pytest.mark.slow),
        ],
    )
    def test_the_logits_are_pytorchs_at_every_shape(self, name, pruned):
        for shape in ((2, 6), (1, 32)):
            inputs = example(pruned.model, *shape, seed=1)
            cut = padded(pruned.model, inputs)
            run = BY_NAME[name].make(pruned, inputs)
            for given in (inputs, cut):
                assert difference(run(given), expected(pruned.model, given)) < 1e-4
            assert difference(expected(pruned.model, inputs), expected(pruned.model, cut)) > 0.01

    @needs_onnx
    def test_an_engine_uses_the_threads_that_pytorch_is_set_to(self, pruned, monkeypatch):
        import onnxruntime

        seen = []

        def session(path, options, providers):
            seen.append(options.intra_op_num_threads)

        monkeypatch.setattr(onnxruntime, "InferenceSession", session)
        with thread_count(3):
            BY_NAME["onnxruntime"].make(pruned, {})
        assert seen == [3]

    def test_the_models_given_stay_as_they_are(self, pruned):
        before = {name: tensor.clone() for name, tensor in pruned.model.state_dict().items()}
        BY_NAME["csr"].make(pruned, example(pruned.model, 1, 4, seed=0))
        after = pruned.model.state_dict()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
        assert not any(isinstance(module, CSRLinear) for module in pruned.model.modules())

    def test_deepsparse_is_given_this_shape_and_tells_nobody(self, pruned, monkeypatch):
        given = {}

        class Engine:
            def __init__(self, **settings):
                given.update(settings)

            def run(self, arrays):
                return [array[:, :1].astype("float32") for array in arrays[:2]]

        monkeypatch.setitem(sys.modules, "deepsparse", SimpleNamespace(Engine=Engine))
        monkeypatch.delenv("NM_DISABLE_ANALYTICS", raising=False)
        monkeypatch.setitem(pruned.__dict__, "onnx_file", Path("x.onnx"))
        inputs = example(pruned.model, 2, 6, seed=0)
        with thread_count(2):
            first, second = BY_NAME["deepsparse"].make(pruned, inputs)(inputs)
        assert given == {"model": "x.onnx", "batch_size": 2, "num_cores": 2, "input_shapes": [[2, 6]] * 3}
        assert numpy.array_equal(first, inputs["input_ids"][:, :1])
        assert numpy.array_equal(second, [[1], [1]])
        assert sys.modules["os"].environ["NM_DISABLE_ANALYTICS"] == "True"


class TestSparseLayers:
    def test_csr_takes_the_layers_with_zeros_and_keeps_the_bias(self):
        model = make_subject("topk:0.8:layer", Path()).model
        with_csr_(model)
        sparse = [name for name, module in model.named_modules() if isinstance(module, CSRLinear)]
        assert len(sparse) == 6
        assert all(".layer.0." in name for name in sparse)

    def test_csr_is_not_for_a_model_without_zeros(self):
        with pytest.raises(UnsuitableError, match="no linear layer has a tenth of its weights at zero"):
            with_csr_(small_model())

    @pytest.mark.parametrize(
        ("spec", "hidden", "said"),
        [
            ("topk:0.9:layer", 64, "no linear layer is 2:4; type --to nm:2:4"),
            ("nm:2:4", 16, r"multiple of 32 rows and of 64 columns; none of the 6 layers .*self.query: 16 x 16"),
        ],
    )
    def test_the_gpus_rules_are_told(self, spec, hidden, said):
        with pytest.raises(UnsuitableError, match=said):
            semi_structured_layers(make_subject(spec, Path(), small_model(hidden)).model)

    def test_layers_that_fit_are_found(self):
        model = make_subject("nm:2:4", Path(), small_model(96, intermediate_size=128)).model
        assert semi_structured_layers(model) == ["bert.encoder.layer.0.output.dense"]

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
    def test_on_a_gpu_its_logits_are_pytorchs(self):
        subjects = [make_subject(spec, Path(), small_model(64)) for spec in ("as it is", "nm:2:4")]
        rows = measure_cell(BY_NAME["semi-structured"], subjects, Cell(2, 16, 1), rounds=2, seed=0)
        assert all("milliseconds" in row for row in rows), rows


class TestSparseRuntime:
    @pytest.mark.skipif(kernel() is None, reason="the kernel was not built: there is no C++ compiler")
    @pytest.mark.parametrize(
        ("name", "most"), [("sparse", 1e-4), ("sparse-bf16", 0.05), ("sparse-fp16", 0.02), ("sparse-int8", 0.1)]
    )
    def test_its_logits_are_pytorchs(self, name, most):
        if said := missing(BY_NAME[name]):
            pytest.skip(said)
        model = small_model(128, initializer_range=0.1)
        subjects = [make_subject(spec, Path(), model) for spec in ("as it is", "topk:0.8:layer")]
        dense, pruned = measure_cell(BY_NAME[name], subjects, Cell(2, 6, 1), rounds=2, seed=0)
        assert dense["milliseconds"]
        assert pruned["ratio"]["rounds"] == 2
        assert pruned["max_difference"] < most
        assert (dense["max_difference"] == 0) == (name != "sparse-bf16")
        assert not any(isinstance(module, SparseLinear) for module in subjects[1].model.modules())

    @pytest.mark.parametrize("spec", ["as it is", "topk:0.9"])
    def test_it_is_not_for_dense_or_tiny_layers(self, spec):
        with pytest.raises(UnsuitableError, match="no linear layer is large and has enough zeros to gain"):
            BY_NAME["sparse"].make(make_subject(spec, Path()), {})

    def test_without_a_kernel_it_says_what_is_missing(self, monkeypatch):
        monkeypatch.setattr("cram_hf.bench.engines.kernel", lambda: None)
        said = "cram_hf.runtime has no kernel: install the package where a C++ compiler is, and unset CRAM_HF_RUNTIME"
        assert missing(BY_NAME["sparse-bf16"]) == said
        assert missing(BY_NAME["sparse-fp16"]) == said
        assert missing(BY_NAME["csr"]) is None

    @pytest.mark.skipif(kernel() is None, reason="the kernel was not built: there is no C++ compiler")
    def test_a_processor_without_fp16_is_told_so(self, monkeypatch):
        monkeypatch.setattr(kernel(), "level", "avx2")
        said = "needs AVX512-FP16 (Intel from Sapphire Rapids on); cram_hf.runtime uses avx2 here"
        assert missing(BY_NAME["sparse-fp16"]) == said


class TestMissing:
    def test_what_is_not_installed_is_told_with_what_to_type(self, monkeypatch):
        monkeypatch.setattr("cram_hf.bench.engines.find_spec", lambda name: None if "onnx" in name else name)
        assert missing(BY_NAME["openvino"]) == 'onnx, onnxscript not installed: pip install "cram-hf[openvino]"'
        assert missing(BY_NAME["eager"]) is None

    def test_deepsparse_comes_with_its_licence_and_its_end(self, monkeypatch):
        monkeypatch.setattr("cram_hf.bench.engines.find_spec", lambda name: None)
        told = missing(BY_NAME["deepsparse"])
        assert "pip install deepsparse; its community licence covers evaluation" in told
        assert "end of life on June 2, 2025" in told

    @pytest.mark.parametrize(
        ("available", "capability", "said"),
        [(False, (0, 0), "PyTorch sees no GPU here"), (True, (7, 5), "this one has 7.5"), (True, (8, 0), None)],
    )
    def test_2_4_needs_a_gpu_of_its_time(self, available, capability, said, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        told = missing(BY_NAME["semi-structured"])
        assert said is None or told == f"needs a CUDA GPU of compute capability 8.0 or higher; {said}"
        assert (told is None) == (said is None)


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("head", [BertForSequenceClassification, BertForTokenClassification, BertForMaskedLM])
def test_every_head_goes_through_onnx(head, tmp_path):
    subject = make_subject("topk:0.5", tmp_path, small_model(head=head))
    (row,) = measure_cell(BY_NAME["onnxruntime"], [subject], Cell(3, 10, 1), rounds=1, seed=0)
    assert row["max_difference"] < 1e-4
