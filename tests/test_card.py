"""The model card: parsed back by huggingface_hub, matched as a whole, free of tokens and of the user's folders."""

from __future__ import annotations

import re

import pytest
from huggingface_hub import ModelCard
from results_fixtures import TOKEN, make_results, row

from cram_hf.card import card, is_hub_id, public

WHOLE = r"""---
base_model: google-bert/bert-base-uncased
datasets:
- rajpurkar/squad
language: en
library_name: transformers
license: apache-2\.0
metrics:
- f1
- exact_match
pipeline_tag: question-answering
tags:
- cram
- prunable
base_model_relation: finetune
model-index:
- name: google-bert/bert-base-uncased on squad, CrAM\+
  results:
.*?---

# google-bert/bert-base-uncased on squad, CrAM\+

google-bert/bert-base-uncased trained on squad with CrAM, the Compression-Aware Minimizer: .*

The weights here are \*\*dense\*\*\. The table says what is left of the score .*

## Results

\| compression    \| sparsity \(compressible\) \| sparsity \(whole model\) \| .*
(\|.*\|
){6}
!\[Score against sparsity\]\(curve\.png\)

The compressible weights are 1,000 of 2,000 parameters \(50\.0 %\); the others are never touched\.

Sparsity is the share of weights that are zero\. .*

## How to load

```python
.*AutoModelForQuestionAnswering\.from_pretrained\(.*
```

The lines above take .* Up to
transformers 5\.2, `pipeline\("question-answering", .*

## How to prune it

```python
from cram_hf import compressed, .*
compressor = parse_compressor\("topk:0\.5"\)
.*
```

From the command line, .*: `cram-hf prune path/to/this/model --to topk:0\.5 --out path/to/a/new/folder`\.

## Training

```bash
python run_squad\.py configs/squad/tiny\.yaml --rho 0\.01
```

- Method: CrAM\+ \(dense and compressed gradient\), rho 0\.01, one of `topk:0\.5`, `nm:2:4` drawn for each update
- Seed: 7
- Data, train: source data/train\.json, examples 300, features 310
- Data, evaluation: source data/dev\.json, examples 100, features 101
- Training: updates 20, epochs 2\.0, seconds 12\.5, loss 1\.25
- Versions: cram_hf 0\.1\.0, torch 2\.13\.0
- Commit of cram_hf: 0123456789ab, changed
- Machine: AMD EPYC, 1 of 2 cores used
- Date: 2026-01-31

Arguments that differ from their defaults:

```json
\{.*"rho": 0\.01
\}
```

## Limits

- The zeros are stored: .* as large as the dense one's, .*
- Dense kernels do not skip zeros: .*

## Citation

```bibtex
.*Peste.*Vladu.*Kurtic.*Lampert.*Alistarh.*2207\.14200.*
```
"""


def test_the_whole_card_of_a_dense_model():
    text = card(
        make_results(),
        base_model="google-bert/bert-base-uncased",
        dataset="rajpurkar/squad",
        picture="curve.png",
        license="apache-2.0",
        language="en",
    )
    assert re.fullmatch(WHOLE, text, re.DOTALL)


def test_the_model_index_of_a_dense_model_has_one_result_a_compression():
    data = ModelCard(card(make_results(), dataset="rajpurkar/squad")).data
    assert [(result.metric_name, result.metric_value) for result in data.eval_results] == [
        ("f1, dense", 80.0),
        ("exact_match, dense", 70.0),
        ("f1, topk:0.5", 76.0),
        ("f1, topk:0.8", 40.0),
        ("f1, topk:0.5:layer", 72.0),
        ("f1, nm:2:4", 70.0),
    ]
    assert {(r.task_type, r.dataset_type, r.metric_type) for r in data.eval_results} == {
        ("question-answering", "rajpurkar/squad", "f1"),
        ("question-answering", "rajpurkar/squad", "exact_match"),
    }


