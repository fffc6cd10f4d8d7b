"""An accelerated model where models are used: pipelines, the compiler's code generator, several threads, saving."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import transformers
from cli_fixtures import WORDS
from conftest import HEADS, tiny_config
from packaging.version import Version
from runtime_fixtures import needs_kernel
from transformers import AutoModelForSequenceClassification, BertTokenizerFast, PreTrainedModel, pipeline

from cram_hf import compressible_weights, parse_compressor
from cram_hf.packed import save_packed
from cram_hf.runtime import accelerate, load_accelerated, restore


@pytest.fixture(autouse=True)
def _small_layers_count(monkeypatch):
    monkeypatch.setattr("cram_hf.runtime.choice.SMALLEST", 1)


def pruned(head: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model = HEADS[head](tiny_config()).eval()
    parse_compressor("topk:0.85:layer").apply_(compressible_weights(model))
    return model


def tokenizer() -> BertTokenizerFast:
    return BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)})


def batch(rows: int, length: int, seed: int = 0) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 50, (rows, length), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@needs_kernel
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "int8"])
def test_a_text_classification_pipeline_gives_the_same_labels_and_scores(dtype):
    model, texts = pruned("sequence_classification"), ["where is the ferry ?", "in the harbour ."]
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer(), device="cpu")
    expected = classify(texts, batch_size=2, top_k=None)
    assert accelerate(model, dtype).replaced
    for answer, other in zip(classify(texts, batch_size=2, top_k=None), expected, strict=True):
        assert [row["label"] for row in answer] == [row["label"] for row in other]
        scores = [row["score"] for row in other]
        assert [row["score"] for row in answer] == pytest.approx(scores, rel=1e-5 if dtype == "fp32" else 0.02)


@needs_kernel
def test_a_fill_mask_pipeline_gives_the_same_words():
    model = pruned("masked_lm")
    fill = pipeline("fill-mask", model=model, tokenizer=tokenizer(), device="cpu", targets=WORDS[5:])
    expected = fill("where is the [MASK] ?")
    assert accelerate(model).replaced
    assert [word["token_str"] for word in fill("where is the [MASK] ?")] == [word["token_str"] for word in expected]


@needs_kernel
@pytest.mark.skipif(
    Version(transformers.__version__) >= Version("5.3"),
    reason="transformers 5.3 removed the question-answering pipeline",
)
def test_a_question_answering_pipeline_gives_the_same_answer():
    model, asked = pruned("question_answering"), {"question": "where is the ferry ?", "context": "in the harbour ."}
    answering = pipeline("question-answering", model=model, tokenizer=tokenizer(), device="cpu")
    expected = answering(**asked)
    assert accelerate(model).replaced
    assert answering(**asked)["answer"] == expected["answer"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "int8"])
def test_a_model_compiled_by_inductor_gives_the_same_for_every_length(dtype):
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("inductor needs a C++ compiler")
    model = pruned("question_answering")
    accelerate(model, dtype)
    torch.compiler.reset()
    compiled = torch.compile(model)
    with torch.inference_mode():
        for given in (batch(2, 8), batch(2, 8, seed=1), batch(3, 13)):
            torch.testing.assert_close(compiled(**given).start_logits, model(**given).start_logits)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "int8"])
def test_several_python_threads_on_one_model_give_identical_results(dtype):
    model = pruned("question_answering")
    accelerate(model, dtype)
    batches = [batch(1 + i % 3, 5 + i % 7, seed=i) for i in range(12)]

    def answer(given: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.inference_mode():
            return model(**given).start_logits

    alone = [answer(given) for given in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(answer, batches * 3))
    assert all(map(torch.equal, together, alone * 3))


@needs_kernel
@pytest.mark.parametrize("keep_dense", [True, False])
def test_it_is_saved_and_loaded_without_pickle(keep_dense, tmp_path, monkeypatch):
    model, given = pruned("sequence_classification"), batch(2, 8)
    accelerate(model, keep_dense=keep_dense)
    for name in ("torch.save", "torch.load", "pickle.dumps", "pickle.loads"):
        monkeypatch.setattr(name, lambda *_, name=name, **__: pytest.fail(f"{name} was called"))
    model.save_pretrained(tmp_path / "folder")
    save_packed(model, tmp_path / "packed")
    assert {path.suffix for path in (tmp_path / "folder").iterdir()} == {".json", ".safetensors"}
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "folder").eval()
    accelerate(again)
    packed = HEADS["sequence_classification"](model.config).eval()
    load_accelerated(tmp_path / "packed", packed)
    with torch.inference_mode():
        expected = model(**given).logits
        assert torch.equal(again(**given).logits, expected)
        assert torch.equal(packed(**given).logits, expected)
    assert restore(again)