def test_an_export_claims_its_own_score_alone():
    parsed = ModelCard(card(make_results(), export_spec="nm:2:4"))
    assert [(r.metric_name, r.metric_value) for r in parsed.data.eval_results] == [
        ("f1, nm:2:4", 70.0),
        ("exact_match, nm:2:4", 60.0),
    ]
    assert "The weights here are **compressed: `nm:2:4`**, in one shot" in parsed.text
    assert (
        "50.0 % of the compressible weights and 25.0 % of the whole model are zero. f1: 70.00, 87.5 %" in parsed.text
    )
    assert "## How to prune further" in parsed.text


def test_an_export_that_was_not_scored_claims_nothing():
    parsed = ModelCard(card(make_results(), export_spec="topk:0.9"))
    assert "This compression was not scored in the run." in parsed.text
    assert "model-index" not in parsed.content


@pytest.mark.parametrize(
    ("spec", "tags"),
    [
        (None, ["cram", "prunable"]),
        ("topk:0.8", ["cram", "pruned", "sparse", "unstructured"]),
        ("nm:2:4", ["cram", "pruned", "sparse", "2:4"]),
        ("quantize:8", ["cram", "8-bit"]),
        ("nm:2:4+quantize:8", ["cram", "pruned", "sparse", "2:4", "8-bit"]),
    ],
)
def test_the_tags_name_the_pattern(spec, tags):
    assert ModelCard(card(make_results(), export_spec=spec)).data.tags == tags


def test_a_run_without_compressors_is_not_called_cram():
    parsed = ModelCard(card(make_results(config={}, label="AdamW")))
    assert "without CrAM; a baseline." in parsed.text
    assert not parsed.data.tags


def test_no_token_and_no_absolute_path_gets_into_the_card():
    results = make_results(
        model="/home/someone/models/minilm-l6",
        command=f"python run_squad.py '/home/someone/my configs/x.yaml' --x={TOKEN} --train_file=/home/someone/t.json",
        config={"output_dir": "/home/someone/runs", "files": ["~/a.json", "C:\\Users\\someone\\b.json"]},
        data={"evaluation": {"source": "file:///home/someone/dev.json", "examples": 3}},
    )
    text = card(results, base_model="/home/someone/models/minilm-l6")
    assert "someone" not in text
    assert TOKEN not in text
    assert "python run_squad.py x.yaml --x=TOKEN_REMOVED --train_file=t.json" in text
    assert "base_model" not in text
    assert "# minilm-l6 on squad, CrAM+" in text
    assert ModelCard(text).data.eval_results[0].dataset_name == "dev.json"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("configs/squad/x.yaml", "configs/squad/x.yaml"),
        ("https://arxiv.org/abs/2207.14200", "https://arxiv.org/abs/2207.14200"),
        ("rajpurkar/squad (train)", "rajpurkar/squad (train)"),
        ("/a/b c/d.json", "d.json"),
        ("~me/d.json", "d.json"),
        ("--f=/a/d.json", "--f=d.json"),
        ("a.json,/a/d.json", "a.json,d.json"),
        ({"a": ["/x/y/", 3, None]}, {"a": ["y", 3, None]}),
    ],
)
def test_only_the_last_part_of_absolute_paths_is_public(given, shown):
    assert public(given) == shown


def test_a_folder_on_disk_is_no_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    assert is_hub_id("google-bert/bert-base-uncased")
    assert is_hub_id("bert-base-uncased")
    assert not is_hub_id("models/tiny")
    assert not is_hub_id("./elsewhere")
    assert not is_hub_id("/models/tiny")


def test_the_choice_of_weights_is_shown_in_the_code():
    config = {"compressors": ["nm:2:4"], "compress_exclude": ["value"]}
    assert "weights = compressible_weights(model, exclude=['value'])" in card(make_results(config=config))


def test_another_task_gets_code_without_an_answer():
    rows = (row("dense", 0, 0, metrics={"accuracy": 0.8}),)
    results = make_results(task="glue", main_metric="accuracy", rows=rows)
    text = card(results, auto_class="AutoModelForSequenceClassification", pipeline_tag="text-classification")
    assert "AutoModelForSequenceClassification.from_pretrained" in text
    assert "start_logits" not in text
    assert 'parse_compressor("topk:0.5")' in text
